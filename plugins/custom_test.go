package plugins_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/plugins/plugintest"
)

func TestParseDefinitionRefuses(t *testing.T) {
	cases := map[string]struct{ text, want string }{
		"unknown field": {greetingDefinition + "  scoop: Cluster\n", `unknown field "scoop"`},
		"no YAML":       {"a: [", "parse definition"},
		"another kind":  {"apiVersion: v1\nkind: Pod\n", `it is a "Pod" of "v1"`},
		"nothing":       {"", `it is a ""`},
		"not stored":    {strings.Replace(greetingDefinition, "storage: true", "storage: false", 1), "one version with storage: true"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := plugins.ParseDefinition([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	if _, err := plugins.Decode[Greeting](&corev1.Pod{}); err == nil {
		t.Error("a pod was decoded")
	}
	wrong := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"name": int64(1)}}}
	if _, err := plugins.Decode[Greeting](wrong); err == nil {
		t.Error("a number was taken for a name")
	}
	if _, err := plugins.WithStatus(wrong, []string{"no struct"}); err == nil {
		t.Error("a list was taken for a status")
	}
}

// A status has numbers as they come back from the API: else each decision
// would seem to change it.
func TestWithStatusNumbers(t *testing.T) {
	status, err := plugins.WithStatus(&unstructured.Unstructured{Object: map[string]any{}}, struct {
		N int32 `json:"n"`
	}{7})
	if err != nil {
		t.Fatal(err)
	}
	u, ok := status.(*unstructured.Unstructured)
	if n, _, err := unstructured.NestedInt64(u.Object, "status", "n"); !ok || err != nil || n != 7 {
		t.Errorf("got %v, %v", n, err)
	}
}

func TestExampleKeepsTheContract(t *testing.T) {
	definition, err := plugins.ParseDefinition([]byte(greetingDefinition))
	if err != nil {
		t.Fatal(err)
	}
	parent := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Greeting",
		"metadata": map[string]any{"name": "ada", "uid": "u", "resourceVersion": "1"},
		"spec":     map[string]any{"name": "Ada"},
	}}
	child := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "ada", UID: "c", ResourceVersion: "2"},
	}
	plugintest.Run(t, greeter{definition}, core.Observation{Parent: parent}, core.Observation{Parent: parent, Children: []core.Object{child}})
}
