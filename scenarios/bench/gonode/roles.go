package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

// lastWords keeps the last message from racing the end of the process; that is for the
// real dora, and the same here.
const lastWords = 50 * time.Millisecond

// awakeFor is longer than the time between two messages of any row.
const awakeFor = 50 * time.Millisecond

type bench struct {
	settings
	node  *nodeapi.Node
	clock clock
	own   []byte // the payload, in this process's own memory
}

func newBench(s settings) (*bench, error) {
	c, err := newClock()
	if err != nil {
		return nil, err
	}
	b := &bench{settings: s, clock: c, own: make([]byte, s.size)}
	fill(b.own)
	b.node, err = nodeapi.Init(context.Background())
	if err == nil && s.awake {
		b.node.Spin(awakeFor)
	}
	return b, err
}

func (b *bench) play(role string) (any, error) {
	switch {
	case role == "send" && b.every > 0:
		return b.paced()
	case role == "send":
		return b.flood()
	case role == "receive" && b.every > 0:
		return b.each()
	case role == "receive":
		return b.stream()
	case role == "ping":
		return b.ping()
	case role == "echo":
		return b.echo()
	case role == "relay":
		return b.relay()
	case role == "idle":
		time.Sleep(time.Duration(b.length))
		return struct{}{}, nil
	}
	return nil, fmt.Errorf("BENCH_ROLE=%s", role)
}

// send sends message seq and returns the time right before.
func (b *bench) send(seq uint64) (int64, error) {
	if b.loan {
		return b.sendLoan(seq)
	}
	stamp(b.own, seq)
	t0 := b.clock.now()
	return t0, b.node.SendBytes("data", b.own)
}

// sendLoan builds the payload where receivers read it, and returns the time right after.
func (b *bench) sendLoan(seq uint64) (int64, error) {
	loan, err := b.node.Loan("data", b.size)
	if err != nil {
		return 0, err
	}
	values := memory.NewBufferWithAllocator(loan.Allocate(b.size), loan)
	defer values.Release()
	if !b.ends {
		fill(values.Bytes())
	}
	stamp(values.Bytes(), seq)
	t0 := b.clock.now()
	data := array.NewData(arrow.PrimitiveTypes.Uint8, b.size, []*memory.Buffer{nil, values}, nil, 0, 0)
	defer data.Release()
	message := array.NewUint8Data(data)
	defer message.Release()
	return t0, loan.Send(message)
}

func (b *bench) answer(seq uint64) error {
	var data [8]byte
	stamp(data[:], seq)
	return b.node.SendBytes("pong", data[:])
}

// next returns the next message and its bytes; nil at the end.
func (b *bench) next(ctx context.Context) (*nodeapi.Input, []byte, error) {
	for {
		event, err := b.node.Recv(ctx)
		if errors.Is(err, io.EOF) {
			return nil, nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		switch event := event.(type) {
		case *nodeapi.Error:
			return nil, nil, event.Err
		case *nodeapi.Input:
			data, ok := event.Data.(*array.Uint8)
			if !ok {
				return nil, nil, fmt.Errorf("input %s: %T instead of bytes", event.ID, event.Data)
			}
			return event, data.Uint8Values(), nil
		}
	}
}

// waitFor waits for the 8 bytes that say seq.
func (b *bench) waitFor(seq uint64) error {
	for {
		in, data, err := b.next(context.Background())
		if err != nil {
			return err
		}
		if in == nil {
			return fmt.Errorf("the events ended before the answer to %d", seq)
		}
		got, ok := whole(data, 8)
		in.Release()
		if ok && got == seq {
			return nil
		}
	}
}

func (b *bench) paced() (any, error) {
	var sent []int64
	next := b.clock.now()
	for seq := range uint64(b.count) {
		next = max(next+b.every, b.clock.now())
		sleepUntil(next)
		t0, err := b.send(seq)
		if err == nil && b.acked {
			err = b.waitFor(seq)
		}
		if err != nil {
			return nil, err
		}
		sent = append(sent, t0)
	}
	time.Sleep(lastWords)
	return map[string]any{"t0": sent}, nil
}

func (b *bench) flood() (any, error) {
	seq := uint64(0)
	for end := b.clock.now() + b.length; b.clock.now() < end; seq++ {
		if _, err := b.send(seq); err != nil {
			return nil, err
		}
	}
	time.Sleep(lastWords)
	return map[string]any{"sent": seq}, nil
}

func (b *bench) ping() (any, error) {
	var values []int64
	for seq := range uint64(b.count) {
		t0, err := b.send(seq)
		if err == nil {
			err = b.waitFor(seq)
		}
		if err != nil {
			return nil, err
		}
		values = append(values, b.clock.now()-t0)
	}
	return map[string]any{"rtt": values}, nil
}

func (b *bench) echo() (any, error) {
	damaged := 0
	for {
		in, data, err := b.next(context.Background())
		if in == nil || err != nil {
			return map[string]any{"damaged": damaged}, err
		}
		head, same := uint64(0), len(data) == b.size
		if same {
			head, _ = whole(data[:8], 8)
			tail, _ := whole(data[b.size-8:], 8)
			same = head == tail
		}
		if !same {
			damaged++
		}
		in.Release()
		if err := b.answer(head); err != nil {
			return nil, err
		}
	}
}

func (b *bench) relay() (any, error) {
	for {
		in, data, err := b.next(context.Background())
		if in == nil || err != nil {
			return struct{}{}, err
		}
		parameters := nodeapi.WithParameters(in.Metadata.Parameters)
		if b.fresh {
			err = b.node.SendBytes("data", data, parameters)
		} else {
			err = b.node.SendOutput("data", in.Data, parameters)
		}
		in.Release()
		if err != nil {
			return nil, err
		}
	}
}

func (b *bench) each() (any, error) {
	seqs, arrived, damaged := []uint64{}, []int64{}, 0
	for {
		in, data, err := b.next(context.Background())
		t1 := b.clock.now()
		if in == nil || err != nil {
			return map[string]any{"seq": seqs, "t1": arrived, "damaged": damaged}, err
		}
		seq, ok := b.read(data)
		in.Release()
		if !ok {
			damaged++
			continue
		}
		seqs, arrived = append(seqs, seq), append(arrived, t1)
		if b.acked {
			if err := b.answer(seq); err != nil {
				return nil, err
			}
		}
	}
}

func (b *bench) stream() (any, error) {
	var begin, first, last int64
	var messages, next, lost uint64
	damaged := 0
	for {
		in, data, err := b.next(context.Background())
		if in == nil || err != nil {
			return map[string]any{"messages": messages, "nanoseconds": last - first, "lost": lost, "damaged": damaged}, err
		}
		seq, ok := b.read(data)
		in.Release()
		if !ok {
			damaged++
			continue
		}
		t := b.clock.now()
		if begin == 0 {
			begin = t
		}
		if t-begin >= b.warm {
			if first == 0 {
				first = t
			} else {
				messages++
				if seq > next {
					lost += seq - next
				}
			}
			last = t
		}
		next = seq + 1
	}
}
