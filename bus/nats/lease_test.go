package nats_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/bus/nats"
)

// TestRenewAfterLostAcknowledgement renews with a sequence that is one behind,
// as when the reply to a renewal was lost.
func TestRenewAfterLostAcknowledgement(t *testing.T) {
	dir := t.TempDir()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, NoListen: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	conn, err := s.Connect(t.Context(), bus.Identity{Role: bus.RoleCore, Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	held, err := conn.Acquire(t.Context(), "leader", "a", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	forget := nats.ForgetRenewal(held)
	if err := held.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	forget()
	if err := held.Renew(t.Context()); err != nil {
		t.Errorf("renew after a lost acknowledgement: %v", err)
	}
	if _, err := conn.Acquire(t.Context(), "leader", "a", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := held.Renew(t.Context()); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("renew what was acquired again: %v", err)
	}
}
