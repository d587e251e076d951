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
	"strconv"
	"sync/atomic"
	"time"
)

// Processes that the tests start: this test binary again, with a role. What they need
// comes in the environment; file descriptor 3 is a board that the test and its children
// write progress and orders on.

type board struct{ mem []byte }

const (
	boardOrder = 0  // u64: 0 run, 1 finish
	boardCount = 64 // u64 per child: messages sent or received
)

func (b *board) order() *uint64          { return word64(b.mem, boardOrder) }
func (b *board) count(child int) *uint64 { return word64(b.mem, uint64(boardCount*(child+1))) }

// settled is 1 when a producer has ended its outputs and has all its slots back.
func (b *board) settled(child int) *uint64 { return word64(b.mem, uint64(boardCount*(child+1)+8)) }

func openBoard(fd int) (*board, error) {
	mem, err := mapMemfd(fd, pageSize, true)
	return &board{mem}, err
}

// childMain is the environment of a child.
type childMain struct {
	*Endpoint
	board *board
	slot  int
	seed  uint64
	rand  *rand.Rand
}

func child(role string) int {
	switch role {
	case "bench":
		return benchChild()
	case "namer":
		return namerChild()
	}
	c, err := childOpen()
	if err == nil {
		switch role {
		case "producer":
			err = c.produce()
		case "exporter":
			err = c.export()
		case "passer":
			err = c.pass()
		case "consumer":
			err = c.consume()
		case "counter":
			err = c.countTo()
		case "sequence":
			err = c.sequence()
		default:
			err = errors.New("unknown role " + role)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		return 3
	}
	return 0
}

func childOpen() (*childMain, error) {
	b, err := openBoard(3)
	if err != nil {
		return nil, err
	}
	c := &childMain{board: b}
	c.slot, _ = strconv.Atoi(os.Getenv("DORA_SHM_TEST_SLOT"))
	c.seed, _ = strconv.ParseUint(os.Getenv("DORA_SHM_TEST_SEED"), 10, 64)
	c.rand = rand.New(rand.NewPCG(c.seed, 1))
	// Without the second look after a second: it would hide a wake-up that was lost.
	c.Endpoint, err = Dial(os.Getenv("DORA_SHM_TEST_SOCKET"), os.Getenv("DORA_SHM_TEST_TOKEN"), Options{noRecheck: true})
	if err != nil {
		return nil, err
	}
	select {
	case <-c.Ready():
	case <-c.Done():
		return nil, errors.New("the supervisor is gone")
	}
	return c, nil
}

func (c *childMain) finishing() bool { return atomic.LoadUint64(c.board.order()) != 0 }

// Test messages: number, incarnation and length, then a pattern made from them.
const stampSize = 24

func stamp(n, incarnation uint64, length int) []byte {
	length = max(length, stampSize)
	b := pattern(length, n*31+incarnation)
	binary.LittleEndian.PutUint64(b, n)
	binary.LittleEndian.PutUint64(b[8:], incarnation)
	binary.LittleEndian.PutUint64(b[16:], uint64(length))
	return b
}

func checkStamp(m *Message) (uint64, error) {
	if len(m.Payload) < stampSize {
		return 0, fmt.Errorf("%s: a message of %d bytes", m.Input, len(m.Payload))
	}
	n := binary.LittleEndian.Uint64(m.Payload)
	if !bytes.Equal(m.Payload, stamp(n, uint64(m.Incarnation), len(m.Payload))) {
		return 0, fmt.Errorf("%s: message %d of incarnation %d is corrupt", m.Input, n, m.Incarnation)
	}
	if string(m.Meta) != fmt.Sprint("meta ", n) {
		return 0, fmt.Errorf("%s: message %d has the metadata %.20q", m.Input, n, m.Meta)
	}
	return n, nil
}

// sizes are mostly small; every kind of segment comes up.
func (c *childMain) size() int {
	switch c.rand.IntN(8) {
	case 0:
		return 5_000 + c.rand.IntN(3_000)
	case 1:
		return 20_000 + c.rand.IntN(40_000)
	case 2:
		return 100_000 + c.rand.IntN(400_000)
	}
	return stampSize + c.rand.IntN(4_000)
}

// produce sends on a backpressure and on a drop_oldest output for a while, then ends
// regularly. All its slots must come back.
func (c *childMain) produce() error {
	ctx := context.Background()
	w := c.Writer
	life := 100 + c.rand.IntN(200)
	for n := range uint64(life) {
		if c.finishing() {
			break
		}
		for _, out := range []string{"all", "latest", "latest", "latest"} {
			payload := stamp(n, uint64(c.Incarnation()), c.size())
			w.Rouse(out, len(payload))
			if err := w.Send(ctx, out, payload, Header{Meta: fmt.Append(nil, "meta ", n)}); err != nil {
				if errors.Is(err, ErrDisconnected) {
					return nil
				}
				return err
			}
		}
		if n%16 == 15 {
			w.Trim()
			time.Sleep(time.Duration(c.rand.IntN(500)) * time.Microsecond)
		}
		atomic.AddUint64(c.board.count(c.slot), 1)
	}
	w.CloseOutput("all")
	w.CloseOutput("latest")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st := w.Stats()
		if st.Slots == 0 && len(st.Edges) == 0 {
			break
		}
		atomic.AddUint64(c.board.count(c.slot), 1)
		if time.Now().After(end) {
			return fmt.Errorf("slots are held after the end: %+v", st)
		}
	}
	for c.finishing() { // until killed: the test looks at what the survivors have mapped
		atomic.StoreUint64(c.board.settled(c.slot), 1)
		time.Sleep(time.Millisecond)
	}
	return nil
}

// export sends payloads of all sizes that may be handed on, and others.
func (c *childMain) export() error {
	for n := range uint64(60) {
		payload := stamp(n, uint64(c.Incarnation()), []int{exportMin, 200_000, 1 << 20, 5_000}[n%4])
		if err := c.Writer.Send(context.Background(), "image", payload, Header{Meta: fmt.Append(nil, "meta ", n)}); err != nil {
			return err
		}
		time.Sleep(100 * time.Microsecond) // the receiver gives some back
	}
	c.Writer.CloseOutput("image")
	return nil
}

// consume checks everything it gets and holds some messages for a while.
func (c *childMain) consume() error {
	next := make(map[EdgeID]uint64)
	heir := os.Getenv("DORA_SHM_TEST_HEIR") == "true"
	notice := uint64(0)
	var held []Message
	for {
		m, err := c.Reader.Recv(context.Background())
		if errors.Is(err, ErrDisconnected) || errors.Is(err, ErrInterrupted) {
			return nil
		}
		if err != nil {
			return err
		}
		atomic.AddUint64(c.board.count(c.slot), 1)
		if m.Notice != nil {
			n := binary.LittleEndian.Uint64(m.Notice)
			if n <= notice {
				return fmt.Errorf("notice %d after %d", n, notice)
			}
			notice = n
			continue
		}
		if m.End != NotEnded {
			if m.End == Broken {
				return m.Err
			}
			for i := range held {
				held[i].Release()
			}
			held = held[:0]
			continue
		}
		if _, err := checkStamp(&m); err != nil {
			return err
		}
		want, begun := next[m.Edge]
		if heir && !begun {
			want = m.Seq // the one before may have read some
		}
		if m.Seq < want || m.Output == "all" && m.Seq != want {
			return fmt.Errorf("%s: message %d after %d", m.Input, m.Seq, int64(want)-1)
		}
		next[m.Edge] = m.Seq + 1
		held = append(held, m)
		if len(held) > 3 {
			i := c.rand.IntN(len(held))
			if _, err := checkStamp(&held[i]); err != nil {
				return fmt.Errorf("while held: %w", err)
			}
			held[i].Release()
			held = append(held[:i], held[i+1:]...)
		}
	}
}

// countTo receives and releases, and counts.
func (c *childMain) countTo() error {
	for {
		m, err := c.Reader.Recv(context.Background())
		if err != nil {
			return nil
		}
		if m.End == NotEnded {
			if _, err := checkStamp(&m); err != nil {
				return err
			}
		}
		m.Release()
		atomic.AddUint64(c.board.count(c.slot), 1)
	}
}
