package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
)

// document is an OpenAPI v3 document.
type document struct {
	OpenAPI    string               `json:"openapi"`
	Info       info                 `json:"info"`
	Paths      map[string]*pathItem `json:"paths"`
	Components components           `json:"components"`
}

type info struct {
	Title   string `json:"title"`
	Version string `json:"version"`
}

// components hold schemas of type *schema, or for custom kinds any.
type components struct {
	Schemas map[string]any `json:"schemas"`
}

type pathItem struct {
	Get        *operation  `json:"get,omitempty"`
	Put        *operation  `json:"put,omitempty"`
	Post       *operation  `json:"post,omitempty"`
	Delete     *operation  `json:"delete,omitempty"`
	Patch      *operation  `json:"patch,omitempty"`
	Parameters []parameter `json:"parameters,omitempty"`
}

type operation struct {
	Tags        []string       `json:"tags,omitempty"`
	Description string         `json:"description"`
	OperationID string         `json:"operationId"`
	Parameters  []parameter    `json:"parameters,omitempty"`
	RequestBody *content       `json:"requestBody,omitempty"`
	Responses   map[string]any `json:"responses"`
	Action      string         `json:"x-kubernetes-action"`
	Kind        kindName       `json:"x-kubernetes-group-version-kind"`
}

type parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Schema      *schema `json:"schema"`
}

type content struct {
	Description string               `json:"description,omitempty"`
	Content     map[string]mediaType `json:"content"`
	Required    bool                 `json:"required,omitempty"`
}

type mediaType struct {
	Schema *schema `json:"schema"`
}

// build makes the document of one group and version.
func build(all []served, version string) ([]byte, error) {
	b := &builder{
		definitions: newDefinitions(),
		custom:      map[string]any{},
		doc: document{
			OpenAPI: "3.0.0", Info: info{Title: "Kubernetes", Version: version}, Paths: map[string]*pathItem{},
		},
	}
	for _, k := range all {
		if err := b.add(k); err != nil {
			return nil, err
		}
	}
	b.doc.Components.Schemas = b.custom
	for name, s := range b.schemas {
		b.doc.Components.Schemas[name] = s
	}
	data, err := json.Marshal(b.doc)
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI document: %w", err)
	}
	return append(data, '\n'), nil
}

type builder struct {
	*definitions
	custom map[string]any
	doc    document
}

func (b *builder) add(k served) error {
	gvk := k.kind.GroupVersionKind(k.version.Name)
	item, list := "", ""
	if k.kind.Custom {
		item, list = b.addCustom(k)
	} else {
		for _, kind := range []string{k.kind.Kind, k.kind.ListKind} {
			name, err := b.addBuiltin(gvk.GroupVersion().WithKind(kind))
			if err != nil {
				return err
			}
			item, list = list, name
		}
	}
	b.addPaths(k, item, list)
	return nil
}

// addBuiltin defines a kind by its Go type.
func (b *builder) addBuiltin(gvk kschema.GroupVersionKind) (string, error) {
	object, err := core.Scheme().New(gvk)
	if err != nil {
		return "", fmt.Errorf("describe %s: %w", gvk, err)
	}
	name := b.define(reflect.TypeOf(object).Elem())
	b.name(name, gvk)
	return name, nil
}

// name says which kind a definition is.
func (b *builder) name(definition string, gvk kschema.GroupVersionKind) {
	kind := kindName{gvk.Group, gvk.Version, gvk.Kind}
	if s := b.schemas[definition]; !slices.Contains(s.Kinds, kind) {
		s.Kinds = append(s.Kinds, kind)
	}
}

// addCustom defines a kind by its own schema, with the fields that every
// object has, and its list.
func (b *builder) addCustom(k served) (item, list string) {
	prefix := reversed(k.kind.Group) + "." + k.version.Name + "."
	item, list = prefix+k.kind.Kind, prefix+k.kind.ListKind
	meta := b.define(reflect.TypeFor[metav1.ObjectMeta]())
	listMeta := b.define(reflect.TypeFor[metav1.ListMeta]())
	docs := metav1.TypeMeta{}.SwaggerDoc()
	props := apiextensionsv1.JSONSchemaProps{Type: "object"}
	if k.version.Schema != nil {
		props = *k.version.Schema.DeepCopy()
	}
	root := customSchema{JSONSchemaProps: props, Kinds: []kindName{{k.kind.Group, k.version.Name, k.kind.Kind}}}
	own := map[string]any{}
	for name, p := range props.Properties {
		own[name] = p
	}
	own["apiVersion"] = &schema{Type: "string", Description: docs["apiVersion"]}
	own["kind"] = &schema{Type: "string", Description: docs["kind"]}
	own["metadata"] = &schema{AllOf: []*schema{reference(meta)}, Description: "Standard object's metadata."}
	root.Own = own
	root.Properties = nil
	b.custom[item] = root
	b.custom[list] = &schema{
		Type: "object", Description: k.kind.ListKind + " is a list of " + k.kind.Kind, Required: []string{"items"},
		Kinds: []kindName{{k.kind.Group, k.version.Name, k.kind.ListKind}},
		Properties: map[string]*schema{
			"apiVersion": {Type: "string", Description: docs["apiVersion"]},
			"kind":       {Type: "string", Description: docs["kind"]},
			"metadata":   {AllOf: []*schema{reference(listMeta)}},
			"items":      {Type: "array", Items: reference(item), Description: "List of " + k.kind.Resource + "."},
		},
	}
	return item, list
}

// customSchema is a custom kind's schema with properties of two sorts.
type customSchema struct {
	apiextensionsv1.JSONSchemaProps
	Own   map[string]any
	Kinds []kindName
}

// MarshalJSON writes the schema with its own properties and kind.
func (c customSchema) MarshalJSON() ([]byte, error) {
	data, err := json.Marshal(c.JSONSchemaProps)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	fields["properties"] = c.Own
	fields["x-kubernetes-group-version-kind"] = c.Kinds
	return json.Marshal(fields)
}

// reversed turns a group into a prefix of names: example.com is com.example.
func reversed(group string) string {
	parts := strings.Split(group, ".")
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}
