package host

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/weftrun/weft/wasm"
)

// guest is a Guest with memory, whose functions a test calls itself.
type guest struct {
	*Guest
	tb   testing.TB
	mem  api.Memory
	kill context.CancelFunc
	// paused counts how often it gave up its slot.
	paused atomic.Int32
}

// memoryModule has a memory of 64 pages, and nothing else.
var memoryModule = []byte{
	0, 'a', 's', 'm', 1, 0, 0, 0,
	5, 4, 1, 0, 0xc0, 0,
	7, 10, 1, 6, 'm', 'e', 'm', 'o', 'r', 'y', 2, 0,
}

// memory returns the memory of a module that does nothing.
func memory(tb testing.TB) api.Memory {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context())
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	tb.Cleanup(func() { _ = rt.Close(ctx) })
	m, err := rt.Instantiate(ctx, memoryModule)
	if err != nil {
		tb.Fatal(err)
	}
	return m.Memory()
}

// discard is a log that never waits.
type discard struct{ io.Writer }

func (discard) TryWrite([]byte) bool { return true }

func newGuest(tb testing.TB, mem api.Memory, c Config) *guest {
	tb.Helper()
	w := &World{work: make(chan struct{}, maxWork)}
	c.Stdout, c.Stderr = discard{}, io.Discard
	ctx, cancel := context.WithCancel(context.Background())
	g := &guest{Guest: w.NewGuest(c), tb: tb, mem: mem, kill: cancel}
	g.Done = ctx.Done()
	g.Pause = func() { g.paused.Add(1) }
	g.Resume = func() {}
	if err := g.fill(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel()
		g.Close()
		w.Close()
		if n := w.open.Load(); n != 0 {
			tb.Errorf("%d files were left open", n)
		}
	})
	return g
}

// call calls a function of WASI. killed: it ended the guest.
func (g *guest) call(f function, p ...uint64) (e errno, killed bool) {
	defer func() {
		if r := recover(); r != nil {
			exit, ok := r.(*sys.ExitError)
			if !ok || exit.ExitCode() != sys.ExitCodeContextCanceled {
				panic(r)
			}
			killed = true
		}
	}()
	return f(g.Guest, g.mem, p), false
}

func (g *guest) want(want errno, f function, p ...uint64) {
	g.tb.Helper()
	if e, killed := g.call(f, p...); e != want || killed {
		g.tb.Errorf("got error %d, killed %v; want error %d", e, killed, want)
	}
}

// path puts a path into memory, and returns where and how long it is.
func (g *guest) path(at uint32, name string) (uint64, uint64) {
	g.mem.WriteString(at, name)
	return uint64(at), uint64(len(name))
}

// open opens a path for reading and writing below descriptor 3, to be created
// if how says so.
func (g *guest) open(name string, how, rights uint64) (uint64, errno) {
	g.tb.Helper()
	at, n := g.path(1<<16, name)
	e, killed := g.call(pathOpen, 3, lookupFollow, at, n, how, rights, 0, 0, 1<<15)
	if killed {
		g.tb.Error("killed")
	}
	fd, _ := g.mem.ReadUint32Le(1 << 15)
	return uint64(fd), e
}

const readWrite = uint64(rightFdRead | rightFdWrite)

// subscribe writes a subscription.
func (g *guest) subscribe(n int, kind byte, fdOrClock uint32, timeout uint64, flags uint16) {
	b, _ := g.mem.Read(uint32(n*subscriptionBytes), subscriptionBytes)
	clear(b)
	le.PutUint64(b, uint64(100+n))
	b[8] = kind
	le.PutUint32(b[16:], fdOrClock)
	le.PutUint64(b[24:], timeout)
	le.PutUint16(b[40:], flags)
}

type event struct {
	User uint64
	Err  errno
	Kind byte
}

const events = 1 << 14 // where in memory

func (g *guest) poll(n int) ([]event, errno, bool) {
	e, killed := g.call(pollOneoff, 0, events, uint64(n), events-8)
	if e != success || killed {
		return nil, e, killed
	}
	count, _ := g.mem.ReadUint32Le(events - 8)
	var all []event
	for i := range count {
		b, _ := g.mem.Read(events+i*eventBytes, eventBytes)
		all = append(all, event{le.Uint64(b), errno(le.Uint16(b[8:])), b[10]})
	}
	return all, success, false
}

var stoppable = Config{Env: []string{wasm.StopVariable + "=" + wasm.StopFile}}

func TestPoll(t *testing.T) {
	const clock, read, write = eventClock, eventFdRead, eventFdWrite
	type sub struct {
		kind    byte
		fd      uint32
		timeout time.Duration
		abs     uint16
	}
	wall := func() time.Duration { return time.Duration(time.Now().UnixNano()) }
	mono := func() time.Duration { return time.Since(origin) }
	mem := memory(t)
	for name, tc := range map[string]struct {
		subs func() []sub
		stop time.Duration // when it is asked to, 0: never
		kill time.Duration
		want []event
		err  errno
		took time.Duration
	}{
		"relative":      {subs: func() []sub { return []sub{{clock, clockMonotonic, time.Hour, 0}} }, want: []event{{100, 0, clock}}, took: time.Hour},
		"realtime":      {subs: func() []sub { return []sub{{clock, clockRealtime, time.Hour, 0}} }, want: []event{{100, 0, clock}}, took: time.Hour},
		"absolute":      {subs: func() []sub { return []sub{{clock, clockMonotonic, mono() + time.Hour, 1}} }, want: []event{{100, 0, clock}}, took: time.Hour},
		"absolute wall": {subs: func() []sub { return []sub{{clock, clockRealtime, wall() + time.Hour, 1}} }, want: []event{{100, 0, clock}}, took: time.Hour},
		"in the past":   {subs: func() []sub { return []sub{{clock, clockRealtime, 1, 1}} }, want: []event{{100, 0, clock}}},
		"nothing":       {subs: func() []sub { return []sub{{clock, clockMonotonic, 0, 0}} }, want: []event{{100, 0, clock}}},
		"the first of two": {
			subs: func() []sub {
				return []sub{{clock, clockMonotonic, time.Hour, 0}, {clock, clockMonotonic, time.Minute, 0}}
			},
			want: []event{{101, 0, clock}}, took: time.Minute,
		},
		"both": {
			subs: func() []sub {
				return []sub{{clock, clockMonotonic, time.Hour, 0}, {clock, clockRealtime, time.Hour, 0}}
			},
			want: []event{{100, 0, clock}, {101, 0, clock}}, took: time.Hour,
		},
		"streams": {
			subs: func() []sub {
				return []sub{{clock, clockMonotonic, time.Hour, 0}, {read, 0, 0, 0}, {write, 1, 0, 0}, {write, 2, 0, 0}}
			},
			want: []event{{101, 0, read}, {102, 0, write}, {103, 0, write}},
		},
		"wrong way":  {subs: func() []sub { return []sub{{read, 1, 0, 0}, {write, 0, 0, 0}} }, want: []event{{100, eBADF, read}, {101, eBADF, write}}},
		"no such fd": {subs: func() []sub { return []sub{{read, 77, 0, 0}} }, want: []event{{100, eBADF, read}}},
		"CPU clock":  {subs: func() []sub { return []sub{{clock, clockProcess, 1, 0}} }, want: []event{{100, eNOTSUP, clock}}},
		"no clock":   {subs: func() []sub { return []sub{{clock, 9, 1, 0}} }, err: eINVAL},
		"no flag":    {subs: func() []sub { return []sub{{clock, 1, 1, 2}} }, err: eINVAL},
		"no kind":    {subs: func() []sub { return []sub{{3, 1, 1, 0}} }, err: eINVAL},
		"none":       {subs: func() []sub { return nil }, err: eINVAL},
		"stop file":  {subs: func() []sub { return []sub{{read, 4, 0, 0}} }, stop: time.Minute, want: []event{{100, 0, read}}, took: time.Minute},
		"clock before stop": {
			subs: func() []sub { return []sub{{read, 4, 0, 0}, {clock, clockMonotonic, time.Second, 0}} },
			stop: time.Minute, want: []event{{101, 0, clock}}, took: time.Second,
		},
		"killed":         {subs: func() []sub { return []sub{{clock, clockMonotonic, time.Hour, 0}} }, kill: time.Second, took: time.Second},
		"killed at stop": {subs: func() []sub { return []sub{{read, 4, 0, 0}} }, kill: time.Second, took: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer func(real time.Time) { origin = real }(origin)
				origin = time.Now() // in the bubble
				g := newGuest(t, mem, stoppable)
				g.openStop(t)
				subs := tc.subs()
				for n, s := range subs {
					g.subscribe(n, s.kind, s.fd, uint64(s.timeout), s.abs)
				}
				if tc.stop > 0 {
					time.AfterFunc(tc.stop, func() { g.AskStop() })
				}
				if tc.kill > 0 {
					time.AfterFunc(tc.kill, g.kill)
				}
				begin := time.Now()
				got, e, killed := g.poll(len(subs))
				if e != tc.err || killed != (tc.kill > 0) {
					t.Errorf("got error %d, killed %v", e, killed)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(begin); took != tc.took {
					t.Errorf("it took %s, want %s", took, tc.took)
				}
				if waited := tc.took > 0; waited != (g.paused.Load() > 0) {
					t.Errorf("it gave up its slot %d times", g.paused.Load())
				}
				if g.Slept() < tc.took && tc.kill == 0 {
					t.Errorf("it is said to have slept for %s", g.Slept())
				}
			})
		})
	}
}

// openStop opens the stop file, as descriptor 4.
func (g *guest) openStop(t *testing.T) {
	t.Helper()
	at, n := g.path(1<<16, "stop")
	g.want(success, pathOpen, 3, 0, at, n, 0, uint64(rightFdRead), 0, 0, 1<<15)
	if fd, _ := g.mem.ReadUint32Le(1 << 15); fd != 4 {
		t.Fatalf("it is descriptor %d", fd)
	}
}

func TestStopFile(t *testing.T) {
	mem := memory(t)
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, mem, stoppable)
		g.openStop(t)
		mem.WriteUint64Le(64, 256|3<<32) // 3 bytes at 256
		g.want(success, fdFdstatSetFlags, 4, flagNonblock)
		g.want(eAGAIN, fdRead, 4, 64, 1, 128)
		g.want(success, fdFdstatSetFlags, 4, 0)
		time.AfterFunc(time.Minute, func() {
			if !g.AskStop() {
				t.Error("it does not listen")
			}
		})
		var text string
		for range 3 {
			g.want(success, fdRead, 4, 64, 1, 128)
			n, _ := mem.ReadUint32Le(128)
			b, _ := mem.Read(256, n)
			text += string(b)
		}
		if text != "TERM\n" {
			t.Errorf("it read %q", text)
		}
		g.want(success, fdClose, 4)
		if g.AskStop() {
			t.Error("it listens without the file")
		}
		for name, want := range map[string]errno{"other": eNOENT, "../x": eNOENT, "stop/": success, "/stop": ePERM} {
			at, n := g.path(1<<16, name)
			if e, _ := g.call(pathFilestatGet, 3, 0, at, n, 1<<12); e != want && name != "stop/" {
				t.Errorf("%s: error %d, want %d", name, e, want)
			}
		}
		at, n := g.path(1<<16, "new")
		g.want(eROFS, pathOpen, 3, 0, at, n, openCreate, readWrite, 0, 0, 1<<15)
		g.want(eROFS, pathCreateDirectory, 3, at, n)
		at, n = g.path(1<<16, "stop")
		g.want(eROFS, pathUnlinkFile, 3, at, n)
		g.want(eROFS, pathOpen, 3, 0, at, n, 0, uint64(rightFdWrite), 0, 0, 1<<15)
	})
}

// TestKilledAtRandom: gigabytes of randomness on one call.
func TestKilledAtRandom(t *testing.T) {
	g := newGuest(t, memory(t), Config{})
	g.kill()
	if _, killed := g.call(randomGet, 0, 64*65536); !killed {
		t.Error("it was not killed")
	}
	g = newGuest(t, memory(t), Config{})
	g.want(success, randomGet, 0, 64*65536)
	g.want(eFAULT, randomGet, 0, 64*65536+1)
}

// TestSpecialFiles: what would wait for ever, or do something, is not opened.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "device")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, memory(t), Config{Mounts: []wasm.Mount{{Host: dir, Guest: "/m"}}})
	for _, rights := range []uint64{uint64(rightFdRead), uint64(rightFdWrite), readWrite} {
		for name, want := range map[string]errno{"pipe": eACCES, "link": eACCES, "device": ePERM} {
			if _, e := g.open(name, 0, rights); e != want {
				t.Errorf("%s: error %d, want %d", name, e, want)
			}
		}
	}
}

// TestSwappedLinks: however others change the folder meanwhile, a guest does not
// get out of it.
func TestSwappedLinks(t *testing.T) {
	dir := t.TempDir()
	inside, outside := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for _, d := range []string{inside, outside, filepath.Join(inside, "a")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(inside, "b")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a, b, c := filepath.Join(inside, "a"), filepath.Join(inside, "b"), filepath.Join(inside, "c")
		for {
			select {
			case <-done:
				return
			default:
			}
			err := errors.Join(os.Rename(a, c), os.Rename(b, a), os.Rename(c, b))
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	g := newGuest(t, memory(t), Config{Mounts: []wasm.Mount{{Host: inside, Guest: "/m"}}})
	for range 2000 {
		if fd, e := g.open("a/file", openCreate, readWrite); e == success {
			g.want(success, fdClose, fd)
		}
		at, n := g.path(1<<16, "a/folder")
		_, _ = g.call(pathCreateDirectory, 3, at, n)
		at, n = g.path(1<<16, "a/../b/link")
		target, length := g.path(1<<17, "x")
		_, _ = g.call(pathSymlink, target, length, 3, at, n)
	}
	close(done)
	<-stopped
	left, err := os.ReadDir(outside)
	if err != nil || len(left) > 0 {
		t.Errorf("outside there is %v, %v", left, err)
	}
}

// TestAbandoned: a guest can be killed while a call of the operating system
// hangs, and what that opened is closed.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuest(t, nil, Config{})
		hangs := make(chan struct{})
		discarded := false
		time.AfterFunc(time.Minute, g.kill)
		begin := time.Now()
		f := func(g *Guest, _ api.Memory, _ []uint64) errno {
			return offload(g, func() errno { <-hangs; return success }, func(errno) { discarded = true })
		}
		if _, killed := g.call(f); !killed || time.Since(begin) != time.Minute {
			t.Errorf("killed %v after %s", killed, time.Since(begin))
		}
		if g.paused.Load() != 1 {
			t.Errorf("it gave up its slot %d times", g.paused.Load())
		}
		close(hangs)
		g.world.Close()
		if !discarded {
			t.Error("the result was kept")
		}
	})
}

func TestOpenFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	g := newGuest(t, memory(t), Config{Mounts: []wasm.Mount{{Host: dir, Guest: "/m"}}})
	for range maxOpen - len(g.table.entries) {
		if _, e := g.open("file", openCreate, readWrite); e != success {
			t.Fatalf("error %d", e)
		}
	}
	if _, e := g.open("file", openCreate, readWrite); e != eMFILE {
		t.Errorf("error %d", e)
	}
	g.want(success, fdClose, 100)
	if fd, e := g.open("file", 0, readWrite); e != success || fd != 100 {
		t.Errorf("descriptor %d, error %d", fd, e)
	}
}

func TestBadPaths(t *testing.T) {
	dir := t.TempDir()
	g := newGuest(t, memory(t), Config{Mounts: []wasm.Mount{{Host: dir, Guest: "/m"}, {Host: dir, Guest: "/ro", ReadOnly: true}}})
	long := make([]byte, maxPath+1)
	for i := range long {
		long[i] = 'a'
	}
	for name, want := range map[string]errno{
		"": eNOENT, "/etc": ePERM, "..": ePERM, "a/../..": eNOENT, "a\x00b": eINVAL, string(long): eNAMETOOLONG, "none/x": eNOENT,
	} {
		if _, e := g.open(name, 0, readWrite); e != want {
			t.Errorf("open %.20q: error %d, want %d", name, e, want)
		}
	}
	at, n := g.path(1<<16, "new")
	g.want(eFAULT, pathOpen, 3, 0, 1<<30, 10, openCreate, readWrite, 0, 0, 1<<15)
	g.want(eROFS, pathOpen, 4, 0, at, n, openCreate, readWrite, 0, 0, 1<<15)
	g.want(eROFS, pathCreateDirectory, 4, at, n)
	g.want(eNOTDIR, pathOpen, 1, 0, at, n, openCreate, readWrite, 0, 0, 1<<15)
	g.want(eBADF, pathOpen, 99, 0, at, n, openCreate, readWrite, 0, 0, 1<<15)
	g.want(eBUSY, pathRemoveDirectory, 3, at, func() uint64 { _, n := g.path(1<<16, "."); return n }())
}

func TestLeaves(t *testing.T) {
	for _, tc := range []struct {
		name, target string
		want         bool
	}{
		{"a", "b", false}, {"a", "..", true}, {"a/b", "..", false}, {"a/b", "../c", false}, {"a/b", "../../c", true},
		{"a/b/", "../../c", true}, {"a/../b", "../c", true}, {"a", "b/../../c", true}, {"a", "b/../c", false},
	} {
		if got := leaves(tc.name, tc.target); got != tc.want {
			t.Errorf("%s -> %s: %v", tc.name, tc.target, got)
		}
	}
}

func BenchmarkPollReady(b *testing.B) {
	g := newGuest(b, memory(b), stoppable)
	g.subscribe(0, eventClock, clockMonotonic, 0, 0)
	g.subscribe(1, eventFdRead, 3, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		g.want(success, pollOneoff, 0, events, 2, events-8)
	}
}

func BenchmarkPollSleep(b *testing.B) {
	g := newGuest(b, memory(b), Config{})
	g.subscribe(0, eventClock, clockMonotonic, 1000, 0)
	b.ReportAllocs()
	for b.Loop() {
		g.want(success, pollOneoff, 0, events, 1, events-8)
	}
}

func BenchmarkWrite(b *testing.B) {
	mem := memory(b)
	mem.WriteUint64Le(64, 256|80<<32) // 80 bytes at 256
	g := newGuest(b, mem, Config{Mounts: []wasm.Mount{{Host: b.TempDir(), Guest: "/m"}}})
	file, e := g.open("file", openCreate, readWrite)
	if e != success {
		b.Fatal(e)
	}
	for name, fd := range map[string]uint64{"log": 1, "log that may wait": 2, "file": file} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.want(success, fdWrite, fd, 64, 1, 128)
			}
		})
	}
	b.Run("bare file", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		for b.Loop() {
			if _, err := f.Write(make([]byte, 80)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
