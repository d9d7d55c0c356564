package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
              do: {type: string, description: "spin, block, slow, leak, steal, fork, fail, or nothing", default: nothing}
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

// forked is the process that fork has started.
var forked = sync.OnceValues(func() (*exec.Cmd, error) {
	cmd := exec.Command("sleep", "1000")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
})

// fork leaves a process that holds its parent's output, in a session of its
// own, as no controller should.
func fork(parent core.Object) (core.Decision, error) {
	cmd, err := forked()
	if err != nil {
		return core.Decision{}, err
	}
	status, err := plugins.WithStatus(parent, map[string]any{"answer": "forked", "pid": cmd.Process.Pid})
	return core.Decision{Status: status}, err
}

// serveDeaf serves as a plugin that does not hear that its host has ended.
func serveDeaf() int {
	if err := os.Unsetenv(plugins.LifelineEnv); err != nil {
		return 1
	}
	return serveRiddles(riddleV1)
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
	case "block":
		select {}
	case "leak":
		for held := [][]byte{}; ; held = append(held, bytes.Repeat([]byte{1}, 8<<20)) {
			time.Sleep(20 * time.Millisecond) // not as fast as to hurt the machine
		}
	case "steal":
		return core.Decision{Create: []core.Object{&corev1.Secret{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: "stolen", Namespace: metav1.NamespaceSystem},
		}}}, nil
	case "fork":
		return fork(seen.Parent)
	case "fail":
		return core.Decision{}, fmt.Errorf("there is no answer to %s", seen.Parent.GetName())
	}
	status, err := plugins.WithStatus(seen.Parent, map[string]any{"answer": "42" + riddle.Spec.Hint, "pid": os.Getpid()})
	return core.Decision{Status: status}, err
}
