package payload

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// stream cuts a payload into the messages of an Arrow IPC stream, in place. It
// is the ipc.MessageReader of one decoding.
type stream struct {
	rest    []byte
	body    *memory.Buffer // the whole payload; messages are slices of it
	whole   []byte
	msg     *ipc.Message
	schema  schemaInfo
	batches int
	ended   bool
}

func (s *stream) Retain()  {}
func (s *stream) Release() { s.drop() }

func (s *stream) drop() {
	if s.msg != nil {
		s.msg.Release()
		s.msg = nil
	}
}

// Message returns the next message, valid until the next call, or io.EOF after
// the end marker. It lets through only what was checked to be safe to parse.
func (s *stream) Message() (*ipc.Message, error) {
	s.drop()
	head, ok := s.take(4)
	if !ok {
		return nil, fmt.Errorf("%w: it ends without an end marker", ErrInvalid)
	}
	if binary.LittleEndian.Uint32(head) != 0xffffffff {
		return nil, fmt.Errorf("%w: a message starts with % x instead of ff ff ff ff", ErrInvalid, head)
	}
	head, ok = s.take(4)
	if !ok {
		return nil, fmt.Errorf("%w: cut off in a message length", ErrInvalid)
	}
	n := binary.LittleEndian.Uint32(head)
	if n == 0 {
		return nil, s.end()
	}
	meta, ok := s.take(uint64(n))
	if !ok {
		return nil, fmt.Errorf("%w: a message of %d bytes in a rest of %d", ErrInvalid, n, len(s.rest))
	}
	info, err := inspect(meta, s.schema)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := s.count(info); err != nil {
		return nil, err
	}
	start := len(s.whole) - len(s.rest)
	if _, ok := s.take(info.bodyLen); !ok {
		return nil, fmt.Errorf("%w: a body of %d bytes in a rest of %d", ErrInvalid, info.bodyLen, len(s.rest))
	}
	body := memory.SliceBuffer(s.body, start, int(info.bodyLen))
	defer body.Release()
	s.msg = ipc.NewMessage(memory.NewBufferBytes(meta), body)
	return s.msg, nil
}

func (s *stream) take(n uint64) ([]byte, bool) {
	if n > uint64(len(s.rest)) {
		return nil, false
	}
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b, true
}

func (s *stream) count(info messageInfo) error {
	switch info.kind {
	case kindSchema:
		s.schema = info.schema
		if n := info.schema.columns; n != 1 {
			return fmt.Errorf("%w: %d columns, want 1", ErrInvalid, n)
		}
	case kindRecordBatch:
		if s.batches++; s.batches > 1 {
			return fmt.Errorf("%w: more than one record batch", ErrInvalid)
		}
	}
	return nil
}

func (s *stream) end() error {
	s.ended = true
	if len(s.rest) > 0 {
		return fmt.Errorf("%w: %d bytes after the end marker", ErrInvalid, len(s.rest))
	}
	return io.EOF
}
