package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// notifyStop ends the context at Ctrl-C or SIGTERM.
func notifyStop(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}
