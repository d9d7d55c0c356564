package embedded_test

import (
	"log/slog"
	"testing"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/embedded"
)

func start(t testing.TB, c embedded.Config) *embedded.Server {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := embedded.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func TestContract(t *testing.T) {
	bustest.Run(t, func(t *testing.T) func(bus.Identity) bus.Bus {
		s := start(t, embedded.Config{NoListen: true})
		return func(who bus.Identity) bus.Bus {
			b, err := s.Connect(t.Context(), who)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	})
}
