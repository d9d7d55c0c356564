package wire

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/weftrun/weft/core"
)

// Capabilities are those that a Client offers.
var Capabilities = []string{CapabilityProtobuf, CapabilityCache}

// Client asks the controllers of one plugin process. It may be used
// concurrently.
type Client struct {
	remote   ControllersClient
	encoding Encoding
	caching  bool

	mu   sync.Mutex
	sent map[string]string // UID: the version that the process was sent last
}

// sentMax bounds what a client remembers of what it sent; beyond it everything
// is sent again.
const sentMax = 200_000

// Connect describes the controllers of a process and returns a client of it.
func Connect(ctx context.Context, remote ControllersClient) (*Client, []core.Description, error) {
	response, err := remote.Describe(ctx, &DescribeRequest{Capabilities: Capabilities})
	if err != nil {
		return nil, nil, fmt.Errorf("describe controllers: %w", err)
	}
	c := &Client{remote: remote, sent: map[string]string{}}
	if slices.Contains(response.GetCapabilities(), CapabilityProtobuf) {
		c.encoding = Protobuf
	}
	c.caching = slices.Contains(response.GetCapabilities(), CapabilityCache)
	descriptions, err := toDescriptions(response.GetControllers())
	if err != nil {
		return nil, nil, fmt.Errorf("describe controllers: %w", err)
	}
	return c, descriptions, nil
}

func toDescriptions(all []*Description) ([]core.Description, error) {
	if len(all) == 0 || len(all) > maxControllers {
		return nil, fmt.Errorf("the plugin serves %d, 1 to %d are allowed", len(all), maxControllers)
	}
	names := map[string]bool{}
	out := make([]core.Description, 0, len(all))
	for _, d := range all {
		description, err := ToDescription(d)
		if err != nil {
			return nil, err
		}
		if names[description.Name] {
			return nil, fmt.Errorf("controller %s is served twice", description.Name)
		}
		names[description.Name] = true
		out = append(out, description)
	}
	return out, nil
}

// Relate asks what a controller wants to see of the world.
func (c *Client) Relate(ctx context.Context, controller string, parent core.Object) ([]core.Relation, error) {
	slot, err := RelateSlot(parent, c.encoding)
	if err != nil {
		return nil, err
	}
	response, err := c.remote.Relate(ctx, &RelateRequest{Controller: controller, Parent: slot})
	if err != nil {
		return nil, err
	}
	if response.GetError() != "" {
		return nil, controllerError(controller, response.GetError())
	}
	if len(response.GetMissing()) > 0 {
		return nil, fmt.Errorf("controller %s misses the object that it was sent", controller)
	}
	return ToRelations(response.GetRelations())
}

// Decide asks a controller to decide. An error of the controller itself is a
// *ControllerError; others are the connection's.
func (c *Client) Decide(ctx context.Context, controller string, seen core.Observation) (core.Decision, error) {
	var holds func(core.Object) bool
	if c.caching {
		holds = c.holds
	}
	for attempt := 0; ; attempt++ {
		request, err := FromObservation(controller, seen, c.encoding, holds)
		if err != nil {
			return core.Decision{}, err
		}
		response, err := c.remote.Decide(ctx, request)
		if err != nil {
			return core.Decision{}, err
		}
		if len(response.GetMissing()) > 0 && attempt == 0 {
			holds = nil // the process has forgotten some: send all
			continue
		}
		if len(response.GetMissing()) > 0 {
			return core.Decision{}, fmt.Errorf("controller %s misses objects that it was just sent", controller)
		}
		if response.GetError() != "" {
			return core.Decision{}, controllerError(controller, response.GetError())
		}
		c.remember(seen)
		decision, err := ToDecision(response.GetDecision())
		if err != nil {
			return core.Decision{}, fmt.Errorf("answer of controller %s: %w", controller, err)
		}
		return decision, nil
	}
}

func (c *Client) holds(object core.Object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	version, ok := c.sent[string(object.GetUID())]
	return ok && version == object.GetResourceVersion()
}

func (c *Client) remember(seen core.Observation) {
	if !c.caching {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sent) > sentMax {
		clear(c.sent)
	}
	for _, objects := range [][]core.Object{{seen.Parent}, seen.Children, seen.Related} {
		for _, object := range objects {
			c.sent[string(object.GetUID())] = object.GetResourceVersion()
		}
	}
}

// ControllerError is what a controller answered instead of a decision.
type ControllerError struct{ Controller, Text string }

func (e *ControllerError) Error() string { return e.Text }

// maxError bounds the text of an error in bytes.
const maxError = 4 << 10

func controllerError(controller, text string) error {
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + "..."
	}
	return &ControllerError{Controller: controller, Text: text}
}
