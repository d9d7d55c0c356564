//go:build !wasip1

package main

import (
	"context"
	"os/signal"
	"syscall"
)

func signals(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGTERM)
}
