package registry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/registry/registrytest"
	"github.com/weftrun/weft/core/store"
)

// onStore runs f with a registry over the real store, whose log is in hub.
func onStore(t *testing.T, hub *memory.Hub, f func(*Registry)) {
	t.Helper()
	connection := hub.Connect(bus.Identity{Role: bus.RoleCore, Name: "a"})
	defer func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	}()
	log := func(name string) bus.Log {
		l, err := connection.OpenLog(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	key, err := store.NewKey(make([]byte, store.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	strategies := builtinAndDefinitions()
	s, err := store.Open(t.Context(), store.Config{
		Log: log("WAL"), Snapshots: log("SNAPSHOT"), Key: key, Durability: Durability(strategies), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Store: s, Strategies: strategies})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var storeErr, registryErr error
	running.Go(func() { storeErr = s.Run(ctx) })
	stopped := make(chan struct{})
	inner, stop := context.WithCancel(ctx)
	running.Go(func() { defer close(stopped); registryErr = r.Run(inner) })
	f(r)
	stop()
	<-stopped
	cancel()
	running.Wait()
	if storeErr != nil || registryErr != nil {
		t.Errorf("store: %v, registry: %v", storeErr, registryErr)
	}
}

// TestRealStore: what is written is there after a restart, custom kinds
// included, and concurrent writers lose nothing.
func TestRealStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		onStore(t, hub, func(r *Registry) {
			mustCreate(t, r, registrytest.Namespace("default"), core.WriteOptions{})
			mustCreate(t, r, configMap("a", map[string]string{"k": ""}), core.WriteOptions{FieldManager: "kubectl"})
			mustCreate(t, r, definition(t, siteDefinition), core.WriteOptions{})
			synctest.Wait()
			mustCreate(t, r, site(t, "spec: {host: a}"), core.WriteOptions{})
			var writers sync.WaitGroup
			for range 8 {
				writers.Go(func() {
					for range 10 {
						_, err := r.Mutate(t.Context(), configKey("a"), func(o core.Object) error {
							o.(*corev1.ConfigMap).Data["k"] += "x"
							return nil
						}, core.WriteOptions{})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			writers.Wait()
			for i := range 20 {
				mustCreate(t, r, configMap(fmt.Sprintf("c%d", i), nil), core.WriteOptions{})
			}
			object := configMap("held", nil)
			object.Finalizers = []string{"example.com/hold"}
			mustCreate(t, r, object, core.WriteOptions{})
			if _, live, err := r.Delete(t.Context(), configKey("held"), core.DeleteOptions{}); err != nil || !live {
				t.Errorf("live %v: %v", live, err)
			}
		})
		onStore(t, hub, func(r *Registry) {
			got, ok := r.Snapshot().Get(configKey("a"))
			if !ok || len(got.(*corev1.ConfigMap).Data["k"]) != 80 || len(got.GetManagedFields()) == 0 {
				t.Errorf("after a restart: %v", got)
			}
			if n := r.Snapshot().Count(core.ConfigMaps); n != 22 {
				t.Errorf("%d config maps, want 22", n)
			}
			host, err := r.Mutate(t.Context(), siteKey, func(o core.Object) error {
				return unstructured.SetNestedField(content(o), "b", "spec", "host")
			}, core.WriteOptions{})
			if err != nil || host.GetGeneration() != 2 {
				t.Errorf("a custom object after a restart: %v %v", host, err)
			}
			_, err = r.Mutate(t.Context(), configKey("held"), func(o core.Object) error { o.SetFinalizers(nil); return nil }, core.WriteOptions{})
			if err != nil {
				t.Error(err)
			}
			if _, ok := r.Snapshot().Get(configKey("held")); ok {
				t.Error("an object has outlived its last finalizer")
			}
			again, _ := r.Snapshot().Get(configKey("a"))
			same, err := r.Update(t.Context(), configKey("a"), core.Copy(again), core.WriteOptions{FieldManager: "kubectl"})
			if err != nil || same.GetResourceVersion() != again.GetResourceVersion() {
				t.Errorf("an update that says nothing was written: %v", err)
			}
			if stamp := again.GetCreationTimestamp(); stamp == (metav1.Time{}) || stamp.Nanosecond() != 0 {
				t.Errorf("created at %v", stamp)
			}
		})
	})
}

// TestRefusalsAreFirm: a refusal that rests on a write which is not committed
// is given when that is, and not if it never is.
func TestRefusalsAreFirm(t *testing.T) {
	for name, tt := range map[string]struct {
		first, second func(context.Context, *Registry) error
		want          func(error) bool
	}{
		"created twice": {createMap("b"), createMap("b"), apierrors.IsAlreadyExists},
		"deleted twice": {deleteMap("a"), deleteMap("a"), apierrors.IsNotFound},
		"changed after it was deleted": {deleteMap("a"), func(ctx context.Context, r *Registry) error {
			_, err := r.Mutate(ctx, configKey("a"), func(core.Object) error { return nil }, core.WriteOptions{})
			return err
		}, apierrors.IsNotFound},
		"updated from an old revision": {deleteMap("a"), func(ctx context.Context, r *Registry) error {
			object := configMap("a", nil)
			object.SetResourceVersion("1")
			_, err := r.Update(ctx, configKey("a"), object, core.WriteOptions{})
			return err
		}, apierrors.IsNotFound},
		"patched after it was deleted": {deleteMap("a"), func(ctx context.Context, r *Registry) error {
			_, err := r.Patch(ctx, configKey("a"), core.Patch{Type: types.MergePatchType, Data: []byte(`{}`)}, core.WriteOptions{})
			return err
		}, apierrors.IsNotFound},
		"created in a transaction": {createMap("b"), func(ctx context.Context, r *Registry) error {
			_, err := r.Transact(ctx, []core.Write{{Key: configKey("b"), Create: configMap("b", nil)}})
			return err
		}, apierrors.IsAlreadyExists},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := memory.New()
				onStore(t, hub, func(r *Registry) {
					mustCreate(t, r, registrytest.Namespace("default"), core.WriteOptions{})
					mustCreate(t, r, configMap("a", nil), core.WriteOptions{})
					hold := make(chan struct{})
					hub.OnAppend(func(context.Context, bus.Identity, string, []byte) memory.AppendFate {
						<-hold
						return memory.Store
					})
					var writing sync.WaitGroup
					writing.Go(func() {
						if err := tt.first(t.Context(), r); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
					hasty, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := tt.second(hasty, r); !apierrors.IsTimeout(err) {
						t.Errorf("while the first is not committed: %v", err)
					}
					close(hold)
					if err := tt.second(t.Context(), r); !tt.want(err) {
						t.Errorf("when it is: %v", err)
					}
					writing.Wait()
				})
			})
		})
	}
}

func createMap(name string) func(context.Context, *Registry) error {
	return func(ctx context.Context, r *Registry) error {
		_, err := r.Create(ctx, configMap(name, nil), core.WriteOptions{})
		return err
	}
}

func deleteMap(name string) func(context.Context, *Registry) error {
	return func(ctx context.Context, r *Registry) error {
		_, _, err := r.Delete(ctx, configKey(name), core.DeleteOptions{})
		return err
	}
}

// givenUp is a store that gives up, after each look at its latest state, what
// it showed there.
type givenUp struct {
	*registrytest.Store
	epoch uint64
}

func (s *givenUp) Latest(key core.Key) (core.Object, bool) {
	defer func() { s.epoch++ }()
	return s.Store.Latest(key)
}

func (s *givenUp) Epoch() uint64 { return s.epoch }

func (s *givenUp) Settled(_ context.Context, epoch uint64) error {
	if epoch != s.epoch {
		return apierrors.NewServiceUnavailable("given up")
	}
	return nil
}

// TestNothingToWriteOverGivenUp: a write that finds nothing to change must not
// be acknowledged for a state that is never committed.
func TestNothingToWriteOverGivenUp(t *testing.T) {
	set := func(o core.Object) error {
		o.(*corev1.ConfigMap).Data = map[string]string{"k": "1"}
		return nil
	}
	for name, write := range map[string]func(*Registry) error{
		"mutate": func(r *Registry) error {
			_, err := r.Mutate(t.Context(), configKey("a"), set, core.WriteOptions{})
			return err
		},
		"update": func(r *Registry) error {
			_, err := r.Update(t.Context(), configKey("a"), configMap("a", map[string]string{"k": "1"}), core.WriteOptions{})
			return err
		},
		"dry run": func(r *Registry) error {
			_, _, err := r.Delete(t.Context(), configKey("a"), core.DeleteOptions{DryRun: true})
			return err
		},
		"transaction": func(r *Registry) error {
			_, err := r.Transact(t.Context(), []core.Write{{Key: configKey("a"), Mutate: set}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &givenUp{Store: registrytest.NewStore()}
			r, err := New(Config{Store: s, Strategies: builtinAndDefinitions()})
			if err != nil {
				t.Fatal(err)
			}
			mustCreate(t, r, registrytest.Namespace("default"), core.WriteOptions{})
			mustCreate(t, r, configMap("a", map[string]string{"k": "1"}), core.WriteOptions{})
			if err := write(r); !apierrors.IsServiceUnavailable(err) {
				t.Errorf("%v, want unavailable", err)
			}
		})
	}
}
