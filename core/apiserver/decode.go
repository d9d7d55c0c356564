package apiserver

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"go.yaml.in/yaml/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"

	"github.com/weftrun/weft/core"
)

// contentType returns the body's media type; none counts as JSON.
func contentType(r *http.Request) string {
	header := r.Header.Get("Content-Type")
	switch header {
	case "":
		return typeJSON
	case typeJSON, typeYAML, typeProtobuf: // what nearly all send need not be parsed
		return header
	}
	mediaType, _, err := mime.ParseMediaType(header)
	if err != nil {
		return header
	}
	return mediaType
}

// readObject reads a body that holds an object of kind want, and returns what
// is wrong with its fields: unknown and duplicate ones.
func (s *Server) readObject(w http.ResponseWriter, r *http.Request, want schema.GroupVersionKind, custom bool) (object core.Object, strict []error, err error) {
	kind := contentType(r)
	switch {
	case kind == typeProtobuf && custom:
		return nil, nil, errMediaType(typeJSON, typeYAML)
	case kind != typeJSON && kind != typeYAML && kind != typeProtobuf:
		return nil, nil, errMediaType(typeJSON, typeYAML, typeProtobuf)
	}
	data, err := readBody(w, r, s.MaxBody)
	if err != nil {
		return nil, nil, err
	}
	if kind == typeProtobuf {
		object, err = decodeProtobuf(data, want)
		return object, nil, err
	}
	if kind == typeYAML {
		if data, strict, err = fromYAML(data); err != nil {
			return nil, nil, err
		}
	}
	object, more, err := decodeJSON(data, want, custom)
	return object, append(strict, more...), err
}

// checkKind refuses what is not an object of want; an unnamed kind is taken
// for it.
func checkKind(got metav1.TypeMeta, want schema.GroupVersionKind) error {
	gvk := got.GroupVersionKind()
	if got.APIVersion != "" && gvk.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)",
			gvk.GroupVersion(), want.GroupVersion()))
	}
	if got.Kind != "" && gvk.Kind != want.Kind {
		gvk.Version = want.Version
		return errHandled(gvk, want.Kind, fmt.Errorf("the kind in the data is %s", gvk.Kind))
	}
	return nil
}

// decodeJSON decodes an object of want as strictly as Kubernetes: names of
// fields are case-sensitive.
func decodeJSON(data []byte, want schema.GroupVersionKind, custom bool) (core.Object, []error, error) {
	if err := checkDepth(data); err != nil {
		return nil, nil, err
	}
	var meta metav1.TypeMeta
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &meta); err != nil {
		return nil, nil, errHandled(schema.GroupVersionKind{}, want.Kind, err)
	}
	if err := checkKind(meta, want); err != nil {
		return nil, nil, err
	}
	got := meta.GroupVersionKind()
	if got.Kind != "" {
		got = want
	}
	if custom {
		content := map[string]any{}
		strict, err := kjson.UnmarshalStrict(data, &content)
		if err != nil || content == nil {
			return nil, nil, errHandled(got, want.Kind, orNull(err))
		}
		u := &unstructured.Unstructured{Object: content}
		if _, err := meta1(u); err != nil {
			return nil, nil, errHandled(got, want.Kind, err)
		}
		u.SetGroupVersionKind(want)
		return u, strict, nil
	}
	object, err := newObject(want)
	if err != nil {
		return nil, nil, err
	}
	strict, err := kjson.UnmarshalStrict(data, object)
	if err != nil {
		return nil, nil, errHandled(got, want.Kind, err)
	}
	object.GetObjectKind().SetGroupVersionKind(want)
	return object, strict, nil
}

func orNull(err error) error {
	if err == nil {
		return errors.New("the body is null")
	}
	return err
}

// meta1 decodes an unstructured object's metadata, which would otherwise be
// read as empty where it has a wrong type.
func meta1(u *unstructured.Unstructured) (*metav1.ObjectMeta, error) {
	raw, ok := u.Object["metadata"]
	if !ok || raw == nil {
		return &metav1.ObjectMeta{}, nil
	}
	content, ok := raw.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("metadata: %T is no object", raw)
	}
	var meta metav1.ObjectMeta
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(content, &meta); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return &meta, nil
}

func newObject(gvk schema.GroupVersionKind) (core.Object, error) {
	fresh, err := core.Scheme().New(gvk)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", gvk, err)
	}
	object, ok := fresh.(core.Object)
	if !ok {
		return nil, fmt.Errorf("make %s: %T is no API object", gvk, fresh)
	}
	object.GetObjectKind().SetGroupVersionKind(gvk)
	return object, nil
}

// decodeProtobuf decodes Kubernetes' envelope.
func decodeProtobuf(data []byte, want schema.GroupVersionKind) (core.Object, error) {
	if !bytes.HasPrefix(data, magic) {
		return nil, apierrors.NewBadRequest("the body is no Kubernetes protobuf: it does not begin with its magic bytes")
	}
	object, err := newObject(want)
	if err != nil {
		return nil, err
	}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(data[len(magic):]); err != nil {
		return nil, errHandled(schema.GroupVersionKind{}, want.Kind, err)
	}
	if err := checkKind(metav1.TypeMeta{APIVersion: unknown.APIVersion, Kind: unknown.Kind}, want); err != nil {
		return nil, err
	}
	decoder := protobuf.NewSerializer(core.Scheme(), core.Scheme())
	if _, _, err := decoder.Decode(data, &want, object); err != nil {
		return nil, errHandled(want, want.Kind, err)
	}
	object.GetObjectKind().SetGroupVersionKind(want)
	return object, nil
}

// maxYAML bounds a YAML body: it needs far more memory than JSON to decode.
const maxYAML = 1 << 20

// maxNodes bounds what a YAML body may become when its aliases are followed.
const maxNodes = 100_000

// fromYAML turns one YAML document into JSON. Duplicate keys are returned as
// strict errors. Documents that would grow by their aliases, or nest too
// deep, are refused before they are expanded.
func fromYAML(data []byte) ([]byte, []error, error) {
	if trimmed := bytes.TrimSpace(data); bytes.HasPrefix(trimmed, []byte("{")) {
		return trimmed, nil, nil // JSON
	}
	if len(data) > maxYAML {
		return nil, nil, errTooLarge(maxYAML)
	}
	if err := checkFlow(data); err != nil {
		return nil, nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, nil, apierrors.NewBadRequest("error converting YAML to JSON: " + err.Error())
	}
	m := measurer{sizes: map[*yaml.Node]int{}}
	if m.measure(&root, 0) > maxNodes || m.tooDeep {
		return nil, nil, apierrors.NewBadRequest(fmt.Sprintf("the YAML body nests deeper than %d levels or expands to more than %d nodes", maxDepth, maxNodes))
	}
	var strict []error
	if _, err := kyaml.YAMLToJSONStrict(data); err != nil {
		strict = append(strict, errors.New(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	out, err := kyaml.YAMLToJSON(data)
	if err != nil {
		return nil, nil, apierrors.NewBadRequest("error converting YAML to JSON: " + err.Error())
	}
	return out, strict, nil
}

// checkFlow bounds nesting in flow style and by indentation before the
// parser, which recurses, sees the document.
func checkFlow(data []byte) error {
	depth, deepest := 0, 0
	for line := range bytes.Lines(data) {
		trimmed := bytes.TrimLeft(line, " ")
		for len(trimmed) > 1 && trimmed[0] == '-' && (trimmed[1] == ' ' || trimmed[1] == '-') {
			trimmed = trimmed[1:]
			trimmed = bytes.TrimLeft(trimmed, " ")
			deepest++
		}
		if deepest > maxDepth {
			return apierrors.NewBadRequest(fmt.Sprintf("the YAML body nests deeper than %d levels", maxDepth))
		}
		deepest = 0
		depth += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		depth -= bytes.Count(line, []byte("]")) + bytes.Count(line, []byte("}"))
		if depth = max(depth, 0); depth > 10*maxDepth {
			return apierrors.NewBadRequest(fmt.Sprintf("the YAML body nests deeper than %d levels", maxDepth))
		}
	}
	return nil
}

// measurer counts the nodes of a document with its aliases followed, without
// following one twice.
type measurer struct {
	sizes   map[*yaml.Node]int // 0 while it is being measured
	tooDeep bool
}

func (m *measurer) measure(n *yaml.Node, depth int) int {
	if depth > maxDepth {
		m.tooDeep = true
		return 1
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if size, ok := m.sizes[n]; ok {
		if size == 0 {
			m.tooDeep = true // it holds itself
		}
		return max(size, 1)
	}
	m.sizes[n] = 0
	size := 1
	for _, child := range n.Content {
		if size += m.measure(child, depth+1); size > maxNodes || m.tooDeep {
			size = min(size, maxNodes+1)
			break
		}
	}
	m.sizes[n] = size
	return size
}
