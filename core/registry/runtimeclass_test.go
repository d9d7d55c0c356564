package registry

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

func TestRuntimeClassValidation(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"good":        {`{"handler": "h", "overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}}`, ``},
		"handler":     {`{"handler": "A.b"}`, `handler: Invalid value: "A.b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`},
		"overhead":    {`{"handler": "h", "overhead": {"podFixed": {"cpu": "-1"}}}`, `overhead.podFixed[cpu]: Invalid value: "-1": must be greater than or equal to 0`},
		"selector":    {`{"handler": "h", "scheduling": {"nodeSelector": {"a": "-"}}}`, `scheduling.nodeSelector: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`},
		"tolerations": {`{"handler": "h", "scheduling": {"tolerations": [{"key": "k"}, {"key": "k"}]}}`, `scheduling.tolerations[1]: Duplicate value: {"key":"k"}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs := create[*nodev1.RuntimeClass](t, strategyOf(t, "RuntimeClass"), c.body)
			if d := cmp.Diff(c.want, strings.Join(texts(errs), "; ")); d != "" {
				t.Error(d)
			}
		})
	}
	s := strategyOf(t, "RuntimeClass")
	old, _ := create[*nodev1.RuntimeClass](t, s, `{"handler": "h"}`)
	changed := old.DeepCopy()
	old.ResourceVersion, changed.ResourceVersion = "1", "1"
	changed.Handler = "other"
	if d := cmp.Diff([]string{`handler: Invalid value: "other": field is immutable`}, texts(s.ValidateUpdate(changed, old))); d != "" {
		t.Error(d)
	}
}

func TestAdmitRuntimeClass(t *testing.T) {
	classes := map[string]string{
		"plain": `{"handler": "h"}`,
		"heavy": `{"handler": "h", "overhead": {"podFixed": {"memory": "24Mi"}}}`,
		"picky": `{"handler": "h", "scheduling": {"nodeSelector": {"disk": "fast"}, "tolerations": [
			{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Equal", "value": "x"}]}}`,
	}
	latest := func(key core.Key) (core.Object, bool) {
		class := &nodev1.RuntimeClass{}
		body, ok := classes[key.Name]
		if !ok || json.Unmarshal([]byte(body), class) != nil {
			return nil, false
		}
		return class, true
	}
	for name, c := range map[string]struct{ spec, want, err string }{
		"none":           {`{"nodeName": "n"}`, `{"containers":null,"nodeName":"n"}`, ``},
		"plain":          {`{"runtimeClassName": "plain"}`, `{"containers":null,"runtimeClassName":"plain"}`, ``},
		"missing":        {`{"runtimeClassName": "x"}`, ``, `pods "p" is forbidden: pod rejected: RuntimeClass "x" not found`},
		"overhead":       {`{"runtimeClassName": "heavy"}`, `{"containers":null,"runtimeClassName":"heavy","overhead":{"memory":"24Mi"}}`, ``},
		"other overhead": {`{"runtimeClassName": "heavy", "overhead": {"memory": "1"}}`, ``, `pods "p" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`},
		"lone overhead":  {`{"overhead": {"memory": "1"}}`, ``, `pods "p" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead`},
		"scheduling": {`{"runtimeClassName": "picky", "nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "operator": "Exists"}]}`,
			`{"containers":null,"nodeSelector":{"a":"b","disk":"fast"},"tolerations":[{"key":"b","operator":"Exists"},{"key":"a","operator":"Exists"}],"runtimeClassName":"picky"}`, ``},
		"selector": {`{"runtimeClassName": "picky", "nodeSelector": {"disk": "slow"}}`, ``,
			`pods "p" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[disk] = fast; pod.spec.nodeSelector[disk] = slow`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{}
			if err := json.Unmarshal([]byte(c.spec), &pod.Spec); err != nil {
				t.Fatal(err)
			}
			err := AdmitRuntimeClass(t.Context(), &Attributes{
				Operation: OperationCreate, Key: core.Key{Resource: "pods", Namespace: "n", Name: "p"}, Object: pod, Latest: latest,
			})
			if c.err != "" {
				if err == nil || err.Error() != c.err || !apierrors.IsForbidden(err) {
					t.Errorf("got %v", err)
				}
				return
			}
			got, encodeErr := json.Marshal(pod.Spec)
			if err != nil || encodeErr != nil {
				t.Fatal(err, encodeErr)
			}
			if d := cmp.Diff(c.want, string(got)); d != "" {
				t.Error(d)
			}
		})
	}
}
