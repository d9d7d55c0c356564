package registry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/core"
)

func TestBuiltinKinds(t *testing.T) {
	seen := map[core.GroupResource]bool{}
	for _, s := range Builtin() {
		k := &s.Kind
		if seen[k.GroupResource()] {
			t.Errorf("%s is there twice", k.GroupResource())
		}
		seen[k.GroupResource()] = true
		o := s.New()
		if got := o.GetObjectKind().GroupVersionKind(); got != k.GroupVersionKind("") {
			t.Errorf("New of %s makes a %s", k.Kind, got)
		}
		o.SetName("a")
		o.SetUID("u")
		data, err := core.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		back, err := core.Unmarshal(data)
		if err != nil {
			t.Fatalf("%s: %v", k.Kind, err)
		}
		if d := cmp.Diff(o, back); d != "" {
			t.Errorf("%s after the log: %s", k.Kind, d)
		}
		if k.Internal {
			continue
		}
		v := k.Versions[0]
		if cells := v.Cells(o, time.Now()); len(cells) != len(v.Columns) {
			t.Errorf("%s: %d cells, %d columns", k.Kind, len(cells), len(v.Columns))
		}
		if (s.CopyStatus != nil) != strings.Contains(strings.Join(k.Subresources, " "), "status") {
			t.Errorf("%s: status is %v in code, subresources are %q", k.Kind, s.CopyStatus != nil, k.Subresources)
		}
	}
}

func TestSmallKindsValidation(t *testing.T) {
	long := strings.Repeat("x", 64)
	for name, c := range map[string]struct{ kind, body, want string }{
		"namespace name":     {"Namespace", `{"metadata": {"name": "A.b"}}`, `metadata.name: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`},
		"long label":         {"ConfigMap", `{"metadata": {"labels": {"a": "` + long + `"}}}`, `metadata.labels: Invalid value: "` + long + `": must be no more than 63 bytes`},
		"annotations":        {"ConfigMap", `{"metadata": {"annotations": {"a": "` + strings.Repeat("x", 256<<10) + `"}}}`, `metadata.annotations: Too long: may not be more than 262144 bytes`},
		"config map key":     {"ConfigMap", `{"data": {"a/b": ""}}`, `data[a/b]: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`},
		"config map twice":   {"ConfigMap", `{"data": {"a": ""}, "binaryData": {"a": ""}}`, `data[a]: Invalid value: "a": duplicate of key present in binaryData`},
		"config map size":    {"ConfigMap", `{"data": {"a": "` + strings.Repeat("x", 1<<20+1) + `"}}`, `[]: Too long: may not be more than 1048576 bytes`},
		"secret size":        {"Secret", `{"stringData": {"a": "` + strings.Repeat("x", 1<<20+1) + `"}}`, `data: Too long: may not be more than 1048576 bytes`},
		"tls":                {"Secret", `{"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}`, `data[tls.key]: Required value`},
		"docker":             {"Secret", `{"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "secret"}}`, `data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 's' looking for beginning of value`},
		"basic auth":         {"Secret", `{"type": "kubernetes.io/basic-auth"}`, `data[username]: Required value; data[password]: Required value`},
		"token":              {"Secret", `{"type": "kubernetes.io/service-account-token"}`, `metadata.annotations[kubernetes.io/service-account.name]: Required value`},
		"taint effect":       {"Node", `{"spec": {"taints": [{"key": "k", "effect": "Go"}]}}`, `spec.taints[0].effect: Unsupported value: "Go": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`},
		"same taint":         {"Node", `{"spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "k", "effect": "NoExecute", "value": "v"}]}}`, `spec.taints[1]: Duplicate value: {"key":"k","value":"v","effect":"NoExecute"}: taints must be unique by key and effect pair`},
		"lease":              {"Lease", `{"spec": {"leaseDurationSeconds": 0}}`, `spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0`},
		"event":              {"Event", `{"involvedObject": {"namespace": "other"}}`, `involvedObject.namespace: Invalid value: "other": does not match event.namespace`},
		"definition's name":  {"CustomResourceDefinition", definitionBody(`"name": "b.x.org"`, "a", "v1", true), `metadata.name: Invalid value: "b.x.org": must be spec.names.plural+"."+spec.group`},
		"no storage version": {"CustomResourceDefinition", definitionBody(`"name": "a.x.org"`, "a", "v1", false), `spec.versions: Invalid value: ["v1"]: must have exactly one version marked as storage version; status.storedVersions: Invalid value: null: must have at least one stored version`},
		"version's name":     {"CustomResourceDefinition", definitionBody(`"name": "a.x.org"`, "a", "1", true), `spec.versions[0].name: Invalid value: "1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`},
		"good definition":    {"CustomResourceDefinition", definitionBody(`"name": "a.x.org"`, "a", "v1", true), ``},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := create[core.Object](t, strategyOf(t, c.kind), c.body)
			if d := cmp.Diff(c.want, strings.Join(texts(errs), "; ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func definitionBody(name, plural, version string, storage bool) string {
	body, _ := json.Marshal(storage) // a bool always encodes
	return `{"metadata": {` + name + `}, "spec": {"group": "x.org", "scope": "Namespaced", "names": {"plural": "` + plural + `", "kind": "A"},
		"versions": [{"name": "` + version + `", "served": true, "storage": ` + string(body) + `, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}`
}

func TestImmutableData(t *testing.T) {
	s := strategyOf(t, "ConfigMap")
	old, _ := create[*corev1.ConfigMap](t, s, `{"immutable": true, "data": {"a": "1"}}`)
	changed := old.DeepCopy()
	old.ResourceVersion, changed.ResourceVersion = "1", "1"
	changed.Immutable = nil
	changed.Data["a"] = "2"
	want := []string{
		"immutable: Forbidden: field is immutable when `immutable` is set",
		"data: Forbidden: field is immutable when `immutable` is set",
	}
	if d := cmp.Diff(want, texts(s.ValidateUpdate(changed, old))); d != "" {
		t.Error(d)
	}
}

func TestSecretDefaults(t *testing.T) {
	secret, errs := create[*corev1.Secret](t, strategyOf(t, "Secret"), `{"stringData": {"a": "1"}, "data": {"a": "MA==", "b": "Mg=="}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := map[string][]byte{"a": []byte("1"), "b": []byte("2")}
	if d := cmp.Diff(want, secret.Data); d != "" || secret.StringData != nil || secret.Type != corev1.SecretTypeOpaque {
		t.Errorf("secret is %+v\n%s", secret, d)
	}
	s := strategyOf(t, "Secret")
	changed := secret.DeepCopy()
	secret.ResourceVersion, changed.ResourceVersion = "1", "1"
	changed.Type = "other"
	if d := cmp.Diff([]string{`type: Invalid value: "other": field is immutable`}, texts(s.ValidateUpdate(changed, secret))); d != "" {
		t.Error(d)
	}
}

func TestNamespaceLife(t *testing.T) {
	s := strategyOf(t, "Namespace")
	n, errs := create[*corev1.Namespace](t, s, `{"metadata": {"name": "a"}, "status": {"phase": "Terminating"}}`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if n.Status.Phase != corev1.NamespaceActive || n.Labels["kubernetes.io/metadata.name"] != "a" || !s.Held(n) {
		t.Fatalf("new namespace: %+v", n)
	}
	s.Deleting(n)
	if n.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("phase is %s", n.Status.Phase)
	}
	finalize := s.Subresources["finalize"]
	if err := finalize(t.Context(), n, &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"x y"}}}); err == nil {
		t.Error("a finalizer's bad name is taken")
	}
	if err := finalize(t.Context(), n, &corev1.Namespace{}); err != nil {
		t.Fatal(err)
	}
	if s.Held(n) {
		t.Error("the namespace is held by nothing")
	}
}

func TestNodeCells(t *testing.T) {
	s := strategyOf(t, "Node")
	n := object[*corev1.Node](t, s, `{"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}, "creationTimestamp": "1970-01-01T00:00:00Z"},
		"spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
		"nodeInfo": {"kubeletVersion": "v1", "osImage": "Linux"}}}`)
	want := []any{"a", "Ready,SchedulingDisabled", "edge,worker", "60s", "v1", "10.0.0.1", "<none>", "Linux", "<unknown>", "<unknown>"}
	if d := cmp.Diff(want, s.Kind.Versions[0].Cells(n, time.Unix(60, 0))); d != "" {
		t.Error(d)
	}
}

func TestEventCells(t *testing.T) {
	s := strategyOf(t, "Event")
	e := object[*corev1.Event](t, s, `{"involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec.containers{a}"}, "reason": "Pulled", "message": "m\n", "type": "Normal",
		"source": {"component": "weft", "host": "n1"}, "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:00:50Z", "count": 3}`)
	want := []any{"10s", "Normal", "Pulled", "pod/web", "spec.containers{a}", "weft, n1", "m", "60s", int64(3), "a"}
	if d := cmp.Diff(want, s.Kind.Versions[0].Cells(e, time.Unix(60, 0))); d != "" {
		t.Error(d)
	}
	if got := s.Kind.Fields(e)["involvedObject.name"]; got != "web" {
		t.Errorf("involvedObject.name is %q", got)
	}
}

func TestOtherCells(t *testing.T) {
	holder := "n1"
	for kind, c := range map[string]struct {
		object core.Object
		want   []any
	}{
		"RuntimeClass":             {&nodev1.RuntimeClass{Handler: "isolated"}, []any{"", "isolated", "<unknown>"}},
		"Lease":                    {&coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder}}, []any{"", "n1", "<unknown>"}},
		"Secret":                   {&corev1.Secret{Type: "Opaque", Data: map[string][]byte{"a": nil}}, []any{"", "Opaque", int64(1), "<unknown>"}},
		"ServiceAccount":           {&corev1.ServiceAccount{}, []any{"", int64(0), "<unknown>"}},
		"CustomResourceDefinition": {&apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Unix(0, 0)}}, []any{"", "1970-01-01T00:00:00Z"}},
	} {
		if d := cmp.Diff(c.want, strategyOf(t, kind).Kind.Versions[0].Cells(c.object, time.Unix(60, 0))); d != "" {
			t.Errorf("%s: %s", kind, d)
		}
	}
}

// TestUnchangedUpdate: what has been let in can be stored again as it is.
func TestUnchangedUpdate(t *testing.T) {
	bodies := map[string]string{
		"Namespace": `{}`, "Node": `{"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}`, "ConfigMap": `{"data": {"a": "b"}}`,
		"Secret": `{"stringData": {"a": "b"}}`, "ServiceAccount": `{}`, "Event": `{"involvedObject": {"namespace": "default"}}`, "Lease": `{}`,
		"Pod":                      `{"spec": {"containers": [{"name": "a", "image": "i"}]}}`,
		"Job":                      `{"spec": {` + template("Never") + `}}`,
		"ReplicaSet":               `{"spec": {"selector": {"matchLabels": {"app": "a"}}, ` + template("Always") + `}}`,
		"Deployment":               `{"spec": {"selector": {"matchLabels": {"app": "a"}}, ` + template("Always") + `}}`,
		"CustomResourceDefinition": definitionBody(`"name": "a.x.org"`, "a", "v1", true),
		"RuntimeClass":             `{"handler": "a"}`,
	}
	for _, s := range Builtin() {
		if s.Kind.Internal {
			continue
		}
		old, errs := create[core.Object](t, s, bodies[s.Kind.Kind])
		if len(errs) > 0 {
			t.Errorf("%s: %v", s.Kind.Kind, errs)
			continue
		}
		old.SetResourceVersion("1")
		again := core.Copy(old)
		if s.Default != nil {
			s.Default(again)
		}
		if s.PrepareUpdate != nil {
			s.PrepareUpdate(again, old)
		}
		if d := cmp.Diff(old, again); d != "" {
			t.Errorf("%s changes when it is stored again: %s", s.Kind.Kind, d)
		}
		if errs := s.ValidateUpdate(again, old); len(errs) > 0 {
			t.Errorf("%s: %v", s.Kind.Kind, errs)
		}
		if s.SpecChanged != nil && s.SpecChanged(again, old) {
			t.Errorf("%s: generation rises without a change", s.Kind.Kind)
		}
	}
}

func TestTemplateWarnings(t *testing.T) {
	s := strategyOf(t, "Deployment")
	d, _ := create[*appsv1.Deployment](t, s, `{"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}},
		"spec": {"volumes": [{"name": "v"}], "containers": [{"name": "a", "image": "i"}]}}}}`)
	want := []string{"spec.template.spec.volumes: Weft does not honour this field yet; it is kept and has no effect"}
	if diff := cmp.Diff(want, s.Warnings(d, nil)); diff != "" {
		t.Error(diff)
	}
}

// FuzzKinds throws objects at the rules of each kind: they must not panic, and
// what they let in must pass again.
func FuzzKinds(f *testing.F) {
	for i, body := range []string{
		`{}`, `{"spec": {"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}]}}`,
		`{"spec": {` + template("Never") + `, "completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [{"succeededIndexes": "0-1"}]}}}`,
		`{"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}, ` + template("Always") + `, "strategy": {"rollingUpdate": {"maxSurge": "1%"}}}}`,
		`{"data": {"a": ""}, "type": "kubernetes.io/tls"}`, definitionBody(`"name": "a.x.org"`, "a", "v1", true),
		`{"status": {"containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 1}}}], "capacity": {"cpu": "1"}}}`,
	} {
		f.Add(uint8(i), []byte(body))
	}
	kinds := Builtin()
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		s := kinds[int(which)%len(kinds)]
		o := s.New()
		if json.Unmarshal(body, o) != nil {
			return
		}
		o.GetObjectKind().SetGroupVersionKind(s.Kind.GroupVersionKind(""))
		exercise(s, o)
	})
}

// exercise calls all that a strategy does with an object.
func exercise(s *Strategy, o core.Object) {
	if s.Default != nil {
		s.Default(o)
	}
	old := core.Copy(o)
	if s.PrepareCreate != nil {
		s.PrepareCreate(o)
	}
	_ = s.Validate(o)
	_ = s.ValidateUpdate(o, old)
	if s.Warnings != nil {
		_ = s.Warnings(o, nil)
		_ = s.Warnings(o, old)
	}
	if s.ValidateStatus != nil {
		s.CopyStatus(o, old)
		_ = s.ValidateStatus(o, old)
	}
	if s.Scale != nil {
		_, _, _ = s.Scale.Replicas(o)
	}
	if s.Grace != nil {
		_ = s.Grace(o, nil)
	}
	if s.Kind.Fields != nil {
		_ = s.Kind.Fields(o)
	}
	if cells := s.Kind.Versions[0].Cells; cells != nil {
		_ = cells(old, time.Unix(0, 0))
	}
}
