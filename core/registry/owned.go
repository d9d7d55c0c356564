package registry

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/weftrun/weft/core"
)

// errUnplanned says that the merge library has to look at an object itself:
// the short way knows only what nearly all objects consist of.
var errUnplanned = errors.New("the merge library has to look at it")

// owned lists the fields that the creator of an object owns, as the merge
// library does when it compares the object with an empty one, only that it
// walks once, along a plan of the kind's Go type and schema, and writes
// FieldsV1 at once instead of a set. That comparison was a third of the CPU
// of small creations. It is immutable once made.
type owned struct {
	apiVersion string
	root       *ownedNode
}

// ownedNode is what the merge rules say of one Go type at one place.
type ownedNode struct {
	kind ownedKind

	entry *value.TypeReflectCacheEntry // of leaves with a JSON form of their own

	fields []ownedField // of a struct, in order of their names
	item   *ownedNode   // of a map or list
	keys   []ownedKey   // of a keyed list, in order of their names; none: a set
}

type ownedKind uint8

const (
	ownedUnplanned ownedKind = iota // errUnplanned if it is there
	ownedLeaf                       // owned as a whole: a scalar, or atomic
	ownedStruct
	ownedMap
	ownedList
)

type ownedField struct {
	*value.FieldCacheEntry
	node *ownedNode
	base ownedBase
}

// ownedKey is a key field of a keyed list.
type ownedKey struct {
	*value.FieldCacheEntry
	fallback any // the schema's default for where it is missing, or nil
}

// ownedBase is what an empty object has at the place of a field.
type ownedBase uint8

const (
	baseNone ownedBase = iota
	baseNull
	baseZero // the zero value of its type
)

// strippedMeta are the fields that nobody owns.
var strippedMeta = []string{
	"creationTimestamp", "generation", "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid",
}

// newOwned plans a kind with known merge rules.
func newOwned(e *entry, types managedfields.TypeConverter) (*owned, error) {
	empty := e.New()
	tv, err := types.ObjectToTyped(empty)
	if err != nil {
		return nil, err
	}
	p := ownedPlanner{schema: tv.Schema(), made: map[ownedPlace]*ownedNode{}}
	root := p.node(reflect.TypeOf(empty).Elem(), tv.TypeRef())
	if root.kind != ownedStruct {
		return nil, fmt.Errorf("%s: not planned", e.resource)
	}
	kept := *root // metadata's type is shared with templates, where all is owned
	kept.fields = nil
	for _, f := range root.fields {
		switch {
		case f.JsonName == "apiVersion", f.JsonName == "kind", f.JsonName == "status" && e.CopyStatus != nil:
			continue
		case f.JsonName == "metadata":
			meta := *f.node
			meta.fields = slices.DeleteFunc(slices.Clone(meta.fields), func(f ownedField) bool {
				return slices.Contains(strippedMeta, f.JsonName)
			})
			f.node = &meta
		}
		kept.fields = append(kept.fields, f)
	}
	return &owned{apiVersion: e.gvk().GroupVersion().String(), root: &kept}, nil
}

// entry returns managedFields for an object that manager creates, or
// errUnplanned.
func (w *owned) entry(object core.Object, manager string) ([]metav1.ManagedFieldsEntry, error) {
	if !plain(manager) {
		return nil, errUnplanned
	}
	b := make([]byte, 0, 512)
	b = append(b, '{')
	b, err := w.root.children(b, reflect.ValueOf(object).Elem(), baseZero, false)
	if err != nil {
		return nil, err
	}
	if b = append(b, '}'); len(b) == len("{}") {
		return nil, nil
	}
	at := now()
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(slices.Clip(b))
	return []metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: w.apiVersion,
		Time: &at, FieldsType: "FieldsV1", FieldsV1: fields,
	}}, nil
}

// element appends one member of its parent, named name as JSON has it, if it
// or anything in it is owned.
func (n *ownedNode) element(b []byte, name string, v reflect.Value, base ownedBase) ([]byte, error) {
	start := len(b)
	if last := b[start-1]; last != '{' {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":{`...)
	open := len(b)
	v, null := settle(v)
	leaf, err := n.leaf(v, null, base)
	if err != nil {
		return nil, err
	}
	if leaf {
		return append(b, '}'), nil
	}
	if !null && n.kind != ownedLeaf {
		if b, err = n.children(b, v, base, base == baseNone); err != nil {
			return nil, err
		}
	}
	if len(b) == open {
		return b[:start], nil
	}
	return append(b, '}'), nil
}

// settle follows a pointer, and says whether what is there is null in JSON.
func settle(v reflect.Value) (settled reflect.Value, null bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v, true
		}
		return v.Elem(), false
	case reflect.Map, reflect.Slice:
		return v, v.IsNil()
	}
	return v, false
}

// leaf tells whether v is owned as a whole and nothing in it apart.
func (n *ownedNode) leaf(v reflect.Value, null bool, base ownedBase) (bool, error) {
	switch {
	case n.kind == ownedUnplanned:
		return false, errUnplanned
	case null:
		return base == baseNone, nil
	case n.kind == ownedLeaf:
		if base == baseZero {
			return n.differs(v)
		}
		return true, nil
	case base == baseZero:
		return false, nil // a struct, which is empty if that of an empty object is
	}
	return n.empty(v), nil
}

func (n *ownedNode) empty(v reflect.Value) bool {
	if n.kind != ownedStruct {
		return v.Len() == 0
	}
	for i := range n.fields {
		if !n.fields[i].CanOmit(n.fields[i].GetFrom(v)) {
			return false
		}
	}
	return true
}

// differs tells whether a leaf is another one than that of an empty object.
func (n *ownedNode) differs(v reflect.Value) (bool, error) {
	if v.IsZero() {
		return false, nil
	}
	if n.entry == nil {
		switch v.Kind() {
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
			return true, nil
		}
		return differsWhole(v)
	}
	is, err := n.entry.ToUnstructured(v)
	if err != nil {
		return false, errUnplanned
	}
	zero, err := n.entry.ToUnstructured(reflect.New(v.Type()).Elem())
	if err != nil {
		return false, errUnplanned
	}
	return is != zero, nil
}

// differsWhole is differs for what is atomic but no scalar.
func differsWhole(v reflect.Value) (bool, error) {
	if !v.CanAddr() {
		return false, errUnplanned
	}
	is, err := value.NewValueReflect(v.Addr().Interface())
	if err != nil {
		return false, errUnplanned
	}
	zero, err := value.NewValueReflect(reflect.New(v.Type()).Interface())
	if err != nil {
		return false, errUnplanned
	}
	return !value.Equals(is, zero), nil
}

// children appends what is owned in v, after "." if v itself is a member too.
func (n *ownedNode) children(b []byte, v reflect.Value, base ownedBase, member bool) ([]byte, error) {
	if member {
		b = append(b, `".":{}`...)
	}
	switch n.kind {
	case ownedStruct:
		return n.members(b, v, base)
	case ownedMap:
		return n.entries(b, v)
	case ownedList:
		return n.items(b, v)
	}
	return nil, errUnplanned
}

func (n *ownedNode) members(b []byte, v reflect.Value, base ownedBase) ([]byte, error) {
	var err error
	for i := range n.fields {
		f := &n.fields[i]
		field := f.GetFrom(v)
		if f.CanOmit(field) {
			continue
		}
		below := baseNone
		if base == baseZero {
			below = f.base
		}
		if b, err = f.node.element(b, "f:"+f.JsonName, field, below); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (n *ownedNode) entries(b []byte, v reflect.Value) ([]byte, error) {
	keys := make([]string, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		key := it.Key().String()
		if !plain(key) {
			return nil, errUnplanned
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	var err error
	for _, key := range keys {
		var item reflect.Value
		if n.item.kind != ownedLeaf { // a leaf's value does not matter
			item = v.MapIndex(reflect.ValueOf(key).Convert(v.Type().Key()))
		} else {
			item = reflect.ValueOf("")
		}
		if b, err = n.item.element(b, "f:"+key, item, baseNone); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// ownedItem is an item of a list by its name in FieldsV1.
type ownedItem struct {
	key   []any // as many as there are key fields, nil where it is missing; of a set the item itself
	name  string
	value reflect.Value
}

func (n *ownedNode) items(b []byte, v reflect.Value) ([]byte, error) {
	items := make([]ownedItem, v.Len())
	for i := range items {
		item, null := settle(v.Index(i))
		if null {
			return nil, errUnplanned
		}
		named, err := n.named(item)
		if err != nil {
			return nil, err
		}
		items[i] = named
	}
	slices.SortFunc(items, func(x, y ownedItem) int { return compareKeys(x.key, y.key) })
	var err error
	for i := range items {
		if i > 0 && compareKeys(items[i-1].key, items[i].key) == 0 {
			return nil, errUnplanned // of duplicates nothing is owned apart
		}
		if b, err = n.item.element(b, items[i].name, items[i].value, baseNone); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (n *ownedNode) named(item reflect.Value) (ownedItem, error) {
	if len(n.keys) == 0 {
		if item.Kind() != reflect.String || !plain(item.String()) {
			return ownedItem{}, errUnplanned
		}
		return ownedItem{key: []any{item.String()}, name: `v:\"` + item.String() + `\"`, value: item}, nil
	}
	var name strings.Builder
	key := make([]any, len(n.keys))
	for i := range n.keys {
		part, err := n.keys[i].of(item)
		if err != nil {
			return ownedItem{}, err
		}
		key[i] = part
		if i == 0 {
			name.WriteString(`k:{\"`)
		} else {
			name.WriteString(`,\"`)
		}
		name.WriteString(n.keys[i].JsonName)
		if text, ok := part.(string); ok {
			name.WriteString(`\":\"` + text + `\"`)
		} else {
			fmt.Fprintf(&name, `\":%d`, part)
		}
	}
	name.WriteByte('}')
	return ownedItem{key: key, name: name.String(), value: item}, nil
}

// of returns an item's key as a string or an int64.
func (k *ownedKey) of(item reflect.Value) (any, error) {
	v := k.GetFrom(item)
	if k.CanOmit(v) {
		if text, ok := k.fallback.(string); ok && plain(text) {
			return text, nil
		}
		return nil, errUnplanned
	}
	v, null := settle(v)
	switch {
	case null:
		return nil, errUnplanned
	case v.Kind() == reflect.String && plain(v.String()):
		return v.String(), nil
	case v.CanInt():
		return v.Int(), nil
	}
	return nil, errUnplanned
}

// compareKeys orders items as the merge library does. Keys of one list agree
// in their types.
func compareKeys(x, y []any) int {
	for i := range x {
		c := 0
		switch a := x[i].(type) {
		case string:
			c = strings.Compare(a, y[i].(string))
		case int64:
			c = int(min(1, max(-1, a-y[i].(int64))))
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// plain tells whether s is the same in JSON, and in JSON within JSON.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// ownedPlanner plans the types of one schema. Planned types are shared, so
// that those which hold themselves end.
type ownedPlanner struct {
	schema *schema.Schema
	made   map[ownedPlace]*ownedNode
}

type ownedPlace struct {
	goType reflect.Type
	name   string
}

// node plans t under the rules that ref names.
func (p *ownedPlanner) node(t reflect.Type, ref schema.TypeRef) *ownedNode {
	n := &ownedNode{}
	if ref.NamedType != nil && ref.ElementRelationship == nil {
		place := ownedPlace{t, *ref.NamedType}
		if made, ok := p.made[place]; ok {
			return made
		}
		p.made[place] = n
	}
	atom, ok := p.schema.Resolve(ref)
	if !ok {
		return n
	}
	if entry := value.TypeReflectEntryOf(t); entry.CanConvertToUnstructured() {
		if atom.Scalar != nil && atom.Map == nil && atom.List == nil {
			n.kind, n.entry = ownedLeaf, entry
		}
		return n
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		if value.TypeReflectEntryOf(t).CanConvertToUnstructured() || t.Kind() == reflect.Pointer {
			return n
		}
	}
	p.plan(n, t, &atom)
	return n
}

func (p *ownedPlanner) plan(n *ownedNode, t reflect.Type, atom *schema.Atom) {
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		if atom.Scalar != nil {
			n.kind = ownedLeaf
		}
	case reflect.Struct:
		switch {
		case atom.Map == nil:
		case atom.Map.ElementRelationship == schema.Atomic:
			n.kind = ownedLeaf
		default:
			p.structure(n, t, atom.Map)
		}
	case reflect.Map:
		switch {
		case atom.Map == nil || t.Key().Kind() != reflect.String:
		case atom.Map.ElementRelationship == schema.Atomic:
			n.kind = ownedLeaf
		case len(atom.Fields) == 0:
			n.kind, n.item = ownedMap, p.node(t.Elem(), atom.Map.ElementType)
		}
	case reflect.Slice:
		switch {
		case t.Elem().Kind() == reflect.Uint8:
			if atom.Scalar != nil {
				n.kind = ownedLeaf
			}
		case atom.List == nil:
		case atom.List.ElementRelationship == schema.Atomic:
			n.kind = ownedLeaf
		case atom.List.ElementRelationship == schema.Associative:
			p.list(n, t.Elem(), atom.List)
		}
	}
}

func (p *ownedPlanner) structure(n *ownedNode, t reflect.Type, rules *schema.Map) {
	n.kind = ownedStruct
	zero := reflect.New(t).Elem()
	for _, f := range value.TypeReflectEntryOf(t).OrderedFields() {
		field := ownedField{FieldCacheEntry: f, node: &ownedNode{}}
		empty := f.GetFrom(zero)
		if rule, ok := rules.FindField(f.JsonName); ok {
			field.node = p.node(empty.Type(), rule.Type)
		}
		if !f.CanOmit(empty) {
			field.base = baseZero
			if _, null := settle(empty); null {
				field.base = baseNull
			}
		}
		n.fields = append(n.fields, field)
	}
}

func (p *ownedPlanner) list(n *ownedNode, t reflect.Type, rules *schema.List) {
	item := p.node(t, rules.ElementType)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if len(rules.Keys) > 0 {
		if t.Kind() != reflect.Struct {
			return
		}
		atom, ok := p.schema.Resolve(rules.ElementType)
		if !ok || atom.Map == nil {
			return
		}
		for _, name := range slices.Sorted(slices.Values(rules.Keys)) {
			f, ok := value.TypeReflectEntryOf(t).Fields()[name]
			if !ok {
				return
			}
			rule, _ := atom.FindField(name)
			n.keys = append(n.keys, ownedKey{FieldCacheEntry: f, fallback: rule.Default})
		}
	}
	n.kind, n.item = ownedList, item
}
