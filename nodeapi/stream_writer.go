package nodeapi

import (
	"slices"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
)

// StreamWriter cuts a stream into segments (an utterance, an answer, a trajectory) and
// segments into chunks: messages on one output with the metadata parameters session_id,
// segment_id, seq and fin. Its methods may be used from many goroutines; chunks are
// numbered in the order of the calls.
type StreamWriter struct {
	node    *Node
	output  string
	session string

	mu      sync.Mutex
	segment int64
	seq     int64
}

// NewStreamWriter begins a session with a new id on an output. A flush in one session
// clears chunks of all sessions on the way to the receiver, so write one session at a
// time on an output.
func (n *Node) NewStreamWriter(output string) (*StreamWriter, error) {
	if err := n.mustHaveOutputs("stream writer", output, ""); err != nil {
		return nil, err
	}
	session, err := NewRequestID()
	if err != nil {
		return nil, err
	}
	return &StreamWriter{node: n, output: output, session: session}, nil
}

// SessionID is the id that all chunks of the writer carry.
func (w *StreamWriter) SessionID() string { return w.session }

// Position is the segment and the number within it that the next chunk will have; both
// begin at 0.
func (w *StreamWriter) Position() (segment, seq int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.segment, w.seq
}

// Send sends a chunk that others of the segment follow.
func (w *StreamWriter) Send(data arrow.Array, opts ...SendOption) error {
	return w.send(data, false, false, opts)
}

// Finish sends the last chunk of the segment; the next one begins another.
func (w *StreamWriter) Finish(data arrow.Array, opts ...SendOption) error {
	return w.send(data, true, false, opts)
}

// Interrupt begins a new segment with this chunk and makes obsolete what was sent
// before: the receiver drops what is still queued on the input (flush), and the broken
// segment with it.
func (w *StreamWriter) Interrupt(data arrow.Array, opts ...SendOption) error {
	return w.send(data, false, true, opts)
}

func (w *StreamWriter) send(data arrow.Array, fin, flush bool, opts []SendOption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	segment, seq := w.segment, w.seq
	if flush {
		segment, seq = segment+1, 0
	}
	own := []SendOption{With(ParamSessionID, Text(w.session)), With(ParamSegmentID, Int(segment)), With(ParamSequence, Int(seq)), With(ParamFin, Bool(fin))}
	if flush {
		own = append(own, With(ParamFlush, Bool(true)))
	}
	if err := w.node.SendOutput(w.output, data, slices.Concat(opts, own)...); err != nil {
		return err // nothing was sent: the numbers are free
	}
	w.segment, w.seq = segment, seq+1
	if fin {
		w.segment, w.seq = segment+1, 0
	}
	return nil
}
