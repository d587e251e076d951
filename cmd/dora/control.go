package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/ws"
)

// listenControl opens a control socket that only this user may use.
func listenControl() (net.Listener, string, error) {
	path, err := folder.SocketPath()
	if err != nil {
		return nil, "", fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, "", fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, "", err
	}
	return l, path, nil
}

// dialRun connects to the control socket of a live run.
func dialRun(ctx context.Context, r *runRecord) (*ws.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := ws.Dial(ctx, ws.Target{Socket: r.Socket}, ws.HelloParams{Version: version, Role: "cli"})
	if err != nil {
		return nil, fmt.Errorf("dataflow %s runs (process %d), but its control socket does not answer: %w", r.UUID, r.PID, err)
	}
	return c, nil
}

// callRun makes one call to a live run.
func callRun(ctx context.Context, r *runRecord, method string, params, out any) error {
	c, err := dialRun(ctx, r)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return c.Call(ctx, method, params, out)
}
