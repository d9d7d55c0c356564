package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"k8s.io/client-go/tools/clientcmd"
)

// listen listens on address; if it is the usual one and taken, on a free port.
// Where the port is free to choose, the last one is taken again, so that
// clients from before find the server.
func listen(ctx context.Context, address, usual, last string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", again(ctx, address, usual, last))
	if errors.Is(err, syscall.EADDRINUSE) && address == usual {
		host, _, _ := net.SplitHostPort(address)
		l, err = config.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// again returns the address of last if address leaves the port open, is on the
// same host, and last's port is free; else address.
func again(ctx context.Context, address, usual, last string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || (port != "0" && address != usual) {
		return address
	}
	lastHost, lastPort, err := net.SplitHostPort(last)
	if err != nil || lastHost != host {
		return address
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, lastPort))
	if err != nil {
		return address
	}
	_ = l.Close() // whoever listens next says so if it is taken meanwhile
	return net.JoinHostPort(host, lastPort)
}

// lastNATS is where the embedded server listened the last time; empty if never.
func lastNATS(p Paths) string {
	data, err := os.ReadFile(p.NATSAddress())
	if err != nil {
		return ""
	}
	return hostPort(strings.TrimSpace(string(data)))
}

// lastAPI is where the API listened the last time; empty if never.
func lastAPI(p Paths) string {
	config, err := clientcmd.LoadFromFile(p.Kubeconfig())
	if err != nil {
		return ""
	}
	for _, c := range config.Clusters {
		return hostPort(c.Server)
	}
	return ""
}

func hostPort(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
