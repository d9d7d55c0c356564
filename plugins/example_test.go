package plugins_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
)

const greetingDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: greetings.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Greeting, plural: greetings}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {name: {type: string}}}
          status: {type: object, properties: {text: {type: string}}}
`

// Greeting is the kind in Go.
type Greeting struct {
	Spec struct {
		Name string `json:"name"`
	} `json:"spec"`
}

// greeter keeps a ConfigMap with a greeting for each Greeting.
type greeter struct {
	definition *apiextensionsv1.CustomResourceDefinition
}

func (g greeter) Describe() core.Description {
	return plugins.Describe("greeter", g.definition, core.Child{Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Resource: core.ConfigMaps})
}

func (greeter) Relate(core.Object) []core.Relation { return nil }

func (greeter) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	greeting, err := plugins.Decode[Greeting](seen.Parent)
	if err != nil {
		return core.Decision{}, err
	}
	var decision core.Decision
	text := "Good day, " + greeting.Spec.Name
	if len(seen.Children) == 0 {
		decision.Create = []core.Object{&corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Name: seen.Parent.GetName()},
			Data:       map[string]string{"text": text},
		}}
	}
	decision.Status, err = plugins.WithStatus(seen.Parent, map[string]string{"text": text})
	return decision, err
}

// A controller is a pure function, so it is tried without a cluster. The main
// function of its plugin is a call of plugins.Serve.
func Example() {
	definition, err := plugins.ParseDefinition([]byte(greetingDefinition))
	if err != nil {
		fmt.Println(err)
		return
	}
	controller := greeter{definition}
	decision, err := controller.Decide(context.Background(), core.Observation{Parent: &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Greeting",
		"metadata": map[string]any{"name": "ada"},
		"spec":     map[string]any{"name": "Ada"},
	}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	configMap, _ := decision.Create[0].(*corev1.ConfigMap)
	status, _ := decision.Status.(*unstructured.Unstructured)
	fmt.Println(controller.Describe().Kind)
	fmt.Println(configMap.Name, configMap.Data)
	fmt.Println(status.Object["status"])
	// Output:
	// example.com/v1, Kind=Greeting
	// ada map[text:Good day, Ada]
	// map[text:Good day, Ada]
}
