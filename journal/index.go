package journal

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/dora-go/dora/events"
)

// index is what a journal keeps in memory: for every stream the positions of its
// events, 8 bytes each. It is rebuilt by the verification at open, so that the disk
// holds nothing that could contradict the records.
type index struct {
	head    uint64
	epoch   uint64
	streams map[string]*streamIndex
}

type streamIndex struct {
	// pos[i] is the position of the event with sequence number first+i. Readers
	// copy the slice header; elements are never changed once written.
	first uint64
	pos   []uint64
	// summarized is the highest LastSeq of the stream's HistorySummarized events.
	summarized uint64
	// snapshots holds the sequence numbers of the stored snapshots, ascending.
	snapshots []uint64
}

func newIndex() index { return index{streams: map[string]*streamIndex{}} }

func (s *streamIndex) version() uint64 {
	if s == nil || len(s.pos) == 0 {
		return 0
	}
	return s.first + uint64(len(s.pos)) - 1
}

// from returns the positions of the events with seq and above, and the first of their
// sequence numbers.
func (s *streamIndex) from(seq uint64) (first uint64, pos []uint64) {
	if s == nil || seq > s.version() {
		return 0, nil
	}
	seq = max(seq, s.first)
	return seq, s.pos[seq-s.first:]
}

func (x *index) stream(name string) *streamIndex {
	s := x.streams[name]
	if s == nil {
		s = &streamIndex{first: 1}
		x.streams[name] = s
	}
	return s
}

// add takes in a committed event.
func (x *index) add(env *events.Envelope) error {
	s := x.stream(env.Stream)
	if len(s.pos) == 0 {
		s.first = env.Seq
	}
	s.pos = append(s.pos, env.Pos)
	x.head = max(x.head, env.Pos)
	return s.noteSummary(env)
}

func (s *streamIndex) noteSummary(env *events.Envelope) error {
	if !isSummary(env) {
		return nil
	}
	e, err := events.Open(*env)
	if err != nil {
		return err
	}
	if sum, ok := e.(events.HistorySummarized); ok {
		s.summarized = max(s.summarized, sum.LastSeq)
	}
	return nil
}

func isSummary(env *events.Envelope) bool {
	return env.Type == (events.HistorySummarized{}).EventType()
}

// leftovers are the positions of events that a truncation should have removed.
func (s *streamIndex) leftovers() []uint64 {
	if s.summarized < s.first {
		return nil
	}
	return s.pos[:min(s.summarized-s.first+1, uint64(len(s.pos)))]
}

// forget removes the n oldest events. It copies, for the sake of readers.
func (s *streamIndex) forget(n int) {
	s.pos = slices.Clone(s.pos[n:])
	s.first += uint64(n)
}

func (x *index) names(prefix string) []string {
	var names []string
	for name, s := range x.streams {
		if len(s.pos) > 0 && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// checker builds an index from the records of a store in the order of their positions
// and collects what contradicts the promise: positions ascend, sequence numbers of a
// stream follow one another, what is missing at a stream's beginning is accounted for
// by a HistorySummarized, and all streams together have as many events as the journal
// has positions. The last rule finds what the others cannot: the loss of the newest
// events of a stream, or of a whole stream.
type checker struct {
	index
	place   func() string // names where the event at hand stands
	last    uint64        // position of the record before
	hole    uint64        // first position that no record has
	gaps    []gap
	damages []error
	more    int
}

type gap struct {
	stream        string
	after, before uint64 // sequence numbers on both sides
	pos           uint64
}

// maxDamages bounds a report; the rest is counted.
const maxDamages = 50

func newChecker(place func() string) *checker { return &checker{index: newIndex(), place: place} }

// note adds a damage that was found by reading.
func (c *checker) note(err error) {
	if len(c.damages) >= maxDamages {
		c.more++
		return
	}
	c.damages = append(c.damages, err)
}

func (c *checker) damage(format string, args ...any) {
	c.note(fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...))
}

// event takes the next record.
func (c *checker) event(env *events.Envelope) {
	if env.Pos <= c.last {
		c.damage("%s holds event %d after event %d", c.place(), env.Pos, c.last)
		return
	}
	if env.Pos != c.last+1 && c.hole == 0 {
		c.hole = c.last + 1
	}
	c.last = env.Pos
	s := c.stream(env.Stream)
	version := s.version()
	switch {
	case env.Seq == version+1:
	case env.Seq <= version:
		c.damage("%s holds event %d of stream %q a second time", c.place(), env.Seq, env.Stream)
		return
	default:
		// Whether that is a loss is known once every summary was seen.
		c.gaps = append(c.gaps, gap{env.Stream, version, env.Seq, env.Pos})
		s.pos = nil
	}
	if err := c.add(env); err != nil {
		c.note(fmt.Errorf("%s: %w", c.place(), err))
	}
}

// finish compares with the head that the store recorded and returns all damages.
func (c *checker) finish(head uint64) []error {
	lost := uint64(0)
	for _, g := range c.gaps {
		if c.streams[g.stream].summarized < g.before-1 {
			lost += g.before - g.after - 1
			c.damage("events %d to %d of stream %q are missing (before position %d)", g.after+1, g.before-1, g.stream, g.pos)
		}
	}
	total := uint64(0)
	for _, s := range c.streams {
		total += s.version()
	}
	switch {
	case c.last > head:
		c.damage("there is an event at position %d, the journal ends at %d", c.last, head)
	case total < head:
		hole := c.hole
		if hole == 0 {
			hole = c.last + 1
		}
		c.damage("%d events are missing altogether, none is found at position %d; the journal ends at %d", head-total+lost, hole, head)
	case total > head:
		c.damage("streams count %d events, the journal has %d positions", total, head)
	}
	c.head = head
	if c.more > 0 {
		c.damages = append(c.damages, fmt.Errorf("%w: and %d more damages", ErrDamaged, c.more))
	}
	return c.damages
}

// joinDamages makes one error of all that are not nil.
func joinDamages(name string, errs []error) error {
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	return fmt.Errorf("journal %s: %w", name, err)
}
