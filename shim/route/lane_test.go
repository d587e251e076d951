//go:build zenoh && cgo && linux

package route

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
	"github.com/dora-go/dora/transport/zenoh"
)

// receiver is an official node that notes what it gets, in order of arrival.
type receiver struct {
	*twin
	p *peer

	mu     sync.Mutex
	got    []string
	direct int
	hold   []*zenoh.Sample
	mute   bool // it answers no probe
	owed   int  // so many answers it would owe
	probes chan struct{}
}

// answer has the node answer probes again, also those that came meanwhile.
func (r *receiver) answer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mute = false
	for ; r.owed > 0; r.owed-- {
		r.probes <- struct{}{}
	}
}

// letGo releases what the node holds.
func (r *receiver) letGo() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.hold {
		s.Release()
	}
	r.hold = nil
}

func (r *receiver) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, what)
}

func (r *receiver) seen() (list []string, direct int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...), r.direct
}

// numbered is a payload that repeats its number.
func numbered(i, size int) []byte {
	b := make([]byte, size)
	for at := 0; at+8 <= size; at += 8 {
		binary.LittleEndian.PutUint64(b[at:], uint64(i))
	}
	return b
}

// numberOf a payload, or what is wrong with it.
func numberOf(b []byte) string {
	i := binary.LittleEndian.Uint64(b)
	if !bytes.Equal(b, numbered(int(i), len(b))) {
		return fmt.Sprintf("%d, damaged", i)
	}
	return fmt.Sprint(i)
}

func directReceiver(t *testing.T, g *rig, keep bool) *receiver {
	t.Helper()
	r := &receiver{twin: g.twin(t, "py", 1)}
	key := outputKey(g.dataflow, "go", "out")
	acks := r.publisher(key + "/@ack")
	probes := make(chan struct{}, 1024)
	r.probes = probes
	clock := nodewire.NewClock()
	answered := make(chan struct{})
	t.Cleanup(func() {
		close(probes) // the subscription has ended
		<-answered
	})
	go func() {
		defer close(answered)
		for range probes {
			_ = acks.Put(nil, metaAt(clock.Now(), nodewire.ParamStartupAck, true,
				nodewire.ParamStartupAckConsumer, "py", nodewire.ParamStartupAckInput, "in"))
		}
	}()
	r.subscribe(key, func(s *zenoh.Sample) {
		m, err := nodewire.ScanMetadata(s.Attachment)
		if err == nil && m.Flags&nodewire.StartupMarker != 0 {
			r.mu.Lock()
			mute := r.mute
			if mute {
				r.owed++
			}
			r.mu.Unlock()
			s.Release()
			if !mute {
				probes <- struct{}{}
			}
			return
		}
		r.note("in " + numberOf(s.Payload))
		r.mu.Lock()
		if s.Shared && err == nil {
			r.direct++
		}
		if keep {
			r.hold = append(r.hold, s)
		} else {
			s.Release()
		}
		r.mu.Unlock()
	})
	t.Cleanup(func() {
		time.Sleep(10 * time.Millisecond)
		r.letGo()
	})
	return r
}

// read notes what comes over the connection, until it ends.
func (r *receiver) read() {
	_ = r.p.events.SetDeadline(time.Time{})
	for {
		if r.p.events.Send(&nodewire.Request{Kind: nodewire.NextEvent, Time: r.p.clock.Now()}) != nil {
			return
		}
		reply, buf, err := r.p.events.ReadReply()
		if err != nil {
			return
		}
		for i := range reply.Events {
			e := &reply.Events[i]
			if e.Kind == nodewire.Input {
				r.note(e.ID + " " + numberOf(e.Message.Payload))
			} else {
				r.note(describe(e))
			}
		}
		buf.Release()
	}
}

func (r *receiver) await(t *testing.T, count int) []string {
	t.Helper()
	eventually(t, fmt.Sprintf("%d events come", count), func() bool { list, _ := r.seen(); return len(list) >= count })
	list, _ := r.seen()
	return list
}

// start reads until the end of the test.
func (r *receiver) start(t *testing.T) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.read()
	}()
	t.Cleanup(func() {
		_ = r.p.events.Close()
		<-ended
	})
}

func goToOfficial(t *testing.T, keep bool) (*rig, *shm.Endpoint, *receiver) {
	t.Helper()
	g := startWithGo(t, flow(t, "go: -> out", "py: in=go/out"), "go")
	ep := g.endpoint("go", 1)
	r := directReceiver(t, g, keep)
	r.p = g.running("py", "go")[0]
	r.start(t)
	return g, ep, r
}

func sendShared(t *testing.T, ep *shm.Endpoint, payload []byte) {
	t.Helper()
	if err := ep.Writer.Send(context.Background(), "out", payload, shm.Header{Meta: plainMeta()}); err != nil {
		t.Fatal(err)
	}
}

// opened sends large messages until one comes directly, and returns how many that took.
func opened(t *testing.T, ep *shm.Endpoint, r *receiver) int {
	t.Helper()
	sent := 0
	eventually(t, "a message comes directly", func() bool {
		sendShared(t, ep, numbered(sent, 1<<20))
		sent++
		r.await(t, sent)
		_, direct := r.seen()
		return direct > 0
	})
	return sent
}

// lane of the receiver's input, and how many messages it read where their sender wrote them.
func (g *rig) lane() (l *lane, inPlace uint64) {
	n := g.nodes["py"]
	n.mu.Lock()
	defer n.mu.Unlock()
	for in, l := range n.sess.bridge.lanes.byInput {
		if in.id == "in" {
			return l, l.inPlace
		}
	}
	g.t.Fatal("there is no lane")
	return nil, 0
}

// files are the names of senders' memory that the receiver knows.
func (g *rig) files() (paths []string) {
	l, _ := g.lane()
	l.in.node.mu.Lock()
	defer l.in.node.mu.Unlock()
	for _, f := range l.all.files {
		paths = append(paths, zenoh.Segment(f.number))
	}
	return paths
}

// Large messages of a Go node come directly and small ones over the connection, none is
// overtaken, and the end of the input comes last.
func TestGoNodeSendsDirectlyToOfficial(t *testing.T) {
	g, ep, r := goToOfficial(t, false)
	n := opened(t, ep, r)
	_, before := r.seen()
	for i := range 200 {
		size := 8
		if i%3 != 0 {
			size = 100_000
		}
		sendShared(t, ep, numbered(n, size))
		n++
		if i%10 == 0 { // else the queue may be full
			r.await(t, n)
		}
		if i%7 == 6 {
			r.await(t, n)
		}
	}
	g.Exited("go", 1, link.Close, "")
	list := r.await(t, n+2)
	for i := range n {
		if want := fmt.Sprintf("in %d", i); list[i] != want {
			t.Fatalf("event %d is %q", i, list[i])
		}
	}
	if list[n] != "closed in" || list[n+1] != "AllInputsClosed" {
		t.Fatalf("the end is %q", list[n:])
	}
	_, direct := r.seen()
	if direct-before < 20 {
		t.Errorf("%d of 200 messages came directly", direct-before)
	}
	if _, inPlace := g.lane(); inPlace < 20 || int(inPlace) >= direct {
		t.Errorf("%d of %d messages lay where the sender wrote them", inPlace, direct)
	}
	for _, path := range g.files() {
		eventually(t, "the names of a node go that has ended", func() bool { _, err := os.Stat(path); return err != nil })
	}
	if st := ep.Writer.Stats(); st.Slots != 0 {
		t.Errorf("the sender does not get %d slots back", st.Slots)
	}
}

// What a node holds stays as it is and is its sender's again when the node lets it go, without
// a further message; if the node's process ends, or the sender's, nothing is left.
func TestMessagesThatAreHeld(t *testing.T) {
	for name, end := range map[string]func(*rig, *shm.Endpoint, *receiver){
		"let go":           func(_ *rig, _ *shm.Endpoint, r *receiver) { r.letGo() },
		"receiver's end":   func(g *rig, _ *shm.Endpoint, r *receiver) { _ = r.p.events.Close(); g.Exited("py", 1, link.Close, "") },
		"sender's end":     func(g *rig, ep *shm.Endpoint, _ *receiver) { ep.Close(); g.Exited("go", 1, link.Close, "") },
		"the router's end": func(g *rig, _ *shm.Endpoint, r *receiver) { _ = r.p.events.Close(); g.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			g, ep, r := goToOfficial(t, true)
			n := opened(t, ep, r)
			eventually(t, "messages are read where they lie", func() bool {
				sendShared(t, ep, numbered(n, 100_000))
				n++
				r.await(t, n)
				_, inPlace := g.lane()
				return inPlace > 2
			})
			paths := g.files()
			if st := ep.Writer.Stats(); st.Slots < 2 {
				t.Fatalf("%d slots are out", st.Slots)
			}
			end(g, ep, r)
			r.mu.Lock()
			for _, s := range r.hold {
				if what := numberOf(s.Payload); strings.Contains(what, "damaged") {
					t.Error(what)
				}
			}
			r.mu.Unlock()
			if name == "let go" || name == "receiver's end" {
				eventually(t, "the sender gets everything back", func() bool { return ep.Writer.Stats().Slots == 0 })
				return
			}
			r.letGo()
			eventually(t, "the names go", func() bool {
				for _, path := range paths {
					if _, err := os.Stat(path); err == nil {
						return false
					}
				}
				return true
			})
		})
	}
}

// A sender that cuts off its memory under a message ends its own edge, wherever the message
// is to go: everybody else goes on.
func TestSenderThatCutsOffItsMemory(t *testing.T) {
	for _, directly := range []bool{true, false} {
		t.Run(fmt.Sprint("directly ", directly), func(t *testing.T) {
			g := startWithGo(t, flow(t, "go: -> out", "other: -> out", "py: in=go/out more=other/out"), "go")
			ep := g.endpoint("go", 1)
			r := directReceiver(t, g, false)
			p := g.running("py", "go", "other")
			r.p = p[0]
			r.start(t)
			n := 0
			eventually(t, "messages are read where they lie", func() bool {
				sendShared(t, ep, numbered(n, 100_000))
				n++
				r.await(t, n)
				_, inPlace := g.lane()
				return inPlace > 2
			})
			eventually(t, "a message is read where it lies, and not answered", func() bool {
				r.answer()
				time.Sleep(quiet)
				_, before := g.lane()
				r.mu.Lock()
				r.mute = true
				r.mu.Unlock()
				sendShared(t, ep, numbered(n, 100_000))
				n++
				r.await(t, n)
				_, inPlace := g.lane()
				return inPlace > before
			})
			sendShared(t, ep, numbered(n, 100_000)) // it waits until the one before is answered
			for _, path := range g.files() {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			}
			if directly {
				r.answer()
			}
			g.fact("who it was", func(f link.Fact) bool {
				return f.Node == "go" && f.Warning != nil && strings.Contains(f.Warning.Text, "cut off its memory")
			})
			p[2].send("out", string(numbered(7, 8)))
			if list := r.await(t, n+1); list[n] != "more 7" {
				t.Fatalf("after it comes %q", list[n:])
			}
		})
	}
}

// A node that holds what it gets has the rest sent over its connection; nothing is lost.
func TestOfficialNodeThatHoldsEverything(t *testing.T) {
	_, ep, r := goToOfficial(t, true)
	n := opened(t, ep, r)
	for range 3 * laneHeld {
		sendShared(t, ep, numbered(n, 100_000))
		n++
		r.await(t, n)
	}
	list, direct := r.seen()
	for i, e := range list {
		if e != fmt.Sprintf("in %d", i) {
			t.Fatalf("event %d is %q", i, e)
		}
	}
	if direct > laneHeld {
		t.Errorf("%d messages are with the node, which holds them all", direct)
	}
}

// A node that answers no more loses the direct path, not messages.
func TestOfficialNodeThatAnswersNoMore(t *testing.T) {
	g, ep, r := goToOfficial(t, false)
	n := opened(t, ep, r)
	time.Sleep(quiet)
	r.mu.Lock()
	r.mute = true
	r.mu.Unlock()
	for range 5 {
		sendShared(t, ep, numbered(n, 100_000))
		n++
	}
	sendShared(t, ep, numbered(n, 8))
	list := r.await(t, n+1)
	for i, e := range list {
		if e != fmt.Sprintf("in %d", i) {
			t.Fatalf("event %d is %q", i, e)
		}
	}
	g.fact("the warning", func(f link.Fact) bool {
		return f.Node == "py" && f.Warning != nil && strings.Contains(f.Warning.Text, "direct path")
	})
}
