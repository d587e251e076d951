package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// socketDir is the folder of control sockets: $XDG_RUNTIME_DIR/dora, else /run/dora if
// it is ours, else DORA_HOME/run. Names are short because a socket path has 107 bytes.
func socketDir() (string, error) {
	var dirs []string
	if x := os.Getenv("XDG_RUNTIME_DIR"); x != "" {
		dirs = append(dirs, filepath.Join(x, "dora"))
	}
	if os.Geteuid() == 0 {
		dirs = append(dirs, "/run/dora")
	}
	home, err := doraHome()
	if err != nil {
		return "", err
	}
	dirs = append(dirs, filepath.Join(home, "run"))
	for _, d := range dirs {
		if err = os.MkdirAll(d, 0o700); err == nil && len(d) < 80 {
			return d, nil
		}
	}
	return "", fmt.Errorf("no folder for control sockets: tried %v: %w\n  fix: set XDG_RUNTIME_DIR to a short path that you may write to", dirs, err)
}

// listenControl opens a control socket that only this user may use.
func listenControl() (net.Listener, string, error) {
	dir, err := socketDir()
	if err != nil {
		return nil, "", err
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	path := filepath.Join(dir, hex.EncodeToString(id[:]))
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
