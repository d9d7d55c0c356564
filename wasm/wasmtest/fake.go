package wasmtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weftrun/weft/wasm"
)

// Fake is a wasm.Runtime whose programs are scripts: its zero value is ready.
// It needs no files, and in a synctest bubble it takes no time. A digest that
// begins with "sha256:bad" is an invalid module; all others can be prepared.
//
// The script is the program's arguments, joined by spaces; an argument before
// the first of these words, the program's name, is passed over:
//
//	run 10s     go on for so long, as if asleep
//	run forever go on until it is killed
//	exit 7      end with that code
//	trap [WHY]  end by a trap; WHY is the last word of the script
//	oom         end because of its memory limit
//	log TEXT    write a line; TEXT is one word
//	fail start  could not be instantiated
//	limits      Start returns wasm.ErrLimits
//	graceful    from here on, Stop ends it at once with code 0
//	deaf        from here on, Stop ends it at once with code 143: it does not
//	            listen. Without this word it does, and goes on until it is killed
//
// A script that ends exits with code 0; one with other words traps and says so.
type Fake struct {
	// StartDelay is how long each Start takes. Optional, none.
	StartDelay time.Duration
	// CPU is what each instance uses of a core. Optional, none.
	CPU float64
	// Handlers are those that there are besides the usual one. Optional, none.
	Handlers []string

	mu        sync.Mutex
	sandboxes map[string]*fakeSandbox
	prepared  map[string]int
	started   int
}

var _ wasm.Runtime = (*Fake)(nil)

type fakeModule string

func (m fakeModule) Digest() string { return string(m) }
func (fakeModule) MinMemory() int64 { return 64 << 10 }

// Prepare implements wasm.Runtime. The file need not be there.
func (f *Fake) Prepare(ctx context.Context, digest, _ string) (wasm.Module, error) {
	if strings.HasPrefix(digest, "sha256:slow") { // as one that is compiled
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.prepared == nil {
		f.prepared = map[string]int{}
	}
	f.prepared[digest]++
	if strings.HasPrefix(digest, "sha256:bad") {
		return nil, fmt.Errorf("%w: the fake was told so by its digest", wasm.ErrInvalidModule)
	}
	return fakeModule(digest), nil
}

// Prepared returns how often that digest was asked for.
func (f *Fake) Prepared(digest string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.prepared[digest]
}

// Started returns how many instances were started in all.
func (f *Fake) Started() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started
}

// Running returns the sandboxes in which something runs, by ID, with the
// hostname that each was opened with first.
func (f *Fake) Running() map[string]string {
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.sandboxes))
	f.mu.Unlock()
	found := map[string]string{}
	for _, s := range all {
		if s.runs() {
			found[s.id] = s.hostname
		}
	}
	return found
}

func (s *fakeSandbox) runs() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.instances {
		select {
		case <-i.done:
		default:
			return true
		}
	}
	return false
}

// OpenSandbox implements wasm.Runtime.
func (f *Fake) OpenSandbox(_ context.Context, c wasm.SandboxConfig) (wasm.Sandbox, error) {
	if c.ID == "" {
		return nil, errors.New("open sandbox: ID is required")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sandboxes == nil {
		f.sandboxes = map[string]*fakeSandbox{}
	}
	s := f.sandboxes[c.ID]
	if s == nil {
		if c.Handler != "" && !slices.Contains(f.Handlers, c.Handler) {
			return nil, fmt.Errorf("open sandbox %s: %w: %s", c.ID, wasm.ErrHandler, c.Handler)
		}
		s = &fakeSandbox{fake: f, id: c.ID, hostname: c.Hostname, instances: map[string]*fakeInstance{}}
		f.sandboxes[c.ID] = s
	}
	return s, nil
}

// Sandboxes implements wasm.Runtime.
func (f *Fake) Sandboxes(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.sandboxes)), nil
}

// Usages implements wasm.Runtime.
func (f *Fake) Usages(ctx context.Context) (wasm.Usages, error) {
	u := wasm.Usages{Time: time.Now()}
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.sandboxes))
	f.mu.Unlock()
	for _, s := range all {
		instances, err := s.Instances(ctx)
		if err != nil {
			continue // it was closed meanwhile
		}
		for id, i := range instances {
			if _, over := i.(*fakeInstance).over(); over {
				continue
			}
			used, err := i.Usage(ctx)
			if err != nil {
				return u, err
			}
			u.Instances = append(u.Instances, wasm.InstanceUsage{Sandbox: s.id, ID: id, StartedAt: i.StartedAt(), Usage: used})
		}
	}
	return u, nil
}

// Lose ends everything as if the process had died: instances with reason Lost,
// sandboxes gone.
func (f *Fake) Lose() {
	f.mu.Lock()
	lost := slices.Collect(maps.Values(f.sandboxes))
	clear(f.sandboxes)
	f.mu.Unlock()
	for _, s := range lost {
		s.end(wasm.Exit{Reason: wasm.Lost, Code: 137, Message: "its executor process ended"})
	}
}

// Close closes all sandboxes and waits for their goroutines: call it at the end
// of a test, in a bubble above all.
func (f *Fake) Close() {
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.sandboxes))
	clear(f.sandboxes)
	f.mu.Unlock()
	for _, s := range all {
		s.end(killed)
	}
}

var killed = wasm.Exit{Reason: wasm.Killed, Code: 137}

type fakeSandbox struct {
	fake *Fake
	id   string
	wg   sync.WaitGroup

	hostname string

	mu        sync.Mutex
	instances map[string]*fakeInstance
	closed    bool
}

func (s *fakeSandbox) ID() string { return s.id }

func (s *fakeSandbox) Start(ctx context.Context, m wasm.Module, p wasm.Program) (wasm.Instance, error) {
	if _, ok := m.(fakeModule); !ok {
		return nil, errors.New("start: the module was prepared by another runtime")
	}
	if d := s.fake.StartDelay; d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	i := &fakeInstance{sandbox: s, program: p, started: time.Now(), stop: make(chan struct{}), done: make(chan struct{})}
	script := words(p.Args)
	if len(script) > 0 && script[0] == "limits" || p.Limits.MemoryBytes < 0 ||
		p.Limits.MemoryBytes > 0 && p.Limits.MemoryBytes < m.MinMemory() {
		return nil, fmt.Errorf("start %s: %w", p.ID, wasm.ErrLimits)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("start %s in sandbox %s: %w", p.ID, s.id, wasm.ErrGone)
	}
	if p.ID == "" {
		return nil, errors.New("start: ID is required")
	}
	if _, ok := s.instances[p.ID]; ok {
		return nil, fmt.Errorf("start %s in sandbox %s: an instance of that ID exists", p.ID, s.id)
	}
	s.instances[p.ID] = i
	s.fake.mu.Lock()
	s.fake.started++
	s.fake.mu.Unlock()
	for len(script) > 0 && (script[0] == "graceful" || script[0] == "deaf") {
		i.hears(script[0]) // before anybody can stop it
		script = script[1:]
	}
	s.wg.Go(func() { i.finish(i.run(script)) })
	return i, nil
}

func (s *fakeSandbox) Instances(context.Context) (map[string]wasm.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("sandbox %s: %w", s.id, wasm.ErrGone)
	}
	all := make(map[string]wasm.Instance, len(s.instances))
	for id, i := range s.instances {
		all[id] = i
	}
	return all, nil
}

func (s *fakeSandbox) Close(context.Context) error {
	s.fake.mu.Lock()
	if s.fake.sandboxes[s.id] == s {
		delete(s.fake.sandboxes, s.id)
	}
	s.fake.mu.Unlock()
	s.end(killed)
	return nil
}

func (s *fakeSandbox) end(exit wasm.Exit) {
	s.mu.Lock()
	s.closed = true
	all := slices.Collect(maps.Values(s.instances))
	s.mu.Unlock()
	for _, i := range all {
		i.finish(exit)
	}
	s.wg.Wait()
}

type fakeInstance struct {
	sandbox *fakeSandbox
	program wasm.Program
	started time.Time
	stop    chan struct{} // closed with done, for the script

	mu       sync.Mutex
	graceful bool
	deaf     bool
	ended    bool
	exit     wasm.Exit
	grace    *time.Timer
	deadline time.Time // of grace
	done     chan struct{}
}

// words returns the script, without the program's name.
func words(args []string) []string {
	w := strings.Fields(strings.Join(args, " "))
	if len(w) > 0 && !slices.Contains([]string{"run", "exit", "trap", "oom", "log", "fail", "limits", "graceful", "deaf"}, w[0]) {
		w = w[1:]
	}
	return w
}

// run carries the script out, until it ends or the instance does.
func (i *fakeInstance) run(script []string) wasm.Exit {
	for len(script) > 0 {
		word, rest := script[0], script[1:]
		arg := ""
		if word != "oom" && word != "graceful" && word != "deaf" && len(rest) > 0 {
			arg, rest = rest[0], rest[1:]
		}
		if exit, over := i.step(word, arg); over {
			return exit
		}
		script = rest
	}
	return wasm.Exit{Reason: wasm.Exited}
}

func (i *fakeInstance) step(word, arg string) (exit wasm.Exit, over bool) {
	switch word {
	case "run":
		d, err := time.ParseDuration(arg)
		if arg == "forever" {
			d, err = 1<<63-1, nil
		}
		if err != nil {
			return trapped("bad script: run " + arg), true
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return wasm.Exit{}, false
		case <-i.stop:
			return killed, true
		}
	case "exit":
		code, err := strconv.ParseInt(arg, 10, 32)
		if err != nil {
			return trapped("bad script: exit " + arg), true
		}
		return wasm.Exit{Reason: wasm.Exited, Code: int32(code)}, true
	case "trap":
		return trapped(strings.TrimSpace("unreachable " + arg)), true
	case "oom":
		return wasm.Exit{Reason: wasm.OutOfMemory, Code: 137, Message: "it needed more than its limit"}, true
	case "fail":
		return wasm.Exit{Reason: wasm.NotStarted, Code: 128, Message: "the fake was told to fail"}, true
	case "graceful", "deaf":
		i.hears(word)
		return wasm.Exit{}, false
	case "log":
		return i.log(arg)
	}
	return trapped("bad script: " + word), true
}

// hears sets how the instance takes a Stop.
func (i *fakeInstance) hears(word string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.graceful, i.deaf = word == "graceful", word == "deaf"
}

// log writes a line as wasm.Log describes it, if there is a file to write to.
func (i *fakeInstance) log(text string) (wasm.Exit, bool) {
	path := i.program.Log.Path
	if path == "" {
		return wasm.Exit{}, false
	}
	line := time.Now().UTC().Format(time.RFC3339Nano) + " stdout F " + text + "\n"
	err := os.MkdirAll(filepath.Dir(path), 0o750)
	if err == nil {
		err = appendTo(path, line)
	}
	if err != nil {
		return trapped("log: " + err.Error()), true
	}
	return wasm.Exit{}, false
}

func appendTo(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}

func trapped(message string) wasm.Exit {
	return wasm.Exit{Reason: wasm.Trapped, Code: 134, Message: message}
}

// finish ends the instance; only the first end counts.
func (i *fakeInstance) finish(exit wasm.Exit) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return
	}
	exit.StartedAt, exit.FinishedAt = i.started, time.Now()
	i.ended, i.exit = true, exit
	if i.grace != nil {
		i.grace.Stop()
	}
	close(i.stop)
	close(i.done)
}

func (i *fakeInstance) ID() string           { return i.program.ID }
func (i *fakeInstance) StartedAt() time.Time { return i.started }

func (i *fakeInstance) Wait(ctx context.Context) (wasm.Exit, error) {
	select {
	case <-i.done:
		return i.exit, nil
	default:
	}
	select {
	case <-i.done:
		return i.exit, nil
	case <-ctx.Done():
		return wasm.Exit{}, ctx.Err()
	}
}

func (i *fakeInstance) Stop(_ context.Context, grace time.Duration) error {
	i.mu.Lock()
	graceful, deaf := i.graceful, i.deaf
	i.mu.Unlock()
	switch {
	case grace <= 0:
		i.finish(killed)
	case graceful:
		i.finish(wasm.Exit{Reason: wasm.Exited})
	case deaf:
		i.finish(wasm.Exit{Reason: wasm.Killed, Code: 143})
	default:
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.ended {
			return nil
		}
		deadline := time.Now().Add(grace)
		if i.grace != nil && !deadline.Before(i.deadline) {
			return nil
		}
		if i.grace != nil {
			i.grace.Stop()
		}
		i.deadline = deadline
		i.grace = time.AfterFunc(grace, func() { i.finish(killed) })
	}
	return nil
}

func (i *fakeInstance) Kill(context.Context) error {
	i.finish(killed)
	return nil
}

// over tells until when it has run, and whether it has ended.
func (i *fakeInstance) over() (time.Time, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return i.exit.FinishedAt, true
	}
	return time.Now(), false
}

func (i *fakeInstance) Usage(context.Context) (wasm.Usage, error) {
	end, _ := i.over()
	return wasm.Usage{
		CPU:         time.Duration(float64(end.Sub(i.started)) * i.sandbox.fake.CPU),
		MemoryBytes: 64 << 10,
	}, nil
}

func (i *fakeInstance) Release(context.Context) error {
	select {
	case <-i.done:
	default:
		return fmt.Errorf("release instance %s: it still runs", i.program.ID)
	}
	i.sandbox.mu.Lock()
	defer i.sandbox.mu.Unlock()
	delete(i.sandbox.instances, i.program.ID)
	return nil
}
