package payload

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

const (
	// Column is the name of a payload's only column.
	Column = "data"
	// MaxSize is the largest payload, in bytes, that is encoded or decoded. It
	// is the bound of dora 1.1.0's own decoder.
	MaxSize = 256 << 20

	alignment = 64 // of message blocks and body buffers, counted from the stream's start
)

var (
	// ErrTooLarge says that a payload is larger than MaxSize.
	ErrTooLarge = errors.New("arrow payload is too large")
	// ErrInvalid says that bytes are not a payload this package can decode.
	ErrInvalid = errors.New("not a valid arrow payload")

	endOfStream = [8]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}
)

// Encoded is an array made ready to be sent. It refers to the array's own
// buffers, so it must be used before the array is released or changed.
type Encoded struct {
	segments [][]byte
	size     int
}

// Size is the length of the whole stream in bytes.
func (e *Encoded) Size() int { return e.size }

// Segments returns the parts that make up the stream, in order. Large parts are
// the array's own memory, not copies: treat them as read-only.
func (e *Encoded) Segments() [][]byte { return e.segments }

// AppendTo appends the stream to dst: the one copy of an encoding.
func (e *Encoded) AppendTo(dst []byte) []byte {
	for _, s := range e.segments {
		dst = append(dst, s...)
	}
	return dst
}

// Encode prepares arr for sending. The result refers to the memory of arr.
func Encode(arr arrow.Array) (*Encoded, error) {
	if arr == nil {
		return nil, errors.New("cannot encode a nil arrow array; send an empty array.Null instead")
	}
	schema := arrow.NewSchema([]arrow.Field{{Name: Column, Type: arr.DataType(), Nullable: true}}, nil)
	e := &Encoded{}
	w := ipc.NewWriterWithPayloadWriter((*collector)(e), ipc.WithSchema(schema))
	batch := array.NewRecordBatch(schema, []arrow.Array{arr}, int64(arr.Len()))
	defer batch.Release()
	if err := w.Write(batch); err != nil {
		return nil, fmt.Errorf("encode arrow array of type %s: %w", arr.DataType(), err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode arrow array of type %s: %w", arr.DataType(), err)
	}
	return e.checked()
}

// EncodeBytes prepares data as an array of UInt8, without a copy.
func EncodeBytes(data []byte) (*Encoded, error) {
	buf := memory.NewBufferBytes(data)
	d := array.NewData(arrow.PrimitiveTypes.Uint8, len(data), []*memory.Buffer{nil, buf}, nil, 0, 0)
	defer d.Release()
	arr := array.NewUint8Data(d)
	defer arr.Release()
	return Encode(arr)
}

func (e *Encoded) checked() (*Encoded, error) {
	if e.size > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d; split the array", ErrTooLarge, e.size, MaxSize)
	}
	return e, nil
}

// collector receives the messages of the Arrow writer and lays them out on
// 64-byte boundaries. It keeps the buffers by reference.
type collector Encoded

func (c *collector) Start() error { return nil }

func (c *collector) WritePayload(p ipc.Payload) error {
	meta := p.Meta()
	defer meta.Release()
	head := make([]byte, roundUp(8+meta.Len()))
	binary.LittleEndian.PutUint32(head, 0xffffffff)
	binary.LittleEndian.PutUint32(head[4:], uint32(len(head)-8))
	copy(head[8:], meta.Bytes())
	if _, err := c.Write(head); err != nil {
		return err
	}
	return p.SerializeBody(c)
}

func (c *collector) Close() error {
	_, err := c.Write(endOfStream[:])
	return err
}

// Write keeps b instead of copying it. The Arrow writer hands over whole
// buffers and its own zero padding, none of which it changes afterwards; what it
// made for this batch (rebased offsets, say) lives in garbage collected memory.
func (c *collector) Write(b []byte) (int, error) {
	c.segments = append(c.segments, b)
	c.size += len(b)
	return len(b), nil
}

func roundUp(n int) int { return (n + alignment - 1) &^ (alignment - 1) }
