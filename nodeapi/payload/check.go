package payload

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// check verifies that every value of d can be read: buffers are as long as the
// lengths say, offsets, indices, type codes and run ends stay in range. Buffer
// layouts are those of the Arrow columnar format, version 1.5.
func check(d arrow.ArrayData, depth int) error {
	if depth == 0 {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	return checkAs(d, d.DataType(), depth)
}

func checkAs(d arrow.ArrayData, dt arrow.DataType, depth int) error {
	if ext, ok := dt.(arrow.ExtensionType); ok {
		return checkAs(d, ext.StorageType(), depth)
	}
	if n := d.NullN(); d.Len() < 0 || n < 0 || n > d.Len() {
		return fmt.Errorf("length %d with %d nulls", d.Len(), n)
	}
	if err := checkValidity(d, dt); err != nil {
		return err
	}
	for _, c := range d.Children() {
		if err := check(c, depth-1); err != nil {
			return err
		}
	}
	switch dt := dt.(type) {
	case *arrow.NullType:
		return nil
	case *arrow.DictionaryType:
		return checkDictionary(d, dt, depth)
	case *arrow.BinaryType, *arrow.StringType:
		return checkOffsets(d, 4, uint64(bufferLen(d, 2)))
	case *arrow.LargeBinaryType, *arrow.LargeStringType:
		return checkOffsets(d, 8, uint64(bufferLen(d, 2)))
	case *arrow.ListType, *arrow.MapType:
		return checkOffsets(d, 4, uint64(d.Children()[0].Len()))
	case *arrow.LargeListType:
		return checkOffsets(d, 8, uint64(d.Children()[0].Len()))
	case *arrow.ListViewType:
		return checkListView(d, 4)
	case *arrow.LargeListViewType:
		return checkListView(d, 8)
	case *arrow.FixedSizeListType:
		return checkFixedSizeList(d, int(dt.Len()))
	case *arrow.StructType:
		return checkChildLengths(d)
	case arrow.BinaryViewDataType:
		return checkViews(d)
	case *arrow.RunEndEncodedType:
		return checkRunEnds(d)
	case arrow.UnionType:
		return checkUnion(d, dt)
	case arrow.DecimalType:
		return checkDecimal(d, dt)
	case arrow.FixedWidthDataType:
		return checkFixedWidth(d, 1, dt.BitWidth())
	}
	return fmt.Errorf("type %s is not supported", dt)
}

func bufferLen(d arrow.ArrayData, i int) int {
	if b := buffer(d, i); b != nil {
		return b.Len()
	}
	return 0
}

func buffer(d arrow.ArrayData, i int) *memory.Buffer {
	if i < len(d.Buffers()) {
		return d.Buffers()[i]
	}
	return nil
}

func bytesOf(d arrow.ArrayData, i int) []byte {
	if b := buffer(d, i); b != nil {
		return b.Bytes()
	}
	return nil
}

func checkValidity(d arrow.ArrayData, dt arrow.DataType) error {
	switch dt.ID() {
	case arrow.NULL, arrow.DENSE_UNION, arrow.SPARSE_UNION, arrow.RUN_END_ENCODED:
		return nil
	}
	if d.NullN() == 0 {
		return nil
	}
	if have, want := uint64(bufferLen(d, 0)), bytesFor(d.Len(), 1); have < want {
		return fmt.Errorf("validity bitmap of %d bytes for %d values", have, d.Len())
	}
	return nil
}

// bytesFor is the size of n values of bits bits, saturated so that it cannot
// wrap around.
func bytesFor(n, bits int) uint64 {
	if n < 0 || bits < 0 {
		return 1 << 62
	}
	if uint64(n) > 1<<50 && bits > 0 {
		return 1 << 62
	}
	return (uint64(n)*uint64(bits) + 7) / 8
}

func checkFixedWidth(d arrow.ArrayData, i, bits int) error {
	if have := uint64(bufferLen(d, i)); have < bytesFor(d.Len(), bits) {
		return fmt.Errorf("a buffer of %d bytes for %d values of %d bits", have, d.Len(), bits)
	}
	return nil
}

// checkDecimal also bounds the type's numbers, which arithmetic indexes by.
func checkDecimal(d arrow.ArrayData, dt arrow.DecimalType) error {
	digits := int32(map[int]int{32: 9, 64: 18, 128: 38, 256: 76}[dt.BitWidth()])
	if p, s := dt.GetPrecision(), dt.GetScale(); p < 1 || p > digits || s > p || s < -digits {
		return fmt.Errorf("precision %d and scale %d, the type has %d digits", p, s, digits)
	}
	return checkFixedWidth(d, 1, dt.BitWidth())
}

// uintAt reads the i-th little-endian integer of 1, 2, 4 or 8 bytes, sign
// extended, so that negative numbers come out larger than any length.
func uintAt(b []byte, i, width int) uint64 {
	switch width {
	case 1:
		return uint64(int8(b[i]))
	case 2:
		return uint64(int16(binary.LittleEndian.Uint16(b[2*i:])))
	case 4:
		return uint64(int32(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return binary.LittleEndian.Uint64(b[8*i:])
}

// checkOffsets checks n+1 ascending offsets that end within limit.
func checkOffsets(d arrow.ArrayData, width int, limit uint64) error {
	if d.Len() == 0 {
		return nil
	}
	b := bytesOf(d, 1)
	if uint64(len(b)) < bytesFor(d.Len()+1, 8*width) {
		return fmt.Errorf("%d bytes of offsets for %d values", len(b), d.Len())
	}
	var last uint64
	for i := range d.Len() + 1 {
		v := uintAt(b, i, width)
		if v < last || v > limit {
			return fmt.Errorf("offset %d of value %d is out of order or beyond %d", int64(v), i, limit)
		}
		last = v
	}
	return nil
}

func checkListView(d arrow.ArrayData, width int) error {
	offsets, sizes := bytesOf(d, 1), bytesOf(d, 2)
	if need := bytesFor(d.Len(), 8*width); uint64(len(offsets)) < need || uint64(len(sizes)) < need {
		return fmt.Errorf("%d and %d bytes of offsets and sizes for %d lists", len(offsets), len(sizes), d.Len())
	}
	limit := uint64(d.Children()[0].Len())
	for i := range d.Len() {
		o, n := uintAt(offsets, i, width), uintAt(sizes, i, width)
		if o > limit || n > limit-o {
			return fmt.Errorf("list %d lies at %d+%d of %d values", i, int64(o), int64(n), limit)
		}
	}
	return nil
}

func checkFixedSizeList(d arrow.ArrayData, size int) error {
	have := uint64(d.Children()[0].Len())
	if size < 0 || size > 0 && uint64(d.Len()) > have/uint64(size) {
		return fmt.Errorf("%d lists of %d from %d values", d.Len(), size, have)
	}
	return nil
}

func checkChildLengths(d arrow.ArrayData) error {
	for i, c := range d.Children() {
		if c.Len() < d.Len() {
			return fmt.Errorf("field %d has %d values for %d rows", i, c.Len(), d.Len())
		}
	}
	return nil
}

// checkViews checks the 16-byte headers of string and binary views: length,
// then either 12 bytes of data or a prefix, a buffer number and an offset.
func checkViews(d arrow.ArrayData) error {
	if err := checkFixedWidth(d, 1, 128); err != nil {
		return err
	}
	b := bytesOf(d, 1)
	for i := range d.Len() {
		v := b[16*i : 16*i+16]
		n := uintAt(v, 0, 4)
		if n <= 12 {
			continue
		}
		if isNull(d, i) {
			continue
		}
		buf, off := uintAt(v, 2, 4), uintAt(v, 3, 4)
		limit := uint64(0)
		if buf < uint64(len(d.Buffers())-2) {
			limit = uint64(bufferLen(d, int(buf)+2))
		}
		if off > limit || n > limit-off {
			return fmt.Errorf("view %d lies at %d+%d of buffer %d with %d bytes", i, int64(off), int64(n), int64(buf), limit)
		}
	}
	return nil
}

func isNull(d arrow.ArrayData, i int) bool {
	if d.NullN() == 0 {
		return false
	}
	b := bytesOf(d, 0)
	return len(b) > i/8 && b[i/8]&(1<<(i%8)) == 0
}

func checkDictionary(d arrow.ArrayData, dt *arrow.DictionaryType, depth int) error {
	index, ok := dt.IndexType.(arrow.FixedWidthDataType)
	if !ok {
		return fmt.Errorf("dictionary indices of type %s", dt.IndexType)
	}
	if err := checkFixedWidth(d, 1, index.BitWidth()); err != nil {
		return err
	}
	dict := d.Dictionary()
	if dict == nil {
		return errors.New("its dictionary is missing")
	}
	if err := check(dict, depth-1); err != nil {
		return fmt.Errorf("dictionary: %w", err)
	}
	b, width, limit := bytesOf(d, 1), index.BitWidth()/8, uint64(dict.Len())
	unsigned := arrow.IsUnsignedInteger(dt.IndexType.ID())
	for i := range d.Len() {
		v := uintAt(b, i, width)
		if unsigned && width < 8 {
			v &= 1<<(8*width) - 1
		}
		if v >= limit && !isNull(d, i) {
			return fmt.Errorf("index %d of value %d in a dictionary of %d", int64(v), i, limit)
		}
	}
	return nil
}

func checkRunEnds(d arrow.ArrayData) error {
	if len(d.Children()) != 2 {
		return errors.New("run-end encoding without two children")
	}
	ends, values := d.Children()[0], d.Children()[1]
	ft, ok := ends.DataType().(arrow.FixedWidthDataType)
	if !ok || ends.NullN() > 0 || values.Len() < ends.Len() {
		return errors.New("run ends and values do not fit together")
	}
	b, last := bytesOf(ends, 1), uint64(0)
	for i := range ends.Len() {
		v := uintAt(b, i, ft.BitWidth()/8)
		if v <= last || int64(v) < 0 {
			return fmt.Errorf("run end %d does not ascend", i)
		}
		last = v
	}
	if uint64(d.Len()) > last {
		return fmt.Errorf("runs end at %d of %d values", last, d.Len())
	}
	return nil
}

func checkUnion(d arrow.ArrayData, dt arrow.UnionType) error {
	codes := bytesOf(d, 1)
	if len(codes) < d.Len() {
		return fmt.Errorf("%d type codes for %d values", len(codes), d.Len())
	}
	offsets := bytesOf(d, 2)
	dense := dt.Mode() == arrow.DenseMode
	if dense && uint64(len(offsets)) < bytesFor(d.Len(), 32) {
		return fmt.Errorf("%d bytes of offsets for %d values", len(offsets), d.Len())
	}
	ids := dt.ChildIDs()
	for i := range d.Len() {
		code := int8(codes[i])
		if code < 0 || int(code) >= len(ids) || ids[code] < 0 || ids[code] >= len(d.Children()) {
			return fmt.Errorf("type code %d of value %d", code, i)
		}
		at := uint64(i)
		if dense {
			at = uintAt(offsets, i, 4)
		}
		if n := uint64(d.Children()[ids[code]].Len()); at >= n {
			return fmt.Errorf("value %d is element %d of a child with %d", i, int64(at), n)
		}
	}
	return nil
}
