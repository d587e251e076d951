package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/transport/nodewire"
)

func ints(values ...int64) arrow.Array {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	return b.NewArray()
}

func text(s string) nodewire.Parameter { return nodewire.Parameter{Kind: nodewire.String, Str: s} }

func flag(v bool) nodewire.Parameter { return nodewire.Parameter{Kind: nodewire.Bool, Bool: v} }

// nodeWith starts a node with these inputs (id=source) and outputs.
func (d *daemon) nodeWith(ctx context.Context, inputs []nodewire.InputConfig, outputs ...string) *Node {
	d.t.Helper()
	cfg := d.config()
	cfg.Inputs, cfg.Outputs = inputs, outputs
	yaml, err := cfg.YAML()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Setenv(envConfig, yaml)
	n, err := Init(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = n.Close() })
	return n
}

func (d *daemon) clientNode(ctx context.Context) (*Node, *ServiceClient) {
	d.t.Helper()
	n := d.nodeWith(ctx, []nodewire.InputConfig{
		{ID: "response", Source: "server/response", QueueSize: 100, HasQueueSize: true},
		{ID: "data", Source: "camera/image"},
		{ID: "hold", Source: "lidar/points", QueueSize: 1, HasQueueSize: true, Backpressure: true},
	}, "request")
	c, err := n.NewServiceClient("request", "response")
	if err != nil {
		d.t.Fatal(err)
	}
	return n, c
}

// request waits for the i-th message that the node sent and returns its id.
func (d *daemon) request(i int) string {
	d.t.Helper()
	d.waitFor(fmt.Sprintf("request %d", i), func() bool { return len(d.sent) > i })
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sent[i].md.Parameters[ParamRequestID].Str
}

func (d *daemon) answerTo(id string, value byte) nodewire.Event {
	return inputEvent("response", bytesPayload(d.t, []byte{value}), map[string]nodewire.Parameter{ParamRequestID: text(id)})
}

func firstByte(in *Input) byte { return in.Data.(*array.Uint8).Value(0) }

func TestCallInsideOfTheLoopKeepsTheOrderOfOtherEvents(t *testing.T) {
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	d.give(inputEvent("data", bytesPayload(t, []byte{1}), nil))
	if ev, err := n.Recv(t.Context()); err != nil || firstByte(ev.(*Input)) != 1 {
		t.Fatal(ev, err)
	}
	go func() {
		id := d.request(0)
		d.give(inputEvent("data", bytesPayload(t, []byte{2}), nil))
		d.give(nodewire.Event{Kind: nodewire.InputClosed, ID: "hold"}, inputEvent("data", bytesPayload(t, []byte{3}), nil))
		time.Sleep(20 * time.Millisecond) // until they are set aside
		d.give(d.answerTo(id, 42), inputEvent("data", bytesPayload(t, []byte{4}), nil))
	}()
	reply, err := c.Call(t.Context(), ints(7), With("unit", Text("m")))
	if err != nil || firstByte(reply) != 42 {
		t.Fatal(reply, err)
	}
	d.mu.Lock()
	sent := d.sent[0]
	d.mu.Unlock()
	if sent.output != "request" || sent.md.Parameters["unit"].Str != "m" || len(sent.md.Parameters[ParamRequestID].Str) != 36 {
		t.Errorf("sent %+v", sent)
	}
	var got []string
	for len(got) < 4 {
		ev, err := n.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if in, ok := ev.(*Input); ok {
			got = append(got, fmt.Sprint(in.ID, firstByte(in)))
		} else {
			got = append(got, ev.String())
		}
	}
	// The end of one input has no place among the messages of another.
	closed := slices.Index(got, "input hold closed")
	if closed >= 0 {
		got = slices.Delete(got, closed, closed+1)
	}
	if want := []string{"data2", "data3", "data4"}; closed < 0 || !slices.Equal(got, want) {
		t.Errorf("the loop got %q, want %q", got, want)
	}
	if s := c.Stats(); s != (CallStats{Started: 1, Answered: 1}) {
		t.Errorf("stats %+v", s)
	}
}

// The loop runs in one goroutine, calls wait in many others.
func TestManyCallsBesideTheLoop(t *testing.T) {
	const calls, noise = 64, 200
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	var loop, callers sync.WaitGroup
	seen := 0
	loop.Go(func() {
		for ev := range n.Events() {
			if in, ok := ev.(*Input); ok {
				if in.ID != "hold" {
					t.Errorf("the loop got %v", ev)
				} else if v := int(firstByte(in)); v != seen%256 {
					t.Errorf("message %d came as number %d", v, seen)
				}
				seen++
			}
		}
	})
	loop.Go(func() {
		for i := range calls {
			id := d.request(i)
			d.give(d.answerTo(id, byte(len(id))))
		}
		for i := range noise {
			d.give(inputEvent("hold", bytesPayload(t, []byte{byte(i)}), nil))
		}
		d.give(nodewire.Event{Kind: nodewire.AllInputsClosed})
	})
	for range calls {
		callers.Go(func() {
			reply, err := c.Call(t.Context(), ints(1))
			if err != nil || firstByte(reply) != 36 {
				t.Errorf("got %v, %v", reply, err)
			}
		})
	}
	callers.Wait()
	loop.Wait()
	if seen != noise {
		t.Errorf("the loop got %d of %d messages", seen, noise)
	}
}

func TestLateAndForeignAnswers(t *testing.T) {
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := c.Call(ctx, ints(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	plain := inputEvent("response", bytesPayload(t, []byte{9}), nil)
	d.give(d.answerTo(d.request(0), 1), d.answerTo("somebody else's", 2), plain)
	for _, want := range []byte{2, 9} { // the late one is dropped, those to nobody reach the loop
		ev, err := n.Recv(t.Context())
		if err != nil || firstByte(ev.(*Input)) != want {
			t.Fatalf("got %v, %v, want message %d", ev, err, want)
		}
	}
	if s := c.Stats(); s != (CallStats{Started: 1, GivenUp: 1, Late: 1}) {
		t.Errorf("stats %+v", s)
	}
}

func TestAnswersComeInAnyOrder(t *testing.T) {
	d := newDaemon(t)
	_, c := d.clientNode(t.Context())
	var calls []*Call
	for range 3 {
		call, err := c.Start(ints(1))
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, call)
	}
	d.give(d.answerTo(calls[2].ID(), 2), d.answerTo(calls[0].ID(), 0), d.answerTo(calls[2].ID(), 7), d.answerTo(calls[1].ID(), 1))
	for i, call := range calls {
		reply, err := call.Wait(t.Context())
		if err != nil || firstByte(reply) != byte(i) {
			t.Errorf("call %d: %v, %v", i, reply, err)
		}
		<-call.Done()
		if again, err := call.Wait(t.Context()); again != reply || err != nil {
			t.Errorf("waiting again: %v, %v", again, err)
		}
	}
}

func TestCallsEndWithTheirServer(t *testing.T) {
	for name, ev := range map[string]nodewire.Event{
		"restarted": {Kind: nodewire.NodeRestarted, Node: "server"},
		"failed":    {Kind: nodewire.NodeFailed, Node: "server", Inputs: []string{"response"}, Error: "exit 1"},
		"closed":    {Kind: nodewire.InputClosed, ID: "response"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t)
			n, c := d.clientNode(t.Context())
			answered, err := c.Start(ints(1))
			if err != nil {
				t.Fatal(err)
			}
			lost, err := c.Start(ints(2))
			if err != nil {
				t.Fatal(err)
			}
			// What happens to others is of no concern.
			d.give(nodewire.Event{Kind: nodewire.NodeRestarted, Node: "camera"}, nodewire.Event{Kind: nodewire.InputClosed, ID: "data"},
				d.answerTo(answered.ID(), 5), ev, d.answerTo(lost.ID(), 6))
			if _, err := lost.Wait(t.Context()); !errors.Is(err, ErrServerRestarted) {
				t.Errorf("got %v", err)
			}
			if reply, err := answered.Wait(t.Context()); err != nil || firstByte(reply) != 5 {
				t.Errorf("answered before: %v, %v", reply, err)
			}
			// The loop learns of it too, and of nothing else.
			d.give(nodewire.Event{Kind: nodewire.AllInputsClosed})
			var kinds []string
			for ev := range n.Events() {
				kinds = append(kinds, fmt.Sprintf("%T", ev))
			}
			if len(kinds) != 4 {
				t.Errorf("the loop got %q", kinds)
			}
			if s := c.Stats(); s != (CallStats{Started: 2, Answered: 1, Lost: 1, Late: 1}) {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestCallsEndWithTheNode(t *testing.T) {
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	call, _ := c.Start(ints(1))
	d.give(inputEvent("data", bytesPayload(t, []byte{1}), nil), nodewire.Event{Kind: nodewire.Stop})
	d.events <- nodewire.AppendEventsHead(nil, 0)
	if _, err := call.Wait(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after the last event: %v", err)
	}
	var got int
	for range n.Events() { // what was set aside still comes
		got++
	}
	if got != 2 {
		t.Errorf("the loop got %d events", got)
	}
	if _, err := c.Start(ints(1)); !errors.Is(err, io.EOF) {
		t.Errorf("a call after the end: %v", err)
	}

	d2 := newDaemon(t)
	n2, c2 := d2.clientNode(t.Context())
	call, _ = c2.Start(ints(1))
	go func() {
		d2.request(0)
		_ = n2.Close()
	}()
	if _, err := call.Wait(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("when the node is closed: %v", err)
	}
}

func TestClosingAClientAndCancel(t *testing.T) {
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	a, _ := c.Start(ints(1))
	b, _ := c.Start(ints(2))
	waiting := make(chan error)
	go func() { _, err := a.Wait(t.Context()); waiting <- err }()
	time.Sleep(10 * time.Millisecond) // until it receives
	a.Cancel()
	a.Cancel()
	if err := <-waiting; !errors.Is(err, ErrCanceled) {
		t.Errorf("canceled: %v", err)
	}
	c.Close()
	if _, err := b.Wait(t.Context()); !errors.Is(err, ErrCanceled) {
		t.Errorf("closed: %v", err)
	}
	if _, err := c.Start(ints(1)); !errors.Is(err, ErrCanceled) {
		t.Errorf("a call on a closed client: %v", err)
	}
	d.give(d.answerTo(b.ID(), 3))
	if ev, err := n.Recv(t.Context()); err != nil || firstByte(ev.(*Input)) != 3 {
		t.Errorf("got %v, %v", ev, err)
	}
	if s := c.Stats(); s != (CallStats{Started: 2, GivenUp: 2}) {
		t.Errorf("stats %+v", s)
	}
}

func TestClientsAndServersNeedTheirPorts(t *testing.T) {
	d := newDaemon(t)
	n, _ := d.clientNode(t.Context())
	_, a := n.NewServiceClient("requests", "response")
	_, b := n.NewServiceClient("request", "responses")
	_, c := n.NewServiceServer("x", "request")
	_, e := n.NewServiceServer("data", "x")
	for _, err := range []error{a, b, c, e} {
		if !errors.Is(err, ErrWrongNode) {
			t.Errorf("got %v", err)
		}
	}
}

// While a call waits, inputs keep to their bounds.
func TestWhatIsSetAsideIsBounded(t *testing.T) {
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	call, _ := c.Start(ints(1))
	for i := range 30 {
		d.give(inputEvent("data", bytesPayload(t, []byte{byte(i)}), nil))
	}
	d.give(inputEvent("data", bytesPayload(t, []byte{99}), map[string]nodewire.Parameter{ParamGoalID: text("g")}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := call.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if held := len(n.dispatch.aside.events); held != defaultQueueSize {
		t.Errorf("%d messages set aside, queue_size is %d", held, defaultQueueSize)
	}
	// A flush makes the others obsolete, but not what belongs to a goal.
	d.give(inputEvent("data", bytesPayload(t, []byte{100}), map[string]nodewire.Parameter{ParamFlush: flag(true)}), d.answerTo(call.ID(), 1))
	if _, err := call.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []byte{99, 100} {
		if ev, err := n.Recv(t.Context()); err != nil || firstByte(ev.(*Input)) != want {
			t.Errorf("got %v, %v, want %d", ev, err, want)
		}
	}
}

// A full backpressure input holds everything back, and nothing is lost.
func TestCallWaitsForRoomOnABackpressureInput(t *testing.T) {
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	call, _ := c.Start(ints(1))
	limit := backpressureLimit(1)
	go func() {
		for i := range 3 * limit {
			d.give(inputEvent("hold", bytesPayload(t, []byte{byte(i)}), nil))
		}
		d.give(d.answerTo(call.ID(), 1))
	}()
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, err := call.Wait(ctx)
		waited <- err
	}()
	held := func() int {
		n.dispatch.mu.Lock()
		defer n.dispatch.mu.Unlock()
		return len(n.dispatch.aside.events)
	}
	for end := time.Now().Add(20 * time.Second); held() < limit && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond) // for more than there may be
	if n := held(); n != limit {
		t.Errorf("%d messages set aside, the limit is %d", n, limit)
	}
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Fatalf("the answer passed a full input: %v", err)
	}
	var loop sync.WaitGroup
	loop.Go(func() {
		for i := range 3 * limit {
			ev, err := n.Recv(t.Context())
			if err != nil || firstByte(ev.(*Input)) != byte(i) {
				t.Errorf("message %d: %v, %v", i, ev, err)
				return
			}
		}
	})
	if reply, err := call.Wait(t.Context()); err != nil || firstByte(reply) != 1 {
		t.Errorf("got %v, %v", reply, err)
	}
	loop.Wait()
}

func TestServerCopiesParametersBack(t *testing.T) {
	d := newDaemon(t)
	n := d.nodeWith(t.Context(), []nodewire.InputConfig{{ID: "request", Source: "client/request"}, {ID: "tick", Source: "dora/timer/millis/5"}}, "response")
	s, err := n.NewServiceServer("request", "response")
	if err != nil {
		t.Fatal(err)
	}
	id := func(in string, p map[string]nodewire.Parameter) nodewire.Event {
		return inputEvent(in, bytesPayload(t, []byte{5}), p)
	}
	d.give(id("tick", map[string]nodewire.Parameter{ParamRequestID: text("r")}), id("request", nil),
		id("request", map[string]nodewire.Parameter{ParamRequestID: text("r1"), "unit": text("m"), ParamFlush: flag(true)}),
		nodewire.Event{Kind: nodewire.AllInputsClosed})
	var requests []*Request
	for ev := range n.Events() {
		if r, ok := s.Request(ev); ok {
			requests = append(requests, r)
		}
	}
	if len(requests) != 1 || requests[0].RequestID() != "r1" || firstByte(requests[0].Input) != 5 {
		t.Fatalf("requests %v", requests)
	}
	if err := requests[0].Reply(ints(1, 2), With("state", Int(3)), With(ParamRequestID, Text("wrong"))); err != nil {
		t.Fatal(err)
	}
	if err := requests[0].Reply(ints(1)); !errors.Is(err, ErrAnswered) {
		t.Errorf("a second answer: %v", err)
	}
	d.waitFor("the answer", func() bool { return len(d.sent) == 1 })
	p := d.sent[0].md.Parameters
	if p[ParamRequestID].Str != "r1" || p["unit"].Str != "m" || p["state"].Int != 3 || p[ParamFlush].Bool || d.sent[0].data.Len() != 2 {
		t.Errorf("answer %+v %v", p, d.sent[0].data)
	}
}

func textArray(values ...string) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	return b.NewArray()
}

func emptyArray() arrow.Array { return array.NewNull(0) }
