//go:build linux

package shm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("DORA_SHM_TEST_ROLE"); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if faultyDir != "" {
			os.RemoveAll(faultyDir)
		}
		os.Exit(code)
	}))
}

// rig is a supervisor with endpoints in this process. Every endpoint has mappings of
// its own, as in a process of its own.
type rig struct {
	t       testing.TB
	sup     *Supervisor
	trouble chan Trouble
}

func newRig(t testing.TB, o SupervisorOptions) *rig {
	t.Helper()
	r := &rig{t: t, trouble: make(chan Trouble, 100)}
	o.Trouble = func(x Trouble) { r.trouble <- x }
	if o.ArenaLimit == 0 {
		o.ArenaLimit = 64 << 20
	}
	sup, err := NewSupervisor(o)
	if err != nil {
		t.Fatal(err)
	}
	r.sup = sup
	t.Cleanup(sup.Close)
	return r
}

func (r *rig) join(node string) *Member {
	r.t.Helper()
	m, err := r.sup.Join(node)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *rig) open(m *Member) *Endpoint {
	r.t.Helper()
	ep, err := r.sup.Local(m, Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(ep.Close)
	r.wait("ready", ep.Ready())
	return ep
}

func (r *rig) connect(from *Member, output string, to *Member, input string, queue int, p Policy) *Edge {
	r.t.Helper()
	e, err := r.sup.Connect(Route{From: from, Output: output, To: to, Input: input, Queue: queue, Policy: p})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (r *rig) wait(what string, c <-chan struct{}) {
	r.t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		r.t.Fatalf("waited for %s in vain", what)
	}
}

// eventually is for what another goroutine does soon.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited for %s in vain", what)
		}
	}
}

// pair is one producer, one edge, one consumer.
func (r *rig) pair(queue int, p Policy) (*Endpoint, *Endpoint, *Edge) {
	a, b := r.join("camera"), r.join("planner")
	e := r.connect(a, "image", b, "view", queue, p)
	ea, eb := r.open(a), r.open(b)
	r.wait("the edge", e.Attached())
	return ea, eb, e
}

func (r *rig) send(ep *Endpoint, output string, payload []byte, h Header) {
	r.t.Helper()
	if err := ep.Writer.Send(r.t.Context(), output, payload, h); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) recv(ep *Endpoint) Message {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	m, err := ep.Reader.Recv(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// pattern is a payload that shows where it was damaged.
func pattern(n int, seed uint64) []byte {
	b := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], seed*0x9e3779b97f4a7c15+uint64(i))
	}
	for i := n &^ 7; i < n; i++ {
		b[i] = byte(seed) + byte(i)
	}
	return b
}

func TestMessagesOfEverySizeArriveWhole(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(10, Backpressure)
	sizes := []int{0, 1, 8, 63, 64, 65, 4000, 4095, 4096, 4097, 8191, 8192, 8193, 65536, 1 << 20, 1<<20 + 1, 5 << 20}
	for i, n := range sizes {
		for _, meta := range []int{0, 1, 100, 4095, 4096, 4097, 20000} {
			for _, loan := range []bool{false, true} {
				name := fmt.Sprintf("payload %d, meta %d, loan %v", n, meta, loan)
				want, md := pattern(n, uint64(i+1)), pattern(meta, 77)
				h := Header{Meta: md, Time: uint64(n), Protected: loan}
				if loan {
					l, err := a.Writer.Reserve(t.Context(), n)
					if err != nil {
						t.Fatal(name, err)
					}
					copy(l.Bytes(), want)
					if err := l.Publish(t.Context(), "image", h); err != nil {
						t.Fatal(name, err)
					}
					if err := l.Publish(t.Context(), "image", h); !errors.Is(err, ErrSpent) {
						t.Fatal(name, "published twice:", err)
					}
				} else {
					r.send(a, "image", want, h)
				}
				m := r.recv(b)
				if m.Input != "view" || m.Source != "camera" || m.Output != "image" || m.Incarnation != 1 || m.Time != uint64(n) || m.Protected != loan {
					t.Fatalf("%s: %+v", name, m)
				}
				if !bytes.Equal(m.Payload, want) || !bytes.Equal(m.Meta, md) {
					t.Fatalf("%s: %d + %d bytes arrived, damaged", name, len(m.Payload), len(m.Meta))
				}
				m.Release()
			}
		}
	}
	if st := a.Writer.Stats(); st.Slots != 0 || st.InUse != 0 || st.Loans != 0 {
		t.Errorf("everything was released, but %+v", st)
	}
}

func TestFanOutUsesOneSlot(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a := r.join("camera")
	var eps []*Endpoint
	for i := range 70 { // more than a machine word has bits
		m := r.join(fmt.Sprintf("n%d", i))
		r.connect(a, "image", m, "in", 4, DropOldest)
		eps = append(eps, r.open(m))
	}
	ea := r.open(a)
	r.send(ea, "image", pattern(100_000, 1), Header{})
	if st := ea.Writer.Stats(); st.Slots != 1 || st.InUse != 128<<10 {
		t.Fatalf("%+v", st)
	}
	var ms []Message
	for _, ep := range eps {
		m := r.recv(ep)
		if !bytes.Equal(m.Payload, pattern(100_000, 1)) {
			t.Fatal("damaged")
		}
		ms = append(ms, m)
	}
	for i := range ms {
		if st := ea.Writer.Stats(); st.Slots != 1 {
			t.Fatalf("after %d releases: %+v", i, st)
		}
		ms[i].Release()
	}
	if st := ea.Writer.Stats(); st.Slots != 0 {
		t.Fatalf("%+v", st)
	}
}

func TestWarmSlotIsReused(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(10, DropOldest)
	for range 1000 {
		r.send(a, "image", pattern(50_000, 1), Header{})
		m := r.recv(b)
		m.Release()
	}
	if st := a.Writer.Stats(); st.Committed != 64<<10 {
		t.Errorf("one slot after the other was touched: %d bytes", st.Committed)
	}
}

func TestDropOldestCountsEveryDrop(t *testing.T) {
	for _, size := range []int{8, 10_000} {
		r := newRig(t, SupervisorOptions{})
		a, b, e := r.pair(3, DropOldest)
		for i := range 10 {
			r.send(a, "image", pattern(size, uint64(i)), Header{})
		}
		for i := uint64(7); i < 10; i++ {
			m := r.recv(b)
			if m.Seq != i || !bytes.Equal(m.Payload, pattern(size, i)) {
				t.Fatalf("size %d: got message %d, expected %d", size, m.Seq, i)
			}
			m.Release()
		}
		if st := e.Stats(); st.Dropped != 7 || st.Queued != 0 || st.Published != 10 {
			t.Errorf("%+v", st)
		}
		if st := a.Writer.Stats(); st.Slots != 0 {
			t.Errorf("%+v", st)
		}
	}
}

func TestProtectedMessagesOutliveOthers(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, e := r.pair(2, DropOldest)
	for i := range 2 {
		r.send(a, "image", pattern(8, uint64(i)), Header{Protected: true})
	}
	for range 5 {
		r.send(a, "image", pattern(8, 9), Header{})
	}
	r.send(a, "image", pattern(8, 2), Header{Protected: true}) // takes the oldest one's place
	for i := uint64(1); i < 3; i++ {
		if m := r.recv(b); !bytes.Equal(m.Payload, pattern(8, i)) {
			t.Errorf("message %d: seq %d", i, m.Seq)
		}
	}
	if st := e.Stats(); st.Dropped != 6 {
		t.Errorf("%+v", st)
	}
}

func TestBackpressureWaitsForRoom(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.pair(2, Backpressure)
	const n = 2000
	done := make(chan error, 1)
	go func() {
		for i := range n {
			if err := a.Writer.Send(t.Context(), "image", pattern(8+i%9000, uint64(i)), Header{}); err != nil {
				done <- err
				return
			}
		}
		a.Writer.CloseOutput("image")
		done <- nil
	}()
	for i := range uint64(n) {
		m := r.recv(b)
		if m.Seq != i || !bytes.Equal(m.Payload, pattern(8+int(i)%9000, i)) {
			t.Fatalf("message %d instead of %d", m.Seq, i)
		}
		m.Release()
	}
	if m := r.recv(b); m.End != Closed {
		t.Errorf("%+v", m)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.Writer.Send(t.Context(), "image", nil, Header{}); !errors.Is(err, ErrOutputClosed) {
		t.Error(err)
	}
}

func TestBackpressureEndsWithANamedError(t *testing.T) {
	r := newRig(t, SupervisorOptions{SendTimeout: 50 * time.Millisecond})
	a, b, e := r.pair(2, Backpressure)
	c := r.join("viewer")
	e2 := r.connect(a.member(r), "image", c, "in", 100, DropOldest)
	ec := r.open(c)
	r.wait("the second edge", e2.Attached())
	for range 2 {
		r.send(a, "image", []byte("x"), Header{})
	}
	err := a.Writer.Send(t.Context(), "image", []byte("y"), Header{})
	var bp *BackpressureError
	if !errors.As(err, &bp) || !errors.Is(err, ErrTimeout) || len(bp.Inputs) != 1 || bp.Inputs[0] != "planner/view" {
		t.Fatal(err)
	}
	for range 3 { // the other input was not held up
		m := r.recv(ec)
		m.Release()
	}
	if st := e.Stats(); st.Dropped != 1 {
		t.Errorf("%+v", st)
	}
	m := r.recv(b)
	m.Release()
	r.send(a, "image", []byte("x"), Header{}) // full again
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := a.Writer.Send(ctx, "image", nil, Header{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// member finds the supervisor's side of an endpoint.
func (ep *Endpoint) member(r *rig) *Member {
	r.sup.mu.Lock()
	defer r.sup.mu.Unlock()
	for _, m := range r.sup.members {
		if m.node == ep.node && m.incarnation == ep.incarnation {
			return m
		}
	}
	r.t.Fatal("no such member")
	return nil
}

func TestRecvTakesTurns(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b := r.join("a"), r.join("b")
	r.connect(a, "x", b, "x", 50, Backpressure)
	r.connect(a, "y", b, "y", 50, Backpressure)
	ea, eb := r.open(a), r.open(b)
	for range 50 {
		r.send(ea, "x", nil, Header{})
	}
	for range 3 {
		r.send(ea, "y", nil, Header{})
	}
	var order strings.Builder
	for range 8 {
		m := r.recv(eb)
		order.WriteString(m.Input)
	}
	if got := order.String(); got != "yxyxyxxx" && got != "xyxyxyxx" {
		t.Error(got)
	}
}
