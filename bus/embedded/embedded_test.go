package embedded_test

import (
	"log/slog"
	"testing"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/embedded"
	"github.com/weftrun/weft/bus/nats"
)

func start(t testing.TB, c embedded.Config) *embedded.Server {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Logger == nil {
		c.Logger = quiet()
	}
	s, err := embedded.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func connect(t testing.TB, s *embedded.Server, who bus.Identity) *nats.Conn {
	t.Helper()
	b, err := s.Connect(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestContract(t *testing.T) {
	bustest.Run(t, func(t *testing.T) func(bus.Identity) bus.Bus {
		s := start(t, embedded.Config{NoListen: true})
		return func(who bus.Identity) bus.Bus { return connect(t, s, who) }
	})
}
