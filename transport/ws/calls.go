package ws

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
)

// calls are the requests of one side of a connection that wait for their responses.
type calls struct {
	mu      sync.Mutex
	next    int
	pending map[string]chan Frame
	err     error // set once the connection is gone
}

// call sends a request by send and waits for its response.
func (c *calls) call(ctx context.Context, method string, params, out any, send func(id string, raw json.RawMessage) error) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	ch := make(chan Frame, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.next++
	id := strconv.Itoa(c.next)
	if c.pending == nil {
		c.pending = map[string]chan Frame{}
	}
	c.pending[id] = ch
	c.mu.Unlock()
	if err := send(id, raw); err != nil {
		c.forget(id)
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	select {
	case f, ok := <-ch:
		switch {
		case !ok:
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.err
		case f.Error != nil:
			return f.Error
		case out == nil:
			return nil
		}
		if err := json.Unmarshal(f.Result, out); err != nil {
			return fmt.Errorf("result of %s: %w", method, err)
		}
		return nil
	case <-ctx.Done():
		c.forget(id)
		return ctx.Err()
	}
}

func (c *calls) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// answer hands a response to whoever waits for it; false if nobody does.
func (c *calls) answer(f Frame) bool {
	c.mu.Lock()
	ch := c.pending[f.ID]
	delete(c.pending, f.ID)
	c.mu.Unlock()
	if ch != nil {
		ch <- f
	}
	return ch != nil
}

// fail ends all calls, now and later, with the first error it was told.
func (c *calls) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, ch := range c.pending {
		delete(c.pending, id)
		close(ch)
	}
}
