// Package plugintest checks controllers as the core would use them, without a
// cluster: every plugin's tests should call [Run]. It must not be imported by
// anything but tests.
package plugintest

import (
	"context"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins/wire"
)

// Run checks that controller keeps the contract of core.Controller: its
// description is complete; Relate and Decide answer the same when asked again,
// change nothing that they are given, and answer the same over the wire, where
// objects are encoded and cached. Give it observations that matter.
func Run(t *testing.T, controller core.Controller, observations ...core.Observation) {
	t.Helper()
	remote, descriptions := Remote(t, controller)
	t.Run("description", func(t *testing.T) {
		if diff := cmp.Diff(controller.Describe(), descriptions[0], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the description differs over the wire (-here +there):\n%s", diff)
		}
	})
	for _, seen := range observations {
		t.Run(seen.Parent.GetName(), func(t *testing.T) {
			before := clone(seen)
			first, err := controller.Decide(t.Context(), seen)
			again, errAgain := controller.Decide(t.Context(), clone(seen))
			sameError(t, "a second time", err, errAgain)
			same(t, "a second time", first, again)
			if diff := cmp.Diff(before, seen, options); diff != "" {
				t.Errorf("Decide changed what it was given:\n%s", diff)
			}
			for _, round := range []string{"over the wire", "over the wire from the cache"} {
				there, errThere := remote.Decide(t.Context(), controller.Describe().Name, seen)
				sameError(t, round, err, errThere)
				same(t, round, first, there)
			}
			relations, err := remote.Relate(t.Context(), controller.Describe().Name, seen.Parent)
			if err != nil {
				t.Fatalf("relate over the wire: %v", err)
			}
			if diff := cmp.Diff(controller.Relate(seen.Parent), relations, options); diff != "" {
				t.Errorf("Relate differs over the wire:\n%s", diff)
			}
		})
	}
}

// Remote serves controllers as a plugin process would, within this process,
// and returns the core's end.
func Remote(t *testing.T, controllers ...core.Controller) (*wire.Client, []core.Description) {
	t.Helper()
	server, err := wire.NewServer(controllers...)
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	s := grpc.NewServer(grpc.MaxRecvMsgSize(wire.MaxMessage), grpc.MaxSendMsgSize(wire.MaxMessage))
	wire.RegisterControllersServer(s, server)
	done := make(chan error, 1) // the one result
	go func() { done <- s.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(wire.MaxMessage), grpc.MaxCallSendMsgSize(wire.MaxMessage)))
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
	if (want == nil) != (got == nil) {
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
