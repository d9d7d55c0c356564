package nodelink_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/core"
)

// used keeps what nodes said that they use.
type used struct {
	mu    sync.Mutex
	parts map[string][]core.NodeUsage
}

func (u *used) put(node string, part core.NodeUsage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.parts == nil {
		u.parts = map[string][]core.NodeUsage{}
	}
	u.parts[node] = append(u.parts[node], part)
}

func (u *used) take(node string) []core.NodeUsage {
	u.mu.Lock()
	defer u.mu.Unlock()
	parts := u.parts[node]
	delete(u.parts, node)
	return parts
}

func podUsages(pods, containers int) []core.PodUsage {
	var out []core.PodUsage
	for i := range pods {
		p := core.PodUsage{UID: types.UID(fmt.Sprint("uid-", i))}
		for j := range containers {
			p.Containers = append(p.Containers, core.ContainerUsage{Name: fmt.Sprint("c", j), Usage: core.Usage{
				StartedAt: time.Unix(1700000000, 0).UTC(), CPU: time.Duration(i), MemoryBytes: int64(j), Throttled: 3,
			}})
		}
		out = append(out, p)
	}
	return out
}

func TestUsage(t *testing.T) {
	run(t, func(w *world, n *node) {
		for _, tc := range []struct{ pods, containers, parts int }{{0, 0, 1}, {3, 2, 1}, {1000, 1, 1}, {2500, 1, 3}, {1000, 5, 3}} {
			want := core.NodeUsage{Time: time.Unix(1700000100, 0).UTC(), Node: core.Usage{CPU: 7, MemoryBytes: 8}, Pods: podUsages(tc.pods, tc.containers)}
			if err := n.Usage(w.t.Context(), want); err != nil {
				w.t.Fatalf("%+v: %v", tc, err)
			}
			parts := w.used.take("n1")
			if len(parts) != tc.parts {
				w.t.Errorf("%+v: %d parts", tc, len(parts))
			}
			var got core.NodeUsage
			for _, part := range parts {
				part.Pods = append(got.Pods, part.Pods...)
				got = part
			}
			if diff := cmp.Diff(want, got); diff != "" {
				w.t.Errorf("%+v: %s", tc, diff)
			}
		}
	})
}

// What a process says that is not the node any more must not count.
func TestUsageOfAnotherEpoch(t *testing.T) {
	run(t, func(w *world, n *node) {
		w.node(nodeID)
		if err := n.Usage(w.t.Context(), core.NodeUsage{Time: time.Now()}); err == nil || !strings.Contains(err.Error(), "superseded") {
			w.t.Errorf("got %v", err)
		}
		if parts := w.used.take("n1"); len(parts) > 0 {
			w.t.Errorf("it counted: %+v", parts)
		}
	})
}

func TestUsageRefused(t *testing.T) {
	run(t, func(w *world, n *node) {
		now := time.Now().UTC().Format(time.RFC3339)
		manyPods, err := json.Marshal(podUsages(1001, 0))
		if err != nil {
			w.t.Fatal(err)
		}
		for name, tc := range map[string]struct{ body, want string }{
			"no JSON":   {`{`, "unexpected end"},
			"no time":   {`{}`, "no time"},
			"negative":  {`{"time":"` + now + `","pods":[{"uid":"a","containers":[{"name":"c","cpu":-1}]}]}`, "negative"},
			"large":     {`{"time":"` + now + strings.Repeat(" ", 2<<20) + `"}`, "bytes are more than"},
			"many pods": {`{"time":"` + now + `","pods":` + string(manyPods) + `}`, "1001 pods, at most 1000"},
			"many containers": {`{"time":"` + now + `","pods":[{"uid":"a","containers":[{}` + strings.Repeat(",{}", 2000) + `]}]}`,
				"2001 containers, at most 2000"},
		} {
			_, err := n.conn.Call(w.t.Context(), bus.Message{Subject: bus.APISubject(nodeID, "usage"), Data: []byte(tc.body)})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				w.t.Errorf("%s: got %v, want %q", name, err, tc.want)
			}
		}
		if parts := w.used.take("n1"); len(parts) > 0 {
			w.t.Errorf("it counted: %+v", parts)
		}
	})
}
