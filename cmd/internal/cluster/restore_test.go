package cluster

import (
	"context"
	"errors"
	"log/slog"
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
