package payload

import (
	"encoding/binary"
	"unsafe"
)

// Place makes the stream where the array's values are: it writes what belongs before and
// behind them into mem, in which at most used bytes from its start are taken, and returns
// the first and last byte of the stream. Buffers of the array that lie elsewhere are
// copied behind used. mem must begin at a multiple of 64 bytes. ok is false if that is
// not possible; then only bytes of mem that are not in use have changed.
func (e *Encoded) Place(mem []byte, used int) (from, to int, ok bool) {
	if len(e.body) == 0 || len(mem) == 0 {
		return 0, 0, false
	}
	base, limit := uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem))
	used = roundUp(used)
	at := make([]int, len(e.body))
	first, end, inside := len(mem), 0, false
	for i, b := range e.body {
		p := uintptr(unsafe.Pointer(&b[0])) - base
		if p < limit && p+uintptr(len(b)) <= limit && p%alignment == 0 {
			at[i], inside = int(p), true
		} else {
			if used+len(b) > len(mem) {
				return 0, 0, false
			}
			copy(mem[used:], b)
			at[i] = used
			used += roundUp(len(b))
		}
		first, end = min(first, at[i]), max(end, at[i]+roundUp(len(b)))
	}
	head := e.prefix()
	from, to = first-len(head), end+len(endOfStream)
	if !inside || from < 0 || to > len(mem) || !move(head, at, first, end-first) {
		return 0, 0, false
	}
	for i, b := range e.body {
		clear(mem[at[i]+len(b) : at[i]+roundUp(len(b))])
	}
	copy(mem[from:], head)
	copy(mem[end:], endOfStream[:])
	return from, to, true
}

// prefix is everything before the body, as a copy.
func (e *Encoded) prefix() []byte {
	var head []byte
	for _, s := range e.segments {
		if unsafe.SliceData(s) == unsafe.SliceData(e.body[0]) {
			break
		}
		head = append(head, s...)
	}
	return head
}

// move rewrites the positions of the buffers of a stream's only batch. Arrays with
// dictionaries have more than that and are not moved.
func move(head []byte, at []int, first, length int) bool {
	schema := 8 + int(binary.LittleEndian.Uint32(head[4:]))
	if schema+8 > len(head) || len(head) != schema+8+int(binary.LittleEndian.Uint32(head[schema+4:])) {
		return false
	}
	meta := head[schema+8:]
	t, err := tableAt(meta, 0)
	if err != nil || t.byteField(1) != kindRecordBatch {
		return false
	}
	batch, ok, err := t.tableField(2)
	if err != nil || !ok {
		return false
	}
	buffers, n, err := batch.vectorField(2, 16)
	body := t.field(3, 8)
	if err != nil || body == 0 {
		return false
	}
	next := 0
	for i := range n {
		p := buffers + 16*i
		if t.int64At(p+8) == 0 {
			binary.LittleEndian.PutUint64(meta[p:], 0)
			continue
		}
		if next == len(at) {
			return false
		}
		binary.LittleEndian.PutUint64(meta[p:], uint64(at[next]-first))
		next++
	}
	binary.LittleEndian.PutUint64(meta[body:], uint64(length))
	return next == len(at)
}
