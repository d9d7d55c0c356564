package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
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
              do: {type: string, description: "spin, block, slow, leak, steal, fork, hide, fail, or nothing", default: nothing}
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

// forked is the process that fork has started, by the number that its host
// knows: a plugin's own namespace has others.
var forked = sync.OnceValues(func() (pid int, err error) {
	cmd := exec.Command("sh", "-c", "read -r pid rest < /proc/self/stat; echo $pid; exec sleep 1000 > /dev/null")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_, err = fmt.Fscan(out, &pid)
	return pid, err
})

// fork leaves a process that holds its parent's output, in a session of its
// own, as no controller should.
func fork(parent core.Object) (core.Decision, error) {
	pid, err := forked()
	if err != nil {
		return core.Decision{}, err
	}
	status, err := plugins.WithStatus(parent, map[string]any{"answer": "forked", "pid": pid})
	return core.Decision{Status: status}, err
}

// serveDeaf serves as a plugin that does not hear that its host has ended.
func serveDeaf() int {
	if err := os.Unsetenv(plugins.LifelineEnv); err != nil {
		return 1
	}
	return serveRiddles(riddleV1)
}

// hidden is the process that hide has started, by the number that its host
// knows.
var hidden = sync.OnceValues(func() (int, error) {
	cmd := exec.Command("sh", "-c", "(read -r pid rest </proc/self/stat; echo $pid; exec sleep 1000 </dev/null >/dev/null 2>&1 3<&- 4>&-) &")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
})

// hide leaves a process of which nothing tells where it comes from: not its
// parent, which has ended, nor session, group, environment or files.
func hide(parent core.Object) (core.Decision, error) {
	pid, err := hidden()
	if err != nil {
		return core.Decision{}, err
	}
	status, err := plugins.WithStatus(parent, map[string]any{"answer": "hidden", "pid": pid})
	return core.Decision{Status: status}, err
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
	case "hide":
		return hide(seen.Parent)
	case "fail":
		return core.Decision{}, fmt.Errorf("there is no answer to %s", seen.Parent.GetName())
	}
	own, err := os.Readlink("/proc/self") // as the host knows it
	if err != nil {
		return core.Decision{}, err
	}
	pid, err := strconv.Atoi(own)
	if err != nil {
		return core.Decision{}, err
	}
	status, err := plugins.WithStatus(seen.Parent, map[string]any{"answer": "42" + riddle.Spec.Hint, "pid": pid})
	return core.Decision{Status: status}, err
}
