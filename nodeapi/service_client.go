package nodeapi

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// ServiceClient sends requests to a service and finds their answers: messages that carry
// the request's id (metadata parameter request_id, a UUID of version 7). Servers may be
// written with any of dora's APIs. Its methods may be used from many goroutines.
//
// A client has no goroutine. Who waits for an answer receives the node's events
// meanwhile and sets those aside that are not for a client; [Node.Recv] and
// [Node.Events] return them afterwards, in order. So calls work inside of the node's
// loop, beside it, and without one. While a call inside of the loop waits, inputs fill
// as they do while the loop is busy: a drop_oldest input drops, and a full backpressure
// input keeps everything from coming, the answer too. Give such calls a deadline.
//
// Messages on the response input that answer no request of this client (those to other
// clients of the same server, say) are events of the loop like all others. Answers to
// calls that were given up are dropped and counted, see [ServiceClient.Stats].
type ServiceClient struct {
	node                  *Node
	request, response, of string // output, input, and the server's node

	mu     sync.Mutex
	calls  map[string]*Call
	late   lateIDs
	stats  CallStats
	ended  error
	closed bool
}

// CallStats counts what became of a client's calls or goals.
type CallStats struct {
	Started  uint64 // requests sent
	Answered uint64
	Lost     uint64 // ended by ErrServerRestarted
	GivenUp  uint64
	Late     uint64 // answers that came after the call was given up or lost, dropped
	InFlight int    // now
}

// Call is a request in flight.
type Call struct {
	client *ServiceClient
	id     string
	done   context.Context
	finish context.CancelFunc
	reply  *Input // these are set before done
	err    error
}

// NewServiceClient makes a client that sends requests on an output and gets answers on
// an input, which the dataflow connects with the server:
//
//	nodes:
//	  - id: client
//	    path: client
//	    inputs:
//	      response: server/response
//	    outputs:
//	      - request
//	  - id: server
//	    path: server
//	    inputs:
//	      request: client/request
//	    outputs:
//	      - response
func (n *Node) NewServiceClient(request, response string) (*ServiceClient, error) {
	if err := n.mustOutput(request); err != nil {
		return nil, fmt.Errorf("service client: %w", err)
	}
	of, err := n.sourceOf(response)
	if err != nil {
		return nil, fmt.Errorf("service client: %w", err)
	}
	c := &ServiceClient{node: n, request: request, response: response, of: of, calls: make(map[string]*Call)}
	n.dispatch.add(c)
	return c, nil
}

// Call sends a request and waits for its answer, whose memory the caller may release.
// If ctx is done first, the call is given up and ctx's error returned.
func (c *ServiceClient) Call(ctx context.Context, data arrow.Array, opts ...SendOption) (*Input, error) {
	call, err := c.Start(data, opts...)
	if err != nil {
		return nil, err
	}
	reply, err := call.Wait(ctx)
	if err != nil {
		call.Cancel()
	}
	return reply, err
}

// Start sends a request. Any number may be in flight.
func (c *ServiceClient) Start(data arrow.Array, opts ...SendOption) (*Call, error) {
	id, err := NewRequestID()
	if err != nil {
		return nil, err
	}
	call := &Call{client: c, id: id}
	call.done, call.finish = context.WithCancel(context.Background())
	c.mu.Lock()
	if c.closed || c.ended != nil {
		err := c.ended
		c.mu.Unlock()
		if err == nil {
			err = ErrCanceled
		}
		return nil, fmt.Errorf("request on output %s: %w", c.request, err)
	}
	c.calls[id] = call // before the answer can come
	c.stats.Started++
	c.mu.Unlock()
	if err := c.node.SendOutput(c.request, data, slices.Concat(opts, []SendOption{With(ParamRequestID, Text(id))})...); err != nil {
		c.mu.Lock()
		delete(c.calls, id)
		c.stats.Started--
		c.mu.Unlock()
		call.finish()
		return nil, err
	}
	return call, nil
}

// ID is the request's id.
func (c *Call) ID() string { return c.id }

// Wait returns the answer. It fails with [ErrServerRestarted] if the server's state was
// lost, [ErrCanceled] after Cancel, io.EOF if the node's events ended first, and with
// ctx's error if ctx is done; then the call is still in flight and may be waited for
// again.
func (c *Call) Wait(ctx context.Context) (*Input, error) {
	err := c.client.node.dispatch.wait(ctx, c.done)
	if c.done.Err() != nil {
		return c.reply, c.err
	}
	return nil, fmt.Errorf("request %s on output %s: %w", c.id, c.client.request, err)
}

// Done is closed when Wait would return at once. Somebody must be receiving: in Wait, or
// the node's loop.
func (c *Call) Done() <-chan struct{} { return c.done.Done() }

// Cancel gives the call up; an answer that still comes is dropped. It does nothing if
// the call has ended.
func (c *Call) Cancel() {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	if c.client.calls[c.id] == c {
		c.client.stats.GivenUp++
		c.client.giveUp(c, ErrCanceled)
	}
}

// giveUp ends a call without an answer. c.mu is held.
func (c *ServiceClient) giveUp(call *Call, err error) {
	delete(c.calls, call.id)
	c.late.add(call.id)
	call.err = fmt.Errorf("request %s on output %s: %w", call.id, c.request, err)
	call.finish()
}

// Stats of the client so far.
func (c *ServiceClient) Stats() CallStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.InFlight = len(c.calls)
	return s
}

// Close gives up what is in flight. Answers that come later are events of the loop.
func (c *ServiceClient) Close() {
	c.node.dispatch.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.stats.GivenUp += uint64(len(c.calls))
	for _, call := range c.calls {
		c.giveUp(call, ErrCanceled)
	}
}

func (c *ServiceClient) take(in *Input) bool {
	if in.ID != c.response {
		return false
	}
	id, ok := Lookup[Text](in.Metadata.Parameters, ParamRequestID)
	if !ok {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if call := c.calls[string(id)]; call != nil {
		delete(c.calls, call.id)
		c.stats.Answered++
		call.reply = in
		call.finish()
		return true
	}
	if c.late.has(string(id)) {
		c.stats.Late++
		in.Release()
		return true
	}
	return false
}

func (c *ServiceClient) observe(ev Event) {
	if !loses(ev, c.of, c.response) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Lost += uint64(len(c.calls))
	for _, call := range c.calls {
		c.giveUp(call, fmt.Errorf("%w (%s)", ErrServerRestarted, ev))
	}
}

func (c *ServiceClient) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = fmt.Errorf("the node's events ended: %w", err)
	for _, call := range c.calls {
		c.giveUp(call, c.ended)
	}
}
