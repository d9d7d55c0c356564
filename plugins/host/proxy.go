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
	asides map[types.UID]aside
}

// aside is a version of a parent that the process did not survive. It is not
// asked about it again for a while, since each time costs all others of its
// kinds a restart.
type aside struct {
	version string
	hold    time.Duration
	until   time.Time
	reason  string
}

// How long a parent is set aside the first time, doubled with each further
// time: one that was asked about while the process died by itself, which may
// not be why, and one that ran out of time.
const (
	holdSuspect = time.Second
	holdLate    = 10 * time.Second
	holdMost    = 10 * time.Minute
)

// asidesMax bounds the parents that are remembered as set aside.
const asidesMax = 10_000

// related is the last answer about one parent.
type related struct {
	version   string
	relations []core.Relation
	err       error
}

// relatedMax bounds the answers remembered.
const relatedMax = 50_000

func newProxy(p *process, d core.Description) *proxy {
	return &proxy{process: p, description: d, relate: map[types.UID]related{}, asides: map[types.UID]aside{}}
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

// forget drops what is remembered.
func (c *proxy) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.relate)
}

// isAside returns why parent is not to be asked about now, or nil.
func (c *proxy) isAside(parent core.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.asides[parent.GetUID()]
	if !ok || a.version != parent.GetResourceVersion() || !time.Now().Before(a.until) {
		return nil
	}
	return &core.SetAsideError{Reason: a.reason}
}

// setAside keeps parent from being asked about for at least hold.
func (c *proxy) setAside(parent core.Object, hold time.Duration, reason string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	uid, version := parent.GetUID(), parent.GetResourceVersion()
	if before, ok := c.asides[uid]; ok && before.version == version {
		hold = max(hold, min(2*before.hold, holdMost))
	}
	if len(c.asides) >= asidesMax {
		clear(c.asides)
	}
	c.asides[uid] = aside{version: version, hold: hold, until: time.Now().Add(hold), reason: reason}
	return &core.SetAsideError{Reason: reason}
}

// answered forgets that parent was set aside.
func (c *proxy) answered(parent core.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asides, parent.GetUID())
}

func (c *proxy) askRelate(parent core.Object) (relations []core.Relation, err error) {
	if err := c.isAside(parent); err != nil {
		return nil, err
	}
	ctx := context.Background() //nolint:forbidigo // the contract has no context: it is pure
	err = c.ask(ctx, parent, func(ctx context.Context, client *wire.Client) (err error) {
		relations, err = client.Relate(ctx, c.description.Name, parent)
		return err
	})
	return relations, err
}

// Decide implements core.Controller.
func (c *proxy) Decide(ctx context.Context, seen core.Observation) (decision core.Decision, err error) {
	c.mu.Lock()
	relate := c.relate[seen.Parent.GetUID()]
	c.mu.Unlock()
	if relate.err != nil {
		return core.Decision{}, relate.err
	}
	if err := c.isAside(seen.Parent); err != nil {
		return core.Decision{}, err
	}
	err = c.ask(ctx, seen.Parent, func(ctx context.Context, client *wire.Client) (err error) {
		decision, err = client.Decide(ctx, c.description.Name, seen)
		return err
	})
	if err != nil {
		return core.Decision{}, err
	}
	c.answered(seen.Parent)
	return decision, nil
}

// ask calls the process. If that is restarted for another's sake meanwhile, it
// calls again.
func (c *proxy) ask(ctx context.Context, parent core.Object, call func(context.Context, *wire.Client) error) error {
	limit := c.process.config.DecideTimeout
	for {
		client, err := c.process.connection(ctx)
		if err != nil {
			return err
		}
		asked := time.Now()
		own, cancel := context.WithTimeout(ctx, limit)
		err = call(own, client)
		timedOut := errors.Is(own.Err(), context.DeadlineExceeded)
		cancel()
		ended := status.Code(err) == codes.Unavailable || status.Code(err) == codes.Canceled
		switch known := (*wire.ControllerError)(nil); {
		case err == nil || errors.As(err, &known):
			return err
		case timedOut || status.Code(err) == codes.DeadlineExceeded:
			return c.late(client, parent, time.Since(asked))
		case ctx.Err() != nil:
			return ctx.Err()
		case ended && c.process.gaveUp(client):
			continue // it has done no harm itself
		case ended && c.process.whyFull(client) != "":
			return c.setAside(parent, holdSuspect, c.process.whyFull(client))
		case ended:
			return c.setAside(parent, holdSuspect, fmt.Sprintf("plugin %s ended while it was asked", c.process.plugin.Name))
		}
		return fmt.Errorf("controller %s after %s: %w", c.description.Name, time.Since(asked).Round(time.Millisecond), err)
	}
}

// late tells that there was no answer in time. A controller that does not
// answer may spin, and nothing but a restart of its process stops that; unless
// it was given less time than is its due, since its process was not there.
func (c *proxy) late(client *wire.Client, parent core.Object, took time.Duration) error {
	limit := c.process.config.DecideTimeout
	if took < limit*9/10 {
		return &core.SetAsideError{Reason: fmt.Sprintf("plugin %s came back too late to answer", c.process.plugin.Name)}
	}
	reason := fmt.Sprintf("controller %s of plugin %s did not answer within %s; its process is restarted",
		c.description.Name, c.process.plugin.Name, limit)
	c.process.askRestart(client, reason)
	return c.setAside(parent, holdLate, reason)
}
