package feed_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
)

func TestEachChangeOnceInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		seen := record(t, tool, bus.AllEvents)
		from := f.client.Snapshot().Revision()
		random := rand.New(rand.NewPCG(1, 2))
		for i := range ringEvents / 2 {
			namespace, name := string(rune('a'+random.IntN(3))), fmt.Sprintf("m%d", random.IntN(5))
			_, exists := f.client.Snapshot().Get(mapKey(namespace, name))
			switch {
			case !exists:
				f.create(configMap(namespace, name, fmt.Sprint(i)))
			case random.IntN(3) == 0:
				f.delete(mapKey(namespace, name))
			default:
				f.set(namespace, name, fmt.Sprint(i))
			}
		}
		settle(time.Second)
		var got, want []string
		last := map[string]int64{}
		for _, e := range seen() {
			if e.bookmark() {
				if e.Revision != last[e.Subject] && last[e.Subject] != 0 {
					t.Errorf("bookmark %d of %s, the last event was %d", e.Revision, e.Subject, last[e.Subject])
				}
				continue
			}
			pair := e.Subject[:strings.LastIndex(e.Subject, "/")]
			if before := last[pair]; before != 0 && e.Previous != before {
				t.Errorf("%s %d: previous is %d, want %d", e.Subject, e.Revision, e.Previous, before)
			}
			last[pair] = e.Revision
			c := e.configMap(t)
			if c.ResourceVersion != fmt.Sprint(e.Revision) || len(c.ManagedFields) > 0 || e.Time.IsZero() || e.SpecVersion != "1.0" ||
				e.ID != fmt.Sprint(e.Revision) || e.Source != "/weft" || e.ContentType != "application/json" || e.Term != "1" {
				t.Errorf("%s", e.RawData)
			}
			if want := bus.EventSubject("", "configmaps", c.Namespace, c.Name); e.NATSSubject != want {
				t.Errorf("subject %s, want %s", e.NATSSubject, want)
			}
			got = append(got, fmt.Sprintf("%s %s %s %d %s", e.Type, e.ObjectOrNone.Type, e.Subject, e.Revision, c.Data["v"]))
		}
		watch, err := f.client.Watch(core.ConfigMaps, "", from)
		f.must(err)
		defer watch.Close()
		for watch.Revision() < f.client.Snapshot().Revision() {
			changes, err := watch.Next(t.Context())
			f.must(err)
			for _, c := range changes {
				verb := "MODIFIED"
				if c.Deleted {
					verb = "DELETED"
				} else if c.Old == nil {
					verb = "ADDED"
				}
				want = append(want, fmt.Sprintf("run.weft.object.%s.v1 %s core/configmaps/%s/%s %d %s", strings.ToLower(verb), verb,
					c.Key.Namespace, c.Key.Name, c.Revision, c.Object.(*corev1.ConfigMap).Data["v"]))
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

func TestSecretsKeepTheirContent(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		seen := record(t, tool, bus.AllEvents)
		from := f.client.Snapshot().Revision()
		key := core.Key{Resource: core.Secrets.Resource, Namespace: "a", Name: "s"}
		f.create(&corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s", Labels: map[string]string{"app": "web"},
				Annotations: map[string]string{"kubectl.kubernetes.io/last-applied-configuration": `{"stringData":{"k":"hunter2"}}`, "copy": "hunter2"}},
			StringData: map[string]string{"k": "hunter2", "hunter2-key": "x"}})
		_, err := f.client.Mutate(t.Context(), key, func(o core.Object) error {
			o.(*corev1.Secret).Data["hunter2-more"] = []byte("hunter2")
			return nil
		}, core.WriteOptions{FieldManager: "hunter2"})
		f.must(err)
		var texts []string
		add := func(method string, request map[string]any) {
			var raw json.RawMessage
			request["resource"], request["namespace"] = "secrets", "a"
			f.ask(tool, method, request, &raw)
			texts = append(texts, string(raw))
		}
		add("list", map[string]any{})
		add("get", map[string]any{"name": "s"})
		f.delete(key)
		add("resume", map[string]any{"from": fmt.Sprint(from)})
		settle(time.Second)
		events := 0
		for _, e := range seen() {
			texts = append(texts, string(e.RawData))
			if e.Subject == "core/secrets/a/s" {
				events++
			}
		}
		if events != 3 {
			t.Errorf("%d events, want 3", events)
		}
		all := strings.Join(texts, "\n")
		for _, bad := range []string{"hunter2", "aHVudGVyM", "data\":{\"k", "stringData", "annotations", "managedFields"} {
			if strings.Contains(all, bad) {
				t.Errorf("%q is shown:\n%s", bad, all)
			}
		}
		if !strings.Contains(all, `"labels":{"app":"web"}`) {
			t.Errorf("the labels are missing:\n%s", all)
		}
	})
}

func TestLargeObjectsAreReferences(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		seen := record(t, tool, bus.EventSubject("", "configmaps", "a", "big"))
		big := strings.Repeat("x", 600<<10)
		f.create(configMap("a", "big", big))
		settle(time.Second)
		const at = "/api/v1/namespaces/a/configmaps/big"
		events := seen()
		if len(events) != 1 || events[0].DataRef != at || len(events[0].RawData) > 2000 {
			t.Fatalf("got %d events: %.2000s", len(events), events[0].RawData)
		}
		if c := events[0].configMap(t); c.Kind != "ConfigMap" || c.Name != "big" || c.UID == "" || c.Data != nil {
			t.Errorf("got %v", c)
		}
		var page listed
		f.ask(tool, "list", map[string]any{"resource": "configmaps", "namespace": "a"}, &page)
		if len(page.Items) != 1 || !strings.Contains(string(page.Items[0]), at) || len(page.Items[0]) > 2000 {
			t.Errorf("listed %.2000s", page.Items)
		}
		var whole struct{ Object corev1.ConfigMap }
		f.ask(tool, "get", map[string]any{"group": "core", "resource": "configmaps", "namespace": "a", "name": "big"}, &whole)
		if whole.Object.Data["v"] != big {
			t.Error("get does not return it whole")
		}
	})
}

func TestKindsComeAndGo(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		seen := record(t, tool, "weft.v1.event.example%2Ecom.>")
		yes := true
		definition := &apiextensionsv1.CustomResourceDefinition{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
			ObjectMeta: metav1.ObjectMeta{Name: "boats.example.com"},
			Spec: apiextensionsv1.CustomResourceDefinitionSpec{
				Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
				Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "boats", Singular: "boat", Kind: "Boat", ListKind: "BoatList"},
				Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
					Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &yes}}}},
			},
		}
		f.create(definition)
		for { // the catalogue follows; the feed must not miss what comes at once
			if _, ok := f.client.KindOf(core.GroupResource{Group: "example.com", Resource: "boats"}); ok {
				break
			}
			time.Sleep(time.Millisecond)
		}
		boat := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v1", "kind": "Boat",
			"metadata": map[string]any{"namespace": "a", "name": "one"}, "spec": map[string]any{"sails": int64(2)}}}
		_, err := f.client.Create(t.Context(), boat, core.WriteOptions{FieldManager: "test"})
		f.must(err)
		settle(2 * time.Second)
		var events []event
		for _, e := range seen() {
			if !e.bookmark() {
				events = append(events, e)
			}
		}
		if len(events) != 1 || events[0].Subject != "example.com/boats/a/one" ||
			!strings.Contains(string(events[0].RawData), `"spec":{"sails":2}`) || strings.Contains(string(events[0].RawData), "managedFields") {
			t.Fatalf("got %v", events)
		}
		var answer struct {
			Items []struct {
				Group, Resource, Kind, Version string
				Namespaced, Events             bool
			}
		}
		f.ask(tool, "kinds", nil, &answer)
		found := map[string]bool{}
		for _, k := range answer.Items {
			found[k.Group+"/"+k.Resource] = k.Events
		}
		for name, want := range map[string]bool{"example.com/boats": true, "core/pods": true, "core/events": true, "coordination.k8s.io/leases": false} {
			if got, ok := found[name]; !ok || got != want {
				t.Errorf("%s: events %v (%v), want %v", name, got, ok, want)
			}
		}
		if _, ok := found["internal.weft.run/memories"]; ok {
			t.Error("an internal kind is shown")
		}
	})
}

func TestWhatHasNoEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, f *fixture, _ *memory.Hub, tool bus.Bus) {
		seen := record(t, tool, bus.AllEvents)
		_, err := f.client.Transact(t.Context(), []core.Write{{
			Key:    core.Key{Group: core.Memories.Group, Resource: core.Memories.Resource, Namespace: "a", Name: "uid"},
			Create: &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: core.MemoryKind.GroupVersion().String(), Kind: core.MemoryKind.Kind}, ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "uid"}, Data: map[string][]byte{"memory": []byte("hunter2")}},
		}})
		f.must(err)
		settle(15 * time.Second)
		for _, e := range seen() {
			if strings.Contains(e.Subject, "memories") || strings.Contains(e.Subject, "leases") || strings.Contains(string(e.RawData), "hunter2") {
				t.Errorf("got %s", e.RawData)
			}
		}
		f.wantProblem(tool, "list", map[string]any{"group": core.Memories.Group, "resource": core.Memories.Resource}, 404, "kinds")
	})
}
