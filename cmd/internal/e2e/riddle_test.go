package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
)

// riddleV1 defines a kind whose controller does what spec.do says.
const riddleV1 = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: riddles.e2e.weft.run}
spec:
  group: e2e.weft.run
  scope: Namespaced
  names: {kind: Riddle, plural: riddles, singular: riddle}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              do: {type: string, description: "spin, or nothing", default: nothing}
          status:
            type: object
            properties:
              answer: {type: string}
              pid: {type: integer}
`

// riddleV2 is a later version of it, with another field and a column.
var riddleV2 = strings.NewReplacer(
	"              do:", "              hint: {type: string, description: \"new in the second version\"}\n              do:",
	"    schema:", "    additionalPrinterColumns:\n    - {name: Answer, type: string, jsonPath: .status.answer}\n    schema:",
).Replace(riddleV1)

func serveRiddles(definition string) int {
	d, err := plugins.ParseDefinition([]byte(definition))
	if err == nil {
		err = plugins.Serve(riddles{plugins.Describe("riddle", d)})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

type riddles struct{ description core.Description }

func (r riddles) Describe() core.Description       { return r.description }
func (riddles) Relate(core.Object) []core.Relation { return nil }

func (riddles) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	riddle, err := plugins.Decode[struct {
		Spec struct {
			Do   string `json:"do"`
			Hint string `json:"hint"`
		} `json:"spec"`
	}](seen.Parent)
	if err != nil {
		return core.Decision{}, err
	}
	switch riddle.Spec.Do {
	case "spin":
		for i := 0; ; i++ {
			_ = i
		}
	case "fail":
		return core.Decision{}, fmt.Errorf("there is no answer to %s", seen.Parent.GetName())
	}
	status, err := plugins.WithStatus(seen.Parent, map[string]any{"answer": "42" + riddle.Spec.Hint, "pid": os.Getpid()})
	return core.Decision{Status: status}, err
}
