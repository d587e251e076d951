package factlog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/dora-go/dora/transport/link"
)

const (
	kindFact = 'F'
	kindAck  = 'A'

	headSize = 8
	// maxRecord bounds one record, so that a damaged length is recognised as such. The
	// largest fact, an exit with 20 lines of stderr, needs some 130 KiB escaped.
	maxRecord = 4 << 20
	// compactAfter is the size of acknowledged records that is worth a rewrite.
	compactAfter = 64 << 10
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// Log is an open facts.log. It is not safe for concurrent use.
type Log struct {
	path    string
	f       *os.File
	size    int64 // bytes of good records in the file
	dirty   bool  // the file lacks facts that are in unacked
	acked   uint64
	last    uint64
	unacked []link.Fact
	// Older says that the file was there before, with a history of another shim.
	Older bool
}

// Open opens or creates the file and cuts off a damaged tail. The error is for a file
// that cannot be opened at all; a file that cannot be written works from memory.
func Open(path string) (*Log, error) {
	l := &Log{path: path}
	data, err := os.ReadFile(path)
	switch {
	case err == nil:
		c := decode(data)
		l.acked, l.last, l.unacked, l.size = c.acked, c.last, c.unacked, c.good
		l.Older = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("facts.log: %w", err)
	}
	l.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("facts.log: %w", err)
	}
	if l.size < int64(len(data)) {
		if err := l.f.Truncate(l.size); err != nil {
			l.dirty = true
		}
	}
	if l.size == 0 {
		l.write(appendAck(nil, l.acked))
	}
	return l, nil
}

// Read returns the unacknowledged facts of a file that no shim holds any more.
func Read(path string) ([]link.Fact, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("facts.log: %w", err)
	}
	return decode(data).unacked, nil
}

// Append gives the fact its number and writes it down. The number is valid even with an
// error: then the fact is in memory only, and the next Append tries again.
func (l *Log) Append(f *link.Fact) error {
	l.last++
	f.Seq = l.last
	l.unacked = append(l.unacked, *f)
	if l.dirty {
		return l.rewrite()
	}
	rec, err := appendFact(nil, f)
	if err != nil {
		return err
	}
	return l.write(rec)
}

// Ack forgets every fact up to seq.
func (l *Log) Ack(seq uint64) error {
	if seq <= l.acked {
		return nil
	}
	seq = min(seq, l.last)
	n := 0
	for n < len(l.unacked) && l.unacked[n].Seq <= seq {
		n++
	}
	clear(l.unacked[:n])
	l.unacked = l.unacked[n:]
	l.acked = seq
	if len(l.unacked) == 0 {
		l.unacked = nil
	}
	if l.dirty || l.size > compactAfter {
		return l.rewrite()
	}
	return l.write(appendAck(nil, seq))
}

// Unacked returns the facts from sequence number seq on. The slice is only valid until
// the next call.
func (l *Log) Unacked(from uint64) []link.Fact {
	if len(l.unacked) == 0 || from > l.last {
		return nil
	}
	first := l.unacked[0].Seq // they have no gap
	return l.unacked[max(from, first)-first:]
}

// Bounds returns the first unacknowledged and the last sequence number (0, 0: none).
func (l *Log) Bounds() (first, last uint64) {
	if len(l.unacked) == 0 {
		return 0, 0
	}
	return l.unacked[0].Seq, l.last
}

// Last is the last sequence number that was given.
func (l *Log) Last() uint64 { return l.last }

// Close closes the file; what is in it stays.
func (l *Log) Close() error { return l.f.Close() }

// write appends one record. What was written of a record that did not fit is cut off
// again; should even that fail, the next write starts at the same place.
func (l *Log) write(rec []byte) error {
	n, err := l.f.WriteAt(rec, l.size)
	if err != nil {
		l.dirty = true
		if n > 0 {
			l.f.Truncate(l.size)
		}
		return fmt.Errorf("facts.log: %w", err)
	}
	l.size += int64(n)
	return nil
}

// rewrite replaces the file by one with the unacknowledged facts only. The old file
// stays until the new one is complete.
func (l *Log) rewrite() error {
	body := appendAck(nil, l.acked)
	for i := range l.unacked {
		var err error
		if body, err = appendFact(body, &l.unacked[i]); err != nil {
			return err
		}
	}
	tmp := l.path + ".new"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		l.dirty = true
		return fmt.Errorf("facts.log: %w", err)
	}
	if _, err = f.Write(body); err == nil {
		err = os.Rename(tmp, l.path)
	}
	if err != nil {
		f.Close()
		os.Remove(tmp)
		l.dirty = true
		return fmt.Errorf("facts.log: %w", err)
	}
	l.f.Close()
	l.f, l.size, l.dirty = f, int64(len(body)), false
	return nil
}

func appendFact(b []byte, f *link.Fact) ([]byte, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return b, fmt.Errorf("facts.log: encode fact %d: %w", f.Seq, err)
	}
	return appendRecord(b, kindFact, body), nil
}

func appendAck(b []byte, seq uint64) []byte {
	return appendRecord(b, kindAck, binary.LittleEndian.AppendUint64(nil, seq))
}

func appendRecord(b []byte, kind byte, body []byte) []byte {
	crc := crc32.Update(crc32.Checksum([]byte{kind}, crcTable), crcTable, body)
	b = binary.LittleEndian.AppendUint32(b, uint32(1+len(body)))
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = append(b, kind)
	return append(b, body...)
}
