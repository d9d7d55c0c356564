package registry

import (
	"fmt"
	"slices"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/weftrun/weft/core"
)

// definitionStrategy is that of the definitions themselves; whether their
// schemas can be served is for the write path to say.
func definitionStrategy() *Strategy {
	return typed[*apiextensionsv1.CustomResourceDefinition]{
		kind: core.Kind{
			Group: core.Definitions.Group, Kind: "CustomResourceDefinition", ListKind: "CustomResourceDefinitionList",
			Resource: core.Definitions.Resource, Singular: "customresourcedefinition",
			ShortNames: []string{"crd", "crds"}, Categories: []string{"api-extensions"}, Storage: "v1",
			Subresources: []string{"status"},
		},
		create: func() *apiextensionsv1.CustomResourceDefinition { return &apiextensionsv1.CustomResourceDefinition{} },
		columns: []metav1.TableColumnDefinition{
			nameColumn(), column("Created At", "date", "When the definition was created."),
		},
		cells: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) []any {
			return []any{d.Name, d.CreationTimestamp.UTC().Format(time.RFC3339)}
		},
		defaults: defaultDefinition,
		prepareCreate: func(d *apiextensionsv1.CustomResourceDefinition) {
			d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
			rememberStored(d)
		},
		prepareUpdate: func(d, old *apiextensionsv1.CustomResourceDefinition) {
			old.Status.DeepCopyInto(&d.Status)
			rememberStored(d)
		},
		validate:       validateDefinition,
		validateUpdate: validateDefinitionUpdate,
		copyStatus: func(dst, src *apiextensionsv1.CustomResourceDefinition) {
			dst.Status = src.Status
		},
		validateStatus: func(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
			errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
			errs = append(errs, validateStored(d)...)
			return append(errs, validateDefinitionNames(&d.Status.AcceptedNames, statusPath.Child("acceptedNames"))...)
		},
		specChanged: func(d, old *apiextensionsv1.CustomResourceDefinition) bool {
			return !equality.Semantic.DeepEqual(&d.Spec, &old.Spec)
		},
	}.strategy()
}

func defaultDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	names := &d.Spec.Names
	defaultTo(&names.Singular, strings.ToLower(names.Kind))
	if names.Kind != "" {
		defaultTo(&names.ListKind, names.Kind+"List")
	}
	if d.Spec.Conversion == nil {
		d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.NoneConverter}
	}
}

// rememberStored adds the storage version to those that objects may be kept
// in.
func rememberStored(d *apiextensionsv1.CustomResourceDefinition) {
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		if v.Storage && !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(d.Status.StoredVersions, v.Name)
		}
	}
}

func validateDefinition(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	name := func(name string, prefix bool) []string {
		msgs := apivalidation.NameIsDNSSubdomain(name, prefix)
		if name != d.Spec.Names.Plural+"."+d.Spec.Group {
			msgs = append(msgs, `must be spec.names.plural+"."+spec.group`)
		}
		return msgs
	}
	errs := apivalidation.ValidateObjectMeta(&d.ObjectMeta, false, name, metadataPath)
	errs = append(errs, validateDefinitionSpec(&d.Spec)...)
	return append(errs, validateStored(d)...)
}

func validateDefinitionSpec(s *apiextensionsv1.CustomResourceDefinitionSpec) field.ErrorList {
	var errs field.ErrorList
	group := specPath.Child("group")
	if s.Group == "" {
		errs = append(errs, field.Required(group, ""))
	} else if msgs := validation.IsDNS1123Subdomain(s.Group); len(msgs) > 0 {
		errs = append(errs, field.Invalid(group, s.Group, strings.Join(msgs, ",")))
	} else if !strings.Contains(s.Group, ".") {
		errs = append(errs, field.Invalid(group, s.Group, "should be a domain with at least one dot"))
	}
	errs = append(errs, oneOf(s.Scope, specPath, "scope", apiextensionsv1.ClusterScoped, apiextensionsv1.NamespaceScoped)...)
	if s.PreserveUnknownFields {
		errs = append(errs, field.Invalid(specPath.Child("preserveUnknownFields"), true,
			"cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"))
	}
	errs = append(errs, validateDefinitionVersions(s)...)
	names := specPath.Child("names")
	for _, n := range [...]struct{ name, value string }{
		{"plural", s.Names.Plural}, {"singular", s.Names.Singular}, {"kind", s.Names.Kind}, {"listKind", s.Names.ListKind},
	} {
		errs = append(errs, requiredString(n.value, names.Child(n.name))...)
	}
	errs = append(errs, validateDefinitionNames(&s.Names, names)...)
	return append(errs, validateConversion(s.Conversion)...)
}

// validateConversion permits versions that differ by name alone.
func validateConversion(c *apiextensionsv1.CustomResourceConversion) field.ErrorList {
	if c == nil || c.Strategy == apiextensionsv1.NoneConverter {
		return nil
	}
	return field.ErrorList{field.NotSupported(specPath.Child("conversion", "strategy"), c.Strategy,
		[]apiextensionsv1.ConversionStrategyType{apiextensionsv1.NoneConverter})}
}

func validateDefinitionVersions(s *apiextensionsv1.CustomResourceDefinitionSpec) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("versions")
	stored, twice := 0, false
	seen := map[string]bool{}
	var names []string
	for i := range s.Versions {
		v := &s.Versions[i]
		if v.Storage {
			stored++
		}
		twice = twice || seen[v.Name]
		seen[v.Name] = true
		names = append(names, v.Name)
		at := path.Index(i)
		if msgs := validation.IsDNS1035Label(v.Name); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("name"), v.Name, strings.Join(msgs, ",")))
		}
		if v.Schema == nil || v.Schema.OpenAPIV3Schema == nil {
			errs = append(errs, field.Required(at.Child("schema", "openAPIV3Schema"), "schemas are required"))
		}
		for j := range v.AdditionalPrinterColumns {
			errs = append(errs, validatePrinterColumn(&v.AdditionalPrinterColumns[j], at.Child("additionalPrinterColumns").Index(j))...)
		}
		errs = append(errs, validateScalePaths(v.Subresources, at.Child("subresources", "scale"))...)
	}
	if twice {
		errs = append(errs, field.Invalid(path, names, "must contain unique version names"))
	}
	if stored != 1 {
		errs = append(errs, field.Invalid(path, names, "must have exactly one version marked as storage version"))
	}
	return errs
}

func validatePrinterColumn(c *apiextensionsv1.CustomResourceColumnDefinition, path *field.Path) field.ErrorList {
	types := []string{"boolean", "date", "integer", "number", "string"}
	formats := []string{"byte", "date", "date-time", "double", "float", "int32", "int64", "password"}
	errs := requiredString(c.Name, path.Child("name"))
	detail := "must be one of " + strings.Join(types, ",")
	if c.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), detail))
	} else if !slices.Contains(types, c.Type) {
		errs = append(errs, field.Invalid(path.Child("type"), c.Type, detail))
	}
	if c.Format != "" && !slices.Contains(formats, c.Format) {
		errs = append(errs, field.Invalid(path.Child("format"), c.Format, "must be one of "+strings.Join(formats, ",")))
	}
	return append(errs, requiredString(c.JSONPath, path.Child("jsonPath"))...)
}

// validateScalePaths requires of the scale subresource that it finds its
// numbers where they belong.
func validateScalePaths(s *apiextensionsv1.CustomResourceSubresources, path *field.Path) field.ErrorList {
	if s == nil || s.Scale == nil {
		return nil
	}
	var errs field.ErrorList
	below := func(name, value, root string) {
		at := path.Child(name)
		if value == "" {
			errs = append(errs, field.Required(at, ""))
		} else if !strings.HasPrefix(value, root) {
			errs = append(errs, field.Invalid(at, value, "should be a json path under "+root[:len(root)-1]))
		}
	}
	below("specReplicasPath", s.Scale.SpecReplicasPath, ".spec.")
	below("statusReplicasPath", s.Scale.StatusReplicasPath, ".status.")
	if p := s.Scale.LabelSelectorPath; p != nil && *p != "" && !strings.HasPrefix(*p, ".spec.") && !strings.HasPrefix(*p, ".status.") {
		errs = append(errs, field.Invalid(path.Child("labelSelectorPath"), *p, "should be a json path under either .spec or .status"))
	}
	return errs
}

func validateDefinitionNames(n *apiextensionsv1.CustomResourceDefinitionNames, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	label := func(value string, at *field.Path, prefix string) {
		if value == "" {
			return
		}
		if msgs := validation.IsDNS1035Label(strings.ToLower(value)); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at, value, prefix+strings.Join(msgs, ",")))
		}
	}
	exact := func(value string, at *field.Path) {
		if value != strings.ToLower(value) {
			errs = append(errs, field.Invalid(at, value, strings.Join(validation.IsDNS1035Label(value), ",")))
			return
		}
		label(value, at, "")
	}
	const mixed = "may have mixed case, but should otherwise match: "
	exact(n.Plural, path.Child("plural"))
	exact(n.Singular, path.Child("singular"))
	label(n.Kind, path.Child("kind"), mixed)
	label(n.ListKind, path.Child("listKind"), mixed)
	for i, short := range n.ShortNames {
		exact(short, path.Child("shortNames").Index(i))
	}
	if n.Kind != "" && n.Kind == n.ListKind {
		errs = append(errs, field.Invalid(path.Child("listKind"), n.ListKind, "kind and listKind may not be the same"))
	}
	for i, category := range n.Categories {
		exact(category, path.Child("categories").Index(i))
	}
	return errs
}

// validateStored requires that the versions in which objects may be kept stay
// known.
func validateStored(d *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	var errs field.ErrorList
	path := statusPath.Child("storedVersions")
	stored := d.Status.StoredVersions
	if len(stored) == 0 {
		return field.ErrorList{field.Invalid(path, stored, "must have at least one stored version")}
	}
	known := map[string]bool{}
	for i := range d.Spec.Versions {
		v := &d.Spec.Versions[i]
		known[v.Name] = true
		if v.Storage && !slices.Contains(stored, v.Name) {
			errs = append(errs, field.Invalid(path, stored, "must have the storage version "+v.Name))
		}
	}
	for i, v := range stored {
		if !known[v] {
			errs = append(errs, field.Invalid(path.Index(i), v, fmt.Sprintf("missing from spec.versions; %[1]s was previously a storage version, and must "+
				"remain in spec.versions until a storage migration ensures no data remains persisted in %[1]s and removes %[1]s from status.storedVersions", v)))
		}
	}
	return errs
}

func validateDefinitionUpdate(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	errs := validateMetaUpdate(&d.ObjectMeta, &old.ObjectMeta)
	errs = append(errs, validateDefinitionSpec(&d.Spec)...)
	errs = append(errs, validateStored(d)...)
	errs = append(errs, immutable(d.Spec.Group, old.Spec.Group, specPath.Child("group"))...)
	names, was := &d.Spec.Names, &old.Spec.Names
	errs = append(errs, immutable(names.Plural, was.Plural, specPath.Child("names", "plural"))...)
	if established(old) {
		errs = append(errs, immutable(d.Spec.Scope, old.Spec.Scope, specPath.Child("scope"))...)
		errs = append(errs, immutable(names.Kind, was.Kind, specPath.Child("names", "kind"))...)
	}
	return errs
}

func established(d *apiextensionsv1.CustomResourceDefinition) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
		return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
	})
}
