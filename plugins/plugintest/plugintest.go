// Package plugintest checks controllers as the core would use them, without a
// cluster: every plugin's tests should call [Run]. It must not be imported by
// anything but tests.
package plugintest

import (
	"context"
	"net"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins/wire"
)

// Run checks that controller keeps the contract of core.Controller: its
// description is complete; Relate and Decide answer the same when asked again,
// also by several at once, change nothing that they are given, and answer the
// same over the wire, where objects are encoded and cached; and what Decide
// answers is within what the description permits. Give it observations that
// matter; a test is named by its parent.
func Run(t *testing.T, controller core.Controller, observations ...core.Observation) {
	t.Helper()
	t.Run("description", func(t *testing.T) {
		_, descriptions := Remote(t, controller)
		if diff := cmp.Diff(controller.Describe(), descriptions[0], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the description differs over the wire (-here +there):\n%s", diff)
		}
	})
	for _, seen := range observations {
		t.Run(seen.Parent.GetName(), func(t *testing.T) {
			before := clone(seen)
			first, err := controller.Decide(t.Context(), seen)
			pure(t, controller, before, first, err)
			if diff := cmp.Diff(before, seen, options); diff != "" {
				t.Errorf("Decide changed what it was given:\n%s", diff)
			}
			permitted(t, controller.Describe(), &first)
			overWire(t, controller, seen, first, err)
		})
	}
}

// pure asks again, by several at once.
func pure(t *testing.T, controller core.Controller, seen core.Observation, first core.Decision, err error) {
	t.Helper()
	var answers [4]core.Decision
	var errs [4]error
	var wg sync.WaitGroup
	for i := range answers {
		own := clone(seen)
		wg.Go(func() { answers[i], errs[i] = controller.Decide(t.Context(), own) })
	}
	wg.Wait()
	for i := range answers {
		sameError(t, "a second time", err, errs[i])
		same(t, "a second time", first, answers[i])
	}
	if diff := cmp.Diff(controller.Relate(seen.Parent), controller.Relate(core.Copy(seen.Parent)), options); diff != "" {
		t.Errorf("Relate differs a second time:\n%s", diff)
	}
}

// permitted checks what the core refuses whatever it sees.
func permitted(t *testing.T, d core.Description, decision *core.Decision) {
	t.Helper()
	declared := func(gk schema.GroupKind) bool {
		return slices.ContainsFunc(d.Children, func(c core.Child) bool { return c.Kind.GroupKind() == gk })
	}
	for i, o := range slices.Concat(decision.Create, decision.Update) {
		if gk := o.GetObjectKind().GroupVersionKind().GroupKind(); !declared(gk) {
			t.Errorf("child %d is a %q, which is not among the described children", i, gk)
		}
	}
	for _, o := range decision.Create {
		if o.GetName() == "" && o.GetGenerateName() == "" || o.GetUID() != "" || o.GetResourceVersion() != "" {
			t.Errorf("created child %q: it must have a name or generateName, and no uid or resourceVersion", o.GetName())
		}
	}
	if decision.Status != nil && decision.Status.GetObjectKind().GroupVersionKind() != d.Kind {
		t.Errorf("the status is of a %s, not of the parent's kind %s", decision.Status.GetObjectKind().GroupVersionKind(), d.Kind)
	}
	for i, n := range decision.Events {
		if n.Reason == "" || n.Type != corev1.EventTypeNormal && n.Type != corev1.EventTypeWarning {
			t.Errorf("event %d: it must have a reason, and type Normal or Warning: %+v", i, n)
		}
	}
	if decision.RequeueAfter < 0 || len(decision.Memory) > 16<<10 {
		t.Errorf("requeueAfter %s must not be negative, and the memory of %d bytes not over 16 KiB", decision.RequeueAfter, len(decision.Memory))
	}
}

// overWire asks over a connection of its own: an observation is free to have
// the versions of another's objects.
func overWire(t *testing.T, controller core.Controller, seen core.Observation, first core.Decision, err error) {
	t.Helper()
	remote, descriptions := Remote(t, controller)
	name := descriptions[0].Name
	for _, round := range []string{"over the wire", "over the wire from the cache"} {
		there, errThere := remote.Decide(t.Context(), name, seen)
		sameError(t, round, err, errThere)
		same(t, round, first, there)
	}
	relations, err := remote.Relate(t.Context(), name, seen.Parent)
	if err != nil {
		t.Fatalf("relate over the wire: %v", err)
	}
	if diff := cmp.Diff(controller.Relate(seen.Parent), relations, options); diff != "" {
		t.Errorf("Relate differs over the wire:\n%s", diff)
	}
}

// Remote serves controllers as a plugin process would, within this process,
// and returns the core's end.
func Remote(t testing.TB, controllers ...core.Controller) (*wire.Client, []core.Description) {
	t.Helper()
	server, err := wire.NewServer(controllers...)
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	s := grpc.NewServer(wire.ServerOptions()...)
	wire.RegisterControllersServer(s, server)
	done := make(chan error, 1) // the one result
	go func() { done <- s.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		wire.CallOptions())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	client, descriptions, err := wire.Connect(t.Context(), wire.NewControllersClient(conn))
	if err != nil {
		t.Fatal(err)
	}
	return client, descriptions
}

var options = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b labels.Selector) bool {
		return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
	}),
	cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) }),
}

func same(t *testing.T, when string, want, got core.Decision) {
	t.Helper()
	if diff := cmp.Diff(normal(t, want), normal(t, got), options); diff != "" {
		t.Errorf("Decide differs %s (-first +then):\n%s", when, diff)
	}
}

func sameError(t *testing.T, when string, want, got error) {
	t.Helper()
	if (want == nil) != (got == nil) || (want != nil && want.Error() != got.Error()) {
		t.Errorf("Decide differs %s: first the error was %v, then %v", when, want, got)
	}
}

// normal encodes the decision's objects, since Go types hold differences that
// no one sees (nil and empty).
func normal(t *testing.T, d core.Decision) core.Decision {
	t.Helper()
	encode := func(o core.Object) core.Object {
		if o == nil || reflect.ValueOf(o).IsNil() {
			return nil
		}
		data, err := core.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := core.Unmarshal(data)
		if err != nil {
			t.Fatal(err)
		}
		return decoded
	}
	d.Status = encode(d.Status)
	d.Create, d.Update = encodeAll(d.Create, encode), encodeAll(d.Update, encode)
	return d
}

func encodeAll(objects []core.Object, encode func(core.Object) core.Object) []core.Object {
	var out []core.Object
	for _, o := range objects {
		out = append(out, encode(o))
	}
	return out
}

func clone(o core.Observation) core.Observation {
	o.Parent = core.Copy(o.Parent)
	o.Children = encodeAll(o.Children, core.Copy[core.Object])
	o.Related = encodeAll(o.Related, core.Copy[core.Object])
	return o
}
