package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/apiserver"
)

// How often a core that starts looks whether it is settled, and how long it
// holds back the API for the namespaces at most.
const (
	settleLook = 2 * time.Millisecond
	settleHold = 5 * time.Second
	// readyPatience is how long whoever waits for a core does so.
	readyPatience = 20 * time.Second
)

// ready returns why clients should not come yet: it is what /readyz answers. A
// core that was ready once stays so, since a plugin's restart is no reason to
// send clients away.
func (c *coreParts) ready() error {
	if c.settled.Load() {
		return nil
	}
	if err := c.hasNamespace(); err != nil {
		return err
	}
	if len(c.settings.Plugins.Builtin) > 0 && !c.serves(settings.BuiltinPlugin) {
		return errors.New("the plugin of the built-in kinds does not serve yet")
	}
	c.settled.Store(true)
	return nil
}

// checks are what /readyz?verbose tells of the log and of the clock.
func (c *coreParts) checks() []apiserver.Check {
	sync := apiserver.Check{Name: "log-sync", Note: "each write is synced, as the server says"}
	if !c.carrier.synced {
		sync.Note = "assumed, for nats.assume_synced is set: the server does not say that it syncs each write"
	}
	writes := apiserver.Check{Name: "log-writes"}
	if c.carrier.taking != nil {
		writes.Err = c.carrier.taking()
	}
	clock := apiserver.Check{Name: "clock", Note: "it did not jump while this core ran"}
	if jump, ok := c.counts.clock.Last(); ok {
		clock.Note = fmt.Sprintf("it jumped by %s to %s, or this machine slept", jump.By.Round(time.Millisecond), jump.At.UTC().Format(time.RFC3339))
	}
	return []apiserver.Check{sync, writes, clock}
}

// hasNamespace tells whether the namespaces of every cluster are there: the
// one that is created last stands for all.
func (c *coreParts) hasNamespace() error {
	snapshot := c.registry.Snapshot()
	for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if _, ok := snapshot.Get(core.Key{Resource: core.Namespaces.Resource, Name: name}); !ok {
			return fmt.Errorf("the namespace %q is not there yet", name)
		}
	}
	return nil
}

func (c *coreParts) serves(plugin string) bool {
	for _, status := range c.host.Status() {
		if status.Name == plugin {
			return status.Running
		}
	}
	return false
}

// await returns when check has nothing to say, or with what it says when ctx
// ends.
func await(ctx context.Context, check func() error) error {
	ticker := time.NewTicker(settleLook)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// holdAPI keeps the first requests of a new cluster waiting until the
// namespace is there that they are most likely for.
func (c *coreParts) holdAPI(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleHold)
	defer cancel()
	if err := await(ctx, c.hasNamespace); err != nil && ctx.Err() == nil {
		c.log.Warn("the API begins without what every cluster has", "err", err)
	}
}
