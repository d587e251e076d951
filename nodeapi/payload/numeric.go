package payload

import (
	"bytes"
	"encoding/binary"
	"sync"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Arrays of plain numbers are what most messages carry, and for short ones the general
// Arrow reader and writer cost more than everything else on the way. Their streams differ
// only in a few numbers, so both ends work with a form of each type: what the general
// encoder writes, and where in it the numbers stand.

// form is the stream of one number type up to its body.
type form struct {
	typ    arrow.DataType
	width  int // bytes of a value
	schema int // length of the schema block
	head   []byte
	rows   int // positions in head, of 8-byte numbers: rows of the batch,
	node   int // length of the array (its null count, 0, follows),
	values int // offset (0) and length of the values,
	body   int // length of the body
}

// catalogue has the forms by type and by schema block.
type catalogue struct {
	byType   [64]*form
	bySchema map[string]*form
}

var forms = sync.OnceValue(func() *catalogue {
	f := &catalogue{bySchema: make(map[string]*form)}
	for _, typ := range []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.FixedWidthTypes.Float16, arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64,
	} {
		if x := formOf(typ); x != nil {
			f.byType[typ.ID()] = x
			f.bySchema[string(x.head[:x.schema])] = x
		}
	}
	return f
})

// formOf learns the form of a type from the general encoder; nil if it does not look as
// expected.
func formOf(typ arrow.DataType) *form {
	width := typ.(arrow.FixedWidthDataType).Bytes()
	d := array.NewData(typ, 1, []*memory.Buffer{nil, memory.NewBufferBytes(make([]byte, width))}, nil, 0, 0)
	defer d.Release()
	arr := array.MakeFromData(d)
	defer arr.Release()
	e, err := encode(arr)
	if err != nil || len(e.segments) != 5 { // schema, batch, values, padding, end
		return nil
	}
	f := &form{typ: typ, width: width, schema: len(e.segments[0])}
	f.head = append(append(f.head, e.segments[0]...), e.segments[1]...)
	meta := f.head[f.schema+8:]
	t, err := tableAt(meta, 0)
	if err != nil {
		return nil
	}
	batch, ok, err := t.tableField(2)
	if err != nil || !ok {
		return nil
	}
	node, nodes, err1 := batch.vectorField(1, 16)
	buffers, n, err2 := batch.vectorField(2, 16)
	rows, body := batch.field(0, 8), t.field(3, 8)
	if err1 != nil || err2 != nil || nodes != 1 || n != 2 || rows == 0 || body == 0 {
		return nil
	}
	at := func(p uint64) int { return f.schema + 8 + int(p) }
	f.rows, f.node, f.values, f.body = at(rows), at(node), at(buffers+16), at(body)
	if len(f.head) > maxHead {
		return nil
	}
	return f
}

// EncodeInto is Encode into an Encoded whose memory is used again.
func EncodeInto(e *Encoded, arr arrow.Array) error {
	if arr != nil && arr.NullN() == 0 && arr.Len() > 0 {
		if f := forms().byType[arr.DataType().ID()&63]; f != nil && f.typ.ID() == arr.DataType().ID() {
			d := arr.Data()
			if b := d.Buffers()[1]; b != nil {
				from, n := d.Offset()*f.width, d.Len()*f.width
				if from+n <= b.Len() {
					return f.encode(e, d.Len(), b.Bytes()[from:from+n])
				}
			}
		}
	}
	x, err := Encode(arr)
	if err == nil {
		e.set(x)
	}
	return err
}

// EncodeBytesInto is EncodeBytes into an Encoded whose memory is used again.
func EncodeBytesInto(e *Encoded, data []byte) error {
	if f := forms().byType[arrow.UINT8]; f != nil && len(data) > 0 {
		return f.encode(e, len(data), data)
	}
	x, err := EncodeBytes(data)
	if err == nil {
		e.set(x)
	}
	return err
}

func (f *form) encode(e *Encoded, rows int, values []byte) error {
	pad := roundUp(len(values)) - len(values)
	size := len(f.head) + len(values) + pad + len(endOfStream)
	if size > MaxSize {
		return tooLarge(size)
	}
	e.head = f.fill(e.head[:0], rows, 0, len(values))
	e.segments = append(e.segments[:0], e.head, values, tails[pad])
	e.body = append(e.body[:0], values)
	e.size = size
	return nil
}

func (e *Encoded) set(x *Encoded) {
	e.segments, e.body, e.size = append(e.segments[:0], x.segments...), append(e.body[:0], x.body...), x.size
}

// fill appends the head of a stream of so many values, which begin at offset of the body.
func (f *form) fill(dst []byte, rows, offset, length int) []byte {
	at := len(dst)
	dst = append(dst, f.head...)
	h := dst[at:]
	binary.LittleEndian.PutUint64(h[f.rows:], uint64(rows))
	binary.LittleEndian.PutUint64(h[f.node:], uint64(rows))
	binary.LittleEndian.PutUint64(h[f.values:], uint64(offset))
	binary.LittleEndian.PutUint64(h[f.values+8:], uint64(length))
	binary.LittleEndian.PutUint64(h[f.body:], uint64(offset+roundUp(length)))
	return dst
}

// tails are a padding of so many bytes and the end marker.
var tails = func() (t [alignment][]byte) {
	for n := range t {
		t[n] = append(make([]byte, n), endOfStream[:]...)
	}
	return t
}()

// shape is where the values of a stream of a form lie.
type shape struct {
	*form
	rows         int
	from, length int
}

// shapeOf reads a stream that is, but for the numbers in it, a form's.
func shapeOf(data []byte) (s shape, ok bool) {
	if len(data) < 16 || len(data) > MaxSize {
		return s, false
	}
	schema := 8 + uint64(binary.LittleEndian.Uint32(data[4:]))
	if schema+8 > uint64(len(data)) {
		return s, false
	}
	f := forms().bySchema[string(data[:schema])]
	if f == nil || len(data) < len(f.head)+len(endOfStream) {
		return s, false
	}
	number := func(at int) uint64 { return binary.LittleEndian.Uint64(data[at:]) }
	rows, offset, length := number(f.rows), number(f.values), number(f.values+8)
	body := uint64(len(data) - len(f.head) - len(endOfStream))
	if rows > MaxSize || offset > MaxSize || length > MaxSize || length < rows*uint64(f.width) || offset+uint64(roundUp(int(length))) != body {
		return s, false
	}
	// Everything else has to be as this package writes it.
	var room [maxHead]byte
	if want := f.fill(room[:0], int(rows), int(offset), int(length)); !bytes.Equal(want, data[:len(f.head)]) || !ends(data) {
		return s, false
	}
	return shape{form: f, rows: int(rows), from: len(f.head) + int(offset), length: int(length)}, true
}

func ends(data []byte) bool { return bytes.Equal(data[len(data)-len(endOfStream):], endOfStream[:]) }

// array is the array of a stream of this shape.
func (s *shape) array(data []byte, o *Owner) arrow.Array {
	to := s.from + s.length
	values := o.buffer(data[s.from:to:to])
	d := array.NewData(s.typ, s.rows, []*memory.Buffer{nil, values}, nil, 0, 0)
	values.Release()
	arr := array.MakeFromData(d)
	d.Release()
	return arr
}

func decodeNumeric(data []byte, o *Owner) arrow.Array {
	s, ok := shapeOf(data)
	if !ok {
		return nil
	}
	return s.array(data, o)
}

// Decoder decodes the messages of one input. It remembers the shape of the last one: the
// next is mostly alike, and then comparing is all there is to do. The zero value is ready.
// It is used by one goroutine.
type Decoder struct {
	last shape
	size int    // of the stream, in bytes; 0: there was none
	head []byte // what comes before its body
}

// Decode is [Decode] with an owner, or nil. It may reside in memory
// that changes meanwhile: what it says is read once.
func (d *Decoder) Decode(data []byte, o *Owner) (arrow.Array, error) {
	if d.Alike(data) {
		return d.last.array(data, o), nil
	}
	s, ok := shapeOf(data)
	if !ok {
		return d.decodeAny(data, o)
	}
	d.last, d.size = s, len(data)
	d.head = s.fill(d.head[:0], s.rows, s.from-len(s.form.head), s.length)
	return s.array(data, o), nil
}

// Alike says whether a stream differs from the last one in its values alone.
func (d *Decoder) Alike(data []byte) bool {
	return len(data) == d.size && d.size > 0 && bytes.Equal(data[:len(d.head)], d.head) && ends(data)
}

// Ahead is what Decode returns for a stream that is not there yet, if it will begin where
// room does and be alike; nil if nothing is known of it, or room is too short.
func (d *Decoder) Ahead(room []byte, o *Owner) arrow.Array {
	if d.size == 0 || d.size > len(room) {
		return nil
	}
	return d.last.array(room[:d.size:d.size], o)
}

// decodeAny is decodeAny for a stream that another encoder wrote. It remembers where the
// values of plain numbers were: official nodes, for one, write a validity bitmap also where
// nothing is missing.
func (d *Decoder) decodeAny(data []byte, o *Owner) (arrow.Array, error) {
	d.size, d.head = 0, append(d.head[:0], headOf(data)...)
	arr, err := decodeAny(data, o)
	if err != nil || len(d.head) == 0 || !bytes.Equal(d.head, data[:len(d.head)]) {
		return arr, err
	}
	a := arr.Data()
	f := forms().byType[a.DataType().ID()&63]
	if f == nil || f.typ.ID() != a.DataType().ID() || a.NullN() != 0 || a.Offset() != 0 || a.Buffers()[0] != nil || a.Buffers()[1] == nil {
		return arr, nil
	}
	values := a.Buffers()[1].Bytes()
	from := uintptr(unsafe.Pointer(unsafe.SliceData(values))) - uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	if from >= uintptr(len(d.head)) && from <= uintptr(len(data)) && len(values) <= len(data)-int(from) && len(values) >= a.Len()*f.width {
		d.last, d.size = shape{form: f, rows: a.Len(), from: int(from), length: len(values)}, len(data)
	}
	return arr, nil
}

// headOf is what comes before the body of a stream's first batch; nil if that is not to be
// seen, or long.
func headOf(data []byte) []byte {
	end := uint64(0)
	for range 2 { // the schema, the batch
		if end+8 > uint64(len(data)) || binary.LittleEndian.Uint32(data[end:]) != continuation {
			return nil
		}
		end += 8 + uint64(binary.LittleEndian.Uint32(data[end+4:]))
	}
	if end > uint64(len(data)) || end > maxHead {
		return nil
	}
	return data[:end]
}

// continuation begins every message of a stream.
const continuation = 0xffffffff

// maxHead is more than the head of any form, in bytes.
const maxHead = 1 << 10
