package payload

import (
	"encoding/binary"
	"errors"

	"github.com/apache/arrow-go/v18/arrow/ipc"
)

// collector receives the messages of the Arrow writer and lays them out anew:
// arrow-go places body buffers on 8-byte boundaries, dora's own nodes on 64-byte
// boundaries. It keeps the buffers by reference.
type collector struct {
	out    Encoded
	bodies [][]byte // what SerializeBody wrote, in order
}

var errLayout = errors.New("the arrow writer produced an unexpected layout")

func (c *collector) Start() error { return nil }

// WritePayload appends one message: metadata with the new buffer positions, then
// the buffers.
func (c *collector) WritePayload(p ipc.Payload) error {
	meta := p.Meta()
	defer meta.Release()
	head := make([]byte, roundUp(8+meta.Len()))
	binary.LittleEndian.PutUint32(head, 0xffffffff)
	binary.LittleEndian.PutUint32(head[4:], uint32(len(head)-8))
	copy(head[8:], meta.Bytes())
	lengths, err := relocate(head[8 : 8+meta.Len()])
	if err != nil {
		return err
	}
	c.bodies = c.bodies[:0]
	if err := p.SerializeBody(c); err != nil {
		return err
	}
	c.add(head)
	return c.addBody(lengths)
}

// addBody matches what the Arrow writer wrote, buffers and 8-byte padding, with
// the lengths it announced.
func (c *collector) addBody(lengths []int) error {
	next := 0
	for _, n := range lengths {
		if n == 0 {
			continue
		}
		if next >= len(c.bodies) || len(c.bodies[next]) != n {
			return errLayout
		}
		c.add(c.bodies[next])
		c.out.body = append(c.out.body, c.bodies[next])
		next++
		if n%8 != 0 { // its own padding follows
			next++
		}
		if pad := roundUp(n) - n; pad > 0 {
			c.add(zeros[:pad])
		}
	}
	if next != len(c.bodies) {
		return errLayout
	}
	return nil
}

func (c *collector) Close() error {
	c.add(endOfStream[:])
	return nil
}

func (c *collector) add(b []byte) {
	c.out.segments = append(c.out.segments, b)
	c.out.size += len(b)
}

// Write keeps b instead of copying it. The Arrow writer hands over whole buffers
// which it does not change afterwards; what it made for this batch (rebased
// offsets, say) lies in garbage collected memory.
func (c *collector) Write(b []byte) (int, error) {
	c.bodies = append(c.bodies, b)
	return len(b), nil
}

// relocate rewrites the buffer positions of a record or dictionary batch so that
// each starts at a multiple of 64, and returns the buffers' lengths.
func relocate(meta []byte) ([]int, error) {
	t, err := tableAt(meta, 0)
	if err != nil {
		return nil, err
	}
	header, ok, err := t.tableField(2)
	if err != nil || !ok {
		return nil, errLayout
	}
	switch t.byteField(1) {
	case kindSchema:
		return nil, nil
	case kindDictionaryBatch:
		if header, ok, err = header.tableField(1); err != nil || !ok {
			return nil, errLayout
		}
	}
	at, n, err := header.vectorField(2, 16)
	if err != nil {
		return nil, err
	}
	lengths, end := make([]int, n), 0
	for i := range lengths {
		p := at + 16*uint64(i)
		lengths[i] = int(t.int64At(p + 8))
		binary.LittleEndian.PutUint64(meta[p:], uint64(end))
		end += roundUp(lengths[i])
	}
	bodyLen := t.field(3, 8)
	if bodyLen == 0 {
		if end > 0 {
			return nil, errLayout
		}
		return lengths, nil
	}
	binary.LittleEndian.PutUint64(meta[bodyLen:], uint64(end))
	return lengths, nil
}

func roundUp(n int) int { return (n + alignment - 1) &^ (alignment - 1) }
