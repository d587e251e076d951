package nodeapi

import (
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

var (
	// ErrNoChunk says that a message has no usable parameters of a stream.
	ErrNoChunk = errors.New("the message is no chunk of a stream")
	// ErrSegmentTooLong says that a segment was dropped because it exceeds what a
	// StreamReader holds.
	ErrSegmentTooLong = errors.New("the segment is too long")
)

// StreamChunk is where a message belongs in a stream.
type StreamChunk struct {
	Session string
	Segment int64
	Seq     int64 // within the segment, from 0
	Fin     bool  // the segment's last
	Flush   bool  // what came before is obsolete
}

// ChunkOf reads the parameters of a stream's message: session_id (text), segment_id and
// seq (integers from 0 to
// 2^62) must be there, fin and flush (booleans) may.
func ChunkOf(p Parameters) (StreamChunk, error) {
	var c StreamChunk
	session, ok := Lookup[Text](p, ParamSessionID)
	if !ok || session == "" {
		return c, fmt.Errorf("%w: %s is missing or no text", ErrNoChunk, ParamSessionID)
	}
	segment, ok := Lookup[Int](p, ParamSegmentID)
	if !ok || segment < 0 || segment > maxStreamNumber {
		return c, fmt.Errorf("%w: %s is missing or no integer from 0 to 2^62", ErrNoChunk, ParamSegmentID)
	}
	seq, ok := Lookup[Int](p, ParamSequence)
	if !ok || seq < 0 || seq > maxStreamNumber {
		return c, fmt.Errorf("%w: %s is missing or no integer from 0 to 2^62", ErrNoChunk, ParamSequence)
	}
	flags := map[string]bool{}
	for _, name := range []string{ParamFin, ParamFlush} {
		v, ok := Lookup[Bool](p, name)
		if !ok && p[name] != nil {
			return c, fmt.Errorf("%w: %s is no boolean", ErrNoChunk, name)
		}
		flags[name] = bool(v)
	}
	return StreamChunk{string(session), int64(segment), int64(seq), flags[ParamFin], flags[ParamFlush]}, nil
}

// Bounds of what a StreamReader holds until segments are complete.
const (
	maxStreamSessions = 64
	maxSegmentChunks  = 1 << 16
	maxSegmentBytes   = 256 << 20
	maxStreamNumber   = 1 << 62 // so that sums of numbers do not overflow
)

// StreamReader puts the segments of a stream together again. It is for one goroutine.
//
// It holds the chunks of unfinished segments, of at most 64 sessions (then it forgets
// the one silent for longest), and per segment at most 65,536 chunks and 256 MiB.
type StreamReader struct {
	input    string
	sessions []*streamSession // silent for longest first
	stats    StreamStats
}

// StreamStats counts what became of a stream's chunks and segments.
type StreamStats struct {
	Chunks      uint64 // that were chunks of the stream
	Segments    uint64 // returned, complete or not
	Interrupted uint64 // dropped before their last chunk: by a flush, a newer segment, or for want of room
	Missing     uint64 // chunks that did not arrive, in segments that were returned
	Stale       uint64 // chunks of segments that were over, dropped
}

// StreamSegment is a segment whose last chunk has arrived.
type StreamSegment struct {
	Session string
	ID      int64
	// Chunks in the order of their seq. The last one has fin.
	Chunks []*Input
	// Missing is how many chunks did not arrive: a full input dropped them, or the
	// reader began in the middle.
	Missing int64
}

type streamSession struct {
	id      string
	segment int64
	next    int64 // seq of the next chunk
	over    bool  // the segment was returned or dropped
	missing int64
	bytes   uint64
	chunks  []*Input
}

// NewStreamReader reads the stream that comes on an input.
func (n *Node) NewStreamReader(input string) (*StreamReader, error) {
	if _, err := n.sourceOf(input); err != nil {
		return nil, fmt.Errorf("stream reader: %w", err)
	}
	return &StreamReader{input: input}, nil
}

// Add looks at an event. It returns true if the event was a chunk of this stream, which
// the reader holds from now on, and a segment if it was the last chunk of one. Release
// the segment after use. An error names what was dropped; the reader works on.
//
// A closed input or a restarted sender needs no care: a new sender has a new session.
func (r *StreamReader) Add(ev Event) (*StreamSegment, bool, error) {
	in, ok := ev.(*Input)
	if !ok || in.ID != r.input {
		return nil, false, nil
	}
	c, err := ChunkOf(in.Metadata.Parameters)
	if err != nil {
		if in.Metadata.Parameters[ParamSessionID] == nil {
			return nil, false, nil
		}
		in.Release()
		return nil, true, fmt.Errorf("input %s: %w", in.ID, err)
	}
	r.stats.Chunks++
	if c.Flush {
		for _, s := range r.sessions {
			r.interrupt(s)
		}
	}
	s := r.session(c.Session)
	if c.Segment > s.segment {
		r.interrupt(s)
		*s = streamSession{id: s.id, segment: c.Segment}
	}
	if c.Segment < s.segment || s.over || c.Seq < s.next {
		r.stats.Stale++
		in.Release()
		return nil, true, nil
	}
	s.missing += c.Seq - s.next
	s.next = c.Seq + 1
	s.bytes += in.Data.Data().SizeInBytes()
	s.chunks = append(s.chunks, in)
	if len(s.chunks) > maxSegmentChunks || s.bytes > maxSegmentBytes {
		r.interrupt(s)
		return nil, true, fmt.Errorf("input %s: segment %d of session %s: %w: more than %d chunks or %d bytes; finish segments earlier",
			in.ID, c.Segment, c.Session, ErrSegmentTooLong, maxSegmentChunks, maxSegmentBytes)
	}
	if !c.Fin {
		return nil, true, nil
	}
	seg := &StreamSegment{Session: s.id, ID: s.segment, Chunks: s.chunks, Missing: s.missing}
	r.stats.Segments++
	r.stats.Missing += uint64(s.missing)
	s.chunks, s.over = nil, true
	return seg, true, nil
}

// session finds a session's state, and moves it to the end: heard of last.
func (r *StreamReader) session(id string) *streamSession {
	i := slices.IndexFunc(r.sessions, func(s *streamSession) bool { return s.id == id })
	s := &streamSession{id: id, segment: -1}
	switch {
	case i >= 0:
		s = r.sessions[i]
	case len(r.sessions) == maxStreamSessions:
		i = 0
		r.interrupt(r.sessions[0])
	}
	if i >= 0 {
		r.sessions = slices.Delete(r.sessions, i, i+1)
	}
	r.sessions = append(r.sessions, s)
	return s
}

// interrupt drops a segment that is not over.
func (r *StreamReader) interrupt(s *streamSession) {
	if s.over || s.segment < 0 {
		return
	}
	for _, c := range s.chunks {
		c.Release()
	}
	s.chunks, s.over = nil, true
	r.stats.Interrupted++
}

// Stats of the reader so far.
func (r *StreamReader) Stats() StreamStats { return r.stats }

// Close releases what the reader holds.
func (r *StreamReader) Close() {
	for _, s := range r.sessions {
		r.interrupt(s)
	}
	r.sessions = nil
}

// Data joins the chunks, which must be of one type, to one array (a copy).
func (s *StreamSegment) Data() (arrow.Array, error) {
	parts := make([]arrow.Array, len(s.Chunks))
	for i, c := range s.Chunks {
		parts[i] = c.Data
	}
	all, err := array.Concatenate(parts, memory.DefaultAllocator)
	if err != nil {
		return nil, fmt.Errorf("segment %d of session %s: %w", s.ID, s.Session, err)
	}
	return all, nil
}

// Release gives the memory of the chunks back.
func (s *StreamSegment) Release() {
	for _, c := range s.Chunks {
		c.Release()
	}
}
