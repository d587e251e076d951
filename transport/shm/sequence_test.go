//go:build linux

package shm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

// The sequence test: everything that a producer has published arrives, once and in
// order, whatever its size, while producers end, are killed, and start again.

// sequenceLife is how many messages one producer sends if it is not killed.
const sequenceLife = 10_000

// sequence sends numbered messages on both outputs.
func (c *childMain) sequence() error {
	for n := range uint64(sequenceLife) {
		payload := sequencePayload(n, c.rand)
		for _, out := range []string{"all", "latest"} {
			if err := c.Writer.Send(context.Background(), out, payload, Header{Time: n}); err != nil {
				if errors.Is(err, ErrDisconnected) {
					return nil
				}
				return err
			}
		}
		atomic.AddUint64(c.board.count(c.slot), 1)
	}
	c.Writer.CloseOutput("all")
	c.Writer.CloseOutput("latest")
	return nil
}

// sequencePayload is stamped at both ends, and in each page, with the message's number.
func sequencePayload(n uint64, rnd *rand.Rand) []byte {
	size := 16 + rnd.IntN(200)
	switch rnd.IntN(32) {
	case 0, 1, 2:
		size = 3_000 + rnd.IntN(3_000)
	case 3:
		size = 20_000 + rnd.IntN(100_000)
	}
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 4096 {
		binary.LittleEndian.PutUint64(b[i:], n)
	}
	binary.LittleEndian.PutUint64(b[size-8:], n)
	return b
}

func checkSequence(m *Message) error {
	b, n := m.Payload, m.Time
	if len(b) < 16 || binary.LittleEndian.Uint64(b[len(b)-8:]) != n {
		return fmt.Errorf("message %d: %d bytes, torn at the end", n, len(b))
	}
	for i := 0; i+8 <= len(b)-8; i += 4096 {
		if binary.LittleEndian.Uint64(b[i:]) != n {
			return fmt.Errorf("message %d is torn at %d", n, i)
		}
	}
	return nil
}

func TestNoLossNoReordering(t *testing.T) {
	want := uint64(100_000)
	if soaking() {
		want = 10_000_000
	}
	g := newPlayground(t, thisBinary(t), SupervisorOptions{ArenaLimit: 32 << 20})
	to := g.rig.join("sink")
	sink := g.open(to)
	p := g.node("source", "sequence")
	rnd := rand.New(rand.NewPCG(11, 12))
	total := uint64(0)
	for life := 0; total < want; life++ {
		p.member = g.rig.join("source")
		all := g.connect(p.member, "all", to, "all", 100, Backpressure)
		latest := g.connect(p.member, "latest", to, "latest", 10, DropOldest)
		if err := g.spawn(p, ""); err != nil {
			t.Fatal(err)
		}
		exited := make(chan error, 1)
		go func() { exited <- p.cmd.Wait() }()
		killAfter := uint64(0)
		if life%3 == 1 {
			killAfter = 1 + rnd.Uint64N(sequenceLife-1)
		}
		got, err := followOne(g, sink, p, all, latest, killAfter)
		if err != nil {
			t.Fatalf("process %d of the producer, after %d messages: %v", life+1, total, err)
		}
		total += got
		if err := <-exited; err != nil && killAfter == 0 {
			t.Fatalf("%v: %s", err, p.errors)
		}
		p.member.Leave()
	}
}

// followOne receives what one producer process sends, to the ends of both edges.
func followOne(g *playground, sink *Endpoint, p *process, all, latest *Edge, killAfter uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	next := map[EdgeID]uint64{}
	count := map[EdgeID]uint64{}
	var ends []Message
	for len(ends) < 2 {
		m, err := sink.Reader.Recv(ctx)
		if err != nil {
			return 0, err
		}
		if m.End != NotEnded {
			ends = append(ends, m)
			continue
		}
		if err := checkSequence(&m); err != nil {
			return 0, err
		}
		if m.Seq != m.Time || m.Seq < next[m.Edge] || m.Edge == all.ID() && m.Seq != next[m.Edge] {
			return 0, fmt.Errorf("%s: message %d (the edge says %d) where %d was due", m.Input, m.Time, m.Seq, next[m.Edge])
		}
		next[m.Edge] = m.Seq + 1
		count[m.Edge]++
		m.Release()
		if m.Edge == all.ID() && count[m.Edge] == killAfter {
			if err := p.cmd.Process.Kill(); err != nil {
				return 0, err
			}
		}
	}
	// The supervisor's last look comes with the end of the edges.
	for end := time.Now().Add(10 * time.Second); !all.ended() || !latest.ended(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return 0, errors.New("the supervisor still has the edges")
		}
	}
	sa, sl := all.Stats(), latest.Stats()
	if ends[0].End == Closed && ends[1].End == Closed {
		if count[all.ID()] != sequenceLife || sa.Published != sequenceLife+1 {
			return 0, fmt.Errorf("%d of %d messages came, %d were published with the end", count[all.ID()], sequenceLife, sa.Published)
		}
		if n := count[latest.ID()] + sl.Dropped + sl.Withheld; n != sequenceLife {
			return 0, fmt.Errorf("%d came + %d dropped + %d withheld of %d", count[latest.ID()], sl.Dropped, sl.Withheld, sequenceLife)
		}
	} else if killAfter == 0 || count[all.ID()] != sa.Published {
		return 0, fmt.Errorf("killed: %v, %d came, %d were published", killAfter > 0, count[all.ID()], sa.Published)
	}
	return count[all.ID()], nil
}

// ended says whether the supervisor has let go of the edge.
func (e *Edge) ended() bool {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.removed
}
