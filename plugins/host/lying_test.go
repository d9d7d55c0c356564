package host

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/plugins"
	"github.com/weftrun/weft/plugins/wire"
)

// liar serves the contract as a hostile plugin might.
type liar struct {
	wire.UnimplementedControllersServer
}

type liarBridge struct {
	goplugin.NetRPCUnsupportedPlugin
}

func (liarBridge) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	wire.RegisterControllersServer(s, liar{})
	return nil
}

func (liarBridge) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("it serves only")
}

func lyingMain() {
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: plugins.Handshake(),
		Plugins:         goplugin.PluginSet{plugins.ServiceName: liarBridge{}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(1<<30), grpc.MaxSendMsgSize(1<<30))...)
		},
	})
}

func (liar) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeResponse, error) {
	return &wire.DescribeResponse{
		Capabilities: []string{"protobuf", "cache", "more"},
		Controllers: []*wire.Description{{
			Name: "liar", Kind: &wire.Kind{Version: "v1", Kind: "ConfigMap", Resource: "configmaps"},
		}},
	}, nil
}

func (liar) Relate(_ context.Context, r *wire.RelateRequest) (*wire.RelateResponse, error) {
	parent, err := core.Unmarshal(r.GetParent().GetObject())
	if err != nil {
		return nil, err
	}
	switch parent.GetAnnotations()["do"] {
	case "relate missing":
		return &wire.RelateResponse{Missing: []string{"u"}}, nil
	case "relate nonsense":
		return &wire.RelateResponse{Relations: []*wire.Relation{{Resource: "pods", Selects: true, Selector: "a in ("}}}, nil
	}
	return &wire.RelateResponse{Relations: []*wire.Relation{{Resource: "secrets", Selects: true}}}, nil
}

func (liar) Decide(_ context.Context, r *wire.DecideRequest) (*wire.DecideResponse, error) {
	if len(r.GetParent().GetObject()) == 0 {
		return &wire.DecideResponse{Missing: []string{r.GetParent().GetUid()}}, nil
	}
	parent, err := core.Unmarshal(r.GetParent().GetObject())
	if err != nil {
		return nil, err
	}
	d := &wire.Decision{}
	switch parent.GetAnnotations()["do"] {
	case "100 MB":
		d.Memory = &wire.Memory{Data: make([]byte, 100<<20)}
	case "many parts":
		d.Create = make([][]byte, 1<<20)
	case "many parts within":
		d.Finalizers = &wire.Finalizers{Names: make([]string, 1<<20)}
	case "large object":
		d.Create = [][]byte{[]byte(`{"apiVersion":"v1","kind":"Pod","x":[` + strings.Repeat("{},", 2<<20) + `{}]}`)}
	case "deep object":
		d.Create = [][]byte{[]byte(strings.Repeat(`{"a":`, 1<<19) + "1" + strings.Repeat("}", 1<<19))}
	case "garbage":
		d.Update = [][]byte{append([]byte("k8s\x00"), bytes.Repeat([]byte{0xff}, 100)...)}
	case "a list":
		d.Create = [][]byte{[]byte(`{"apiVersion":"v1","kind":"List","items":[]}`)}
	case "long error":
		return &wire.DecideResponse{Error: strings.Repeat("no ", 1<<20)}, nil
	case "missing":
		return &wire.DecideResponse{Missing: []string{"u"}}, nil
	case "nothing":
		return &wire.DecideResponse{}, nil
	}
	return &wire.DecideResponse{Decision: d}, nil
}

// TestLyingPlugin asks a plugin that answers nonsense. Each answer becomes a
// short error about that one object, at a bounded cost, and the process, which
// has done its own memory the most harm, goes on.
func TestLyingPlugin(t *testing.T) {
	h := start(t, Config{Plugins: []Plugin{rolePlugin(t, "lying", "a")}, DecideTimeout: 20 * time.Second}, 1)
	controllers, _ := h.Controllers()
	cases := []struct{ do, want string }{
		{"100 MB", "larger than max"},
		{"many parts", "too many parts"},
		{"many parts within", "too many parts"},
		{"large object", "create[0]: an object of 6291497 bytes is too large"},
		{"deep object", "create[0]: decode object"},
		{"garbage", "update[0]: decode object"},
		{"a list", "create[0]: decode object"},
		{"long error", "no no no"},
		{"missing", "misses objects that it was just sent"},
		{"relate missing", "misses the object that it was sent"},
		{"relate nonsense", "relations[0].selector"},
		{"nothing", ""},
		{"", ""},
	}
	for _, tc := range cases {
		t.Run(tc.do, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p := parent(tc.do)
			relations := controllers[0].Relate(p)
			d, err := controllers[0].Decide(t.Context(), core.Observation{Now: time.Unix(1, 0), Parent: p})
			runtime.ReadMemStats(&after)
			if cost := after.TotalAlloc - before.TotalAlloc; cost > 400<<20 {
				t.Errorf("it cost %d MiB", cost>>20)
			}
			if tc.want == "" {
				if err != nil || len(d.Create)+len(d.Update) > 0 || len(relations) != 1 {
					t.Errorf("got %v, relations %v, error %v", d, relations, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %.300v, want %q", err, tc.want)
			}
			if len(err.Error()) > 10<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	if s := h.Status()[0]; s.Restarts != 0 {
		t.Errorf("the process was restarted %d times", s.Restarts)
	}
}
