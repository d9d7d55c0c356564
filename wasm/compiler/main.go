package compiler

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/weftrun/weft/wasm"
)

// boot is the first line that a child reads.
type boot struct {
	MemoryBytes int64           `json:"memoryBytes"`
	Idle        time.Duration   `json:"idle"`
	Settings    json.RawMessage `json:"settings,omitempty"`
}

// job is each line after it.
type job struct {
	Digest string `json:"digest"`
	Path   string `json:"path"`
}

// answer is what a child says to a job.
type answer struct {
	Text string  `json:"text,omitempty"`
	Kind verdict `json:"kind,omitempty"`
}

// verdict is the sentinel that an error wraps.
type verdict string

const (
	invalid     verdict = "invalid"
	notCompiled verdict = "not-compiled"
)

func (v verdict) sentinel() error {
	switch v {
	case invalid:
		return wasm.ErrInvalidModule
	case notCompiled:
		return wasm.ErrNotCompiled
	}
	return nil
}

func answerTo(err error) answer {
	if err == nil {
		return answer{}
	}
	for _, v := range []verdict{invalid, notCompiled} {
		if errors.Is(err, v.sentinel()) {
			return answer{err.Error(), v}
		}
	}
	return answer{Text: err.Error()}
}

// remoteError is an error of a child's, which unwraps to its sentinel again.
type remoteError answer

func (e *remoteError) Error() string { return e.Text }

func (e *remoteError) Unwrap() error { return e.Kind.sentinel() }

// maxLine bounds a line, in bytes.
const maxLine = 1 << 20

// Compiler does the work in a child.
type Compiler interface {
	// Compile compiles the module in the file at path, and keeps the code for
	// others. Its errors are those of Pool.Compile.
	Compile(ctx context.Context, digest, path string) error
	Close(ctx context.Context) error
}

// MainConfig configures Main.
type MainConfig struct {
	// Input and Output are the parent's: standard input and output. Required.
	Input  io.Reader
	Output io.Writer
	// Open makes what compiles from the settings that the Pool was given.
	// Required.
	Open func(ctx context.Context, settings json.RawMessage) (Compiler, error)
	// Logger is required.
	Logger *slog.Logger
}

// Main is the child process. It works until ctx or its input ends, or until it
// was idle for as long as its parent said.
func Main(ctx context.Context, c MainConfig) error {
	if c.Input == nil || c.Output == nil || c.Open == nil || c.Logger == nil {
		return errors.New("compiler: Input, Output, Open and Logger are required")
	}
	// Nobody waits for the reader: a read of standard input cannot be ended.
	// What it reads goes with the process.
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(c.Input)
		s.Buffer(nil, maxLine)
		for s.Scan() {
			lines <- append([]byte(nil), s.Bytes()...)
		}
	}()
	var b boot
	first, ok := <-lines
	if err := json.Unmarshal(first, &b); !ok || err != nil || b.Idle <= 0 {
		return errors.New("read what to do from standard input: it is not what a node writes; a compiler is started by weft itself")
	}
	yield(c.Logger)
	bound(b.MemoryBytes, c.Logger)
	work, err := c.Open(ctx, b.Settings)
	if err != nil {
		return fmt.Errorf("open compiler: %w", err)
	}
	return errors.Join(serve(ctx, c, work, lines, b.Idle), work.Close(context.WithoutCancel(ctx)))
}

func serve(ctx context.Context, c MainConfig, work Compiler, lines <-chan []byte, idle time.Duration) error {
	out := json.NewEncoder(c.Output)
	// It was started for a job, which comes however late: to end before it would
	// look like a module that breaks its compiler.
	timer := time.NewTimer(idle)
	timer.Stop()
	defer timer.Stop()
	for {
		var line []byte
		var ok bool
		select {
		case line, ok = <-lines:
		case <-timer.C:
		case <-ctx.Done():
		}
		if !ok {
			return nil
		}
		var j job
		if err := json.Unmarshal(line, &j); err != nil {
			return fmt.Errorf("read job: %w", err)
		}
		if err := out.Encode(answerTo(work.Compile(ctx, j.Digest, j.Path))); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		debug.FreeOSMemory() // it may be idle now
		timer.Reset(idle)
	}
}
