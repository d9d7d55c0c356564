package nodelink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// Limits of one call about usage.
const (
	usagePodsMax       = 1000
	usageContainersMax = 2000
	usageBytesMax      = 2 << 20
)

// usage is what a node says that it uses, or a part of that.
type usage struct {
	Epoch int64 `json:"epoch"`
	core.NodeUsage
}

// taken is the answer.
type taken struct{}

// Usage implements core.NodeLink.
func (l *Link) Usage(ctx context.Context, u core.NodeUsage) error {
	l.mu.Lock()
	epoch := l.epoch
	l.mu.Unlock()
	pods := u.Pods
	for first := true; first || len(pods) > 0; first = false {
		n := usagePart(pods)
		u.Pods, pods = pods[:n], pods[n:]
		if err := l.call(ctx, methodUsage, usage{Epoch: epoch, NodeUsage: u}, &taken{}); err != nil {
			return err
		}
	}
	return nil
}

// usagePart returns how many of the pods fit into one call: one always does,
// as a pod has far fewer containers.
func usagePart(pods []core.PodUsage) int {
	containers := 0
	for n := range pods {
		containers += len(pods[n].Containers)
		if n == usagePodsMax || n > 0 && containers > usageContainersMax {
			return n
		}
	}
	return len(pods)
}

// usage takes in what a node uses.
func (h *Hub) usage(ctx context.Context, m bus.Message) (bus.Message, error) {
	name := bus.Caller(ctx).Name
	leave, err := h.gate.enter(name, methodUsage, callsMax)
	if err != nil {
		return bus.Message{}, err
	}
	defer leave()
	u, err := parseUsage(m.Data)
	if err != nil {
		return bus.Message{}, refuse(err)
	}
	switch _, epoch := h.node(name); {
	case epoch == 0:
		return bus.Message{}, errors.New(errRemoved)
	case epoch != u.Epoch:
		return bus.Message{}, errors.New(errSuperseded)
	}
	h.config.Usage(name, u.NodeUsage)
	return reply(taken{})
}

func parseUsage(data []byte) (*usage, error) {
	if len(data) > usageBytesMax {
		return nil, fmt.Errorf("usage: %d bytes are more than %d", len(data), usageBytesMax)
	}
	var u usage
	if err := json.Unmarshal(data, &u); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	if len(u.Pods) > usagePodsMax {
		return nil, fmt.Errorf("usage: %d pods, at most %d are permitted", len(u.Pods), usagePodsMax)
	}
	containers := 0
	good := possible(&u.Node)
	for i := range u.Pods {
		containers += len(u.Pods[i].Containers)
		for j := range u.Pods[i].Containers {
			good = good && possible(&u.Pods[i].Containers[j].Usage)
		}
	}
	switch {
	case containers > usageContainersMax:
		return nil, fmt.Errorf("usage: %d containers, at most %d are permitted", containers, usageContainersMax)
	case !good || u.Time.IsZero():
		return nil, errors.New("usage: a negative number, or no time")
	}
	return &u, nil
}

func possible(u *core.Usage) bool { return u.CPU >= 0 && u.MemoryBytes >= 0 && u.Throttled >= 0 }
