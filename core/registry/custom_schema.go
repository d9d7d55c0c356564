package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	openapierrors "k8s.io/kube-openapi/pkg/validation/errors"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"

	"github.com/weftrun/weft/core"
)

// customVersion is one version of a custom kind. Rules in CEL are not among
// what it checks: their interpreter is larger than all the rest of this, so
// definitions that have some are refused.
type customVersion struct {
	schema          *structural.Structural
	whole, statuses *validate.SchemaValidator // statuses is nil without such a property
	status          bool                      // there is a status subresource
	scale           *apiextensionsv1.CustomResourceSubresourceScale
	fields          func(core.Object) map[string]string
}

func compileVersion(v *apiextensionsv1.CustomResourceDefinitionVersion) (*customVersion, error) {
	s, err := toStructural(v)
	if err != nil {
		return nil, err
	}
	c := &customVersion{schema: s}
	open := s.ToKubeOpenAPI()
	c.whole = validate.NewSchemaValidator(open, nil, "", strfmt.Default)
	if p, ok := open.Properties["status"]; ok {
		c.statuses = validate.NewSchemaValidator(&p, nil, "", strfmt.Default)
	}
	if v.Subresources != nil {
		c.status = v.Subresources.Status != nil
		c.scale = v.Subresources.Scale
	}
	c.fields = selectable(v.SelectableFields)
	return c, nil
}

// toStructural converts a version's schema; one without any takes everything.
func toStructural(v *apiextensionsv1.CustomResourceDefinitionVersion) (*structural.Structural, error) {
	if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
		return nil, errors.New("schemas are required")
	}
	internal := &apiextensions.JSONSchemaProps{}
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, internal, nil); err != nil {
		return nil, fmt.Errorf("convert schema: %w", err)
	}
	return structural.NewStructural(internal)
}

// validateSchemas says what of a definition's versions Weft cannot serve.
func validateSchemas(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	var errs field.ErrorList
	if c := d.Spec.Conversion; c != nil && c.Strategy != "" && c.Strategy != apiextensionsv1.NoneConverter {
		errs = append(errs, field.NotSupported(specPath.Child("conversion", "strategy"), c.Strategy, []apiextensionsv1.ConversionStrategyType{apiextensionsv1.NoneConverter}))
	}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		path := specPath.Child("versions").Index(i)
		at := path.Child("schema", "openAPIV3Schema")
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			errs = append(errs, field.Required(at, "schemas are required"))
			continue
		}
		if rules := findRules(v.Schema.OpenAPIV3Schema, at, 0); len(rules) > 0 {
			errs = append(errs, rules...)
			continue
		}
		s, err := toStructural(v)
		if err != nil {
			errs = append(errs, field.Invalid(at, "", err.Error()))
			continue
		}
		errs = append(errs, structural.ValidateStructural(at, s)...)
		if _, err := servedVersion(v); err != nil {
			errs = append(errs, field.Invalid(path.Child("additionalPrinterColumns"), "", err.Error()))
		}
	}
	return errs
}

// maxSchemaDepth bounds how deep a schema may nest.
const maxSchemaDepth = 100

// findRules refuses CEL rules wherever a structural schema may have them.
func findRules(s *apiextensionsv1.JSONSchemaProps, path *field.Path, depth int) field.ErrorList {
	if s == nil {
		return nil
	}
	if depth > maxSchemaDepth {
		return field.ErrorList{field.Invalid(path, "", fmt.Sprintf("must not be nested deeper than %d levels", maxSchemaDepth))}
	}
	var errs field.ErrorList
	if len(s.XValidations) > 0 {
		errs = append(errs, field.Forbidden(path.Child("x-kubernetes-validations"), "rules in CEL are not supported: use the schema's own keywords, or validate in the controller"))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		errs = append(errs, findRules(&p, path.Child("properties").Key(name), depth+1)...)
	}
	if s.Items != nil {
		errs = append(errs, findRules(s.Items.Schema, path.Child("items"), depth+1)...)
	}
	if s.AdditionalProperties != nil {
		errs = append(errs, findRules(s.AdditionalProperties.Schema, path.Child("additionalProperties"), depth+1)...)
	}
	return errs
}

// prune drops what the schema does not know and returns it if asked to. The
// error tells of metadata that is malformed.
func (v *customVersion) prune(u *unstructured.Unstructured, track bool) ([]error, error) {
	if u.Object == nil {
		return nil, errors.New("an object is wanted")
	}
	bad, meta := objectmeta.CoerceWithOptions(nil, u.Object, v.schema, true, objectmeta.CoerceOptions{ReturnUnknownFieldPaths: track})
	if bad != nil {
		return nil, bad
	}
	unknown := pruning.PruneWithOptions(u.Object, v.schema, true, structural.UnknownFieldPathOptions{TrackUnknownFieldPaths: track})
	var errs []error
	for _, path := range append(meta, unknown...) {
		errs = append(errs, fmt.Errorf("unknown field %q", path))
	}
	return errs, nil
}

// fill sets the defaults of the schema. Null counts as absent where it is not
// permitted.
func (v *customVersion) fill(object map[string]any) {
	pruning.Prune(object, v.schema, true)
	fillDefaults(object, v.schema)
}

func fillDefaults(value any, s *structural.Structural) {
	if s == nil {
		return
	}
	switch value := value.(type) {
	case map[string]any:
		fillMap(value, s)
	case []any:
		for i := range value {
			if s.Items != nil && value[i] == nil && !s.Items.Nullable && s.Items.Default.Object != nil {
				value[i] = runtime.DeepCopyJSONValue(s.Items.Default.Object)
			}
			fillDefaults(value[i], s.Items)
		}
	}
}

func fillMap(object map[string]any, s *structural.Structural) {
	for name := range s.Properties {
		p := s.Properties[name]
		value, there := object[name]
		if there && (value != nil || p.Nullable) {
			fillDefaults(value, &p)
			continue
		}
		if p.Default.Object == nil {
			delete(object, name) // a null that is not permitted says nothing
			continue
		}
		object[name] = runtime.DeepCopyJSONValue(p.Default.Object)
		fillDefaults(object[name], &p)
	}
	if s.AdditionalProperties == nil || s.AdditionalProperties.Structural == nil {
		return
	}
	each := s.AdditionalProperties.Structural
	for name, value := range object {
		if _, known := s.Properties[name]; known {
			continue
		}
		if value == nil && !each.Nullable && each.Default.Object != nil {
			value = runtime.DeepCopyJSONValue(each.Default.Object)
			object[name] = value
		}
		fillDefaults(value, each)
	}
}

func (v *customVersion) validate(o core.Object, namespaced bool) field.ErrorList {
	errs := apivalidation.ValidateObjectMetaAccessor(o, namespaced, apivalidation.NameIsDNSSubdomain, metadataPath)
	object := content(o)
	errs = append(errs, schemaErrors(nil, v.whole.Validate(object))...)
	errs = append(errs, objectmeta.Validate(nil, object, v.schema, true)...)
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.schema, object)...)
	return append(errs, v.validateScale(object)...)
}

func (v *customVersion) validateStatus(o core.Object) field.ErrorList {
	status, there := content(o)["status"]
	if !there || v.statuses == nil {
		return nil
	}
	return schemaErrors(statusPath, v.statuses.Validate(status))
}

// specChanged tells whether anything but metadata, and status where that is a
// subresource, has changed.
func (v *customVersion) specChanged(object, old core.Object) bool {
	a, b := content(object), content(old)
	count := 0
	for name, value := range a {
		if name == "metadata" || (v.status && name == "status") {
			continue
		}
		before, there := b[name]
		if !there || !sameJSON(value, before) {
			return true
		}
		count++
	}
	for name := range b {
		if name != "metadata" && (!v.status || name != "status") {
			count--
		}
	}
	return count != 0
}

// schemaErrors says in the API's words what a schema has found.
func schemaErrors(path *field.Path, result *validate.Result) field.ErrorList {
	var errs field.ErrorList
	for _, err := range result.Errors {
		var v *openapierrors.Validation
		if !errors.As(err, &v) {
			errs = append(errs, field.Invalid(path, "", err.Error()))
			continue
		}
		at := path
		if name := strings.TrimPrefix(v.Name, "."); name != "" {
			at = path.Child(name)
		}
		errs = append(errs, schemaError(at, v))
	}
	return errs
}

func schemaError(at *field.Path, v *openapierrors.Validation) *field.Error {
	var value any = ""
	if v.Value != nil {
		value = v.Value
	}
	limit, _ := v.Valid.(int64)
	actual, _ := v.Value.(int64)
	switch v.Code() {
	case openapierrors.RequiredFailCode:
		return field.Required(at, "")
	case openapierrors.EnumFailCode:
		return field.NotSupported(at, v.Value, enumValues(v.Values))
	case openapierrors.TooLongFailCode:
		return field.TooLong(at, "", int(limit))
	case openapierrors.MaxItemsFailCode, openapierrors.TooManyPropertiesCode:
		return field.TooMany(at, int(actual), int(limit))
	case openapierrors.InvalidTypeCode:
		return field.TypeInvalid(at, value, v.Error())
	default:
		return field.Invalid(at, value, v.Error())
	}
}

func enumValues(allowed []any) []string {
	var values []string
	for _, a := range allowed {
		if s, ok := a.(string); ok {
			values = append(values, s)
			continue
		}
		text, err := json.Marshal(a)
		if err != nil {
			text = fmt.Append(nil, a)
		}
		values = append(values, string(text))
	}
	return values
}

// model is the version's schema as the merge library wants it.
func (v *customVersion) model(group, version, kind string) *spec.Schema {
	m := v.schema.ToKubeOpenAPI()
	if m.Properties == nil {
		m.Properties = map[string]spec.Schema{}
	}
	m.Properties["apiVersion"] = *spec.StringProperty()
	m.Properties["kind"] = *spec.StringProperty()
	m.Properties["metadata"] = metaModel()
	m.AddExtension("x-kubernetes-group-version-kind", []any{
		map[string]any{"group": group, "version": version, "kind": kind},
	})
	return m
}

// metaModel holds the merge rules of ObjectMeta.
func metaModel() spec.Schema {
	owners := spec.ArrayProperty(preserving(spec.MapProperty(nil)))
	owners.AddExtension("x-kubernetes-list-type", "map")
	owners.AddExtension("x-kubernetes-list-map-keys", []any{"uid"})
	owners.Items.Schema.Properties = map[string]spec.Schema{"uid": *spec.StringProperty()}
	owners.Items.Schema.AdditionalProperties = nil
	finalizers := spec.ArrayProperty(spec.StringProperty())
	finalizers.AddExtension("x-kubernetes-list-type", "set")
	meta := spec.Schema{SchemaProps: spec.SchemaProps{
		Type: spec.StringOrArray{"object"},
		Properties: map[string]spec.Schema{
			"labels":          *spec.MapProperty(spec.StringProperty()),
			"annotations":     *spec.MapProperty(spec.StringProperty()),
			"finalizers":      *finalizers,
			"ownerReferences": *owners,
		},
	}}
	return *preserving(&meta)
}

func preserving(s *spec.Schema) *spec.Schema {
	s.AddExtension("x-kubernetes-preserve-unknown-fields", true)
	return s
}
