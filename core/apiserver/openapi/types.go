package openapi

import (
	"reflect"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// schema is one OpenAPI schema, in the order in which its fields are read.
type schema struct {
	Ref                  string             `json:"$ref,omitempty"`
	AllOf                []*schema          `json:"allOf,omitempty"`
	OneOf                []*schema          `json:"oneOf,omitempty"`
	Description          string             `json:"description,omitempty"`
	Type                 string             `json:"type,omitempty"`
	Format               string             `json:"format,omitempty"`
	Default              any                `json:"default,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	AdditionalProperties *schema            `json:"additionalProperties,omitempty"`
	Required             []string           `json:"required,omitempty"`

	Kinds         []kindName `json:"x-kubernetes-group-version-kind,omitempty"`
	PatchStrategy string     `json:"x-kubernetes-patch-strategy,omitempty"`
	PatchMergeKey string     `json:"x-kubernetes-patch-merge-key,omitempty"`
	ListType      string     `json:"x-kubernetes-list-type,omitempty"`
	ListMapKeys   []string   `json:"x-kubernetes-list-map-keys,omitempty"`
	PreserveAll   bool       `json:"x-kubernetes-preserve-unknown-fields,omitempty"`
}

type kindName struct {
	Group   string `json:"group"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
}

// named is a type that knows its name in OpenAPI; documented one that knows
// what its fields mean ("" is the type itself).
type (
	named      interface{ OpenAPIModelName() string }
	documented interface{ SwaggerDoc() map[string]string }
)

// special are the types whose JSON is not that of their fields.
var special = map[reflect.Type]schema{
	reflect.TypeFor[resource.Quantity](): {
		Description: "Quantity is a number with a suffix, such as 100m, 1.5 or 2Gi.",
		OneOf:       []*schema{{Type: "string"}, {Type: "number"}},
	},
	reflect.TypeFor[intstr.IntOrString](): {
		Description: "IntOrString is a number or a string.", Format: "int-or-string",
		OneOf: []*schema{{Type: "integer"}, {Type: "string"}},
	},
	reflect.TypeFor[metav1.Time]():          {Description: "Time in RFC 3339, to the second.", Type: "string", Format: "date-time"},
	reflect.TypeFor[metav1.MicroTime]():     {Description: "Time in RFC 3339, to the microsecond.", Type: "string", Format: "date-time"},
	reflect.TypeFor[metav1.Duration]():      {Description: "Duration such as 1m30s.", Type: "string"},
	reflect.TypeFor[time.Duration]():        {Type: "integer", Format: "int64"},
	reflect.TypeFor[metav1.FieldsV1]():      {Description: "FieldsV1 stores a set of fields as a trie in JSON.", Type: "object"},
	reflect.TypeFor[runtime.RawExtension](): {Description: "RawExtension holds any object.", Type: "object"},
}

// definitions gathers the schemas of Go types by name. It is not concurrent.
type definitions struct {
	schemas map[string]*schema
	names   map[reflect.Type]string
}

func newDefinitions() *definitions {
	return &definitions{schemas: map[string]*schema{}, names: map[reflect.Type]string{}}
}

// nameOf is a type's name as in Kubernetes: io.k8s.api.core.v1.Pod.
func nameOf(t reflect.Type) string {
	if n, ok := reflect.TypeAssert[named](reflect.Zero(t)); ok {
		return n.OpenAPIModelName()
	}
	if n, ok := reflect.TypeAssert[named](reflect.New(t)); ok {
		return n.OpenAPIModelName()
	}
	path := strings.ReplaceAll(t.PkgPath(), ".", "/")
	parts := strings.Split(path, "/")
	if len(parts) > 1 && parts[0] == "k8s" && parts[1] == "io" {
		parts[0], parts[1] = "io", "k8s"
	}
	return strings.Join(append(parts, t.Name()), ".")
}

// define makes the definition of a named type and of all that it holds, and
// returns its name.
func (d *definitions) define(t reflect.Type) string {
	if name, ok := d.names[t]; ok {
		return name
	}
	name := nameOf(t)
	d.names[t] = name
	if s, ok := special[t]; ok {
		d.schemas[name] = &s
		return name
	}
	s := &schema{Type: "object"}
	d.schemas[name] = s
	docs := docsOf(t)
	s.Description = docs[""]
	if t.NumField() > 0 {
		d.fields(s, t, docs)
	}
	return name
}

func docsOf(t reflect.Type) map[string]string {
	if known, ok := reflect.TypeAssert[documented](reflect.Zero(t)); ok {
		return known.SwaggerDoc()
	}
	return nil
}

// fields adds a struct's fields, those of inlined structs among them.
func (d *definitions) fields(s *schema, t reflect.Type, docs map[string]string) {
	for f := range fieldsOf(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			inner := deref(f.Type)
			d.fields(s, inner, docsOf(inner))
			continue
		}
		if name == "" {
			name = f.Name
		}
		if s.Properties == nil {
			s.Properties = map[string]*schema{}
		}
		s.Properties[name] = d.field(f, docs[name])
		if !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") && f.Type.Kind() != reflect.Pointer {
			s.Required = append(s.Required, name)
		}
	}
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for field := range t.Fields() {
			if !yield(field) {
				return
			}
		}
	}
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// field is a field's schema: a reference cannot hold a description beside it,
// so it is wrapped, as Kubernetes does.
func (d *definitions) field(f reflect.StructField, doc string) *schema {
	s := d.schemaOf(f.Type)
	if s.Ref != "" {
		s = &schema{AllOf: []*schema{s}}
		if f.Type.Kind() == reflect.Struct {
			s.Default = map[string]any{}
		}
	}
	s.Description = doc
	s.PatchStrategy = f.Tag.Get("patchStrategy")
	s.PatchMergeKey = f.Tag.Get("patchMergeKey")
	if s.PatchMergeKey != "" {
		s.ListType, s.ListMapKeys = "map", []string{s.PatchMergeKey}
	}
	return s
}

// schemaOf is a type's schema where it is used.
func (d *definitions) schemaOf(t reflect.Type) *schema {
	t = deref(t)
	if _, ok := special[t]; ok && t.Kind() == reflect.Struct {
		return reference(d.define(t))
	}
	switch t.Kind() {
	case reflect.Struct:
		return reference(d.define(t))
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &schema{Type: "string", Format: "byte"}
		}
		return &schema{Type: "array", Items: wrapped(d.schemaOf(t.Elem()))}
	case reflect.Map:
		return &schema{Type: "object", AdditionalProperties: wrapped(d.schemaOf(t.Elem()))}
	}
	return scalar(t)
}

func scalar(t reflect.Type) *schema {
	switch t.Kind() {
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Int32, reflect.Uint32, reflect.Int16, reflect.Uint16, reflect.Int8, reflect.Uint8:
		return &schema{Type: "integer", Format: "int32"}
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64:
		return &schema{Type: "integer", Format: "int64"}
	case reflect.Float32, reflect.Float64:
		return &schema{Type: "number", Format: "double"}
	case reflect.String:
		return &schema{Type: "string"}
	}
	return &schema{PreserveAll: true} // anything
}

func reference(name string) *schema {
	return &schema{Ref: "#/components/schemas/" + name}
}

// wrapped gives a reference the default that Kubernetes' documents have.
func wrapped(s *schema) *schema {
	if s.Ref == "" {
		return s
	}
	return &schema{AllOf: []*schema{s}, Default: map[string]any{}}
}
