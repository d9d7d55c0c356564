package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/workloads/deployment"
	"github.com/weftrun/weft/workloads/job"
	"github.com/weftrun/weft/workloads/replicaset"
)

// builtin are the controllers of the built-in kinds.
func builtin() map[string]core.Controller {
	return map[string]core.Controller{
		"deployment": deployment.New(),
		"job":        job.New(),
		"replicaset": replicaset.New(),
	}
}

// Kinds returns the controllers of the named kinds; none means all.
func Kinds(names []string) ([]core.Controller, error) {
	all := builtin()
	known := slices.Sorted(maps.Keys(all))
	if len(names) == 0 {
		names = known
	}
	var out []core.Controller
	for _, name := range names {
		controller, ok := all[name]
		if !ok {
			return nil, fmt.Errorf("kind %q is not one of %s", name, strings.Join(known, ", "))
		}
		out = append(out, controller)
	}
	return out, nil
}

// RunPlugin serves the named built-in kinds to the core that started this
// process.
func RunPlugin(names []string) error {
	controllers, err := Kinds(names)
	if err != nil {
		return err
	}
	return plugins.Serve(controllers...)
}
