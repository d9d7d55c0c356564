package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/util/jsonpath"

	"github.com/weftrun/weft/core"
)

// servedVersion is a version of a definition as the catalogue shows it.
func servedVersion(v *apiextensionsv1.CustomResourceDefinitionVersion) (core.Version, error) {
	served := core.Version{Name: v.Name}
	if v.Schema != nil {
		served.Schema = v.Schema.OpenAPIV3Schema
	}
	if v.Subresources != nil {
		served.Scale = v.Subresources.Scale
	}
	t, err := newTable(v.AdditionalPrinterColumns)
	if err != nil {
		return core.Version{}, err
	}
	served.Columns, served.Cells = t.columns, t.cells
	return served, nil
}

// table prints custom objects.
type table struct {
	columns []metav1.TableColumnDefinition

	mu    sync.Mutex // a JSONPath has state while it searches
	paths []*jsonpath.JSONPath
}

func newTable(columns []apiextensionsv1.CustomResourceColumnDefinition) (*table, error) {
	if len(columns) == 0 {
		columns = []apiextensionsv1.CustomResourceColumnDefinition{{
			Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp",
			Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		}}
	}
	t := &table{columns: []metav1.TableColumnDefinition{nameColumn()}}
	for _, c := range columns {
		path := jsonpath.New(c.Name).AllowMissingKeys(true)
		if err := path.Parse("{" + c.JSONPath + "}"); err != nil {
			return nil, fmt.Errorf("column %q: unrecognized JSONPath %q: %w", c.Name, c.JSONPath, err)
		}
		description := c.Description
		if description == "" {
			description = "Custom resource definition column (in JSONPath format): " + c.JSONPath
		}
		t.paths = append(t.paths, path)
		t.columns = append(t.columns, metav1.TableColumnDefinition{
			Name: c.Name, Type: c.Type, Format: c.Format, Description: description, Priority: c.Priority,
		})
	}
	return t, nil
}

func (t *table) cells(object core.Object, now time.Time) []any {
	t.mu.Lock()
	defer t.mu.Unlock()
	cells := make([]any, 1, len(t.columns))
	cells[0] = object.GetName()
	for i, path := range t.paths {
		cells = append(cells, cell(path, t.columns[i+1].Type, content(object), now))
	}
	return cells
}

func cell(path *jsonpath.JSONPath, kind string, object map[string]any, now time.Time) any {
	results, err := path.FindResults(object)
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil
	}
	value := results[0][0].Interface()
	switch kind {
	case "string":
		var text bytes.Buffer
		if err := path.PrintResults(&text, []reflect.Value{reflect.ValueOf(value)}); err != nil {
			return nil
		}
		return text.String()
	case "integer", "number":
		return numberCell(kind, value)
	case "boolean":
		if b, ok := value.(bool); ok {
			return b
		}
	case "date":
		if text, ok := value.(string); ok {
			stamp, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return "<invalid>"
			}
			return age(metav1.NewTime(stamp), now)
		}
	}
	return nil
}

func numberCell(kind string, value any) any {
	var f float64
	switch n := value.(type) {
	case int64:
		if kind == "integer" {
			return n
		}
		f = float64(n)
	case float64:
		f = n
	case json.Number:
		parsed, err := n.Float64()
		if err != nil {
			return nil
		}
		f = parsed
	default:
		return nil
	}
	if kind == "integer" {
		return int64(f)
	}
	return f
}

// selectable returns what field selectors see of a custom object; nil if its
// version declares nothing.
func selectable(declared []apiextensionsv1.SelectableField) func(core.Object) map[string]string {
	if len(declared) == 0 {
		return nil
	}
	paths := make(map[string][]string, len(declared))
	for _, s := range declared {
		name := strings.TrimPrefix(s.JSONPath, ".")
		paths[name] = strings.Split(name, ".")
	}
	return func(o core.Object) map[string]string {
		found := make(map[string]string, len(paths))
		for name, path := range paths {
			value, ok, err := unstructured.NestedFieldNoCopy(content(o), path...)
			if err == nil && ok && value != nil {
				found[name] = fmt.Sprint(value)
			}
		}
		return found
	}
}

// steps are the fields of a simple JSONPath, such as .spec.replicas.
func steps(path string) []string { return strings.Split(strings.TrimPrefix(path, "."), ".") }

// scaling is the scale subresource that the version declares.
func (v *customVersion) scaling() *Scaling {
	number := func(o core.Object, path string) int32 {
		n, _, err := unstructured.NestedInt64(content(o), steps(path)...)
		if err != nil {
			return 0
		}
		return int32(min(max(n, math.MinInt32), math.MaxInt32))
	}
	return &Scaling{
		Replicas: func(o core.Object) (int32, int32, string) {
			selector := ""
			if v.scale.LabelSelectorPath != nil && *v.scale.LabelSelectorPath != "" {
				if s, ok, err := unstructured.NestedString(content(o), steps(*v.scale.LabelSelectorPath)...); ok && err == nil {
					selector = s
				}
			}
			return number(o, v.scale.SpecReplicasPath), number(o, v.scale.StatusReplicasPath), selector
		},
		Set: func(o core.Object, replicas int32) {
			// An error says that the path runs through something that is no
			// object; the schema then refuses the object anyway.
			_ = unstructured.SetNestedField(content(o), int64(replicas), steps(v.scale.SpecReplicasPath)...)
		},
	}
}

// validateScale says what is wrong with the replicas of an object.
func (v *customVersion) validateScale(object map[string]any) field.ErrorList {
	if v.scale == nil {
		return nil
	}
	var errs field.ErrorList
	for _, path := range []string{v.scale.SpecReplicasPath, v.scale.StatusReplicasPath} {
		n, _, err := unstructured.NestedInt64(object, steps(path)...)
		at := field.NewPath(path)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at, n, err.Error()))
		case n < 0:
			errs = append(errs, field.Invalid(at, n, "should be a non-negative integer"))
		case n > math.MaxInt32:
			errs = append(errs, field.Invalid(at, n, fmt.Sprintf("should be less than or equal to %v", math.MaxInt32)))
		}
	}
	return errs
}
