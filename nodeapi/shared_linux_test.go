package nodeapi

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// world is shared memory in this process, with nodes whose control connections end in
// test daemons.
type world struct {
	t   testing.TB
	sup *shm.Supervisor
}

func newWorld(t testing.TB) *world {
	t.Helper()
	sup, err := shm.NewSupervisor(shm.SupervisorOptions{SendTimeout: 5 * time.Second,
		Trouble: func(x shm.Trouble) { t.Errorf("trouble: %+v", x) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sup.Close)
	if err := sup.Listen("@dora-nodeapi-test-" + fmt.Sprint(time.Now().UnixNano())); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, sup: sup}
}

func (w *world) join(id string) *shm.Member {
	m, err := w.sup.Join(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) connect(from *shm.Member, output string, to *shm.Member, input string, queue int, policy shm.Policy) *shm.Edge {
	e, err := w.sup.Connect(shm.Route{From: from, Output: output, To: to, Input: input, Queue: queue, Policy: policy})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// node starts the node of a member.
func (w *world) node(m *shm.Member) (*Node, *daemon) {
	d := newDaemon(w.t)
	cfg := &nodewire.Config{Dataflow: testFlow, Node: m.Node(), Addr: d.ln.Addr().String(),
		Inputs: []nodewire.InputConfig{
			{ID: "a", Source: "one/out", QueueSize: 10, HasQueueSize: true},
			{ID: "b", Source: "two/out", QueueSize: 10, HasQueueSize: true},
			{ID: "tick", Source: "dora/timer/millis/10"},
		}, Outputs: []string{"out"}}
	clock := nodewire.NewClock()
	ep, err := w.sup.Local(m, shm.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	<-ep.Ready()
	n, err := startWith(context.Background(), cfg, clock, newShared(newTCP(cfg, clock), ep))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = n.Close() })
	return n, d
}

// next event as text.
func next(t testing.TB, n *Node) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ev, err := n.Recv(ctx)
	if err != nil {
		return "end: " + err.Error()
	}
	if in, ok := ev.(*Input); ok {
		text := fmt.Sprintf("input %s", in.ID)
		if x, ok := in.Data.(*array.Int64); ok {
			text += fmt.Sprint(" ", x.Int64Values())
		}
		in.Release()
		return text
	}
	return ev.String()
}

func expect(t testing.TB, n *Node, want ...string) {
	t.Helper()
	for i, w := range want {
		if got := next(t, n); got != w {
			t.Fatalf("event %d is %q, want %q", i, got, w)
		}
	}
}

func int64s(v ...int64) *array.Int64 {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(v, nil)
	return b.NewInt64Array()
}

func send(t testing.TB, n *Node, v ...int64) {
	t.Helper()
	if err := n.SendOutput("out", int64s(v...)); err != nil {
		t.Fatal(err)
	}
}

func notice(t testing.TB, m *shm.Member, e nodewire.Event, inputs ...string) {
	t.Helper()
	e.Time = nodewire.NewClock().Now()
	if err := m.Tell(nodewire.AppendEvent(nil, &e), inputs...); err != nil {
		t.Fatal(err)
	}
}

// A notice comes after what was sent before it and before what was sent afterwards, also
// by the next process of the sender.
func TestNoticesKeepTheirPlace(t *testing.T) {
	w := newWorld(t)
	one, two, to := w.join("one"), w.join("two"), w.join("to")
	w.connect(one, "out", to, "a", 10, shm.DropOldest)
	w.connect(two, "out", to, "b", 10, shm.DropOldest)
	first, _ := w.node(one)
	other, _ := w.node(two)
	send(t, first, 1)
	send(t, first, 2)
	one.Leave()
	notice(t, to, nodewire.Event{Kind: nodewire.NodeRestarted, Node: "one"}, "a")
	again := w.join("one")
	w.connect(again, "out", to, "a", 10, shm.DropOldest)
	second, _ := w.node(again)
	send(t, second, 3)
	notice(t, to, nodewire.Event{Kind: nodewire.InputClosed, ID: "a"}, "a")
	send(t, second, 4)
	n, _ := w.node(to)
	expect(t, n, "input a [1]", "input a [2]", "node one restarted", "input a [3]", "input a closed",
		"input a recovered", "input a [4]") // what its timeout had closed recovers with a message
	notice(t, to, nodewire.Event{Kind: nodewire.InputRecovered, ID: "a"}, "a") // the shim saw it later
	notice(t, to, nodewire.Event{Kind: nodewire.InputClosed, ID: "a"}, "a")
	expect(t, n, "input a closed")
	send(t, other, 5)
	notice(t, to, nodewire.Event{Kind: nodewire.InputClosed, ID: "b"}, "b")
	notice(t, to, nodewire.Event{Kind: nodewire.AllInputsClosed})
	expect(t, n, "input b [5]", "input b closed", "stop: all inputs closed", "end: EOF")
}

// Stop comes at once; what was queued before it follows, then the end.
func TestStopOvertakesSharedMessages(t *testing.T) {
	w := newWorld(t)
	one, to := w.join("one"), w.join("to")
	w.connect(one, "out", to, "a", 10, shm.DropOldest)
	from, _ := w.node(one)
	n, d := w.node(to)
	send(t, from, 1)
	send(t, from, 2)
	d.give(nodewire.Event{Kind: nodewire.Stop})
	d.waitFor("the stop", func() bool { return len(d.events) == 0 })
	time.Sleep(50 * time.Millisecond) // it is on its way
	expect(t, n, "stop: manual")
	expect(t, n, "input a [1]", "input a [2]")
	send(t, from, 3)
	expect(t, n, "end: EOF")
}

// A sleeping receiver is woken by what comes over the connection, and both take turns.
func TestConnectionAndSharedMemoryTakeTurns(t *testing.T) {
	w := newWorld(t)
	one, to := w.join("one"), w.join("to")
	w.connect(one, "out", to, "a", 100, shm.DropOldest)
	from, _ := w.node(one)
	n, d := w.node(to)
	go func() {
		time.Sleep(50 * time.Millisecond)
		d.give(nodewire.Event{Kind: nodewire.ParamUpdate, Key: "speed", Value: []byte("3")})
	}()
	expect(t, n, "parameter speed = 3")
	for i := range int64(20) {
		send(t, from, i)
	}
	d.give(inputEvent("tick", nil, nil), inputEvent("tick", nil, nil), inputEvent("tick", nil, nil))
	time.Sleep(100 * time.Millisecond)
	got := make([]string, 6)
	for i := range got {
		got[i], _, _ = strings.Cut(next(t, n), " [")
	}
	if text := strings.Join(got, ","); text != "input tick,input a,input tick,input a,input tick,input a" {
		t.Errorf("order: %s", text)
	}
}

// An array built in a loan is not copied, and arrives whole with its metadata.
func TestLoanIsNotCopied(t *testing.T) {
	w := newWorld(t)
	one, to := w.join("one"), w.join("to")
	w.connect(one, "out", to, "a", 10, shm.Backpressure)
	from, _ := w.node(one)
	n, _ := w.node(to)
	for _, size := range []int{1, 100, 1000, 100_000} {
		loan, err := from.Loan("out", size*8)
		if err != nil {
			t.Fatal(err)
		}
		b := array.NewInt64Builder(loan)
		b.Resize(size)
		for i := range size {
			b.UnsafeAppend(int64(i) * 3)
		}
		arr := b.NewInt64Array()
		before := &arr.Int64Values()[0]
		if err := loan.Send(arr, With("size", Int(size))); err != nil {
			t.Fatal(err)
		}
		if err := loan.Send(arr); err != ErrLoanSpent {
			t.Errorf("a second Send: %v", err)
		}
		ev, err := n.Recv(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		in := ev.(*Input)
		got := in.Data.(*array.Int64).Int64Values()
		if got[size-1] != int64(size-1)*3 || len(got) != size {
			t.Fatalf("%d values, the last is %d", len(got), got[size-1])
		}
		if v, _ := Lookup[Int](in.Metadata.Parameters, "size"); int(v) != size {
			t.Errorf("parameter %d", v)
		}
		if size > 1000 {
			// The same physical memory: what the sender writes there, the receiver sees.
			*before = -1
			if got[0] != -1 {
				t.Error("the array was copied")
			}
		}
		in.Release()
		arr.Release()
	}
}

// Arrays with nulls, several buffers, or from elsewhere go through a loan as well.
func TestLoanTakesEveryArray(t *testing.T) {
	w := newWorld(t)
	one, to := w.join("one"), w.join("to")
	w.connect(one, "out", to, "a", 10, shm.Backpressure)
	from, _ := w.node(one)
	n, _ := w.node(to)
	build := func(mem memory.Allocator) []func() interface{ Release() } {
		return []func() interface{ Release() }{
			func() interface{ Release() } {
				b := array.NewStringBuilder(mem)
				for i := range 3000 {
					if i%7 == 0 {
						b.AppendNull()
					} else {
						b.Append(strings.Repeat("x", i%11))
					}
				}
				return b.NewArray()
			},
			func() interface{ Release() } {
				b := array.NewFloat32Builder(mem)
				b.AppendValues([]float32{1, 2, 3}, []bool{true, false, true})
				return b.NewArray()
			},
		}
	}
	for i, make := range build(memory.DefaultAllocator) {
		want := make().(interface {
			Release()
			MarshalJSON() ([]byte, error)
		})
		text, _ := want.MarshalJSON()
		for _, inLoan := range []bool{true, false} {
			loan, err := from.Loan("out", 100_000)
			if err != nil {
				t.Fatal(err)
			}
			arr := want
			if inLoan {
				arr = build(loan)[i]().(interface {
					Release()
					MarshalJSON() ([]byte, error)
				})
			}
			if err := loan.Send(arr.(arrow.Array)); err != nil {
				t.Fatal(err)
			}
			ev, err := n.Recv(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			in, ok := ev.(*Input)
			if !ok {
				t.Fatal(ev)
			}
			got, _ := in.Data.MarshalJSON()
			if !bytes.Equal(got, text) {
				t.Fatalf("array %d, in the loan %v, came as %.200s", i, inLoan, got)
			}
			in.Release()
		}
	}
}

// Nothing is wrong with a receiver that never releases: the garbage collector does.
func TestForgottenReleases(t *testing.T) {
	w := newWorld(t)
	one, to := w.join("one"), w.join("to")
	w.connect(one, "out", to, "a", 4, shm.Backpressure)
	from, _ := w.node(one)
	n, _ := w.node(to)
	for i := range 2000 {
		if err := from.SendBytes("out", make([]byte, 2<<20)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if _, err := n.Recv(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func benchmarkPair(b *testing.B, size int, loan bool) {
	w := newWorld(b)
	one, two := w.join("one"), w.join("two")
	w.connect(one, "out", two, "a", 10, shm.Backpressure)
	w.connect(two, "out", one, "a", 10, shm.Backpressure)
	x, _ := w.node(one)
	y, _ := w.node(two)
	done := make(chan struct{})
	reply := int64s(1)
	go func() {
		defer close(done)
		for {
			ev, err := y.Recv(context.Background())
			if err != nil {
				return
			}
			if in, ok := ev.(*Input); ok {
				in.Release()
				if y.SendOutput("out", reply) != nil {
					return
				}
			}
		}
	}()
	data := int64s(make([]int64, size/8)...)
	b.ReportAllocs()
	for b.Loop() {
		if loan {
			l, err := x.Loan("out", size)
			if err != nil {
				b.Fatal(err)
			}
			bl := array.NewInt64Builder(l)
			bl.Resize(size / 8)
			bl.AppendValues(data.Int64Values(), nil)
			if err := l.Send(bl.NewArray()); err != nil {
				b.Fatal(err)
			}
		} else if err := x.SendOutput("out", data); err != nil {
			b.Fatal(err)
		}
		ev, err := x.Recv(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		ev.(*Input).Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2, "ns/way")
	_ = y.Close()
	<-done
}

func BenchmarkRoundTrip8(b *testing.B)  { benchmarkPair(b, 8, false) }
func BenchmarkRoundTrip4K(b *testing.B) { benchmarkPair(b, 4096, false) }
func BenchmarkRoundTrip1M(b *testing.B) { benchmarkPair(b, 1<<20, false) }
func BenchmarkLoan1M(b *testing.B)      { benchmarkPair(b, 1<<20, true) }

// What a message costs both ends together when nobody has to be woken.
func BenchmarkSendAndReceive8(b *testing.B) {
	w := newWorld(b)
	one, two := w.join("one"), w.join("two")
	w.connect(one, "out", two, "a", 10, shm.Backpressure)
	x, _ := w.node(one)
	y, _ := w.node(two)
	data := int64s(1)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := x.SendOutput("out", data); err != nil {
			b.Fatal(err)
		}
		ev, err := y.Recv(ctx)
		if err != nil {
			b.Fatal(err)
		}
		ev.(*Input).Release()
	}
}
