package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
)

// The mark is the journal's memory of its own end. Without it a lost end cannot be told
// from an end: Badger drops everything after a damaged record of its log, and a file
// that was cut between two records looks whole.
//
//	write the batch (and sync it)  ->  write the mark  ->  acknowledge
//
// So at every instant: acknowledged <= mark <= durable. A kill between the steps leaves
// a store that is ahead of its mark, never behind it; a store behind its mark has lost
// something that may have been acknowledged. That holds for SIGKILL without syncing the
// mark, as what was written stays in the page cache. For a power failure the mark is
// synced at most a second later, beside the batches: an old mark is no false alarm
// either, only a weaker witness for that second.
//
// Three blocks of 512 bytes, each closed by its own CRC32C, each within one sector and
// one page, so that a kill cannot tear them:
//
//	header: "DORAJRNL" or "DORAMARK", schema uint32, 4 zeros, journal id [16]byte, created int64 (Unix ns)
//	slot 0: counter, end, pos, epoch uint64, journal id [16]byte
//	slot 1: as slot 0
//
// Slot counter%2 is written, so that the one before stays whole. The store is a file
// (end is the offset behind the last acknowledged record) or a Badger folder (end is 0,
// counter is also in its last transaction).
const (
	schemaVersion = 1
	blockSize     = 512
	markSize      = 3 * blockSize
	magicFile     = "DORAJRNL"
	magicMark     = "DORAMARK"
)

// errMarks: no mark is whole.
var errMarks = fmt.Errorf("%w", ErrDamaged)

type mark struct {
	counter uint64 // writes so far
	end     uint64
	pos     uint64 // head
	epoch   uint64
}

type header struct {
	magic   string
	id      uuid.UUID
	created time.Time
}

func sealBlock(b []byte) {
	binary.LittleEndian.PutUint32(b[blockSize-4:], checksum(b[:blockSize-4]))
}

func blockWhole(b []byte) bool {
	return binary.LittleEndian.Uint32(b[blockSize-4:]) == checksum(b[:blockSize-4])
}

func (h header) encode() []byte {
	b := make([]byte, blockSize)
	copy(b, h.magic)
	binary.LittleEndian.PutUint32(b[8:], schemaVersion)
	copy(b[16:], h.id[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(h.created.UnixNano()))
	sealBlock(b)
	return b
}

func (m mark) encode(id uuid.UUID) []byte {
	b := make([]byte, blockSize)
	binary.LittleEndian.PutUint64(b, m.counter)
	binary.LittleEndian.PutUint64(b[8:], m.end)
	binary.LittleEndian.PutUint64(b[16:], m.pos)
	binary.LittleEndian.PutUint64(b[24:], m.epoch)
	copy(b[32:], id[:])
	sealBlock(b)
	return b
}

// encodeMark gives the three blocks of a new journal.
func encodeMark(h header, m mark) []byte {
	return append(append(h.encode(), m.encode(h.id)...), m.encode(h.id)...)
}

// readMark reads and checks the blocks at the beginning of f. A damaged slot is only a
// warning: the other one stands in for it, at most one write older.
func readMark(f io.ReaderAt, name, magic string) (h header, m mark, warning string, err error) {
	b := make([]byte, markSize)
	n, err := f.ReadAt(b, 0)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return h, m, "", fmt.Errorf("read %s: %w", name, err)
	case n == 0:
		return h, m, "", fmt.Errorf("%w: %s is empty, it must begin with a header", ErrDamaged, name)
	case n >= len(magic) && string(b[:len(magic)]) != magic && !looksLike(b[:n], magic):
		return h, m, "", fmt.Errorf("%w: %s is not a journal: it does not begin with %q", ErrDamaged, name, magic)
	case n < markSize:
		return h, m, "", fmt.Errorf("%w: %s is cut at offset %d, within its header of %d bytes", ErrDamaged, name, n, markSize)
	case !blockWhole(b):
		return h, m, "", fmt.Errorf("%w: %s: the header (offset 0 to %d) is altered", ErrDamaged, name, blockSize)
	}
	if schema := binary.LittleEndian.Uint32(b[8:]); schema > schemaVersion {
		return h, m, "", fmt.Errorf("%w: %s has schema %d, this dora knows %d; use a newer dora", ErrNewer, name, schema, schemaVersion)
	}
	h.magic = magic
	copy(h.id[:], b[16:])
	h.created = time.Unix(0, int64(binary.LittleEndian.Uint64(b[32:])))
	m, warning, err = readSlots(b[blockSize:], h.id, name)
	return h, m, warning, err
}

// looksLike tells a header with a flipped bit from a file of another kind.
func looksLike(b []byte, magic string) bool {
	same := 0
	for i := range len(magic) {
		if b[i] == magic[i] {
			same++
		}
	}
	return same >= len(magic)-1
}

func readSlots(b []byte, id uuid.UUID, name string) (newest mark, warning string, err error) {
	found := 0
	for i := range 2 {
		s := b[i*blockSize : (i+1)*blockSize]
		offset := (i + 1) * blockSize
		if !blockWhole(s) {
			warning = fmt.Sprintf("%s: the mark at offset %d to %d is altered, the other one is used", name, offset, offset+blockSize)
			continue
		}
		if string(s[32:48]) != string(id[:]) {
			return newest, "", fmt.Errorf("%w: %s: the mark at offset %d belongs to another journal", ErrDamaged, name, offset)
		}
		m := mark{
			counter: binary.LittleEndian.Uint64(s), end: binary.LittleEndian.Uint64(s[8:]),
			pos: binary.LittleEndian.Uint64(s[16:]), epoch: binary.LittleEndian.Uint64(s[24:]),
		}
		if found == 0 || m.counter > newest.counter {
			newest = m
		}
		found++
	}
	if found == 0 {
		return newest, "", fmt.Errorf("%w: %s: both marks (offset %d to %d) are altered", errMarks, name, blockSize, markSize)
	}
	return newest, warning, nil
}

// writeMark writes the slot of m.
func writeMark(f io.WriterAt, id uuid.UUID, m mark) error {
	offset := int64(1+m.counter%2) * blockSize
	_, err := f.WriteAt(m.encode(id), offset)
	return err
}

// healMarks makes both slots whole again with m, the newest mark, beginning with its own.
func healMarks(f io.WriterAt, id uuid.UUID, m mark) error {
	if err := writeMark(f, id, m); err != nil {
		return err
	}
	_, err := f.WriteAt(m.encode(id), int64(2-m.counter%2)*blockSize)
	return err
}

// createWhole makes a file that is either absent or whole, also after a crash. The
// caller holds the lock of the folder.
func createWhole(path string, content []byte, mode os.FileMode) error {
	tmp, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer tmp.Close()
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(path)
}
