package nodewire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// ErrMalformed is wrapped by every decoding error of this package.
var ErrMalformed = errors.New("malformed node protocol message")

// decoder reads postcard values from b. The first error sticks; what is read after it
// is zero. Byte slices it returns alias b.
type decoder struct {
	b   []byte
	off int
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s at byte %d of %d", ErrMalformed, fmt.Sprintf(format, args...), d.off, len(d.b))
	}
}

func (d *decoder) left() int { return len(d.b) - d.off }

// end reports the sticky error, or an error when bytes are left over.
func (d *decoder) end() error {
	if d.err == nil && d.left() != 0 {
		d.fail("%d bytes left over", d.left())
	}
	return d.err
}

func (d *decoder) byte(what string) byte {
	if d.err != nil {
		return 0
	}
	if d.off >= len(d.b) {
		d.fail("%s is cut off", what)
		return 0
	}
	c := d.b[d.off]
	d.off++
	return c
}

// varint reads a base-128 integer of at most max (2^16-1, 2^32-1 or 2^64-1).
func (d *decoder) varint(what string, max uint64) uint64 {
	if d.err != nil {
		return 0
	}
	// One byte is by far the most frequent length.
	if d.off < len(d.b) && d.b[d.off] < 0x80 {
		d.off++
		return uint64(d.b[d.off-1])
	}
	v, n := binary.Uvarint(d.b[d.off:])
	if n <= 0 {
		d.fail("%s is cut off or too long an integer", what)
		return 0
	}
	if v > max || n > maxVarintLen(max) {
		d.fail("%s is out of range", what)
		return 0
	}
	d.off += n
	return v
}

// maxVarintLen is the longest encoding postcard accepts for integers up to max.
func maxVarintLen(max uint64) int {
	switch max {
	case math.MaxUint16:
		return 3
	case math.MaxUint32:
		return 5
	}
	return 10
}

func (d *decoder) u16(what string) uint16 { return uint16(d.varint(what, math.MaxUint16)) }
func (d *decoder) tag(what string) uint32 { return uint32(d.varint(what, math.MaxUint32)) }

func (d *decoder) i64(what string) int64 {
	u := d.varint(what, math.MaxUint64)
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) f64(what string) float64 {
	b := d.take(what, 8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func (d *decoder) bool(what string) bool {
	c := d.byte(what)
	if c > 1 {
		d.off--
		d.fail("%s is neither true nor false", what)
	}
	return c == 1
}

// take returns the next n bytes, or nil with the error set.
func (d *decoder) take(what string, n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > d.left() {
		d.fail("%s is cut off", what)
		return nil
	}
	b := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

// bytes reads a length and that many bytes.
func (d *decoder) bytes(what string) []byte {
	n := d.varint(what, math.MaxUint64)
	if n > uint64(d.left()) {
		d.fail("%s is cut off", what)
		return nil
	}
	return d.take(what, int(n))
}

// text reads a string as bytes that alias the input and are valid UTF-8.
func (d *decoder) text(what string) []byte {
	b := d.bytes(what)
	if !utf8.Valid(b) {
		d.fail("%s is not UTF-8", what)
		return nil
	}
	return b
}

func (d *decoder) string(what string) string { return string(d.text(what)) }

// count reads the length of a list whose items take at least min bytes each, so that
// room for it can be made in advance.
func (d *decoder) count(what string, min int) int {
	n := d.varint(what, math.MaxUint64)
	if n > uint64(d.left()/min) {
		d.fail("%s has more items than bytes", what)
		return 0
	}
	return int(n)
}

func (d *decoder) strings(what string) []string {
	n := d.count(what, 1)
	if n == 0 {
		return nil
	}
	// A string header is 16 bytes for an item of at least one byte: start small, so
	// that a hostile count does not buy 16 times its size.
	out := make([]string, 0, min(n, 64))
	for i := 0; i < n && d.err == nil; i++ {
		out = append(out, d.string(what))
	}
	return out
}

// appendText and its siblings are the encoding half.
func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func appendStrings(dst []byte, list []string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendText(dst, s)
	}
	return dst
}
