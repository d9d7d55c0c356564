package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Front is where clients come in: it answers over TLS with whatever handler was
// set last, so that a core that stands by and then leads keeps its connections.
// Its methods may be called concurrently.
type Front struct {
	tls     *tls.Config
	log     *slog.Logger
	handler atomic.Pointer[http.Handler]
}

// NewFront returns a Front that serves nothing yet. config holds the server's
// certificate and the pool of client CAs; it is required.
func NewFront(config *tls.Config, log *slog.Logger) (*Front, error) {
	if config == nil {
		return nil, errors.New("serve API: TLS is required")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Front{tls: config.Clone(), log: log}, nil
}

// Answer sets who answers requests from now on. Those that another handler
// answers stay with it.
func (f *Front) Answer(h http.Handler) { f.handler.Store(&h) }

// Serve answers requests on l until ctx ends, and then lets those that run
// finish for up to 5 s. It closes l. It may be called once, after Answer.
func (f *Front) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*f.handler.Load()).ServeHTTP(w, r) }),
		TLSConfig:         f.tls,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          1000,
			MaxReceiveBufferPerConnection: 4 << 20,
			SendPingTimeout:               30 * time.Second,
		},
	}
	done := make(chan error, 1) // the one result of ServeTLS
	go func() { done <- server.ServeTLS(l, "", "") }()
	select {
	case err := <-done:
		return fmt.Errorf("serve API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = errors.Join(fmt.Errorf("drain API requests: %w", err), server.Close())
	}
	if served := <-done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve API: %w", served))
	}
	return err
}
