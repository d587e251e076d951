package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dora-go/dora/transport/nodewire"
)

// msg is a queued message; flags as nodewire sets them. Its Key carries a name.
func msg(input, name string, flags nodewire.MessageFlags) item {
	return item{ev: nodewire.Event{Kind: nodewire.Input, ID: input, Key: name, Message: nodewire.Message{Flags: flags}}}
}

func control(kind nodewire.EventKind, id string) item {
	ev := nodewire.Event{Kind: kind, ID: id}
	if kind == nodewire.NodeRestarted || kind == nodewire.NodeFailed {
		ev = nodewire.Event{Kind: kind, Node: id}
	}
	return item{ev: ev}
}

// drain pops everything that is there and names it.
func drain(q *queue) string {
	var out []string
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		it, err := q.pop(ctx)
		if errors.Is(err, io.EOF) {
			out = append(out, "end")
		}
		if err != nil {
			return strings.Join(out, " ")
		}
		out = append(out, name(it))
	}
}

func name(it item) string {
	switch {
	case it.err != nil:
		return "error"
	case it.ev.Kind == nodewire.Input:
		return it.ev.Key
	}
	return fmt.Sprintf("%v(%s%s)", it.ev.Kind, it.ev.ID, it.ev.Node)
}

func testQueue() *queue {
	return newQueue([]nodewire.InputConfig{
		{ID: "a", Source: "x/out", HasQueueSize: true, QueueSize: 3},
		{ID: "b", Source: "y/out", HasQueueSize: true, QueueSize: 3},
		{ID: "one", Source: "y/out", HasQueueSize: true, QueueSize: 0},
		{ID: "all", Source: "x/more/out", HasQueueSize: true, QueueSize: 1, Backpressure: true},
		{ID: "tick", Source: "dora/timer/millis/1"},
	})
}

func TestQueueOrder(t *testing.T) {
	const c, f = nodewire.Correlated, nodewire.Flush
	for name, tc := range map[string]struct {
		push []item
		want string
	}{
		"one input in order":               {[]item{msg("a", "1", 0), msg("a", "2", 0), msg("a", "3", 0)}, "1 2 3"},
		"inputs take turns":                {[]item{msg("a", "a1", 0), msg("a", "a2", 0), msg("a", "a3", 0), msg("b", "b1", 0), msg("b", "b2", 0)}, "a1 b1 a2 b2 a3"},
		"the oldest goes":                  {[]item{msg("a", "1", 0), msg("a", "2", 0), msg("a", "3", 0), msg("a", "4", 0), msg("a", "5", 0)}, "3 4 5"},
		"queue_size 0 keeps the latest":    {[]item{msg("one", "1", 0), msg("one", "2", 0)}, "2"},
		"requests stay":                    {[]item{msg("a", "r1", c), msg("a", "2", 0), msg("a", "3", 0), msg("a", "4", 0)}, "r1 3 4"},
		"only requests: the new one goes":  {[]item{msg("a", "r1", c), msg("a", "r2", c), msg("a", "r3", c), msg("a", "4", 0)}, "r1 r2 r3"},
		"only requests: oldest makes room": {[]item{msg("a", "r1", c), msg("a", "r2", c), msg("a", "r3", c), msg("a", "r4", c)}, "r2 r3 r4"},
		"flush clears its input":           {[]item{msg("a", "1", 0), msg("a", "r2", c), msg("b", "b1", 0), msg("a", "f", f)}, "r2 b1 f"},
		"unknown inputs have a queue":      {[]item{msg("new", "1", 0)}, "1"},
		"stop overtakes, then the rest, then the end": {
			[]item{msg("a", "1", 0), control(nodewire.InputClosed, "a"), msg("b", "b1", 0), control(nodewire.Stop, "")}, "Stop() 1 b1 end"},
		"parameters overtake": {[]item{msg("a", "1", 0), control(nodewire.ParamUpdate, "")}, "ParamUpdate() 1"},
		"errors overtake":     {[]item{msg("a", "1", 0), {err: io.ErrUnexpectedEOF}}, "error 1"},
		"a closed input delivers first": {
			[]item{msg("a", "1", 0), msg("a", "2", 0), control(nodewire.InputClosed, "a")}, "1 2 InputClosed(a)"},
		"a closed input does not wait for others": {
			[]item{msg("b", "b1", 0), msg("b", "b2", 0), control(nodewire.InputClosed, "a")}, "InputClosed(a) b1 b2"},
		"others do not wait for a closing input": {
			[]item{msg("a", "1", 0), msg("a", "2", 0), msg("b", "b1", 0), control(nodewire.InputClosed, "a")}, "1 b1 2 InputClosed(a)"},
		"recovery comes before the new data": {
			[]item{control(nodewire.InputClosed, "a"), control(nodewire.InputRecovered, "a"), msg("a", "1", 0)}, "InputClosed(a) InputRecovered(a) 1"},
		"a restart stands between old and new": {
			[]item{msg("a", "old", 0), msg("tick", "t", 0), control(nodewire.NodeRestarted, "x"), msg("a", "new", 0), msg("all", "more", 0)},
			"old NodeRestarted(x) more t new"},
		"new data waits while another input has old": {
			[]item{msg("a", "old1", 0), msg("a", "old2", 0), control(nodewire.NodeRestarted, "x"), msg("all", "new", 0)},
			"old1 old2 NodeRestarted(x) new"},
		"all inputs closed ends it": {
			[]item{msg("a", "1", 0), control(nodewire.AllInputsClosed, ""), msg("a", "2", 0), control(nodewire.Stop, "")}, "1 AllInputsClosed() end"},
	} {
		t.Run(name, func(t *testing.T) {
			q := testQueue()
			for _, it := range tc.push {
				q.push(it)
			}
			if got := drain(q); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestQueueCountsDrops(t *testing.T) {
	q := testQueue()
	for range 5 {
		q.push(msg("a", "", 0))
		q.push(msg("b", "", 0))
	}
	if got := q.drops(); got["a"] != 2 || got["b"] != 2 || len(got) != 2 {
		t.Errorf("got %v", got)
	}
	if got := q.drops(); got != nil {
		t.Errorf("again: %v", got)
	}
}

func TestBackpressureInputDropsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue()
		pushed := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			for pushed = range 250 {
				q.push(msg("all", fmt.Sprint(pushed), 0))
			}
		})
		synctest.Wait()
		if pushed != 100 { // the 101st waits: max(100, 10 x 1)
			t.Fatalf("%d messages before push waited, want 100", pushed)
		}
		for i := range 250 {
			it, err := q.pop(t.Context())
			if err != nil || it.ev.Key != fmt.Sprint(i) {
				t.Fatalf("message %d is %q (%v)", i, it.ev.Key, err)
			}
		}
		wg.Wait()
		if q.drops() != nil {
			t.Error("messages were dropped")
		}
	})
}

func TestParametersOvertakeAFullBackpressureInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue()
		link := &tcp{clock: nodewire.NewClock()}
		events := make([]nodewire.Event, 0, 121)
		for range 120 {
			events = append(events, msg("all", "", 0).ev)
		}
		events = append(events, control(nodewire.ParamUpdate, "").ev)
		var wg sync.WaitGroup
		wg.Go(func() { link.deliver(q, events, nodewire.NewBuffer(1)) })
		synctest.Wait() // 100 messages are queued, the 101st waits
		it, err := q.pop(t.Context())
		if err != nil || it.ev.Kind != nodewire.ParamUpdate {
			t.Fatalf("got %s (%v)", name(it), err)
		}
		for i := range 120 {
			if it, err = q.pop(t.Context()); err != nil || it.ev.Kind != nodewire.Input {
				t.Fatalf("message %d is %s (%v)", i, name(it), err)
			}
			it.release()
		}
		wg.Wait()
		if rest := drain(q); rest != "" {
			t.Errorf("more came: %s", rest)
		}
	})
}

func TestQueueCloseFreesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testQueue()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := q.pop(context.Background()); !errors.Is(err, ErrClosed) {
					t.Errorf("pop: %v", err)
				}
			})
		}
		synctest.Wait()
		q.close(ErrClosed)
		wg.Wait()
		for range 200 {
			q.push(msg("all", "", 0)) // must neither wait nor keep anything
		}
		if got := drain(q); got != "" {
			t.Errorf("got %q", got)
		}
	})
}

// Random traffic: frames are given back exactly once, and each input stays in order.
func TestQueueReleasesEveryFrame(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	q := testQueue()
	var frames []*nodewire.Buffer
	last := map[string]uint64{}
	take := func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		it, err := q.pop(ctx)
		if err != nil {
			return
		}
		if it.ev.Kind == nodewire.Input {
			if it.seq <= last[it.ev.ID] {
				t.Fatalf("input %s went back from %d to %d", it.ev.ID, last[it.ev.ID], it.seq)
			}
			last[it.ev.ID] = it.seq
		}
		it.release()
	}
	for i := range 5000 {
		input := []string{"a", "b", "one", "tick"}[rng.IntN(4)]
		it := msg(input, fmt.Sprint(i), nodewire.MessageFlags(rng.IntN(4)))
		it.frame = nodewire.NewBuffer(8)
		frames = append(frames, it.frame)
		it.frame.Retain() // ours, to look at it afterwards
		q.push(it)
		if rng.IntN(20) == 0 {
			q.push(control(nodewire.InputClosed, input))
		}
		for range rng.IntN(3) {
			take()
		}
	}
	q.close(io.EOF)
	for _, f := range frames {
		f.Release()
		if !panics(f.Release) {
			t.Fatal("a frame is still held")
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

func TestInputQueueDoesNotGrow(t *testing.T) {
	in := &inputQueue{}
	for range 10 {
		in.push(item{})
	}
	for range 100_000 {
		in.push(item{})
		in.pop()
	}
	if cap(in.items) > 64 || in.len() != 10 {
		t.Errorf("capacity %d for %d items", cap(in.items), in.len())
	}
}

func TestSourceNode(t *testing.T) {
	got := []string{sourceNode("cam/image"), sourceNode("rt/op/count"), sourceNode("dora/timer/millis/1"), sourceNode("")}
	if !slices.Equal(got, []string{"cam", "rt", "", ""}) {
		t.Errorf("got %q", got)
	}
}
