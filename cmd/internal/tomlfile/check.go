package tomlfile

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Checker compares values with Go types and collects what does not fit.
type Checker struct {
	// Tag is that of struct fields which holds a key's name: json or toml.
	Tag string
	// Noun is what a key is called: field or setting.
	Noun string

	document *Document
	problems []Problem
}

// Report adds a problem with the value at path.
func (c *Checker) Report(path, format string, args ...any) {
	c.problems = append(c.problems, c.document.Problem(path, fmt.Sprintf(format, args...)))
}

// Problems are those found so far, in the order of their lines.
func (c *Checker) Problems() []Problem {
	Sort(c.problems)
	return c.problems
}

var (
	quantityType    = reflect.TypeFor[resource.Quantity]()
	intOrStringType = reflect.TypeFor[intstr.IntOrString]()
	timeType        = reflect.TypeFor[metav1.Time]()
	microTimeType   = reflect.TypeFor[metav1.MicroTime]()
	durationType    = reflect.TypeFor[time.Duration]()
	unmarshaler     = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// Value checks one value against the type that it is decoded into.
func (c *Checker) Value(path string, value any, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if c.special(path, value, t) {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if table, ok := value.(map[string]any); ok {
			c.table(path, table, t)
			return
		}
	case reflect.Map:
		if table, ok := value.(map[string]any); ok {
			for _, key := range slices.Sorted(maps.Keys(table)) {
				c.Value(Join(path, key), table[key], t.Elem())
			}
			return
		}
	case reflect.Slice:
		if c.array(path, value, t) {
			return
		}
	case reflect.Interface:
		return
	default:
		if scalar(value, t) {
			return
		}
	}
	c.Report(path, "must be %s, but is %s", describe(t), tomlType(value))
}

// special checks the types that have a text form of their own, and returns
// false for all others.
func (c *Checker) special(path string, value any, t reflect.Type) bool {
	fits := false
	switch t {
	case quantityType:
		fits = c.quantity(path, value)
	case intOrStringType:
		switch value.(type) {
		case string, int64:
			fits = true
		}
	case timeType, microTimeType:
		fits = c.time(path, value)
	case durationType:
		fits = c.duration(path, value)
	default:
		// Free-form content is checked by the server.
		return reflect.PointerTo(t).Implements(unmarshaler) || reflect.PointerTo(t).Implements(textUnmarshaler)
	}
	if !fits {
		c.Report(path, "must be %s, but is %s", describe(t), tomlType(value))
	}
	return true
}

func (c *Checker) quantity(path string, value any) bool {
	switch v := value.(type) {
	case string:
		if _, err := resource.ParseQuantity(v); err != nil {
			c.Report(path, "%q is no quantity: give a number with an optional unit, such as \"250m\" or \"64Mi\"", v)
		}
		return true
	case int64, float64:
		return true
	}
	return false
}

func (c *Checker) time(path string, value any) bool {
	switch v := value.(type) {
	case time.Time:
		return true
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil {
			c.Report(path, "%q is no time: give one as in RFC 3339", v)
		}
		return true
	}
	return false
}

func (c *Checker) duration(path string, value any) bool {
	text, ok := value.(string)
	if !ok {
		return false
	}
	if _, err := time.ParseDuration(text); err != nil {
		c.Report(path, "%q is no duration, such as \"10s\" or \"1m30s\"", text)
	}
	return true
}

func (c *Checker) table(path string, table map[string]any, t reflect.Type) {
	fields := map[string]reflect.Type{}
	c.collect(t, fields)
	for _, key := range slices.Sorted(maps.Keys(table)) {
		field, ok := fields[key]
		if !ok {
			c.Report(Join(path, key), "unknown %s%s", c.Noun, suggest(key, fields))
			continue
		}
		c.Value(Join(path, key), table[key], field)
	}
}

func (c *Checker) array(path string, value any, t reflect.Type) bool {
	if t.Elem().Kind() == reflect.Uint8 {
		_, ok := value.(string)
		return ok
	}
	switch items := value.(type) {
	case []any:
		for i, item := range items {
			c.Value(fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
		}
		return true
	case []map[string]any:
		for i, item := range items {
			c.Value(fmt.Sprintf("%s[%d]", path, i), item, t.Elem())
		}
		return true
	}
	return false
}

func scalar(value any, t reflect.Type) bool {
	switch v := value.(type) {
	case string:
		return t.Kind() == reflect.String
	case bool:
		return t.Kind() == reflect.Bool
	case int64:
		switch t.Kind() {
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			return !reflect.Zero(t).OverflowInt(v)
		case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
			return v >= 0 && !reflect.Zero(t).OverflowUint(uint64(v))
		case reflect.Float32, reflect.Float64:
			return true
		}
	case float64:
		return t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64
	}
	return false
}

// collect gathers the names of a struct's fields, embedded ones included.
func (c *Checker) collect(t reflect.Type, fields map[string]reflect.Type) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get(c.Tag), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous && (name == "" || strings.Contains(options, "inline")) {
			c.collect(f.Type, fields)
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields[name] = f.Type
	}
}

// suggest names the field that was probably meant.
func suggest(key string, fields map[string]reflect.Type) string {
	best, distance := "", 3
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if strings.EqualFold(name, key) {
			return fmt.Sprintf(" (did you mean %q?)", name)
		}
		if d := edits(strings.ToLower(name), strings.ToLower(key)); d < distance {
			best, distance = name, d
		}
	}
	if best == "" || distance >= len(key) {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// edits is the Damerau-Levenshtein distance (a transposition counts once);
// strings of very different length are simply far apart.
func edits(a, b string) int {
	if len(a)-len(b) > 2 || len(b)-len(a) > 2 {
		return 3
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

func describe(t reflect.Type) string {
	switch t {
	case quantityType:
		return "a quantity (a string such as \"250m\", or a number)"
	case intOrStringType:
		return "an integer or a string"
	case timeType, microTimeType:
		return "a date and time"
	case durationType:
		return "a duration (a string such as \"10s\")"
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "a table"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "a base64 string"
		}
		return "an array"
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	if t.Kind() == reflect.Int {
		return "an integer"
	}
	return "an integer of type " + t.Kind().String()
}

func tomlType(value any) string {
	switch v := value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return fmt.Sprintf("the integer %d", v)
	case float64:
		return "a float"
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	}
	return "an array"
}

// Join returns the path of a key in the table at path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
