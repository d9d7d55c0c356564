package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/engine"
	"github.com/weftrun/weft/wasm/wasmtest"
)

// writerVariable has the test binary compile a module over and over, into the
// folder that it names, until it is killed.
const writerVariable = "WEFT_ENGINE_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerVariable); dir != "" {
		if err := writeForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func writeForEver(dir string) error {
	ctx := context.Background()
	path := filepath.Join(dir, "medium.wasm")
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	e, err := engine.New(ctx, engine.Config{CacheDir: filepath.Join(dir, "cache"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	for {
		if err := e.Compile(ctx, wasmtest.Digest(content), path); err != nil {
			return err
		}
		fmt.Println("compiled")
		for _, entry := range entries(dir) {
			if err := os.Remove(entry); err != nil {
				return err
			}
		}
	}
}

// entries are the files of compiled code in the cache of dir.
func entries(dir string) []string {
	all, _ := filepath.Glob(filepath.Join(dir, "cache", "v8", "wazero-*", "*"))
	return all
}

// medium is a module with too many locals to be compiled in passing, though
// that takes milliseconds. It exits with the code 3.
func medium(tb testing.TB, dir string, variant byte) (digest, path string) {
	tb.Helper()
	module := []byte("\x00asm\x01\x00\x00\x00" +
		"\x01\x08\x02\x60\x01\x7f\x00\x60\x00\x00" + // types
		"\x02\x24\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x00" +
		"\x03\x02\x01\x01" +
		"\x07\x0a\x01\x06_start\x00\x01" +
		// 10,001 locals
		"\x0a\x0b\x01\x09\x01\x91\x4e\x7f\x41\x03\x10\x00\x0b" +
		"\x00\x03\x01v")
	module = append(module, variant)
	path = filepath.Join(dir, "medium.wasm")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		tb.Fatal(err)
	}
	return wasmtest.Digest(module), path
}

// openLogged is open with what it logs.
func openLogged(t *testing.T, c engine.Config) (*engine.Engine, func() string) {
	t.Helper()
	var mu sync.Mutex
	var log bytes.Buffer
	c.Logger = slog.New(slog.NewTextHandler(writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(b)
	}), nil))
	e, err := engine.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return e, func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func runs(t *testing.T, e *engine.Engine, m wasm.Module) {
	t.Helper()
	s := sandbox(t, e, "s")
	if got := wait(t, start(t, s, m, wasm.Program{})); got.Code != 3 {
		t.Errorf("it ended with %+v, want the code 3", got)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is compiled by one engine is loaded by another.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	digest, path := medium(t, dir, 0)
	c := engine.Config{CacheDir: filepath.Join(dir, "cache")}
	e, _ := openLogged(t, c)
	if _, err := e.PrepareCompiled(t.Context(), digest, path); !errors.Is(err, wasm.ErrNotCompiled) {
		t.Fatalf("prepare what is not compiled: %v", err)
	}
	other, _ := openLogged(t, c)
	if err := other.Compile(t.Context(), digest, path); err != nil {
		t.Fatal(err)
	}
	if got := entries(dir); len(got) != 1 {
		t.Fatalf("the store has %v", got)
	}
	m, err := e.PrepareCompiled(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	runs(t, e, m)
	// Small ones are not stored.
	small, at := wasmtest.WriteModule(t, "exit")
	if _, err := e.PrepareCompiled(t.Context(), small, at); err != nil {
		t.Error(err)
	}
	if err := e.Compile(t.Context(), small, at); err != nil || len(entries(dir)) != 1 {
		t.Errorf("compile a small module: %v, and the store has %v", err, entries(dir))
	}
}

// laborious leaves a module of 300 bytes, whose 30 loops have 500 locals.
func laborious(t *testing.T) (digest, path string) {
	t.Helper()
	body := append([]byte{1, 0xf4, 3, 0x7f}, bytes.Repeat([]byte{0x03, 0x40, 0x41, 0, 0x0d, 0, 0x0b}, 30)...)
	body = append(body, 0x0b)
	module := []byte("\x00asm\x01\x00\x00\x00" + "\x01\x04\x01\x60\x00\x00" + "\x03\x02\x01\x00" + "\x07\x0a\x01\x06_start\x00\x00" + "\x0a")
	module = binary.AppendUvarint(module, uint64(3+len(body)))
	module = append(binary.AppendUvarint(append(module, 1), uint64(len(body))), body...)
	path = filepath.Join(t.TempDir(), "laborious.wasm")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		t.Fatal(err)
	}
	return wasmtest.Digest(module), path
}

// Several workers make the same code as one.
func TestStoreWorkers(t *testing.T) {
	var code [2][]byte
	for n, workers := range []int{1, 3} {
		dir := t.TempDir()
		e := open(t, engine.Config{CacheDir: filepath.Join(dir, "cache"), Workers: workers})
		m := goModule(t, e, "pi")
		log := filepath.Join(dir, "0.log")
		if got := wait(t, start(t, sandbox(t, e, "s"), m, wasm.Program{Args: []string{"pi", "30"}, Log: wasm.Log{Path: log}})); got.Code != 0 {
			t.Errorf("made by %d workers, it ended with %+v", workers, got)
		}
		all := entries(dir)
		if len(all) != 1 {
			t.Fatalf("%d workers left %v", workers, all)
		}
		var err error
		if code[n], err = os.ReadFile(all[0]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(code[0], code[1]) {
		t.Error("the code is another one")
	}
}

// A few bytes that are hard to compile are not compiled where guests run.
func TestStoreLaborious(t *testing.T) {
	dir := t.TempDir()
	digest, path := laborious(t)
	e, _ := openLogged(t, engine.Config{CacheDir: filepath.Join(dir, "cache")})
	if _, err := e.PrepareCompiled(t.Context(), digest, path); !errors.Is(err, wasm.ErrNotCompiled) {
		t.Fatalf("prepare what is not compiled: %v", err)
	}
	if err := e.Compile(t.Context(), digest, path); err != nil || len(entries(dir)) != 1 {
		t.Fatalf("compile: %v, and the store has %v", err, entries(dir))
	}
	if _, err := e.PrepareCompiled(t.Context(), digest, path); err != nil {
		t.Error(err)
	}
}

// Whatever becomes of a file of the store, it is noticed, and compiled anew.
func TestStoreDamaged(t *testing.T) {
	dir := t.TempDir()
	digest, path := medium(t, dir, 0)
	c := engine.Config{CacheDir: filepath.Join(dir, "cache")}
	first, _ := openLogged(t, c)
	if err := first.Compile(t.Context(), digest, path); err != nil {
		t.Fatal(err)
	}
	entry := entries(dir)[0]
	good, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{
		"empty": {}, "half": good[:len(good)/2], "a byte short": good[:len(good)-1], "a byte long": append(bytes.Clone(good), 0),
		"a trailer alone": good[len(good)-112:], "zeros": make([]byte, len(good)),
	}
	for at := 0; at < len(good); at += max(len(good)/200, 1) {
		b := bytes.Clone(good)
		b[at] ^= 1 << (at % 8)
		damaged[fmt.Sprint("bit in byte ", at)] = b
	}
	for name, content := range damaged {
		if err := os.WriteFile(entry, content, 0o600); err != nil {
			t.Fatal(err)
		}
		e, log := openLogged(t, c)
		if _, err := e.PrepareCompiled(t.Context(), digest, path); !errors.Is(err, wasm.ErrNotCompiled) {
			t.Errorf("%s: prepare: %v", name, err)
		}
		if !strings.Contains(log(), "compiled code is damaged") {
			t.Errorf("%s: the log says %q", name, log())
		}
		m, err := e.Prepare(t.Context(), digest, path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "half" {
			runs(t, e, m)
		}
		if again, err := os.ReadFile(entry); err != nil || !bytes.Equal(again, good) {
			t.Errorf("%s: it was not compiled anew: %v", name, err)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder that takes nothing costs the store, and no module.
func TestStoreUnusable(t *testing.T) {
	dir := t.TempDir()
	digest, path := medium(t, dir, 0)
	if err := os.WriteFile(filepath.Join(dir, "cache"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e, log := openLogged(t, engine.Config{CacheDir: filepath.Join(dir, "cache")})
	m, err := e.PrepareCompiled(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	runs(t, e, m)
	if err := e.Compile(t.Context(), digest, path); !errors.Is(err, wasm.ErrNotCompiled) {
		t.Errorf("compile: %v", err)
	}
	if got := strings.Count(log(), "compiled code is not kept"); got != 1 {
		t.Errorf("it warned %d times: %s", got, log())
	}
}

// A disk that is full once the engine works is no harm either: all that wazero
// and we write goes to the stage, which is taken away here.
func TestStoreFull(t *testing.T) {
	dir := t.TempDir()
	digest, path := medium(t, dir, 0)
	e, log := openLogged(t, engine.Config{CacheDir: filepath.Join(dir, "cache")})
	stages, err := filepath.Glob(filepath.Join(dir, "cache", "v*", "stage-*", "wazero-*"))
	if err != nil || len(stages) != 1 {
		t.Fatalf("stages %v, %v", stages, err)
	}
	if err := os.RemoveAll(stages[0]); err != nil {
		t.Fatal(err)
	}
	if err := e.Compile(t.Context(), digest, path); !errors.Is(err, wasm.ErrNotCompiled) {
		t.Errorf("compile: %v", err)
	}
	m, err := e.Prepare(t.Context(), digest, path)
	if err != nil {
		t.Fatal(err)
	}
	runs(t, e, m)
	if got := strings.Count(log(), "compiled code is not kept"); got != 1 {
		t.Errorf("it warned %d times: %s", got, log())
	}
}

// The store stays within its bound, and what was used last stays longest.
func TestStoreBounded(t *testing.T) {
	dir := t.TempDir()
	c := engine.Config{CacheDir: filepath.Join(dir, "cache"), CacheBytes: 1}
	measure, _ := openLogged(t, c)
	digest, path := medium(t, dir, 0)
	if err := measure.Compile(t.Context(), digest, path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(entries(dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "cache", "v2", "wazero-v0", "old")
	if err := os.MkdirAll(filepath.Dir(old), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, make([]byte, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	c.CacheBytes = 3*info.Size() + info.Size()/2
	e, _ := openLogged(t, c)
	var all []string
	for n := range byte(5) {
		digest, path := medium(t, dir, n)
		if err := e.Compile(t.Context(), digest, path); err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(digest, "sha256:"))
		// Times of files are coarse: tell them apart.
		for i, name := range all {
			at := time.Now().Add(time.Duration(i-10) * time.Minute)
			if name == all[0] {
				at = time.Now() // it is used all the time
			}
			_ = os.Chtimes(filepath.Join(filepath.Dir(entries(dir)[0]), name), at, at) // it may be gone
		}
	}
	var left []string
	for _, entry := range entries(dir) {
		left = append(left, filepath.Base(entry))
	}
	if len(left) != 3 || !strings.Contains(strings.Join(left, " "), all[0]) || !strings.Contains(strings.Join(left, " "), all[4]) {
		t.Errorf("of %v it kept %v, want the first, which was used, and the last two", all, left)
	}
}

// Engines that share a folder may compile, load and remove at once.
func TestStoreShared(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for n := range 4 {
		e := open(t, engine.Config{CacheDir: filepath.Join(dir, "cache"), CacheBytes: 300 << 10, IdleModules: 1})
		own := t.TempDir()
		wg.Go(func() {
			for round := range 20 {
				digest, path := medium(t, own, byte(round+n)%6)
				m, err := e.Prepare(t.Context(), digest, path)
				if err != nil {
					t.Error(err)
					return
				}
				if round%5 == 0 {
					s := sandbox(t, e, fmt.Sprint(round))
					if got := wait(t, start(t, s, m, wasm.Program{})); got.Code != 3 {
						t.Errorf("it ended with %+v", got)
					}
				}
			}
		})
	}
	wg.Wait()
}

// A writer that is killed in the middle leaves nothing that hurts.
func TestStoreKilledWriter(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes")
	}
	dir := t.TempDir()
	digest, path := medium(t, dir, 0)
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerVariable+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + round {
			if !lines.Scan() {
				t.Fatalf("the writer ended: %v", cmd.Wait())
			}
		}
		time.Sleep(time.Duration(round*1700) * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		e, log := openLogged(t, engine.Config{CacheDir: filepath.Join(dir, "cache")})
		m, err := e.Prepare(t.Context(), digest, path)
		if err != nil {
			t.Fatal(err)
		}
		runs(t, e, m)
		if strings.Contains(log(), "damaged") {
			t.Errorf("a part of a file was to be seen: %s", log())
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The stages of the dead go, once they are old.
	stages, err := filepath.Glob(filepath.Join(dir, "cache", "v*", "stage-*"))
	if err != nil || len(stages) == 0 {
		t.Fatalf("stages %v, %v", stages, err)
	}
	long := time.Now().Add(-time.Hour)
	for _, stage := range stages {
		if err := os.Chtimes(stage, long, long); err != nil {
			t.Fatal(err)
		}
	}
	openLogged(t, engine.Config{CacheDir: filepath.Join(dir, "cache")})
	if left, err := filepath.Glob(filepath.Join(dir, "cache", "v*", "stage-*")); err != nil || len(left) != 1 {
		t.Errorf("stages %v are left, %v", left, err)
	}
}
