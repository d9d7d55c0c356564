package main

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// proxy carries connections to an address, and can be told not to: what is sent
// then waits and never arrives, as on a network that has gone.
type proxy struct {
	listener net.Listener
	to       string
	carrying sync.WaitGroup

	// mu guards what follows.
	mu    sync.Mutex
	open  *sync.Cond // cut has changed
	cut   bool
	conns map[net.Conn]bool
}

func newProxy(to string) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is at once
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &proxy{listener: listener, to: to, conns: map[net.Conn]bool{}}
	p.open = sync.NewCond(&p.mu)
	p.carrying.Go(p.accept)
	return p, nil
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.carrying.Go(func() { p.carry(in) })
	}
}

// carry carries one connection.
func (p *proxy) carry(in net.Conn) {
	defer p.forget(in)
	p.keep(in)
	p.pass()
	out, err := net.Dial("tcp", p.to) //nolint:noctx // it is this machine
	if err != nil {
		return
	}
	defer p.forget(out)
	p.keep(out)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(gate{p, way[1]}, way[0]) // the end of one is the end of both
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

// gate lets nothing through while the proxy is cut.
type gate struct {
	p  *proxy
	to io.Writer
}

func (g gate) Write(data []byte) (int, error) {
	g.p.pass()
	return g.to.Write(data)
}

func (p *proxy) pass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cut {
		p.open.Wait()
	}
}

func (p *proxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

func (p *proxy) forget(c net.Conn) {
	_ = c.Close() // is over
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// setCut cuts, or mends: the connections that were cut break then.
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if !cut {
		for c := range p.conns {
			_ = c.Close() // it is made again
		}
	}
	p.open.Broadcast()
}

func (p *proxy) close() {
	_ = p.listener.Close() // is over
	p.setCut(false)
	p.carrying.Wait()
}
