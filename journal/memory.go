package journal

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal/failpoint"
)

// NewMemory makes a store that lives as long as the process. It has no goroutine of its
// own: an append is written by the goroutine that calls it, which keeps simulations on a
// fake clock deterministic.
func NewMemory() *Journal {
	o := OpenOptions{}.withDefaults(-1, -1)
	id, err := newJournalID()
	if err != nil {
		// Only a system without randomness gets here; nothing of it can run.
		panic(err)
	}
	b := &memoryStore{bodies: map[uint64][]byte{}, snaps: map[string]map[uint64][]byte{}}
	j := prepare(b, id.String(), "in memory", newIndex(), o, Recovery{})
	j.direct = new(sync.Mutex)
	return j
}

// memoryStore keeps the encoded records, so that what it returns is as independent of
// what was appended as with the other stores.
type memoryStore struct {
	mu     sync.RWMutex
	head   uint64
	bodies map[uint64][]byte
	snaps  map[string]map[uint64][]byte
}

func (s *memoryStore) limits() limits          { return limits{records: 1 << 20, bytes: 4 * maxGroup} }
func (s *memoryStore) admit(int64, bool) error { return nil }
func (s *memoryStore) idle() bool              { return false }
func (s *memoryStore) close() error            { return nil }
func (s *memoryStore) writeEpoch(uint64) error { return nil }

func (s *memoryStore) writeEvents(recs []record) error {
	failpoint.Hit(failpoint.MidBatch)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range recs {
		s.bodies[recs[i].pos] = recs[i].body
		s.head = recs[i].pos
	}
	return nil
}

func (s *memoryStore) writeSnapshot(stream string, seq uint64, state []byte, drop []uint64) error {
	failpoint.Hit(failpoint.MidSnapshot)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snaps[stream] == nil {
		s.snaps[stream] = map[uint64][]byte{}
	}
	s.snaps[stream][seq] = slices.Clone(state)
	for _, old := range drop {
		delete(s.snaps[stream], old)
	}
	return nil
}

func (s *memoryStore) removeEvents(positions []uint64) error {
	failpoint.Hit(failpoint.MidRetention)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pos := range positions {
		delete(s.bodies, pos)
	}
	return nil
}

func (s *memoryStore) fetch(positions []uint64, in interner) ([]events.Envelope, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.read(positions, in)
}

// read reads events. The caller holds mu.
func (s *memoryStore) read(positions []uint64, in interner) ([]events.Envelope, error) {
	out := make([]events.Envelope, 0, len(positions))
	for _, pos := range positions {
		body, ok := s.bodies[pos]
		if !ok {
			return out, fmt.Errorf("%w at position %d", errAbsent, pos)
		}
		env, err := decodeRecord(slices.Clone(body), in)
		if err != nil {
			return out, fmt.Errorf("%w: position %d: %w", ErrDamaged, pos, err)
		}
		out = append(out, env)
	}
	return out, nil
}

func (s *memoryStore) scan(from, to uint64, in interner) ([]events.Envelope, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var positions []uint64
	for pos := from; pos <= to && len(positions) < chunkEvents; pos++ {
		if _, ok := s.bodies[pos]; ok {
			positions = append(positions, pos)
		}
	}
	return s.read(positions, in)
}

func (s *memoryStore) snapshot(stream string, seq uint64) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	state, ok := s.snaps[stream][seq]
	if !ok {
		return nil, fmt.Errorf("%w: snapshot %d of stream %q", ErrDamaged, seq, stream)
	}
	return slices.Clone(state), nil
}

func (s *memoryStore) verify(ctx context.Context) []error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	positions := make([]uint64, 0, len(s.bodies))
	for pos := range s.bodies {
		positions = append(positions, pos)
	}
	slices.Sort(positions)
	check := newChecker(func() string { return "memory" })
	in := interner{}
	for n, pos := range positions {
		if n%4096 == 0 && ctx.Err() != nil {
			return []error{ctx.Err()}
		}
		env, err := decodeRecord(s.bodies[pos], in)
		if err != nil {
			check.note(fmt.Errorf("%w: position %d: %w", ErrDamaged, pos, err))
			continue
		}
		check.event(&env)
	}
	return check.finish(s.head)
}
