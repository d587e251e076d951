package actors

import (
	"context"
	"time"
)

// Daemon is the control plane of one machine.
type Daemon struct{ opts Options }

// Open verifies and replays the journal, raises the epoch and starts the actors.
func Open(opts Options) (*Daemon, error) { return &Daemon{opts: opts}, nil }

// Start accepts a dataflow; it returns when that is journaled.
func (d *Daemon) Start(ctx context.Context, r StartRequest) error { return ErrClosed }

// Stop asks a dataflow to end.
func (d *Daemon) Stop(ctx context.Context, uuid string, r StopRequest) error { return ErrClosed }

// StopNode asks one node to end.
func (d *Daemon) StopNode(ctx context.Context, uuid, node string, grace time.Duration, force bool) error {
	return ErrClosed
}

// RestartNode asks one node to end and come back.
func (d *Daemon) RestartNode(ctx context.Context, uuid, node string, grace time.Duration) error {
	return ErrClosed
}

// Started waits until the start barrier of a dataflow was released, and returns false
// if it ended before that.
func (d *Daemon) Started(ctx context.Context, uuid string) (bool, error) { return false, ErrClosed }

// Wait waits until a dataflow has ended.
func (d *Daemon) Wait(ctx context.Context, uuid string) (Result, error) { return Result{}, ErrClosed }

// Dataflows lists all dataflows of the journal, the oldest first.
func (d *Daemon) Dataflows(ctx context.Context) ([]DataflowInfo, error) { return nil, ErrClosed }

// Nodes lists the nodes of a dataflow in file order.
func (d *Daemon) Nodes(ctx context.Context, uuid string) ([]NodeInfo, error) { return nil, ErrClosed }

// Close ends shims that have no live node, and the actors.
func (d *Daemon) Close(ctx context.Context) error { return nil }
