package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
)

// childCommand is the first argument of a process that takes one sample.
const childCommand = "guest"

// The ways to run a guest in a process of this program.
const (
	metered       = "metered"       // as the executor does
	stock         = "stock"         // wazero alone: what nobody can stop
	interruptible = "interruptible" // wazero's own way to stop a guest
)

// task is what a child does.
type task struct {
	Way     string // metered, stock or interruptible
	Module  string // file
	Cache   string // folder of compiled code; empty: none
	Args    []string
	Compile bool // compile the module and be done
}

// measured is what one process measured.
type measured struct {
	CPU    time.Duration // of all its threads, user and system
	Output string
}

// child takes one sample: it alone is what the process does, so that the
// system's count of the process's CPU time is the sample's. Running a guest does
// not count what came before, such as loading its compiled code.
func child(ctx context.Context, arg string, out io.Writer) error {
	var t task
	if err := json.Unmarshal([]byte(arg), &t); err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	folder, err := os.MkdirTemp("", "measure-guest-")
	if err != nil {
		return err
	}
	run := onStock
	if t.Way == metered {
		run = onEngine
	}
	s, err := run(ctx, t, folder)
	if err = errors.Join(err, os.RemoveAll(folder)); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(s)
}

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no way to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// onEngine takes a sample of wasm/engine.
func onEngine(ctx context.Context, t task, folder string) (s measured, err error) {
	content, err := os.ReadFile(t.Module)
	if err != nil {
		return s, err
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	e, err := engine.New(ctx, engine.Config{
		CacheDir: t.Cache, StoreSmall: true, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	if t.Compile && t.Cache == "" { // it is timed
		if err := warm(ctx, e, folder); err != nil {
			return s, err
		}
		debug.SetGCPercent(-1) // as on wazero alone
	}
	before := cpuTime()
	module, err := e.Prepare(ctx, digest, t.Module)
	if err != nil || t.Compile {
		s.CPU = cpuTime() - before
		return s, err
	}
	sandbox, err := e.OpenSandbox(ctx, wasm.SandboxConfig{ID: "measure"})
	if err != nil {
		return s, err
	}
	log := filepath.Join(folder, "log")
	before = cpuTime()
	instance, err := sandbox.Start(ctx, module, wasm.Program{ID: "guest", Args: t.Args, Log: wasm.Log{Path: log}})
	if err != nil {
		return s, err
	}
	exit, err := instance.Wait(ctx)
	if err != nil {
		return s, err
	}
	s.CPU = cpuTime() - before
	lines, err := os.ReadFile(log)
	if err != nil {
		return s, err
	}
	if exit.Reason != wasm.Exited || exit.Code != 0 {
		return s, fmt.Errorf("the guest ended with %d, %s: %s\n%s", exit.Code, exit.Reason, exit.Message, lines)
	}
	fields := strings.Fields(string(lines)) // time, stream, F, text
	if len(fields) > 0 {
		s.Output = fields[len(fields)-1]
	}
	return s, nil
}

// smallest is a module of one function, _start, which does nothing.
const smallest = "\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" +
	"\x07\x0a\x01\x06_start\x00\x00" + "\x0a\x04\x01\x02\x00\x0b"

// warm prepares a module, so that the engine has what it makes once for all: WASI,
// which on wazero alone is made beforehand as well.
func warm(ctx context.Context, e *engine.Engine, folder string) error {
	path := filepath.Join(folder, "smallest.wasm")
	if err := os.WriteFile(path, []byte(smallest), 0o600); err != nil {
		return err
	}
	_, err := e.Prepare(ctx, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(smallest))), path)
	return err
}

// onStock takes a sample of wazero alone. Nothing but the guest needs memory
// there, so Go's collector is off: it would wait for a guest that cannot be
// stopped, and make the others look better.
func onStock(ctx context.Context, t task, _ string) (s measured, err error) {
	debug.SetGCPercent(-1)
	content, err := os.ReadFile(t.Module)
	if err != nil {
		return s, err
	}
	// Without debug information, as the engine.
	rc := wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(false).WithCloseOnContextDone(t.Way == interruptible)
	if t.Cache != "" {
		cache, err := wazero.NewCompilationCacheWithDir(t.Cache)
		if err != nil {
			return s, err
		}
		rc = rc.WithCompilationCache(cache)
	}
	ctx, cancel := context.WithCancel(ctx) // else there is nothing to interrupt for
	defer cancel()
	rt := wazero.NewRuntimeWithConfig(ctx, rc)
	defer func() { err = errors.Join(err, rt.Close(ctx)) }()
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		return s, err
	}
	before := cpuTime()
	code, err := rt.CompileModule(ctx, content)
	if err != nil || t.Compile {
		s.CPU = cpuTime() - before
		return s, err
	}
	var out bytes.Buffer
	config := wazero.NewModuleConfig().WithArgs(t.Args...).WithStdout(&out).WithStderr(os.Stderr).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep()
	before = cpuTime()
	_, err = rt.InstantiateModule(ctx, code, config)
	s.CPU = cpuTime() - before
	s.Output = strings.TrimSpace(out.String())
	if exit, ok := errors.AsType[*sys.ExitError](err); ok && exit.ExitCode() == 0 {
		err = nil
	}
	return s, err
}
