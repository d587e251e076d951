//go:build linux

package shm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// lender fills foreign memory and lends it, and uses what came back for something else at
// once, as its owner does.
type lender struct {
	t   *testing.T
	ep  *Endpoint
	mem *Foreign
	raw []byte

	next uint64

	mu   sync.Mutex // short, may be taken with the writer's
	free []int64
	back int
}

const (
	lentSize   = 100_000
	lentStride = 128 << 10
	lentMemory = 4 << 20
)

func newLender(t *testing.T, r *rig, camera *Member) (*lender, *os.File) {
	t.Helper()
	file, raw := foreignFile(t, lentMemory) // it is there as long as the endpoint
	ep := r.open(camera)
	f, err := ep.Writer.Adopt(int(file.Fd()), lentMemory)
	if err != nil {
		t.Fatal(err)
	}
	l := &lender{t: t, ep: ep, mem: f, raw: raw}
	for at := int64(0); at < lentMemory; at += lentStride {
		l.free = append(l.free, at)
	}
	return l, file
}

// lend publishes the next message, if there is room. One goroutine at a time does.
func (l *lender) lend() bool {
	l.t.Helper()
	l.mu.Lock()
	if len(l.free) == 0 {
		l.mu.Unlock()
		return false
	}
	at := l.free[0]
	l.free = l.free[1:]
	l.mu.Unlock()
	copy(l.raw[at:], lentMessage(l.next))
	h := Header{Meta: binary.LittleEndian.AppendUint64(nil, l.next), Time: l.next}
	comes := func(n int) {
		l.mu.Lock()
		defer l.mu.Unlock()
		clear(l.raw[at : at+lentSize])
		l.free = append(l.free, at)
		l.back += n
	}
	ok, err := l.ep.Writer.Lend(context.Background(), "image", l.mem, at, lentSize, h, func() { comes(1) })
	if err != nil {
		l.t.Fatal(err)
	}
	if ok {
		l.next++
	} else {
		comes(0)
	}
	return ok
}

func (l *lender) returned() int {
	l.ep.Writer.Stats()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.back
}

func lentMessage(n uint64) []byte { return pattern(lentSize, 1000+n) }

// isLent fails unless a message is what was lent as its metadata says.
func isLent(t *testing.T, m *Message) uint64 {
	t.Helper()
	if m.End != NotEnded || len(m.Meta) != 8 {
		t.Fatalf("%+v", m)
	}
	if m.Export == nil || m.Payload != nil {
		t.Fatal("the message was copied")
	}
	n := binary.LittleEndian.Uint64(m.Meta)
	got := make([]byte, m.Length)
	if err := m.ReadExport(got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, lentMessage(n)) {
		t.Fatalf("message %d is damaged", n)
	}
	return n
}

// chain is camera/image to router/in, and router/on to relay/view.
type chain struct {
	*rig
	*lender
	file           *os.File
	camera, router *Member
	relay          *Endpoint
	to             *Member
	r              *Endpoint
}

func newChain(t *testing.T) *chain {
	c := &chain{rig: newRig(t, SupervisorOptions{})}
	c.camera, c.router, c.to = c.join("camera"), c.join("router"), c.join("relay")
	in := c.connect(c.camera, "image", c.router, "in", 8, DropOldest)
	on := c.on(c.router, "on", c.to, maxExport)
	c.relay = c.open(c.to)
	c.r = c.distant(c.router)
	c.lender, c.file = newLender(t, c.rig, c.camera)
	c.wait("the edge", in.Attached())
	c.wait("the edge", on.Attached())
	return c
}

func (r *rig) on(from *Member, output string, to *Member, export int64) *Edge {
	r.t.Helper()
	e, err := r.sup.Connect(Route{From: from, Output: output, To: to, Input: "view", Queue: 100, Policy: DropOldest, Export: export})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// passOn has the router pass on the next message. The message is released when it is back.
func (c *chain) passOn(output string) (sent bool) {
	c.rig.t.Helper()
	if !c.lend() {
		c.rig.t.Fatal("nothing was lent")
	}
	m := c.recv(c.r)
	at, ok := m.Place()
	if !ok {
		c.rig.t.Fatal("a message in foreign memory has no place")
	}
	sent, err := c.r.Writer.Pass(c.rig.t.Context(), output, at, Header{Meta: m.Meta, Time: m.Time}, m.Release)
	if err != nil {
		c.rig.t.Fatal(err)
	}
	if !sent {
		m.Release()
	}
	return sent
}

// A message that is passed on is read where its owner wrote it, under the name that it has
// there, and given back when both receivers are done with it.
func TestPassedMessagesAreReadInPlace(t *testing.T) {
	c := newChain(t)
	var held []Message
	for i := range uint64(3) {
		if !c.passOn("on") {
			t.Fatal("it was not passed on")
		}
		m := c.recv(c.relay)
		if n := isLent(t, &m); n != i || m.Time != i || m.Source != "router" || m.Seq != i {
			t.Fatalf("message %d: %+v", i, m)
		}
		if path, err := m.Export.Link(nil); path != c.file.Name() || err != nil {
			t.Fatalf("it is found as %q, %v instead of %s", path, err, c.file.Name())
		}
		held = append(held, m)
	}
	c.r.Writer.Stats()
	if n := c.returned(); n != 0 {
		t.Fatalf("%d messages were given back while a receiver has them", n)
	}
	for i := range held {
		isLent(t, &held[i])
		held[i].Release()
	}
	c.eventually("all to be given back", func() bool {
		c.r.Writer.Stats() // collects
		return c.returned() == len(held)
	})
	if st := c.r.Writer.Stats(); st.Slots != 0 || st.Loans != 0 || st.InUse != 0 {
		t.Fatalf("%+v", st)
	}
	if st := c.lender.ep.Writer.Stats(); st.Slots != 0 || st.Loans != 0 {
		t.Fatalf("%+v", st)
	}
	c.mem.Retire()
	c.eventually("everybody to unmap it", func() bool { return mappings(t, c.file.Name()) == 1 })
	if _, err := os.Stat(c.file.Name()); err != nil {
		t.Fatalf("the owner's file: %v", err)
	}
}

// What was passed on stays as it is until its receiver is done with it, also when its sender
// has ended, and is not lost when that had not been received before.
func TestPassedMessagesOutliveTheirSender(t *testing.T) {
	for _, heir := range []bool{false, true} {
		t.Run(fmt.Sprint("heir ", heir), func(t *testing.T) {
			c := newChain(t)
			const n = 3
			for range n {
				if !c.passOn("on") {
					t.Fatal("it was not passed on")
				}
			}
			early := c.recv(c.relay)
			c.r.Close()
			var next *Member
			if heir {
				next = c.join("router")
				if err := c.router.Succeed(next); err != nil {
					t.Fatal(err)
				}
			} else {
				c.router.Leave()
			}
			time.Sleep(50 * time.Millisecond) // if its messages were taken back, they are damaged by now
			if got := c.returned(); got != 0 {
				t.Fatalf("%d messages were given back before they were delivered", got)
			}
			held := []Message{early, c.recv(c.relay), c.recv(c.relay)}
			if m := c.recv(c.relay); m.End != Gone {
				t.Fatalf("%+v", m)
			}
			time.Sleep(50 * time.Millisecond)
			for i := range held {
				if got := isLent(t, &held[i]); got != uint64(i) {
					t.Fatalf("message %d instead of %d", got, i)
				}
				if got := c.returned(); got != i {
					t.Fatalf("%d messages were given back, of %d released", got, i)
				}
				held[i].Release()
				c.eventually("the message to be given back", func() bool { return c.returned() == i+1 })
			}
			if heir {
				e := c.distant(next)
				if !c.lend() {
					t.Fatal("nothing was lent")
				}
				if m := c.recv(e); m.Seq != n {
					t.Fatalf("the next process got message %d", m.Seq)
				}
			}
		})
	}
}

// A receiver that does not read keeps what the sender had received for a while, not for ever.
func TestPassedMessagesAreTakenBackInTheEnd(t *testing.T) {
	c := newChain(t)
	if !c.passOn("on") {
		t.Fatal("it was not passed on")
	}
	c.r.Close()
	c.router.Leave()
	begin := time.Now()
	c.eventually("the message to be given back", func() bool { return c.returned() == 1 })
	if took := time.Since(begin); took < passLimit/2 {
		t.Fatalf("given back after %v", took)
	}
	if m := c.recv(c.relay); m.End != Gone {
		t.Fatalf("what was taken back arrived: %+v", m)
	}
	select {
	case x := <-c.trouble:
		t.Fatalf("somebody is blamed: %+v", x)
	default:
	}
}

// Who cannot read memory that its owner may cut off gets a copy.
func TestNotPassedOnToEverybody(t *testing.T) {
	c := newChain(t)
	viewer := c.join("viewer")
	e := c.connect(c.router, "both", viewer, "in", 4, DropOldest)
	c.wait("the edge", c.on(c.router, "both", c.join("second"), maxExport).Attached())
	c.wait("the edge", e.Attached())
	if c.passOn("both") || c.passOn("nobody") {
		t.Fatal("passed on to a receiver that cannot read there, or to nobody")
	}
	if n := c.returned(); n != 2 {
		t.Fatalf("%d given back", n)
	}
	m := Message{Payload: []byte{1}}
	if _, ok := m.Place(); ok {
		t.Fatal("an ordinary message can be passed on")
	}
}

// A node that names memory in which it holds no message loses that edge, and nobody else does.
func TestPassingWhatOneDoesNotHold(t *testing.T) {
	for name, change := range map[string]func(*Place){
		"other place":  func(p *Place) { p.offset += lentStride },
		"other length": func(p *Place) { p.length-- },
		"other memory": func(p *Place) { p.segment += 1000 },
		"given back":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t)
			other := c.join("other")
			c.wait("the edge", c.connect(c.camera, "image", other, "in", 8, DropOldest).Attached())
			holder := c.distant(other)
			c.lend()
			c.lend()
			m, last := c.recv(c.r), c.recv(c.r)
			at, _ := m.Place()
			if change != nil {
				change(&at)
				last.Release() // the other node holds it still
			} else {
				m.Release()
			}
			c.lender.ep.Writer.Stats()
			if _, err := c.r.Writer.Pass(t.Context(), "on", at, Header{}, func() {}); err != nil {
				t.Fatal(err)
			}
			if m := c.recv(c.relay); m.End != Broken || !strings.Contains(m.Err.Error(), "holds no such message") {
				t.Fatalf("%+v", m)
			}
			if x := <-c.trouble; x.Node != "router" {
				t.Fatalf("%+v", x)
			}
			for range 2 {
				if m := c.recv(holder); !bytes.Equal(m.Payload, lentMessage(m.Time)) {
					t.Fatal("another receiver's message is damaged")
				}
			}
		})
	}
}

// passer passes on what it gets, and ends without a word after some messages.
func (c *childMain) pass() error {
	go func() {
		for {
			c.Writer.Stats() // collects, as Trim does
			time.Sleep(time.Millisecond)
		}
	}()
	for n := 10 + c.rand.IntN(40); n > 0; n-- {
		m, err := c.Reader.Recv(context.Background())
		if err != nil {
			return err
		}
		at, ok := m.Place()
		if !ok {
			return fmt.Errorf("%+v cannot be passed on", m)
		}
		sent, err := c.Writer.Pass(context.Background(), "on", at, Header{Meta: bytes.Clone(m.Meta), Time: m.Time}, m.Release)
		if !sent || err != nil {
			return fmt.Errorf("passed on: %v, %w", sent, err)
		}
	}
	return nil
}

var passSteps = map[string]int{
	"segment.mapped": 1, "entry.claimed": 10, "pass.taken": 10, "entry.written": 10, "head.stored": 10,
	"pass.published": 10, "token.written": 5, "token.published": 5, "": 1,
}

// A process that passes messages on may end or be killed at any step: what it had published
// arrives undamaged, and all that it had goes back to its owner.
func TestKilledWhilePassingOn(t *testing.T) {
	g := newPlayground(t, faultyBinary(t), SupervisorOptions{Grace: time.Minute})
	camera, to := g.rig.join("camera"), g.rig.join("relay")
	relay := g.open(to)
	l, file := newLender(t, g.rig, camera)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				l.lend()
			}
		}
	}()
	end := sync.OnceFunc(func() {
		close(stop)
		<-stopped
	})
	t.Cleanup(end)
	p := g.node("router", "passer")
	rnd := rand.New(rand.NewPCG(3, 4))
	passed, ends := 0, 0
	for step, most := range passSteps {
		for died, tries := 0, 0; died < 10; tries++ {
			if p.member == nil {
				p.member = g.rig.join("router")
				g.connect(camera, "image", p.member, "in", 8, DropOldest)
			}
			g.on(p.member, "on", to, maxExport)
			if err := g.spawn(p, fmt.Sprintf("%s:%d", step, 1+rnd.IntN(most))); err != nil {
				t.Fatal(err)
			}
			exited := make(chan error, 1)
			ends++
			go func() {
				err := p.cmd.Wait()
				if ends%2 == 0 {
					p.member.Leave()
					p.member = nil
				} else if next, nextErr := g.sup.Join("router"); nextErr == nil {
					err = errors.Join(err, p.member.Succeed(next))
					p.member = next
				}
				exited <- err
			}()
			var held []Message
			for seq := uint64(0); ; seq++ {
				m := g.recv(relay)
				if m.End != NotEnded {
					if m.End == Broken {
						t.Fatal(m.Err)
					}
					break
				}
				passed++
				if isLent(t, &m); m.Seq != seq {
					t.Fatalf("after %s: message %d was published and is lost", step, seq)
				}
				if held = append(held, m); len(held) > 3 {
					isLent(t, &held[0])
					held[0].Release()
					held = held[1:]
				}
			}
			if dead, err := p.killed(<-exited); err != nil {
				t.Fatal(err)
			} else if dead || step == "" {
				died++
			} else if tries > 60 {
				t.Fatalf("it never came to %s", step)
			}
			time.Sleep(2 * time.Millisecond)
			for i := range held {
				isLent(t, &held[i])
				held[i].Release()
			}
		}
	}
	if passed < 200 {
		t.Errorf("%d messages were passed on", passed)
	}
	if p.member != nil {
		p.member.Leave()
	}
	end()
	g.eventually("everything to be given back", func() bool { return l.returned() == int(l.next) })
	if st := l.ep.Writer.Stats(); st.Slots != 0 || st.Loans != 0 {
		t.Fatalf("%+v", st)
	}
	l.mem.Retire()
	g.eventually("everybody to unmap it", func() bool { return mappings(t, file.Name()) == 1 })
}
