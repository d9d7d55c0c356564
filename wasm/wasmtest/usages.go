package wasmtest

import (
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
)

// testUsages tests that one call tells of all instances, as those that run now.
func testUsages(t *testing.T, b *bench) {
	begin := time.Now()
	if u, err := b.Runtime.Usages(t.Context()); err != nil || len(u.Instances) != 0 {
		t.Errorf("of nothing: %d instances, %v", len(u.Instances), err)
	}
	one, two := b.sandbox("one"), b.sandbox("two")
	b.mustStart(one, "park", "a.0")
	b.mustStart(one, "park", "b.0")
	spin := b.mustStart(two, "spin", "a.0")
	b.wantExit(b.mustStart(two, "exit", "b.0"), wasm.Exited, 7)

	u, err := b.Runtime.Usages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if u.Time.Before(begin.Add(-time.Second)) || u.Time.After(time.Now().Add(time.Second)) {
		t.Errorf("measured at %v, it is %v", u.Time, time.Now())
	}
	found := map[string]wasm.InstanceUsage{}
	for _, i := range u.Instances {
		found[i.Sandbox+"/"+i.ID] = i
	}
	for _, want := range []string{"one/a.0", "one/b.0", "two/a.0"} {
		i, ok := found[want]
		if !ok || i.MemoryBytes <= 0 || i.CPU < 0 || i.StartedAt.Before(begin.Add(-time.Second)) {
			t.Errorf("%s: %v, %+v", want, ok, i)
		}
	}
	if len(u.Instances) != 3 || len(found) != 3 {
		t.Errorf("%d instances: those that have ended use nothing", len(u.Instances))
	}
	if started := found["two/a.0"].StartedAt; !started.Equal(spin.StartedAt()) {
		t.Errorf("started at %v, says the instance at %v", started, spin.StartedAt())
	}
	if err := two.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u, err = b.Runtime.Usages(t.Context()); err != nil || len(u.Instances) != 2 {
		t.Errorf("after closing a sandbox: %d instances, %v", len(u.Instances), err)
	}
}
