package journal

import (
	"context"
	"fmt"
	"sync/atomic"
)

// request is one write on its way to the writer.
type request struct {
	appends []Append
	op      func() error // any other write, run by itself
	state   atomic.Int32 // see below
	done    chan error

	// Of all appends together.
	records, bytes int
	cost           int // as limits count
}

const (
	waiting int32 = iota
	taken
	withdrawn
)

// take claims the request for the writer.
func (r *request) take() bool { return r.state.CompareAndSwap(waiting, taken) }

func (j *Journal) submit(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.done = make(chan error, 1)
	if j.direct != nil {
		return j.submitDirect(r)
	}
	select {
	case <-j.closing:
		return fmt.Errorf("%w: %s", ErrClosed, j.name)
	default:
	}
	select {
	case j.queue <- r:
	case <-ctx.Done():
		return ctx.Err()
	case <-j.exited:
		return fmt.Errorf("%w: %s", ErrClosed, j.name)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return ctx.Err()
		}
	case <-j.exited:
	}
	// The writer has it, or has ended: in both cases the outcome is near.
	select {
	case err := <-r.done:
		return err
	case <-j.exited:
	}
	select {
	case err := <-r.done:
		return err
	default:
		return fmt.Errorf("%w: %s", ErrClosed, j.name)
	}
}

func (j *Journal) submitDirect(r *request) error {
	j.direct.Lock()
	defer j.direct.Unlock()
	j.life.RLock()
	closed := j.closed
	j.life.RUnlock()
	if closed {
		return fmt.Errorf("%w: %s", ErrClosed, j.name)
	}
	r.take()
	if r.op != nil {
		return j.run(r.op)
	}
	j.commit([]*request{r})
	return <-r.done
}
