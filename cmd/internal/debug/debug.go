// Package debug serves profiles of a process, and what it counts, to those who may read its data
// folder. It must not listen on any network, since a profile tells much and
// costs much.
package debug

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"
)

// Serve serves the profiles of net/http/pprof, under /debug/pprof/, and what
// counts answers, if it is not nil, under /metrics, on a Unix socket until ctx
// ends. What keeps it from doing so is logged, and is no reason for a process
// to end.
func Serve(ctx context.Context, socket string, counts http.Handler, log *slog.Logger) {
	serving(ctx, socket, counts, log)(ctx)
}

// Listen opens the socket at once, and returns what serves profiles on it. It
// is for a process that can open none later.
func Listen(ctx context.Context, socket string, log *slog.Logger) (serve func(context.Context)) {
	return serving(ctx, socket, nil, log)
}

func serving(ctx context.Context, socket string, counts http.Handler, log *slog.Logger) (serve func(context.Context)) {
	listener, err := listen(ctx, socket)
	return func(ctx context.Context) {
		if err == nil {
			err = serveOn(ctx, listener, counts)
		}
		if err != nil {
			log.Warn("profiles are not served", "socket", socket, "err", err)
		}
	}
}

func listen(ctx context.Context, socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, fmt.Errorf("make folder for sockets: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err) // of a process that was killed
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

func serveOn(ctx context.Context, listener net.Listener, counts http.Handler) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	if counts != nil {
		mux.Handle("/metrics", counts)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // ends profiles under way
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
