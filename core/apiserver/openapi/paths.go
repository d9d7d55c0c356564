package openapi

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/types"
)

const (
	jsonType     = "application/json"
	yamlType     = "application/yaml"
	protobufType = "application/vnd.kubernetes.protobuf"
)

func query(name, kind, description string) parameter {
	return parameter{Name: name, In: "query", Description: description, Schema: &schema{Type: kind}}
}

func inPath(name, description string) parameter {
	return parameter{Name: name, In: "path", Description: description, Required: true, Schema: &schema{Type: "string"}}
}

// The parameters of requests, which clients look up to learn what this server
// supports.
var (
	listParameters = []parameter{
		query("allowWatchBookmarks", "boolean", "Ask a watch for bookmarks."),
		query("continue", "string", "Go on where a list ended."),
		query("fieldSelector", "string", "Restrict the objects by their fields."),
		query("labelSelector", "string", "Restrict the objects by their labels."),
		query("limit", "integer", "The most objects in one answer."),
		query("resourceVersion", "string", "How new the state must be."),
		query("resourceVersionMatch", "string", "How resourceVersion is meant."),
		query("sendInitialEvents", "boolean", "Begin a watch with the objects that there are."),
		query("timeoutSeconds", "integer", "How long a watch may last."),
		query("watch", "boolean", "Watch for changes instead of listing."),
	}
	writeParameters = []parameter{
		query("dryRun", "string", "With All, nothing is stored."),
		query("fieldManager", "string", "Who owns the fields that are written."),
		query("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
	}
	patchParameters  = append(slices.Clone(writeParameters), query("force", "boolean", "Take over fields that others own."))
	deleteParameters = []parameter{
		query("dryRun", "string", "With All, nothing is stored."),
		query("gracePeriodSeconds", "integer", "Seconds before the object is deleted."),
		query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
	}
)

// addPaths describes where a kind is served and what can be done there.
func (b *builder) addPaths(k served, item, list string) {
	base := "/" + pathOf(k.kind.Group, k.version.Name) + "/"
	collection := base + k.kind.Resource
	var scope []parameter
	if k.kind.Namespaced {
		all := b.item(collection)
		all.Get = b.operation(k, "list", list, "ForAllNamespaces")
		scope = []parameter{inPath("namespace", "object name and auth scope, such as for teams and projects")}
		collection = base + "namespaces/{namespace}/" + k.kind.Resource
	}
	many, one := b.item(collection), b.item(collection+"/{name}")
	many.Parameters = scope
	one.Parameters = append(slices.Clone(scope), inPath("name", "name of the "+k.kind.Kind))
	for _, verb := range verbsOf(k) {
		switch verb {
		case "list":
			many.Get = b.operation(k, verb, list, "")
		case "create":
			many.Post = b.operation(k, "post", item, "")
		case "deletecollection":
			many.Delete = b.operation(k, verb, "", "")
		case "get":
			one.Get = b.operation(k, verb, item, "")
		case "update":
			one.Put = b.operation(k, "put", item, "")
		case "patch":
			one.Patch = b.operation(k, verb, item, "")
		case "delete":
			one.Delete = b.operation(k, verb, "", "")
		}
	}
	if slices.Contains(k.kind.Subresources, "status") {
		status := b.item(collection + "/{name}/status")
		status.Parameters = one.Parameters
		status.Get = b.operation(k, "get", item, "Status")
		status.Put = b.operation(k, "put", item, "Status")
		status.Patch = b.operation(k, "patch", item, "Status")
	}
}

func verbsOf(k served) []string {
	if k.kind.Verbs == nil {
		return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update"}
	}
	return k.kind.Verbs
}

func (b *builder) item(path string) *pathItem {
	p := &pathItem{}
	b.doc.Paths[path] = p
	return p
}

func (b *builder) operation(k served, action, answer, suffix string) *operation {
	group, _, _ := strings.Cut(k.kind.Group, ".")
	if group == "" {
		group = "core"
	}
	scope := ""
	if k.kind.Namespaced && suffix != "ForAllNamespaces" {
		scope = "Namespaced"
	}
	o := &operation{
		Tags:        []string{group + "_" + k.version.Name},
		Description: action + " " + k.kind.Kind,
		OperationID: operationVerb(action) + title(group) + title(k.version.Name) + scope + k.kind.Kind + suffix,
		Action:      action, Kind: kindName{k.kind.Group, k.version.Name, k.kind.Kind},
		Responses: map[string]any{"401": content0("Unauthorized")},
	}
	if answer != "" {
		o.Responses["200"] = body("OK", answer, k.kind.Custom)
	} else {
		o.Responses["200"] = content0("OK")
	}
	b.request(o, k, action, answer)
	return o
}

// request adds an operation's parameters and body.
func (b *builder) request(o *operation, k served, action, item string) {
	switch action {
	case "list":
		o.Parameters = listParameters
	case "post", "put":
		o.Parameters = writeParameters
		o.RequestBody = body("", item, k.kind.Custom)
		o.RequestBody.Required = true
	case "patch":
		o.Parameters = patchParameters
		o.RequestBody = &content{Required: true, Content: map[string]mediaType{}}
		kinds := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.ApplyYAMLPatchType}
		if !k.kind.Custom {
			kinds = append(kinds, types.StrategicMergePatchType)
		}
		for _, kind := range kinds {
			o.RequestBody.Content[string(kind)] = mediaType{&schema{Type: "object", Description: "a patch of the object"}}
		}
	case "delete", "deletecollection":
		o.Parameters = deleteParameters
	}
}

func content0(description string) map[string]string {
	return map[string]string{"description": description}
}

func body(description, definition string, custom bool) *content {
	kinds := []string{jsonType, yamlType}
	if !custom {
		kinds = append(kinds, protobufType)
	}
	c := &content{Description: description, Content: map[string]mediaType{}}
	for _, kind := range kinds {
		c.Content[kind] = mediaType{reference(definition)}
	}
	return c
}

func operationVerb(action string) string {
	switch action {
	case "post":
		return "create"
	case "put":
		return "replace"
	case "get":
		return "read"
	case "deletecollection":
		return "deleteCollection"
	}
	return action
}

func title(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}
