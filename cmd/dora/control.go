package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/dora-go/dora/transport/ws"
)

// listenControl opens a control socket that only this user may use.
func listenControl(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// listenPatience is how long a run that was found may take until it listens: it does so
// when its shim is up, which takes milliseconds.
const listenPatience = 2 * time.Second

// errRunEnded: the run is over.
var errRunEnded = errors.New("the run has ended")

// dialRun connects to the control socket of a live run.
func dialRun(ctx context.Context, r *runRecord) (*ws.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := ws.Dial(ctx, ws.Target{Socket: r.Socket}, ws.HelloParams{Version: version, Role: "cli"})
		if err == nil {
			return c, nil
		}
		if fresh, readErr := readRunRecord(recordPath(r)); readErr == nil && !fresh.live {
			return nil, fmt.Errorf("dataflow %s: %w", r.UUID, errRunEnded)
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Since(begin) > listenPatience {
			return nil, fmt.Errorf("dataflow %s runs (process %d), but its control socket does not answer: %w", r.UUID, r.PID, err)
		}
	}
}

// callRun makes one call to a live run. ws.ErrLost: the run ended meanwhile.
func callRun(ctx context.Context, r *runRecord, method string, params, out any) error {
	c, err := dialRun(ctx, r)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Call(ctx, method, params, out)
}
