package nodeapi

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
)

// daemon is the other end of the node protocol for tests: it answers as a daemon must,
// writes down what it was asked, and sends the events that a test gives it.
type daemon struct {
	t  testing.TB
	ln net.Listener

	mu       sync.Mutex
	log      []string // "A Register", "C SendMessage data", ...
	sent     []sentMessage
	conns    []net.Conn
	events   chan []byte // encoded replies to NextEvent
	barrier  chan string // answer to Subscribe; "" is success
	refuse   string      // answer to Register
	stalled  chan struct{}
	dropped  chan struct{}
	dropOnce sync.Once
	wg       sync.WaitGroup
}

type sentMessage struct {
	output string
	md     nodewire.Metadata
	data   arrow.Array
}

func newDaemon(t testing.TB) *daemon {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, ln: ln, events: make(chan []byte, 100), barrier: make(chan string, 1), dropped: make(chan struct{})}
	d.barrier <- ""
	d.wg.Add(1)
	go d.accept()
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) stop() {
	_ = d.ln.Close()
	d.cut()
	d.wg.Wait()
}

// cut ends all connections at once, as a daemon that dies.
func (d *daemon) cut() {
	d.dropOnce.Do(func() { close(d.dropped) })
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
}

func (d *daemon) accept() {
	defer d.wg.Done()
	for i := 0; ; i++ {
		c, err := d.ln.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns = append(d.conns, c)
		d.mu.Unlock()
		d.wg.Add(1)
		go d.serve(string(rune('A'+i)), nodewire.NewConn(c))
	}
}

func (d *daemon) serve(name string, c *nodewire.Conn) {
	defer d.wg.Done()
	defer c.Close()
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			d.note(name + " closed")
			return
		}
		r, err := nodewire.DecodeRequest(frame.Bytes())
		if err != nil {
			d.t.Errorf("connection %s: %v", name, err)
			return
		}
		reply := d.answer(name, &r)
		if reply != nil && c.Write(reply) != nil {
			return
		}
	}
}

func (d *daemon) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, line)
}

func (d *daemon) answer(name string, r *nodewire.Request) []byte {
	line := fmt.Sprintf("%s %v", name, r.Kind)
	switch r.Kind {
	case nodewire.SendMessage:
		line += " " + string(r.Output)
	case nodewire.CloseOutputs:
		line += " " + strings.Join(r.Outputs, ",")
	}
	d.note(line)
	switch r.Kind {
	case nodewire.Register:
		reason := d.refuse
		if err := nodewire.CheckVersion(r.Version, r.MetadataVersion); err != nil {
			reason = err.Error()
		}
		return nodewire.AppendResult(nil, reason)
	case nodewire.Subscribe:
		select {
		case reason := <-d.barrier:
			return nodewire.AppendResult(nil, reason)
		case <-d.dropped:
			return nil
		}
	case nodewire.NextEvent:
		select {
		case reply := <-d.events:
			return reply
		case <-d.dropped:
			return nodewire.AppendEventsHead(nil, 0)
		}
	case nodewire.EventStreamDropped:
		d.dropOnce.Do(func() { close(d.dropped) })
	case nodewire.SendMessage:
		if d.stalled != nil {
			<-d.stalled
		}
		d.keep(r)
		return nil
	case nodewire.OutputSent:
		return nil
	}
	return nodewire.AppendResult(nil, "")
}

func (d *daemon) keep(r *nodewire.Request) {
	md, err := r.Message.Metadata()
	if err != nil {
		d.t.Errorf("metadata of %s: %v", r.Output, err)
		return
	}
	data, err := payload.Decode(r.Message.Payload, nil)
	if err != nil {
		d.t.Errorf("payload of %s: %v", r.Output, err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent = append(d.sent, sentMessage{string(r.Output), md, data})
}

// give makes the daemon send events, in one reply.
func (d *daemon) give(events ...nodewire.Event) {
	clock := nodewire.NewClock()
	b := nodewire.AppendEventsHead(nil, len(events))
	for i := range events {
		if events[i].Time == (nodewire.Timestamp{}) {
			events[i].Time = clock.Now()
		}
		b = nodewire.AppendEvent(b, &events[i])
	}
	d.events <- b
}

func (d *daemon) requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.log...)
}

// waitFor waits until cond holds, with the daemon's state locked.
func (d *daemon) waitFor(what string, cond func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		d.mu.Lock()
		ok := cond()
		d.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("timed out waiting for %s; requests: %q", what, d.requests())
		}
		time.Sleep(time.Millisecond)
	}
}

// inputEvent is a message for an input; nil data is a message without data.
func inputEvent(id string, data []byte, params map[string]nodewire.Parameter) nodewire.Event {
	md := nodewire.Metadata{Time: nodewire.NewClock().Now(), Parameters: params}
	raw := nodewire.AppendMessage(nil, md, data)
	ev := nodewire.Event{Kind: nodewire.Input, ID: id, Time: md.Time}
	ev.Message.Raw = raw
	return ev
}

func bytesPayload(t testing.TB, data []byte) []byte {
	t.Helper()
	e, err := payload.EncodeBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	return e.AppendTo(nil)
}

var testFlow = nodewire.UUID{1, 2, 3, 4, 5, 6, 0x77, 8, 0x99, 10, 11, 12, 13, 14, 15, 16}

func (d *daemon) config() *nodewire.Config {
	return &nodewire.Config{
		Dataflow: testFlow, Node: "worker", Addr: d.ln.Addr().String(),
		Inputs: []nodewire.InputConfig{
			{ID: "data", Source: "camera/image", QueueSize: 100, HasQueueSize: true},
			{ID: "tick", Source: "dora/timer/millis/10"},
		},
		Outputs: []string{"result", "extra"},
	}
}

// node starts a node against the daemon, by way of the environment.
func (d *daemon) node(ctx context.Context) *Node {
	d.t.Helper()
	text, err := d.config().YAML()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Setenv(envConfig, text)
	n, err := Init(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = n.Close() })
	return n
}
