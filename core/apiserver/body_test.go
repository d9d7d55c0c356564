package apiserver

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestShortBody sends less than was announced, and then nothing.
func TestShortBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		listener := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		listener.conns <- far
		server := &httptest.Server{Listener: listener, Config: &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := readBody(w, r, 1<<20)
				if err == nil {
					t.Error("the body was taken")
					return
				}
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, err.Error()) // the client sees
			}),
		}}
		server.Start()
		defer server.Close()
		defer func() { _ = near.Close() }() // the server has closed it
		begin := time.Now()
		if _, err := io.WriteString(near, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(near) // until the server hangs up
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
			t.Errorf("answer %.200q, %v", answer, err)
		}
		if took := time.Since(begin); took > bodyTime+time.Second {
			t.Errorf("the answer took %s", took)
		}
	})
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
