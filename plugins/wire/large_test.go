package wire_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins/plugintest"
	"github.com/weftrun/weft/plugins/wire"
)

// counter tells how many children it was shown, and updates all of them.
type counter struct{ update bool }

func (counter) Describe() core.Description {
	return core.Description{
		Name: "counter", Kind: corev1.SchemeGroupVersion.WithKind("ConfigMap"), Resource: core.ConfigMaps,
		Children: []core.Child{{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Resource: core.Pods}},
	}
}

func (counter) Relate(core.Object) []core.Relation { return nil }

func (c counter) Decide(_ context.Context, seen core.Observation) (core.Decision, error) {
	d := core.Decision{Annotations: map[string]string{"children": fmt.Sprint(len(seen.Children))}}
	if c.update {
		d.Update = seen.Children
	}
	return d, nil
}

// large returns an observation of n pods of about size bytes each.
func large(n, size int) core.Observation {
	seen := core.Observation{Parent: &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "u-p", ResourceVersion: "1"},
	}}
	filling := strings.Repeat("x", size)
	for i := range n {
		seen.Children = append(seen.Children, &corev1.Pod{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{
				Name: fmt.Sprint("pod-", i), Namespace: "default", UID: types.UID(fmt.Sprint("u-", i)), ResourceVersion: "1",
				Annotations: map[string]string{"filling": filling},
			},
		})
	}
	return seen
}

// Messages far beyond gRPC's usual 4 MiB pass in both directions; also when
// the plugin's cache (64 MiB) is too small for one observation.
func TestLargeMessages(t *testing.T) {
	cases := map[string]struct {
		n, size int
		update  bool
	}{
		"5,000 children":            {5000, 1 << 10, true},
		"more than the cache holds": {80, 1 << 20, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			client, _ := plugintest.Remote(t, counter{tc.update})
			seen := large(tc.n, tc.size)
			for _, round := range []string{"whole", "from the cache"} {
				d, err := client.Decide(t.Context(), "counter", seen)
				if err != nil {
					t.Fatalf("%s: %v", round, err)
				}
				if got := d.Annotations["children"]; got != fmt.Sprint(tc.n) || tc.update && len(d.Update) != tc.n {
					t.Errorf("%s: %s children were seen, %d updated", round, got, len(d.Update))
				}
			}
		})
	}
}

// A plugin that is asked too much at once says so.
func TestTooLargeAnObservation(t *testing.T) {
	if testing.Short() {
		t.Skip("needs 300 MB")
	}
	client, _ := plugintest.Remote(t, counter{})
	seen := large(1, wire.MaxMessage)
	if _, err := client.Decide(t.Context(), "counter", seen); err == nil || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("got %.200v", err)
	}
}

func BenchmarkDecide5000(b *testing.B) {
	seen := large(5000, 100)
	for _, mode := range []string{"whole", "cached"} {
		b.Run(mode, func(b *testing.B) {
			client, _ := plugintest.Remote(b, counter{})
			for i := 0; b.Loop(); i++ {
				if mode == "whole" {
					for _, child := range seen.Children {
						child.SetResourceVersion(fmt.Sprint(i)) // another version
					}
				}
				if _, err := client.Decide(b.Context(), "counter", seen); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
