package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/weftrun/weft/cmd/internal/settings"
	"github.com/weftrun/weft/wasm/compiler"
	"github.com/weftrun/weft/wasm/engine"
)

// codeSettings say where compiled code is kept, to executors and compilers.
type codeSettings struct {
	Compiled string `json:"compiled"`
	// CompiledBytes bounds that folder.
	CompiledBytes int64 `json:"compiledBytes,omitempty"`
}

func newCodeSettings(s *settings.Settings) codeSettings {
	limit := resource.MustParse(s.Node.CompiledLimit) // was validated
	return codeSettings{Compiled: Paths{s.Data}.Compiled(), CompiledBytes: limit.Value()}
}

// newCompiler returns what compiles modules for all executors of a node.
func newCompiler(s *settings.Settings, log *slog.Logger) (*compiler.Pool, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	own, err := json.Marshal(newCodeSettings(s))
	if err != nil {
		return nil, fmt.Errorf("encode compiler settings: %w", err)
	}
	return compiler.New(compiler.Config{
		Command: []string{self, "compiler"}, Settings: own,
		Env:    []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()},
		Logger: log.With("part", "compiler"),
	})
}

// RunCompiler is a compiler's process: it compiles modules for the node that
// started it.
func RunCompiler(ctx context.Context, input io.Reader, output io.Writer, log *slog.Logger) error {
	return compiler.Main(ctx, compiler.MainConfig{
		Input: input, Output: output, Logger: log,
		Open: func(ctx context.Context, raw json.RawMessage) (compiler.Compiler, error) {
			var own codeSettings
			if err := json.Unmarshal(raw, &own); err != nil {
				return nil, fmt.Errorf("decode compiler settings: %w", err)
			}
			return engine.New(ctx, engine.Config{
				CacheDir: own.Compiled, CacheBytes: own.CompiledBytes, Workers: runtime.GOMAXPROCS(0), Logger: log,
			})
		},
	})
}
