package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/store"
)

// disk is what survives a crash.
type disk struct{ wal, snapshots *fakeLog }

func newDisk() disk { return disk{newFakeLog(), newFakeLog()} }

func (d disk) crash() disk { return disk{d.wal.clone(), d.snapshots.clone()} }

func testKey(t testing.TB) store.Key {
	t.Helper()
	key, err := store.NewKey(make([]byte, store.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func durability(r core.GroupResource) core.Durability {
	switch r {
	case core.Events:
		return core.Lazy
	case core.Leases:
		return core.Volatile
	}
	return core.Durable
}

func (d disk) config(t testing.TB) store.Config {
	return store.Config{
		Log: d.wal, Snapshots: d.snapshots, Key: testKey(t), Durability: durability,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// open opens a store that runs until stop is called or the test ends.
func (d disk) open(t testing.TB, change ...func(*store.Config)) (s *store.Store, stop func() error) {
	t.Helper()
	config := d.config(t)
	for _, c := range change {
		c(&config)
	}
	s, err := store.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return s, run(t, s)
}

func run(t testing.TB, s *store.Store) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var err error
	group.Go(func() { err = s.Run(ctx) })
	stop = sync.OnceValue(func() error {
		cancel()
		group.Wait()
		return err
	})
	t.Cleanup(func() { _ = stop() }) // the error is the caller's who stops
	return stop
}

func configMap(namespace, name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-" + namespace + "-" + name)},
		Data:       map[string]string{"value": value},
	}
}

func put(t testing.TB, s *store.Store, object *corev1.ConfigMap, expect int64) core.Object {
	t.Helper()
	kept, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: core.KeyFor(core.ConfigMaps, object), Object: object, Expect: expect}})
	if err != nil {
		t.Fatal(err)
	}
	return kept[0]
}

func mapKey(namespace, name string) core.Key {
	return core.Key{Resource: "configmaps", Namespace: namespace, Name: name}
}

func wantValue(t testing.TB, v core.Snapshot, namespace, name, want string) {
	t.Helper()
	o, ok := v.Get(mapKey(namespace, name))
	got := ""
	if ok {
		got = o.(*corev1.ConfigMap).Data["value"]
	}
	if got != want {
		t.Fatalf("%s/%s is %q, want %q", namespace, name, got, want)
	}
}

func TestCommitReadRestart(t *testing.T) {
	d := newDisk()
	s, stop := d.open(t)
	if s.Term() != 1 {
		t.Fatalf("term %d, want 1", s.Term())
	}
	a := put(t, s, configMap("ns", "a", "1"), 0)
	put(t, s, configMap("ns", "b", "1"), 0)
	a = put(t, s, configMap("ns", "a", "2"), core.Revision(a))
	wantValue(t, s.Snapshot(), "ns", "a", "2")
	if _, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: mapKey("ns", "b"), Expect: core.Revision(a) - 1}}); err != nil {
		t.Fatal(err)
	}
	if n := s.Snapshot().Count(core.ConfigMaps); n != 1 {
		t.Fatalf("%d config maps, want 1", n)
	}
	before := s.Snapshot().Revision()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = d.crash().open(t)
	if s.Term() != 2 {
		t.Fatalf("term %d, want 2", s.Term())
	}
	wantValue(t, s.Snapshot(), "ns", "a", "2")
	wantValue(t, s.Snapshot(), "ns", "b", "")
	if o, _ := s.Snapshot().Get(mapKey("ns", "a")); core.Revision(o) != core.Revision(a) {
		t.Errorf("resourceVersion %s after the restart, want %s", o.GetResourceVersion(), a.GetResourceVersion())
	}
	if s.Snapshot().Revision() <= before {
		t.Errorf("revision %d after the restart, want more than %d", s.Snapshot().Revision(), before)
	}
}

func TestCommitRefuses(t *testing.T) {
	s, _ := newDisk().open(t)
	a := core.Revision(put(t, s, configMap("ns", "a", "1"), 0))
	big := configMap("ns", "big", "")
	big.BinaryData = map[string][]byte{"x": make([]byte, store.MaxObjectSize)}
	op := func(name string, o *corev1.ConfigMap, expect int64) core.Op {
		op := core.Op{Key: mapKey("ns", name), Expect: expect}
		if o != nil {
			op.Object = o
		}
		return op
	}
	tests := map[string]struct {
		ops  []core.Op
		is   func(error) bool
		text string
	}{
		"conflict": {[]core.Op{op("a", configMap("ns", "a", "2"), a+7)}, apierrors.IsConflict,
			`Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`},
		"exists":           {[]core.Op{op("a", configMap("ns", "a", "2"), 0)}, apierrors.IsAlreadyExists, `configmaps "a" already exists`},
		"not found":        {[]core.Op{op("b", configMap("ns", "b", "2"), 3)}, apierrors.IsNotFound, `configmaps "b" not found`},
		"delete not found": {[]core.Op{op("b", nil, 3)}, apierrors.IsNotFound, `configmaps "b" not found`},
		"delete blind":     {[]core.Op{op("a", nil, 0)}, apierrors.IsBadRequest, `delete configmaps "ns/a": the resourceVersion to delete is required`},
		"other name":       {[]core.Op{op("b", configMap("ns", "c", "2"), 0)}, apierrors.IsBadRequest, `keep configmaps "ns/b": the object calls itself configmaps "ns/c"`},
		"twice":            {[]core.Op{op("b", configMap("ns", "b", ""), 0), op("b", configMap("ns", "b", ""), 0)}, apierrors.IsBadRequest, `commit: configmaps "ns/b" is changed twice`},
		"too large": {[]core.Op{op("big", big, 0)}, apierrors.IsRequestEntityTooLargeError,
			`Request entity too large: configmaps "ns/big" has 1572948 bytes, at most 1572864 are allowed`},
		"all or nothing": {[]core.Op{op("new", configMap("ns", "new", ""), 0), op("a", nil, a+1)}, apierrors.IsConflict, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := s.Commit(t.Context(), s.Epoch(), tc.ops)
			if !tc.is(err) || tc.text != "" && err.Error() != tc.text {
				t.Errorf("got %v, want %s", err, tc.text)
			}
		})
	}
	if n := s.Snapshot().Count(core.ConfigMaps); n != 1 {
		t.Errorf("%d config maps, want 1", n)
	}
	if _, ok := s.Latest(mapKey("ns", "new")); ok {
		t.Error("a refused commit left something behind")
	}
}

func TestWatch(t *testing.T) {
	s, _ := newDisk().open(t)
	from := s.Snapshot().Revision()
	all, err := s.Watch(core.ConfigMaps, "", from)
	if err != nil {
		t.Fatal(err)
	}
	one, err := s.Watch(core.ConfigMaps, "one", from)
	if err != nil {
		t.Fatal(err)
	}
	a := put(t, s, configMap("one", "a", "1"), 0)
	put(t, s, configMap("two", "a", "1"), 0)
	put(t, s, configMap("one", "a", "2"), core.Revision(a))
	wantChanges(t, all, "one/a=1 two/a=1 one/a=2")
	wantChanges(t, one, "one/a=1 one/a=2")
	last := put(t, s, configMap("two", "b", "1"), 0)
	if got := one.Revision(); got != core.Revision(last) {
		t.Errorf("bookmark %d, want %d", got, core.Revision(last))
	}
	if got := all.Revision(); got >= core.Revision(last) {
		t.Errorf("bookmark %d before the change %d was read", got, core.Revision(last))
	}
	one.Close()
	if _, err := one.Next(t.Context()); err == nil {
		t.Error("a closed watch returned no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	wantChanges(t, all, "two/b=1")
	if _, err := all.Next(ctx); err == nil {
		t.Error("a watch whose context ended returned no error")
	}
}

// wantChanges reads as many changes as want has words.
func wantChanges(t testing.TB, w core.Watch, want string) []core.Change {
	t.Helper()
	var got string
	var all []core.Change
	for len(got) < len(want) {
		changes, err := w.Next(t.Context())
		if err != nil {
			t.Fatalf("after %q: %v, want %q", got, err, want)
		}
		for _, c := range changes {
			if got != "" {
				got += " "
			}
			if c.Deleted {
				got += "-"
			}
			got += c.Key.Namespace + "/" + c.Key.Name
			if m, ok := c.Object.(*corev1.ConfigMap); ok && !c.Deleted {
				got += "=" + m.Data["value"]
			}
			if core.Revision(c.Object) != c.Revision {
				t.Errorf("%s: resourceVersion %s, revision %d", c.Key, c.Object.GetResourceVersion(), c.Revision)
			}
		}
		all = append(all, changes...)
	}
	if got != want {
		t.Fatalf("watched %q, want %q", got, want)
	}
	return all
}

func TestSnapshotIsImmutableAndOrdered(t *testing.T) {
	s, _ := newDisk().open(t)
	for i := range 200 {
		put(t, s, configMap(fmt.Sprintf("ns%d", i%3), fmt.Sprintf("m%03d", i), "1"), 0)
	}
	v := s.Snapshot()
	for key, o := range v.List(core.ConfigMaps, "") {
		if _, err := s.Commit(t.Context(), s.Epoch(), []core.Op{{Key: key, Expect: core.Revision(o)}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Snapshot().Count(core.ConfigMaps); n != 0 {
		t.Errorf("%d left, want none", n)
	}
	n, last := 0, core.Key{}
	for key := range v.List(core.ConfigMaps, "") {
		if n++; !last.Less(key) {
			t.Errorf("%s follows %s", key, last)
		}
		last = key
	}
	if n != 200 || v.Count(core.ConfigMaps) != 200 {
		t.Errorf("the old snapshot lists %d, want 200", n)
	}
	n = 0
	for key := range v.List(core.ConfigMaps, "ns1") {
		if n++; key.Namespace != "ns1" {
			t.Errorf("%s in ns1", key)
		}
	}
	if n != 67 {
		t.Errorf("%d in ns1, want 67", n)
	}
}

// silent is for tests that provoke warnings by the thousand.
func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }
