package events

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/coretest"
	"github.com/weftrun/weft/core/coretest/mapstore"
)

func start(t *testing.T) (*Recorder, *mapstore.Client) {
	t.Helper()
	client := mapstore.NewClient(mapstore.Kind(schema.GroupVersionKind{Version: "v1", Kind: "Event"}, "events", true))
	r, err := New(Config{Client: client, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	coretest.Run(t, r.Run)
	return r, client
}

func kept(client core.Client) (list []*corev1.Event) {
	for _, o := range client.Snapshot().List(core.Events, "") {
		list = append(list, o.(*corev1.Event))
	}
	return list
}

var web = corev1.ObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: "default", Name: "web", UID: "u"}

func TestSameEventIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client := start(t)
		for range 3 {
			r.Event("replicaset-controller", web, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: web-a")
			time.Sleep(time.Second)
		}
		synctest.Wait()
		list := kept(client)
		if len(list) != 1 {
			t.Fatalf("%d events", len(list))
		}
		e := list[0]
		if e.Count != 3 || e.Source.Component != "replicaset-controller" || e.InvolvedObject != web || e.LastTimestamp.Sub(e.FirstTimestamp.Time) != 2*time.Second {
			t.Errorf("event %+v", e)
		}
	})
}

func TestSimilarEventsAreCombinedAndMuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client := start(t)
		for i := range 1000 {
			r.Event("replicaset-controller", web, corev1.EventTypeNormal, "SuccessfulCreate", fmt.Sprintf("Created pod: web-%d", i))
		}
		synctest.Wait()
		list := kept(client)
		if len(list) != similarLimit+1 {
			t.Fatalf("%d events, want %d and one for the rest", len(list), similarLimit)
		}
		total := int32(0)
		combined := false
		for _, e := range list {
			total += e.Count
			combined = combined || strings.HasPrefix(e.Message, combinedPrefix)
		}
		if total != burst || !combined {
			t.Errorf("%d were recorded, combined %v; want %d before the object is muted", total, combined, burst)
		}
		time.Sleep(refill)
		r.Event("replicaset-controller", web, corev1.EventTypeWarning, "FailedCreate", "no")
		synctest.Wait()
		if n := len(kept(client)); n != similarLimit+2 {
			t.Errorf("%d events after a pause", n)
		}
	})
}

func TestLongTextsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, client := start(t)
		about := web
		about.Name = strings.Repeat("n", 253)
		r.Event("x", about, corev1.EventTypeWarning, strings.Repeat("r", 500), strings.Repeat("ä", 5000))
		synctest.Wait()
		e := kept(client)[0]
		if len(e.Name) > 253 || len(e.Reason) > maxReason || len(e.Message) > maxMessage || !strings.HasSuffix(e.Message, "ä") {
			t.Errorf("name %d, reason %d, message %d bytes", len(e.Name), len(e.Reason), len(e.Message))
		}
	})
}

func TestCacheForgetsTheOldest(t *testing.T) {
	c := newCache[int, int](100)
	for i := range 1000 {
		c.put(i, i)
	}
	if _, ok := c.get(999); !ok {
		t.Error("the newest is forgotten")
	}
	if n := len(c.young) + len(c.old); n > 100 {
		t.Errorf("%d are remembered", n)
	}
}
