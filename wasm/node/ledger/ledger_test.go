package ledger

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/weftrun/weft/core"
)

func pod(name, uid string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "m", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: "open sesame"}}}}},
	}
}

func keyOf(p *corev1.Pod) core.Key { return core.KeyFor(core.Pods, p) }

func seen(p *corev1.Pod, restarts int32) core.Observed {
	return core.Observed{Key: keyOf(p), UID: p.UID, Status: corev1.PodStatus{
		Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", RestartCount: restarts}},
	}}
}

// said collects what is logged.
type said struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *said) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(data)
}

func (s *said) want(t *testing.T, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.String(), text) {
		t.Errorf("%q was not said:\n%s", text, s)
	}
}

func open(t *testing.T, dir string) (*Ledger, *said) {
	t.Helper()
	s := &said{}
	l, err := Open(Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(s, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // most are closed
	return l, s
}

// reopen is what the next agent finds after a kill.
func reopen(t *testing.T, dir string) State {
	t.Helper()
	l, s := open(t, dir)
	defer func() { _ = l.Close() }() // only read
	if s.Len() > 0 {
		t.Errorf("opening said: %s", s)
	}
	return l.State()
}

func brief(s State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "known %v term %d", s.Known, s.Term)
	for key, o := range s.Objects {
		fmt.Fprintf(&b, " %s/%s", key.Name, o.GetUID())
		if seen, ok := s.Observed[o.GetUID()]; ok {
			fmt.Fprintf(&b, ":%d", seen.Status.ContainerStatuses[0].RestartCount)
			if seen.Gone {
				b.WriteString("gone")
			}
		}
	}
	if extra := len(s.Observed); extra > len(s.Objects) {
		fmt.Fprintf(&b, " %d observed", extra)
	}
	return b.String()
}

func TestWhatIsHandedOverSurvives(t *testing.T) {
	a, b, again := pod("a", "1"), pod("b", "2"), pod("a", "3")
	for name, tt := range map[string]struct {
		act  func(l *Ledger)
		want string
	}{
		"nothing":               {func(*Ledger) {}, "known false term 0"},
		"an empty set is known": {func(l *Ledger) { l.Reset(4, nil) }, "known true term 4"},
		"set": {func(l *Ledger) {
			l.Reset(4, nil)
			l.Set(keyOf(a), a)
		}, "known true term 4 a/1"},
		"unset": {func(l *Ledger) {
			l.Reset(4, map[core.Key]core.Object{keyOf(a): a, keyOf(b): b})
			l.Unset(keyOf(a), a.UID)
		}, "known true term 4 b/2"},
		"unset of one that was replaced": {func(l *Ledger) {
			l.Reset(4, map[core.Key]core.Object{keyOf(a): a})
			l.Set(keyOf(again), again)
			l.Unset(keyOf(a), a.UID)
		}, "known true term 4 a/3"},
		"observed": {func(l *Ledger) {
			l.Reset(4, map[core.Key]core.Object{keyOf(a): a})
			l.Observe(seen(a, 1))
			l.Observe(seen(a, 2))
		}, "known true term 4 a/1:2"},
		"observed of what is not desired": {func(l *Ledger) {
			l.Reset(4, map[core.Key]core.Object{keyOf(a): a})
			l.Observe(seen(b, 1))
			l.Observe(seen(again, 1))
		}, "known true term 4 a/1"},
		"a whole set keeps what was observed of it": {func(l *Ledger) {
			l.Reset(4, map[core.Key]core.Object{keyOf(a): a, keyOf(b): b})
			l.Observe(seen(a, 1))
			l.Observe(seen(b, 1))
			l.Reset(5, map[core.Key]core.Object{keyOf(a): a})
		}, "known true term 5 a/1:1"},
		"forgotten": {func(l *Ledger) {
			l.Reset(4, map[core.Key]core.Object{keyOf(a): a})
			if err := l.Forget(); err != nil {
				t.Error(err)
			}
		}, "known false term 4"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, _ := open(t, dir)
			tt.act(l) // and it is not closed: the agent is killed
			if diff := cmp.Diff(tt.want, brief(l.State())); diff != "" {
				t.Errorf("in memory: %s", diff)
			}
			for range 2 {
				if diff := cmp.Diff(tt.want, brief(reopen(t, dir))); diff != "" {
					t.Errorf("on the disk: %s", diff)
				}
			}
		})
	}
}

func TestObjectsComeBackWhole(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	a := pod("a", "1")
	l.Reset(1, nil)
	l.Set(keyOf(a), a)
	l.Observe(seen(a, 3))
	s := reopen(t, dir)
	if diff := cmp.Diff(core.Object(a), s.Objects[keyOf(a)]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(seen(a, 3), s.Observed["1"]); diff != "" {
		t.Error(diff)
	}
}

func TestNobodyElseReadsIt(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	a := pod("a", "1")
	l.Reset(1, map[core.Key]core.Object{keyOf(a): a})
	l.Set(keyOf(a), a)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v)", e.Name(), info.Mode(), err)
		}
		if data, _ := os.ReadFile(filepath.Join(dir, e.Name())); bytes.Contains(data, []byte("sesame")) {
			t.Errorf("%s tells the password", e.Name())
		}
	}
	if err := os.Chmod(filepath.Join(dir, keyName), 0o644); err != nil { //nolint:gosec // it must be refused
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}

// TestDamage changes a file of three pods in every way that a disk may.
func TestDamage(t *testing.T) {
	make3 := func(t *testing.T) (dir, path string, whole int) {
		dir = t.TempDir()
		l, _ := open(t, dir)
		l.Reset(1, map[core.Key]core.Object{})
		path = filepath.Join(dir, fileName)
		for i := range 3 {
			p := pod(fmt.Sprint("p", i), fmt.Sprint(i))
			l.Set(keyOf(p), p)
			if i == 1 {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				whole = int(info.Size())
			}
		}
		return dir, path, whole
	}
	for name, tt := range map[string]struct {
		spoil func(data []byte, whole int) []byte
		pods  int // 0: set aside
		says  string
	}{
		"torn in the last record":  {func(d []byte, _ int) []byte { return d[:len(d)-7] }, 2, "never written whole"},
		"torn in its length":       {func(d []byte, whole int) []byte { return d[:whole+2] }, 2, "never written whole"},
		"zeros at the end":         {func(d []byte, _ int) []byte { return append(d, make([]byte, 5000)...) }, 3, "never written whole"},
		"a bit of the last record": {func(d []byte, _ int) []byte { d[len(d)-9] ^= 1; return d }, 0, "record 4 does not open"},
		"a bit of another record":  {func(d []byte, whole int) []byte { d[whole-9] ^= 1; return d }, 0, "record 3 does not open"},
		"a bit of a length":        {func(d []byte, whole int) []byte { d[whole] ^= 0x80; return d }, 0, "record 4 has a length"},
		"a low bit of a length":    {func(d []byte, whole int) []byte { d[whole+2] ^= 0x40; return d }, 0, "record 4 has a length"},
		"a low bit of the first":   {func(d []byte, _ int) []byte { d[headerSize+2] ^= 0x80; return d }, 0, "record 0 has a length"},
		"a record left out":        {func(d []byte, whole int) []byte { return append(d[:whole:whole], d[whole+(len(d)-whole):]...) }, 2, ""},
		"the header":               {func(d []byte, _ int) []byte { d[3] ^= 1; return d }, 0, "header"},
		"another salt":             {func(d []byte, _ int) []byte { d[20] ^= 1; return d }, 0, "record 0 does not open"},
		"a newer format":           {func(d []byte, _ int) []byte { d[len(magic)] = 9; return d }, 0, "its format is 9"},
		"short":                    {func(d []byte, _ int) []byte { return d[:9] }, 0, "header is not whole"},
		"empty":                    {func([]byte, int) []byte { return []byte{} }, 0, "header is not whole"},
		"something else":           {func([]byte, int) []byte { return bytes.Repeat([]byte("noise"), 99) }, 0, "not that of a ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, path, whole := make3(t)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			spoilt := tt.spoil(bytes.Clone(data), whole)
			if err := os.WriteFile(path, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			l, s := open(t, dir)
			if n := len(l.State().Objects); n != tt.pods || l.State().Known != (tt.pods > 0) {
				t.Errorf("known %v, %d pods, want %d", l.State().Known, n, tt.pods)
			}
			if tt.says != "" {
				s.want(t, tt.says)
			}
			aside, err := os.ReadFile(filepath.Join(dir, damagedName))
			if tt.pods == 0 && (err != nil || !bytes.Equal(aside, spoilt)) {
				t.Errorf("it was not set aside as it was: %v", err)
			}
			l.Reset(2, map[core.Key]core.Object{})
			if got := brief(reopen(t, dir)); got != "known true term 2" {
				t.Errorf("afterwards: %s", got)
			}
		})
	}
}

func TestAnotherKey(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	l.Reset(1, nil)
	if err := os.Remove(filepath.Join(dir, keyName)); err != nil {
		t.Fatal(err)
	}
	after, s := open(t, dir)
	if after.State().Known {
		t.Error("it was read without its key")
	}
	s.want(t, "does not open")
}

// TestDiskTakesNoMore: what cannot be kept up to date is removed, and comes back
// when the disk does.
func TestDiskTakesNoMore(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, s := open(t, dir)
		l.Reset(1, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // the one result
		go func() { done <- l.Run(ctx) }()
		a := pod("a", "1")
		l.mu.Lock()
		_ = l.file.Close() // every write fails from now on
		l.mu.Unlock()
		l.Set(keyOf(a), a)
		if l.Err() == nil {
			t.Error("it does not tell")
		}
		s.want(t, "cannot be written")
		if _, err := os.Stat(filepath.Join(dir, fileName)); err == nil {
			t.Error("what is not true any more is still there")
		}
		if err := l.Sync(); err != nil {
			t.Errorf("nothing is there to be wrong: %v", err)
		}
		time.Sleep(10 * time.Second)
		if err := l.Err(); err != nil {
			t.Errorf("it was not mended: %v", err)
		}
		s.want(t, "can be written again")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := brief(reopen(t, dir)); got != "known true term 1 a/1" {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// TestForgetOnFullDisk: what was forgotten does not come back because no new
// file could be written.
func TestForgetOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	l, s := open(t, dir)
	a := pod("a", "1")
	l.Reset(4, map[core.Key]core.Object{keyOf(a): a})
	blocker := filepath.Join(dir, fileName+".new") // a folder, where the new file would be
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(); err != nil {
		t.Errorf("nothing is there to be wrong: %v", err)
	}
	s.want(t, "cannot be written")
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	if got := brief(reopen(t, dir)); got != "known false term 0" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestStale: where not even the file can be removed, nobody is told that all is
// well.
func TestStale(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	l, _ := open(t, dir)
	l.Reset(1, nil)
	if err := os.Chmod(dir, 0o500); err != nil { //nolint:gosec // a folder
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(dir, 0o700) }() //nolint:gosec // a folder
	l.mu.Lock()
	_ = l.file.Close() // every write fails from now on
	l.mu.Unlock()
	l.Unset(core.Key{Resource: "pods", Name: "x"}, "1")
	if err := l.Sync(); err == nil {
		t.Error("Sync says that all is well")
	}
}

// TestGrows: a ledger of few pods stays small however often they change.
func TestGrows(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := slog.New(slog.DiscardHandler)
		l, err := Open(Config{Dir: dir, Logger: s, Unsynced: true})
		if err != nil {
			t.Fatal(err)
		}
		l.Reset(1, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // the one result
		go func() { done <- l.Run(ctx) }()
		r := rand.New(rand.NewPCG(1, 2))
		largest := int64(0)
		for i := range 30_000 {
			p := pod(fmt.Sprint("p", r.IntN(20)), fmt.Sprint(i))
			l.Set(keyOf(p), p)
			if i%1000 == 0 {
				time.Sleep(2 * time.Second)
				info, err := os.Stat(filepath.Join(dir, fileName))
				if err != nil {
					t.Fatal(err)
				}
				largest = max(largest, info.Size())
			}
		}
		cancel()
		<-done
		if largest > slack+(1<<20) || largest < slack/2 {
			t.Errorf("it had up to %d bytes", largest)
		}
		want := brief(l.State())
		if len(l.State().Objects) != 20 {
			t.Errorf("it holds %s", want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got := reopen(t, dir); len(got.Objects) != 20 {
			t.Errorf("%d pods came back", len(got.Objects))
		}
	})
}

// TestConcurrent has many hand over and sync at once.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	l, _ := open(t, dir)
	l.Reset(1, nil)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			p := pod(fmt.Sprint("p", i), fmt.Sprint(i))
			for n := range int32(20) {
				l.Set(keyOf(p), p)
				l.Observe(seen(p, n))
				if err := l.Sync(); err != nil {
					t.Error(err)
				}
				if n%5 == 0 {
					l.mend()
				}
			}
		})
	}
	group.Wait()
	if got := reopen(t, dir); len(got.Objects) != 20 || len(got.Observed) != 20 {
		t.Errorf("%s", brief(got))
	}
}

func FuzzRead(f *testing.F) {
	secret := bytes.Repeat([]byte{7}, 32)
	header, salt := newHeader()
	seal, err := newSealer(secret, salt)
	if err != nil {
		f.Fatal(err)
	}
	r := record{kind: kindSet, key: keyOf(pod("a", "1")), uid: "1", data: []byte("x")}
	f.Add(seal.seal(header, r.appendTo(nil)))
	f.Add(header)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = read(secret, data, func(*record) error { return nil }) // must only not panic
	})
}

func FuzzRecord(f *testing.F) {
	p := pod("a", "1")
	data, err := core.Marshal(p)
	if err != nil {
		f.Fatal(err)
	}
	observed, err := observedRecord(seen(p, 1))
	if err != nil {
		f.Fatal(err)
	}
	for _, r := range []*record{
		{kind: kindSet, key: keyOf(p), uid: "1", data: data}, {kind: kindUnset, key: keyOf(p), uid: "1"},
		observed, {kind: kindTerm, term: 300}, {kind: kindWhole},
	} {
		f.Add(r.appendTo(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		again, err := parseRecord(r.appendTo(nil))
		if err != nil || again.key != r.key || again.uid != r.uid || again.term != r.term || !bytes.Equal(again.data, r.data) {
			t.Errorf("%+v became %+v (%v)", r, again, err)
		}
		s := newState()
		_ = s.apply(&r) // must only not panic
	})
}

func BenchmarkSet(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler), Unsynced: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }() // a temporary folder
	l.Reset(1, nil)
	p := pod("a", "1")
	b.ReportAllocs()
	for b.Loop() {
		l.Set(keyOf(p), p)
		l.Observe(seen(p, 1))
		if l.size > 64<<20 {
			l.mend()
		}
	}
}
