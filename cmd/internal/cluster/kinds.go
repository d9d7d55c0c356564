package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/weftrun/weft/cmd/internal/debug"
	"github.com/weftrun/weft/cmd/internal/processors"
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
// process. It serves profiles on a socket unless that is empty.
func RunPlugin(ctx context.Context, names []string, debugSocket string, log *slog.Logger) error {
	controllers, err := Kinds(names)
	if err != nil {
		return err
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks.Go(func() { _ = rest(ctx) })              // it never fails
	tasks.Go(func() { _ = processors.Govern(ctx) }) // nor does this
	if debugSocket != "" {
		tasks.Go(func() { debug.Serve(ctx, debugSocket, nil, log) })
	}
	return plugins.Serve(controllers...)
}
