package payload

import (
	"errors"
	"fmt"
	"slices"

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
	zeros       [alignment]byte
)

// Encoded is an array made ready to be sent. It refers to the array's own
// buffers, so it must be used before the array is released or changed.
type Encoded struct {
	segments [][]byte
	size     int
	body     [][]byte // those of segments that are the array's buffers
	head     []byte   // of EncodeInto, to be used again
}

// Reset forgets the array; memory is kept to be used again.
func (e *Encoded) Reset() {
	clear(e.segments)
	clear(e.body)
	e.segments, e.body, e.size = e.segments[:0], e.body[:0], 0
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

// Encode prepares arr for sending. The result refers to the memory of arr;
// only arrays that are slices of others are copied first, so that a slice travels
// without its parent.
func Encode(arr arrow.Array) (*Encoded, error) {
	if arr == nil {
		return nil, errors.New("cannot encode a nil arrow array; send an empty array.Null instead")
	}
	if sliced(arr.Data()) {
		if arr.Len() == 0 {
			return encode(array.NewBuilder(memory.DefaultAllocator, arr.DataType()).NewArray())
		}
		if u, ok := arr.(*array.DenseUnion); ok {
			return encode(rebased(u))
		}
		if e, err := encodeCopy(arr); err == nil || errors.Is(err, ErrTooLarge) {
			return e, err
		}
		// Sparse unions cannot be concatenated; the Arrow writer cuts them itself.
	}
	e, err := encode(arr)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		// List offsets that start above zero make the Arrow writer slice the
		// values itself, beyond their end at times. A compact copy has none.
		if again, copyErr := encodeCopy(arr); copyErr == nil {
			return again, nil
		}
	}
	return e, err
}

// sliced says whether any part of d starts inside a larger buffer.
func sliced(d arrow.ArrayData) bool {
	if d.Offset() != 0 {
		return true
	}
	return slices.ContainsFunc(d.Children(), sliced)
}

// rebased makes a slice of a dense union start at offset zero. Its children stay
// whole: finding what the slice needs of them would mean to rewrite every offset.
func rebased(u *array.DenseUnion) arrow.Array {
	d, lo, hi := u.Data(), u.Data().Offset(), u.Data().Offset()+u.Len()
	codes := memory.NewBufferBytes(d.Buffers()[1].Bytes()[lo:hi])
	offsets := memory.NewBufferBytes(d.Buffers()[2].Bytes()[4*lo : 4*hi])
	whole := array.NewData(d.DataType(), u.Len(), []*memory.Buffer{nil, codes, offsets}, d.Children(), 0, 0)
	return array.MakeFromData(whole)
}

func encodeCopy(arr arrow.Array) (*Encoded, error) {
	compact, err := array.Concatenate([]arrow.Array{arr}, memory.DefaultAllocator)
	if err != nil {
		return nil, fmt.Errorf("encode arrow array of type %s: copy the slice: %w", arr.DataType(), err)
	}
	return encode(compact)
}

func encode(arr arrow.Array) (*Encoded, error) {
	schema := arrow.NewSchema([]arrow.Field{{Name: Column, Type: arr.DataType(), Nullable: true}}, nil)
	c := &collector{}
	w := ipc.NewWriterWithPayloadWriter(c, ipc.WithSchema(schema))
	batch := array.NewRecordBatch(schema, []arrow.Array{arr}, int64(arr.Len()))
	defer batch.Release()
	if err := w.Write(batch); err != nil {
		return nil, fmt.Errorf("encode arrow array of type %s: %w", arr.DataType(), err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode arrow array of type %s: %w", arr.DataType(), err)
	}
	if c.out.size > MaxSize {
		return nil, tooLarge(c.out.size)
	}
	return &c.out, nil
}

func tooLarge(size int) error {
	return fmt.Errorf("%w: %d bytes, the limit is %d; split the array", ErrTooLarge, size, MaxSize)
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
