package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// script makes one array after the other; most are like the one before, so that events are
// made ahead, and each of the other kinds follows each.
type script struct {
	r    *rand.Rand
	kind int
	n    int
}

func (s *script) next() (arrow.Array, Parameters) {
	if s.r.IntN(4) == 0 {
		s.kind, s.n = s.r.IntN(5), 1+s.r.IntN(20)
	}
	values := make([]int64, s.n)
	for i := range values {
		values[i] = s.r.Int64()
	}
	switch s.kind {
	case 1: // another type of the same length
		b := array.NewFloat64Builder(memory.DefaultAllocator)
		for _, v := range values {
			b.Append(float64(v))
		}
		return b.NewArray(), nil
	case 2: // missing values
		b := array.NewInt64Builder(memory.DefaultAllocator)
		for _, v := range values {
			b.Append(v)
			b.AppendNull()
		}
		return b.NewArray(), nil
	case 3: // too long for the ring
		return int64s(append(values, make([]int64, 1000)...)...), nil
	case 4: // with parameters
		return int64s(values...), Parameters{"n": Int(s.n)}
	}
	return int64s(values...), nil
}

// Events that were made before their messages came are those of these messages: whatever
// the last one was like, and however long they are kept.
func TestEventsMadeAheadAreOfTheirMessages(t *testing.T) {
	w := newWorld(t)
	one, two, to := w.join("one"), w.join("two"), w.join("to")
	w.connect(one, "out", to, "a", 10, shm.Backpressure)
	w.connect(two, "out", to, "b", 10, shm.Backpressure)
	senders := map[string]*Node{}
	senders["a"], _ = w.node(one)
	senders["b"], _ = w.node(two)
	receiver, _ := w.node(to)
	scripts := map[string]*script{
		"a": {r: rand.New(rand.NewPCG(1, 2)), n: 1},
		"b": {r: rand.New(rand.NewPCG(3, 4)), n: 1},
	}
	var kept, wanted []string
	var events []*Input
	text := func(id string, data arrow.Array, p Parameters) string { return fmt.Sprint(id, data, p) }
	turn := rand.New(rand.NewPCG(5, 6))
	id, ahead := "a", 0
	for range 1500 {
		if turn.IntN(5) == 0 {
			id = string("ab"[turn.IntN(2)])
		}
		data, p := scripts[id].next()
		before := senders[id].Now()
		// Half of the time the receiver sleeps already.
		sent := make(chan error, 1)
		go func() {
			if turn.IntN(2) == 0 {
				time.Sleep(200 * time.Microsecond)
			}
			sent <- senders[id].SendOutput("out", data, WithParameters(p))
		}()
		ev, err := receiver.Recv(context.Background())
		if err := errors.Join(err, <-sent); err != nil {
			t.Fatal(err)
		}
		in, ok := ev.(*Input)
		if !ok {
			t.Fatalf("%v instead of an input", ev)
		}
		if in == receiver.shared.ahead.in {
			t.Fatal("an event that was given out is given out again")
		}
		if in.bytes > 0 && in.Data.Data().SizeInBytes() != in.bytes {
			t.Fatalf("%d bytes are counted, the array has %d", in.bytes, in.Data.Data().SizeInBytes())
		}
		if !before.Before(in.Metadata.Timestamp) {
			t.Fatalf("its time is %v, it was sent after %v", in.Metadata.Timestamp, before)
		}
		if now := receiver.Now(); !in.Metadata.Timestamp.Before(now) {
			t.Fatalf("the receiver's clock says %v after a message of %v", now, in.Metadata.Timestamp)
		}
		if receiver.shared.ahead.steady {
			ahead++
		}
		wanted = append(wanted, text(id, data, p))
		switch turn.IntN(3) {
		case 0:
			events = append(events, in)
			kept = append(kept, "")
		case 1: // kept beyond its release
			in.Data.Retain()
			in.Release()
			events = append(events, in)
			kept = append(kept, "")
		default:
			events = append(events, nil)
			kept = append(kept, text(in.ID, in.Data, in.Metadata.Parameters))
			in.Release()
		}
		if len(events) == 300 { // so many do not use up the arena
			for i, in := range events {
				if in != nil {
					kept[i] = text(in.ID, in.Data, in.Metadata.Parameters)
					in.Release()
				}
				if kept[i] != wanted[i] {
					t.Fatalf("message %d is\n%s\nwanted\n%s", i, kept[i], wanted[i])
				}
			}
			kept, wanted, events = nil, nil, nil
		}
	}
	if ahead < 150 {
		t.Fatalf("of 1500 messages, %d were like the one before", ahead)
	}
}

// What a clock saw counts from the next reading on, and a time that is far ahead does not.
func TestClockHasSeenWhatCame(t *testing.T) {
	clock := nodewire.NewClock()
	ahead := clock.Now().Time + 100<<32/1000 // 100 ms
	clock.Saw(ahead)
	if now := clock.Now(); now.Time <= ahead {
		t.Errorf("%d after %d was seen", now.Time, ahead)
	}
	far := clock.Now().Time + 10<<32
	clock.Saw(far)
	if now := clock.Now(); now.Time >= far {
		t.Errorf("a time of 10 s ahead is followed: %d", now.Time)
	}
}
