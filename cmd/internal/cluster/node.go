package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/cmd/internal/debug"
	"github.com/weftrun/weft/cmd/internal/processors"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/nodelink"
	"github.com/weftrun/weft/wasm/image"
	"github.com/weftrun/weft/wasm/node"
	"github.com/weftrun/weft/wasm/node/ledger"
)

// RunNode runs a node's agent, and its executor in a process of its own, until
// ctx ends. With dieTogether the executor ends with this process however that
// ends; else it lives on for a while, for the next agent to find.
func RunNode(ctx context.Context, s *settings.Settings, log *slog.Logger, dieTogether bool) error {
	folder := Paths{s.Data}.Node(s.Node.Name)
	release, err := lockNode(folder)
	if err != nil {
		return err
	}
	defer release()
	dial, err := nodeDialer(s, log)
	if err != nil {
		return err
	}
	link, err := nodelink.DialLink(bus.Identity{Role: bus.RoleNode, Name: s.Node.Name}, dial, log.With("part", "link"))
	if err != nil {
		return err
	}
	defer func() { _ = link.Close() }() // it ends with the process
	memory, err := ledger.Open(ledger.Config{Dir: filepath.Join(folder, "ledger"), Logger: log.With("part", "ledger")})
	if err != nil {
		return err
	}
	defer func() { _ = memory.Close() }() // the disk has said so if it takes no more
	compiler, err := newCompiler(s, log)
	if err != nil {
		return err
	}
	cgroups, capped := openCgroups(s, folder, log)
	defer cgroups.Close()
	runtime, err := newExecutors(s, folder, cgroups, log, dieTogether, compiler.Compile)
	if err != nil {
		return err
	}
	images, err := image.New(image.Config{
		Folders: s.Node.ModulePath, ForbidAbsolute: !s.Node.AbsoluteFiles,
		CacheDir: filepath.Join(folder, "images"), Blob: link.Blob,
	})
	if err != nil {
		return err
	}
	registered, err := describeNode(s)
	if err != nil {
		return err
	}
	registered.Annotations = map[string]string{memoryAnnotation: capped}
	counts, timings := newNodeCounts()
	agent, err := node.New(node.Config{
		Node: registered, Link: link, Runtime: runtime, Images: images, Ledger: memory,
		Logs: filepath.Join(folder, "logs"), Timings: timings, Logger: log.With("part", "agent"),
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return compiler.Run(ctx) })
	group.Go(func() error { return runtime.Run(ctx) })
	group.Go(func() error { return memory.Run(ctx) })
	group.Go(func() error { return rest(ctx) })
	group.Go(func() error { return processors.Govern(ctx) })
	group.Go(func() error { return clockOf(counts, log).Run(ctx) })
	if s.DebugSockets {
		group.Go(func() error {
			debug.Serve(ctx, Paths{s.Data}.DebugSocket("node-"+s.Node.Name), counts, log)
			return nil
		})
	}
	group.Go(func() error { return runAgent(ctx, link, agent, log) })
	return group.Wait()
}

// abandonTime bounds how long a node that is none any more may take to stop its
// pods.
const abandonTime = 3 * time.Second

// runAgent runs the agent and its link to the core. If another process has
// become this node, or it is none any more, its pods must not run on here.
func runAgent(ctx context.Context, link *nodelink.Link, agent *node.Agent, log *slog.Logger) error {
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return link.Run(working) })
	group.Go(func() error { return agent.Run(working) })
	err := group.Wait()
	if errors.Is(err, nodelink.ErrSuperseded) || errors.Is(err, nodelink.ErrRemoved) {
		log.Warn("this process is not the node any more, its pods are stopped", "err", err)
		ctx, cancel := context.WithTimeout(ctx, abandonTime)
		defer cancel()
		if left := agent.Abandon(ctx); left != nil {
			log.Error("stop all pods", "err", left)
		}
	}
	return err
}

// describeNode is the node as it registers.
func describeNode(s *settings.Settings) (*corev1.Node, error) {
	taints, err := settings.ParseTaints(s.Node.Taints)
	if err != nil {
		return nil, fmt.Errorf("node.taints: %w", err)
	}
	cpu, errCPU := resource.ParseQuantity(s.Node.CPU)
	memory, errMemory := resource.ParseQuantity(s.Node.Memory)
	if err := errors.Join(errCPU, errMemory); err != nil {
		return nil, fmt.Errorf("node.cpu and node.memory: %w", err)
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory,
		corev1.ResourcePods: *resource.NewQuantity(int64(s.Node.Pods), resource.DecimalSI),
	}
	labels := map[string]string{
		corev1.LabelHostname: s.Node.Name, corev1.LabelOSStable: "wasi", corev1.LabelArchStable: "wasm",
	}
	maps.Copy(labels, s.Node.Labels)
	return &corev1.Node{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: s.Node.Name, Labels: labels},
		Spec:       corev1.NodeSpec{Taints: taints},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeInternalIP, Address: address()}, {Type: corev1.NodeHostName, Address: s.Node.Name},
			},
			Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse, Reason: "NodeHasSufficientMemory", Message: "the node has sufficient memory available"},
				{Type: corev1.NodeDiskPressure, Status: corev1.ConditionFalse, Reason: "NodeHasNoDiskPressure", Message: "the node has no disk pressure"},
				{Type: corev1.NodePIDPressure, Status: corev1.ConditionFalse, Reason: "NodeHasSufficientPID", Message: "guests have no processes"},
				{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "NodeReady", Message: "the node's agent and executor run"},
			},
			RuntimeHandlers: []corev1.NodeRuntimeHandler{
				{Name: "", Features: &corev1.NodeRuntimeHandlerFeatures{}},
				{Name: core.RuntimeClassDense, Features: &corev1.NodeRuntimeHandlerFeatures{}},
				{Name: core.RuntimeClassIsolated, Features: &corev1.NodeRuntimeHandlerFeatures{}},
			},
			NodeInfo: corev1.NodeSystemInfo{
				OperatingSystem: "wasi", Architecture: "wasm", OSImage: runtime.GOOS + "/" + runtime.GOARCH,
				KubeletVersion: Version, ContainerRuntimeVersion: "wazero://1.12",
			},
		},
	}, nil
}

// address is the machine's own in its network, or the loopback address.
func address() string {
	addresses, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
				return ip.IP.String()
			}
		}
	}
	return "127.0.0.1"
}

// Version is what nodes and the API tell of this build.
const Version = "v1.36.6+weft"
