package host

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins/wire"
)

// proxy is a controller in another process.
type proxy struct {
	process     *process
	description core.Description

	mu     sync.Mutex
	relate map[types.UID]related
}

// related is the last answer about one parent.
type related struct {
	version   string
	relations []core.Relation
	err       error
}

// relatedMax bounds the answers remembered.
const relatedMax = 50_000

func newProxy(p *process, d core.Description) *proxy {
	return &proxy{process: p, description: d, relate: map[types.UID]related{}}
}

func sameDescription(a, b core.Description) bool { return reflect.DeepEqual(a, b) }

// Describe implements core.Controller.
func (c *proxy) Describe() core.Description { return c.description }

// Relate implements core.Controller. Since it is pure, each version of a
// parent is asked about once. Decide reports what went wrong here.
func (c *proxy) Relate(parent core.Object) []core.Relation {
	uid, version := parent.GetUID(), parent.GetResourceVersion()
	c.mu.Lock()
	known, ok := c.relate[uid]
	c.mu.Unlock()
	if ok && known.version == version && known.err == nil {
		return known.relations
	}
	answer := related{version: version}
	answer.relations, answer.err = c.askRelate(parent)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.relate) >= relatedMax {
		clear(c.relate)
	}
	c.relate[uid] = answer
	return answer.relations
}

func (c *proxy) askRelate(parent core.Object) ([]core.Relation, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.process.config.DecideTimeout) //nolint:forbidigo // the contract has no context: it is pure
	defer cancel()
	client, err := c.process.connection(ctx)
	if err != nil {
		return nil, err
	}
	relations, err := client.Relate(ctx, c.description.Name, parent)
	return relations, c.failure(ctx, err)
}

// Decide implements core.Controller.
func (c *proxy) Decide(ctx context.Context, seen core.Observation) (core.Decision, error) {
	c.mu.Lock()
	relate := c.relate[seen.Parent.GetUID()]
	c.mu.Unlock()
	if relate.err != nil {
		return core.Decision{}, relate.err
	}
	ctx, cancel := context.WithTimeout(ctx, c.process.config.DecideTimeout)
	defer cancel()
	client, err := c.process.connection(ctx)
	if err != nil {
		return core.Decision{}, err
	}
	asked := time.Now()
	decision, err := client.Decide(ctx, c.description.Name, seen)
	if err := c.failure(ctx, err); err != nil {
		return core.Decision{}, fmt.Errorf("controller %s after %s: %w", c.description.Name, time.Since(asked).Round(time.Millisecond), err)
	}
	return decision, nil
}

// failure tells what an error means. A controller that does not answer in
// time may spin, and nothing but a restart of its process stops that.
func (c *proxy) failure(ctx context.Context, err error) error {
	var own *wire.ControllerError
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded:
		reason := fmt.Sprintf("controller %s of plugin %s did not answer within %s; its process is restarted",
			c.description.Name, c.process.plugin.Name, c.process.config.DecideTimeout)
		c.process.askRestart(reason)
		return &core.SetAsideError{Reason: reason}
	case ctx.Err() != nil:
		return ctx.Err()
	case status.Code(err) == codes.Unavailable || status.Code(err) == codes.Canceled:
		return &core.SetAsideError{Reason: fmt.Sprintf("plugin %s ended while it was asked", c.process.plugin.Name)}
	}
	return err
}
