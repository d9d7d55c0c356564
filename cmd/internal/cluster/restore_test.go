package cluster

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/memory"
	"github.com/weftrun/weft/cmd/internal/settings"
)

// testRestore is a restore on a locked folder.
func testRestore(t *testing.T) *Restore {
	t.Helper()
	r := &Restore{Settings: &settings.Settings{Data: t.TempDir()}, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	release, err := lock(Paths{r.Settings.Data}.Core(), "a core")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return r
}

// TestRestoreAlone: no core leads while a restore works, and no restore works
// while a core leads.
func TestRestoreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := memory.New()
		core, r := testCandidate(t, hub, "the-core"), testRestore(t)
		leases := hub.Connect(bus.Identity{Role: bus.RoleCore, Name: "restore"})
		defer func() { _ = leases.Close() }()
		err := core.lead(t.Context(), func(context.Context, *leadership) error {
			return r.alone(t.Context(), leases, func(context.Context) error {
				t.Error("it restores under a leader")
				return nil
			})
		})
		for _, text := range []string{"the-core holds it", "stop all its cores"} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, want %q", err, text)
			}
		}
		core.keyless = errors.New("another leads")
		if err := r.alone(t.Context(), leases, func(context.Context) error {
			time.Sleep(time.Minute) // many renewals
			if err := core.lead(t.Context(), nil); !errors.Is(err, core.keyless) {
				t.Errorf("a core beside a restore: %v", err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if err := core.lead(t.Context(), func(context.Context, *leadership) error { return nil }); err != nil {
			t.Errorf("a core after a restore: %v", err)
		}
		// The lease of a core that was killed runs out.
		if _, err := hub.Connect(bus.Identity{Role: bus.RoleCore, Name: "killed"}).Acquire(t.Context(), leaseName, "killed", leaseTime); err != nil {
			t.Fatal(err)
		}
		if err := r.alone(t.Context(), leases, func(context.Context) error { return nil }); err != nil {
			t.Errorf("after a core that was killed: %v", err)
		}
		if err := r.alone(t.Context(), &frozen{leases, time.Now(), bus.ErrConflict}, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}); err == nil || !strings.Contains(err.Error(), "restore again") {
			t.Errorf("with a lease that is lost: %v", err)
		}
	})
}

// TestFinishRestore ends the move into place at each of its steps, and then
// what is left of the restore is dropped.
func TestFinishRestore(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, ended := range map[string]func(t *testing.T, folder string){
		"whole": func(*testing.T, string) {},
		"moved in part": func(t *testing.T, folder string) {
			m, err := readMoves(folder)
			if err == nil {
				err = replace(filepath.Join(folder, restoreFolder, restoreReady, "pki"), filepath.Join(folder, "pki"), filepath.Join(folder, m.Aside, "pki"), true)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"dropped in part": func(t *testing.T, folder string) {
			if err := finishRestore(folder, log); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(folder, restoreFolder, restoreReady), 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"done": func(t *testing.T, folder string) {
			if err := finishRestore(folder, log); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(folder, restoreFolder, restoreDone), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			ready := filepath.Join(folder, restoreFolder, restoreReady)
			for _, file := range []string{"pki/ca", "core/mark"} {
				write(t, filepath.Join(folder, file), "old")
			}
			write(t, filepath.Join(ready, "pki/ca"), "new")
			if err := writeMoves(ready, nil); err != nil {
				t.Fatal(err)
			}
			ended(t, folder)
			if err := finishRestore(folder, log); err != nil {
				t.Fatal(err)
			}
			wantFile(t, filepath.Join(folder, "pki/ca"), "new")
			for _, gone := range []string{"core/mark", restoreFolder} {
				if _, err := os.Stat(filepath.Join(folder, gone)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is there: %v", gone, err)
				}
			}
			asides, _ := filepath.Glob(filepath.Join(folder, "replaced-*"))
			if len(asides) != 1 {
				t.Fatalf("kept in %v", asides)
			}
			for _, file := range []string{"pki/ca", "core/mark"} {
				wantFile(t, filepath.Join(asides[0], file), "old")
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := writeSecret(path, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s has %q, want %q: %v", path, got, want, err)
	}
}
