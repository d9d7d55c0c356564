package debug

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestServe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "debug", "test.sock")
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	counts := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "counted") })
	// Twice, since the first may leave its socket behind.
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		var tasks sync.WaitGroup
		tasks.Go(func() { Serve(ctx, socket, counts, log) })
		if text := get(t, socket, "/debug/pprof/goroutine?debug=1"); !strings.Contains(text, "goroutine profile: total") {
			t.Errorf("got %.80q", text)
		}
		if text := get(t, socket, "/metrics"); text != "counted" {
			t.Errorf("metrics: got %.80q", text)
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", info, err)
		}
		cancel()
		tasks.Wait()
	}
}

func TestServeNowhere(t *testing.T) {
	var logged strings.Builder
	Serve(t.Context(), filepath.Join(t.TempDir(), strings.Repeat("long", 40)), nil, slog.New(slog.NewTextHandler(&logged, nil)))
	if !strings.Contains(logged.String(), "profiles are not served") {
		t.Errorf("logged %q", logged.String())
	}
}

// get asks a server that may not listen yet.
func get(t *testing.T, socket, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		for {
			conn, err := dialer.DialContext(ctx, "unix", socket)
			if err == nil || ctx.Err() != nil {
				return conn, err
			}
			time.Sleep(time.Millisecond)
		}
	}}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://weft"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
