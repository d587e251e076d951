package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/dora-go/dora/events"
)

// A frame is one entry of the file store:
//
//	uint32  n, the length of the content
//	byte    kind; the highest bit is set on the last event of an append
//	uint32  CRC32C of the five bytes before and the content
//	[n]byte content: eventFrame a record (record.go); epochFrame the new epoch, uint64;
//	        snapshotFrame text Stream, uvarint Seq, the state to the end
const (
	frameHeader = 9

	eventFrame    byte = 1
	epochFrame    byte = 2
	snapshotFrame byte = 3

	lastOfAppend byte = 0x80

	// maxFrame bounds what a damaged length makes a reader allocate.
	maxFrame = MaxEventBytes + MaxStreamName + 64
)

func appendFrame(dst []byte, kind byte, content []byte) []byte {
	start := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(content)))
	dst = append(dst, kind)
	sum := checksum(dst[start:start+5], content)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return append(dst, content...)
}

func appendSnapshot(dst []byte, stream string, seq uint64, state []byte) []byte {
	dst = appendText(dst, stream)
	dst = binary.AppendUvarint(dst, seq)
	return append(dst, state...)
}

func decodeSnapshot(content []byte) (stream string, seq uint64, state []byte, err error) {
	p := parser{b: content}
	stream = string(p.text("stream", MaxStreamName))
	seq = p.uvarint("sequence number")
	return stream, seq, p.b, p.err
}

// frame is one decoded frame. The content is valid until the next one is read.
type frame struct {
	off, next int64
	kind      byte
	last      bool
	content   []byte
}

// errFrame: the bytes at an offset are not a whole frame. Whether that is a damage or
// the end is for the mark to say.
var errFrame = errors.New("not a whole frame")

// window reads frames of a file through a buffer.
type window struct {
	f     io.ReaderAt
	limit int64 // nothing is read from here on
	buf   []byte
	off   int64 // of buf[0] in the file
}

const windowBytes = 256 << 10

// bytes returns n bytes at an offset, fewer at the limit or the end of the file.
func (w *window) bytes(off int64, n int) ([]byte, error) {
	if k := off - w.off; k >= 0 && k+int64(n) <= int64(len(w.buf)) {
		return w.buf[k : k+int64(n)], nil
	}
	want := max(n, min(windowBytes, int(max(w.limit-off, 0))))
	if cap(w.buf) < want {
		w.buf = make([]byte, want)
	}
	w.buf = w.buf[:want]
	k, err := w.f.ReadAt(w.buf, off)
	if err != nil && !errors.Is(err, io.EOF) {
		w.buf = w.buf[:0]
		return nil, err
	}
	w.off, w.buf = off, w.buf[:min(int64(k), max(w.limit-off, 0))]
	return w.buf[:min(n, len(w.buf))], nil
}

// frame reads the frame at an offset. Errors other than those of the file system wrap
// errFrame.
func (w *window) frame(off int64) (frame, error) {
	head, err := w.bytes(off, frameHeader)
	if err != nil {
		return frame{}, err
	}
	if len(head) < frameHeader {
		return frame{}, fmt.Errorf("%w: %d of %d bytes of a frame header", errFrame, len(head), frameHeader)
	}
	n := int(binary.LittleEndian.Uint32(head))
	if n > maxFrame {
		return frame{}, fmt.Errorf("%w: a length of %d", errFrame, n)
	}
	if rest := w.limit - off - frameHeader; int64(n) > rest {
		return frame{}, fmt.Errorf("%w: a length of %d, %d bytes are left", errFrame, n, rest)
	}
	b, err := w.bytes(off, frameHeader+n)
	if err != nil {
		return frame{}, err
	}
	if len(b) < frameHeader+n {
		return frame{}, fmt.Errorf("%w: %d of %d bytes", errFrame, len(b), frameHeader+n)
	}
	if binary.LittleEndian.Uint32(b[5:]) != checksum(b[:5], b[frameHeader:]) {
		return frame{}, fmt.Errorf("%w: the checksum differs", errFrame)
	}
	return frame{
		off: off, next: off + int64(frameHeader+n),
		kind: b[4] &^ lastOfAppend, last: b[4]&lastOfAppend != 0, content: b[frameHeader:],
	}, nil
}

// place names a frame for an error text.
func place(name string, off int64) string { return fmt.Sprintf("%s, offset %d,", name, off) }

// decodeEvent decodes the event of a frame; its data is a part of the frame.
func decodeEvent(fr frame, in interner) (events.Envelope, error) {
	if fr.kind != eventFrame {
		return events.Envelope{}, fmt.Errorf("a frame of kind %d instead of an event", fr.kind)
	}
	return decodeRecord(fr.content, in)
}
