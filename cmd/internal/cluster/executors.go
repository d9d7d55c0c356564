package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/weftrun/weft/cmd/internal/debug"
	"github.com/weftrun/weft/cmd/internal/processors"
	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/executor"
)

// memoryAnnotation of a node says what its executors may use together, or why
// the operating system does not bound it.
const memoryAnnotation = "weft.run/executor-memory"

// openCgroups makes the control group of a node's executors, nil if there is
// none, and says what caps their memory.
func openCgroups(s *settings.Settings, folder string, log *slog.Logger) (*executor.Cgroups, string) {
	if s.Node.ExecutorMemory == settings.NoMemoryCap {
		return nil, "not capped: the setting node.executor_memory says so"
	}
	limit := resource.MustParse(s.Node.ExecutorMemory) // was validated
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(folder)) // never fails
	cgroups, err := executor.OpenCgroups(executor.CgroupConfig{
		Parent: s.Node.ExecutorCgroup, Name: "weft-" + hex.EncodeToString(sum.Sum(nil)), MemoryBytes: limit.Value(),
	})
	if err != nil {
		log.Warn("memory of the executors is not capped by the operating system", "err", err)
		return nil, "not capped: " + err.Error()
	}
	return cgroups, limit.String()
}

// executorSettings reach the executor's process.
type executorSettings struct {
	codeSettings
	Debug string `json:"debug,omitempty"` // the socket for profiles; empty for none
}

func newExecutors(
	s *settings.Settings, folder string, cgroups *executor.Cgroups, log *slog.Logger, dieTogether bool,
	compile func(ctx context.Context, digest, path string) error,
) (*executor.Pool, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return executor.NewPool(executor.PoolConfig{
		Executors: s.Node.Executors, Slots: processors.Most(),
		Settings: func(name string) (json.RawMessage, error) {
			own := executorSettings{codeSettings: newCodeSettings(s)}
			if s.DebugSockets {
				own.Debug = Paths{s.Data}.DebugSocket(name + "-" + s.Node.Name)
			}
			encoded, err := json.Marshal(own)
			if err != nil {
				return nil, fmt.Errorf("encode executor settings: %w", err)
			}
			return encoded, nil
		},
		Executor: executor.Config{
			Command: []string{self, "executor"}, Dir: filepath.Join(folder, "executor"), DieWithParent: dieTogether, Compile: compile,
			// Not this process's own, which may hold secrets.
			Env:     []string{"TMPDIR=" + os.TempDir()},
			Cgroups: cgroups, Sandboxing: executor.Sandboxing{NoFilter: !s.Node.ExecutorFilter},
			Logger: log.With("part", "executor"),
		},
	})
}

// RunExecutor is the executor's process: it runs guests for the agent that
// started it.
func RunExecutor(ctx context.Context, input io.Reader, log *slog.Logger) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks.Go(func() { _ = rest(ctx) }) // it never fails
	return executor.Main(ctx, executor.MainConfig{
		Input: input, Logger: log,
		Open: func(ctx context.Context, raw json.RawMessage) (executor.Runtime, error) {
			var own executorSettings
			if err := json.Unmarshal(raw, &own); err != nil {
				return nil, fmt.Errorf("decode executor settings: %w", err)
			}
			if own.Debug != "" {
				serve := debug.Listen(ctx, own.Debug, log) // later it could not
				tasks.Go(func() { serve(ctx) })
			}
			return engine.New(ctx, engine.Config{CacheDir: own.Compiled, CacheBytes: own.CompiledBytes, Logger: log})
		},
	})
}
