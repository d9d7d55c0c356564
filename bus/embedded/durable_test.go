package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/embedded"
)

const childDir = "WEFT_TEST_APPENDER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, appendForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendForEver prints the sequence of each acknowledged append.
func appendForEver(dir string) error {
	ctx := context.Background()
	s, err := embedded.Start(ctx, embedded.Config{Dir: dir, NoListen: true, Logger: quiet()})
	if err != nil {
		return err
	}
	b, err := s.Connect(ctx, bustest.Core)
	if err != nil {
		return err
	}
	log, err := b.OpenLog(ctx, "WAL")
	if err != nil {
		return err
	}
	_, last, err := log.Bounds(ctx)
	if err != nil {
		return err
	}
	for {
		if last, err = log.Append(ctx, last, fmt.Append(nil, "record ", last+1)); err != nil {
			return err
		}
		if _, err := fmt.Println(last); err != nil {
			return err
		}
	}
}

func TestKilledServerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	var acknowledged uint64
	for range 3 {
		acknowledged = appendAndKill(t, dir, acknowledged)
	}
	s := start(t, embedded.Config{Dir: dir, NoListen: true})
	log, err := connect(t, s, bustest.Core).OpenLog(t.Context(), "WAL")
	if err != nil {
		t.Fatal(err)
	}
	var read uint64
	for r, err := range log.Read(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if read++; r.Sequence != read || string(r.Data) != fmt.Sprint("record ", read) {
			t.Fatalf("record %d is %d %q", read, r.Sequence, r.Data)
		}
	}
	if read < acknowledged {
		t.Fatalf("%d records of %d acknowledged are there", read, acknowledged)
	}
}

// appendAndKill lets a child append a few hundred records, kills it, and
// returns the last sequence that it reported.
func appendAndKill(t *testing.T, dir string, before uint64) uint64 {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	last := before
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil || n <= last {
			t.Fatalf("child says %q after %d", lines.Text(), last)
		}
		if last = n; last >= before+300 {
			// What it prints meanwhile is acknowledged as well.
			_ = child.Process.Kill()
		}
	}
	if err := child.Wait(); err == nil || last < before+300 {
		t.Fatalf("child ended with %v after %d", err, last)
	}
	return last
}

func TestStart(t *testing.T) {
	dir := t.TempDir()
	for range 2 { // new, and again
		begin := time.Now()
		s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		b := connect(t, s, bustest.Core)
		t.Logf("started in %s, connected after %s", took, time.Since(begin))
		state, err := b.SyncState(t.Context())
		if err != nil || state != "always" {
			t.Errorf("sync state %q, %v", state, err)
		}
		_ = b.Close()
		s.Shutdown()
	}
	err := filepath.WalkDir(filepath.Join(dir, "keys"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = fmt.Errorf("%s has mode %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTakenPort(t *testing.T) {
	first := start(t, embedded.Config{Port: embedded.DefaultPort}) // or a free one, if somebody else has it
	second := start(t, embedded.Config{Port: embedded.DefaultPort})
	if first.ClientURL() == second.ClientURL() {
		t.Errorf("both serve %s", first.ClientURL())
	}
	port, err := strconv.Atoi(second.ClientURL()[strings.LastIndex(second.ClientURL(), ":")+1:])
	if err != nil {
		t.Fatal(err)
	}
	if s, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Port: port, Logger: quiet()}); err == nil {
		s.Shutdown()
		t.Error("a taken port that is not the default is replaced")
	}
}

func TestDoneWhenRefused(t *testing.T) {
	s := start(t, embedded.Config{NoListen: true})
	b := connect(t, s, bustest.Node)
	select {
	case <-b.Done():
		t.Fatal("done")
	default:
	}
	s.Shutdown() // gone, but it may come back
	if err := b.Publish(t.Context(), bus.Message{Subject: bus.HeartbeatSubject(bustest.Node.Name)}); err != nil && !errors.Is(err, bus.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	select {
	case <-b.Done():
		t.Error("a broken connection that is being mended is gone")
	default:
	}
}
