package nodeapi

import (
	"unsafe"

	"github.com/dora-go/dora/transport/shm"
)

// ahead is the event of a message that is still to come, made for one that comes in the ring
// and is like the last but for its values, as messages of one input mostly are. After a sleep
// of some milliseconds all code and memory of the node is cold: what it needs not touch
// between waking up and its own code, a good half, the message arrives sooner by.
type ahead struct {
	of    *sharedInput // whose message it was made for
	in    *Input       // nil: there is none
	lease *lease
	// steady: the last message was like the one before.
	steady bool
}

// prepare makes the event of the next message.
func (s *shared) prepare() {
	a, known := &s.ahead, s.latest
	if !a.steady || known == nil {
		return
	}
	room := s.ep.Reader.Landing()
	if a.in != nil && a.of == known && a.lease.at == unsafe.SliceData(room) {
		return
	}
	l := &lease{s: s, at: unsafe.SliceData(room)}
	l.To = l
	data := known.decoder.Ahead(room, &l.Owner)
	if data == nil {
		a.in, a.steady = nil, false
		return
	}
	a.of, a.lease = known, l
	a.in = &Input{ID: known.id, Data: data}
	a.in.size()
}

// prepared is the event that was made for this message; nil if it is not as expected.
func (s *shared) prepared(m *shm.Message, known *sharedInput) *Input {
	a := &s.ahead
	alike := a.of == known && !m.InSlot() && known.decoder.Alike(m.Payload)
	in := a.in
	if in == nil || !alike || a.lease.at != unsafe.SliceData(m.Payload) {
		a.of, a.in, a.steady = known, nil, alike
		return nil
	}
	a.in = nil
	a.lease.message = m.Lease()
	return in
}
