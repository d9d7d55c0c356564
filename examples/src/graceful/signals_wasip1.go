package main

import "context"

// There are no signals in WASI.
func signals(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}
