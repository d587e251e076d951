package payload

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The Arrow reader trusts lengths inside message metadata (FlatBuffers tables)
// and allocates by them. inspect walks the tables first, with every offset
// checked, so that metadata of a few bytes cannot ask for gigabytes or for an
// exponential walk. Field numbers are those of Arrow's Message.fbs, Schema.fbs.

const (
	kindSchema          = 1
	kindDictionaryBatch = 2
	kindRecordBatch     = 3

	metadataV5 = 4

	// Numbers of the Type union of Schema.fbs.
	typeUnion      = 14
	typeBinaryView = 23
	typeUtf8View   = 24

	maxFields = 4096 // of one schema, nested ones included
	maxDepth  = 64   // of nested fields, as in the Arrow reader
)

var errTable = errors.New("message metadata is damaged")

// messageInfo is what a message's metadata says about it.
type messageInfo struct {
	kind    byte
	bodyLen uint64
	schema  schemaInfo // of a schema message
}

// schemaInfo is what must be known of a schema to check the batches after it.
type schemaInfo struct {
	columns   int
	views     int // string and binary view fields outside of dictionaries
	dictViews int // inside of dictionaries
	fields    int // all, nested ones included
}

// table is a FlatBuffers table at position pos of buf.
type table struct {
	buf    []byte
	pos    uint64
	vtable uint64
	vsize  uint64
}

// inspect checks the metadata of one message; schema is what the stream's first
// message said.
func inspect(meta []byte, schema schemaInfo) (messageInfo, error) {
	t, err := tableAt(meta, 0)
	if err != nil {
		return messageInfo{}, err
	}
	// Version is an int16; V5 is number 4, and small enough for one byte.
	if v := t.byteField(0); v != metadataV5 {
		return messageInfo{}, fmt.Errorf("metadata version V%d, want V5", int(v)+1)
	}
	info := messageInfo{kind: t.byteField(1)}
	if v := t.int64Field(3); v < 0 {
		return info, fmt.Errorf("body length %d", v)
	} else {
		info.bodyLen = uint64(v)
	}
	header, ok, err := t.tableField(2)
	if err != nil || !ok {
		return info, errTable
	}
	if err := t.checkKeyValues(4); err != nil {
		return info, err
	}
	switch info.kind {
	case kindSchema:
		info.schema, err = checkSchema(header)
	case kindDictionaryBatch:
		batch, ok, terr := header.tableField(1)
		if terr != nil || !ok {
			return info, errTable
		}
		err = checkBatch(batch, info.bodyLen, 0, schema.dictViews)
	case kindRecordBatch:
		err = checkBatch(header, info.bodyLen, schema.views, schema.views)
	default:
		err = fmt.Errorf("message of kind %d", info.kind)
	}
	return info, err
}

func checkSchema(t table) (s schemaInfo, err error) {
	if t.byteField(0) != 0 { // Endianness.Big
		return s, errors.New("values are big-endian")
	}
	if err := t.checkKeyValues(2); err != nil {
		return s, err
	}
	s.columns, err = s.checkFields(t, 1, maxDepth, false)
	if err == nil && s.dictViews > 1 {
		err = errors.New("more than one field of string views inside dictionaries")
	}
	return s, err
}

// checkFields walks the vector of Field tables in slot of t.
func (s *schemaInfo) checkFields(t table, slot, depth int, inDict bool) (int, error) {
	if depth == 0 {
		return 0, fmt.Errorf("fields nested deeper than %d", maxDepth)
	}
	at, n, err := t.vectorField(slot, 4)
	if err != nil {
		return 0, err
	}
	for i := range n {
		if s.fields++; s.fields > maxFields {
			return 0, fmt.Errorf("more than %d fields", maxFields)
		}
		field, err := tableAt(t.buf, at+4*i)
		if err != nil {
			return 0, err
		}
		if err := s.checkField(field, depth-1, inDict); err != nil {
			return 0, err
		}
	}
	return int(n), nil
}

func (s *schemaInfo) checkField(f table, depth int, inDict bool) error {
	if err := f.checkKeyValues(6); err != nil {
		return err
	}
	typ, ok, err := f.tableField(3)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("a field without a type")
	}
	if f.field(4, 4) != 0 {
		inDict = true
	}
	switch f.byteField(2) {
	case typeUnion:
		if _, _, err := typ.vectorField(1, 4); err != nil {
			return err
		}
	case typeBinaryView, typeUtf8View:
		if inDict {
			s.dictViews++
		} else {
			s.views++
		}
	}
	_, err = s.checkFields(f, 5, depth, inDict)
	return err
}

// checkBatch checks a RecordBatch table against the length of its body. It must
// have between minViews and maxViews counts of variadic buffers: the Arrow reader
// takes one per view field, whether it is there or not.
func checkBatch(t table, bodyLen uint64, minViews, maxViews int) error {
	if t.int64Field(0) < 0 {
		return errors.New("negative row count")
	}
	if t.field(3, 0) != 0 {
		return errors.New("its body is compressed; send it without compression")
	}
	at, nodes, err := t.vectorField(1, 16)
	if err != nil {
		return err
	}
	for i := range nodes {
		length, nulls := t.int64At(at+16*i), t.int64At(at+16*i+8)
		if length < 0 || nulls < 0 || nulls > length {
			return fmt.Errorf("array %d has length %d and %d nulls", i, length, nulls)
		}
	}
	at, buffers, err := t.vectorField(2, 16)
	if err != nil {
		return err
	}
	for i := range buffers {
		offset, length := uint64(t.int64At(at+16*i)), uint64(t.int64At(at+16*i+8))
		if offset > bodyLen || length > bodyLen-offset {
			return fmt.Errorf("buffer %d lies at %d+%d in a body of %d", i, offset, length, bodyLen)
		}
	}
	at, counts, err := t.vectorField(4, 8)
	if err != nil {
		return err
	}
	present := t.field(4, 4) != 0
	if present && counts == 0 || counts < uint64(minViews) || counts > uint64(maxViews) {
		return fmt.Errorf("%d counts of variadic buffers for %d to %d fields", counts, minViews, maxViews)
	}
	left := buffers
	for i := range counts {
		n := uint64(t.int64At(at + 8*i))
		if n > left {
			return errors.New("more variadic buffers than buffers")
		}
		left -= n
	}
	return nil
}

// checkKeyValues checks the vector of custom metadata in slot.
func (t table) checkKeyValues(slot int) error {
	at, n, err := t.vectorField(slot, 4)
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := tableAt(t.buf, at+4*i); err != nil {
			return err
		}
	}
	return nil
}

// tableAt follows the offset stored at position at.
func tableAt(buf []byte, at uint64) (table, error) {
	size := uint64(len(buf))
	if at+4 > size {
		return table{}, errTable
	}
	pos := at + uint64(binary.LittleEndian.Uint32(buf[at:]))
	if pos+4 > size {
		return table{}, errTable
	}
	// A table starts with the distance back to its vtable, a signed number.
	vt := int64(pos) - int64(int32(binary.LittleEndian.Uint32(buf[pos:])))
	if vt < 0 || uint64(vt)+4 > size {
		return table{}, errTable
	}
	t := table{buf: buf, pos: pos, vtable: uint64(vt), vsize: uint64(binary.LittleEndian.Uint16(buf[vt:]))}
	if t.vsize < 4 || t.vtable+t.vsize > size {
		return table{}, errTable
	}
	return t, nil
}

// field returns the position of slot's value, 0 if the table has none or if
// width bytes there would lie outside the buffer.
func (t table) field(slot int, width uint64) uint64 {
	// Exactly the reader's condition, odd sizes of damaged tables included.
	o := uint64(4 + 2*slot)
	if o >= t.vsize || t.vtable+o+2 > uint64(len(t.buf)) {
		return 0
	}
	off := uint64(binary.LittleEndian.Uint16(t.buf[t.vtable+o:]))
	if off == 0 || t.pos+off+width > uint64(len(t.buf)) {
		return 0
	}
	return t.pos + off
}

func (t table) byteField(slot int) byte {
	if p := t.field(slot, 1); p != 0 {
		return t.buf[p]
	}
	return 0
}

func (t table) int64Field(slot int) int64 {
	if p := t.field(slot, 8); p != 0 {
		return t.int64At(p)
	}
	return 0
}

// int64At reads at a position that was checked before.
func (t table) int64At(p uint64) int64 { return int64(binary.LittleEndian.Uint64(t.buf[p:])) }

func (t table) tableField(slot int) (table, bool, error) {
	p := t.field(slot, 4)
	if p == 0 {
		return table{}, false, nil
	}
	sub, err := tableAt(t.buf, p)
	return sub, err == nil, err
}

// vectorField returns where the elements of slot's vector start and how many
// there are; all of them lie inside the buffer.
func (t table) vectorField(slot int, width uint64) (at, n uint64, err error) {
	p := t.field(slot, 4)
	if p == 0 {
		return 0, 0, nil
	}
	size := uint64(len(t.buf))
	v := p + uint64(binary.LittleEndian.Uint32(t.buf[p:]))
	if v+4 > size {
		return 0, 0, errTable
	}
	n = uint64(binary.LittleEndian.Uint32(t.buf[v:]))
	if n*width > size-v-4 {
		return 0, 0, errTable
	}
	return v + 4, n, nil
}
