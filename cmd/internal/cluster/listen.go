package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen listens on address; if it is the usual one and taken, on a free port.
func listen(ctx context.Context, address, usual string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) && address == usual {
		host, _, _ := net.SplitHostPort(address)
		l, err = config.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listen for the API: %w", err)
	}
	return l, nil
}
