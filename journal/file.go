package journal

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal/failpoint"
)

// errAbsent: there is no event at a position; damage, unless it was just removed.
var errAbsent = fmt.Errorf("%w: no event", ErrDamaged)

// fileStore is the append-only file of `dora run`:
//
//	offset 0     header, then two marks (mark.go), 1536 bytes
//	offset 1536  frames (frame.go), one behind the other
//
// A group of appends is one write(2) at the end, then, unless switched off, one sync,
// then the mark. Removing events writes the file anew beside the old one and renames it.
type fileStore struct {
	path  string
	sync  bool
	space space
	log   logrus.FieldLogger
	head  header

	mark  mark // the writer's
	dirty bool // the mark was written but not synced

	mu      sync.RWMutex // guards what follows; held for reading while f is read
	f       *os.File
	end     int64
	headPos uint64
	places  []filePlace // of the events, ascending
	snaps   map[string]map[uint64]int64
	epochAt int64 // offset of the newest epoch frame, 0: none
}

// filePlace is where an event stands.
type filePlace struct {
	pos uint64
	off int64
}

func (s *fileStore) limits() limits { return limits{records: 1 << 20, bytes: 4 * maxGroup} }

func (s *fileStore) admit(bytes int64, urgent bool) error { return s.space.admit(bytes, urgent) }

// append writes whole frames at the end and makes them durable. mid is passed between
// the halves of the bytes when a test watches.
func (s *fileStore) append(b []byte, pos, epoch uint64, mid string) error {
	if err := s.put(b, mid); err != nil {
		if terr := s.f.Truncate(s.end); terr != nil {
			return fmt.Errorf("%w; and cut back to %d: %w", err, s.end, terr)
		}
		if outOfSpace(err) {
			return fmt.Errorf("%w: %w; free some space", ErrNoSpace, err)
		}
		return fmt.Errorf("%w: %w", errClean, err)
	}
	if s.sync {
		if err := syncData(s.f); err != nil {
			return fmt.Errorf("sync %s: %w", s.path, err)
		}
	}
	failpoint.Hit(failpoint.AfterWrite)
	m := mark{counter: s.mark.counter + 1, end: uint64(s.end) + uint64(len(b)), pos: pos, epoch: epoch}
	if err := writeMark(s.f, s.head.id, m); err != nil {
		return fmt.Errorf("mark of %s: %w", s.path, err)
	}
	s.mark, s.dirty = m, true
	failpoint.Hit(failpoint.AfterMark)
	return nil
}

func (s *fileStore) put(b []byte, mid string) error {
	half := 0
	if failpoint.Active() {
		half = len(b) / 2
		if _, err := s.f.WriteAt(b[:half], s.end); err != nil {
			return err
		}
		failpoint.Hit(mid)
	}
	_, err := s.f.WriteAt(b[half:], s.end+int64(half))
	return err
}

func (s *fileStore) writeEvents(recs []record) error {
	size := 0
	for i := range recs {
		size += frameHeader + len(recs[i].body)
	}
	b := make([]byte, 0, size)
	places := make([]filePlace, len(recs))
	for i := range recs {
		kind := eventFrame
		if recs[i].last {
			kind |= lastOfAppend
		}
		places[i] = filePlace{recs[i].pos, s.end + int64(len(b))}
		b = appendFrame(b, kind, recs[i].body)
	}
	head := recs[len(recs)-1].pos
	if err := s.append(b, head, s.mark.epoch, failpoint.MidBatch); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end += int64(len(b))
	s.headPos = head
	s.places = append(s.places, places...)
	return nil
}

func (s *fileStore) writeEpoch(epoch uint64) error {
	b := appendFrame(nil, epochFrame, binary.LittleEndian.AppendUint64(nil, epoch))
	if err := s.append(b, s.mark.pos, epoch, failpoint.MidBatch); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epochAt = s.end
	s.end += int64(len(b))
	return nil
}

func (s *fileStore) writeSnapshot(stream string, seq uint64, state []byte, drop []uint64) error {
	b := appendFrame(nil, snapshotFrame, appendSnapshot(nil, stream, seq, state))
	if err := s.append(b, s.mark.pos, s.mark.epoch, failpoint.MidSnapshot); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snaps[stream] == nil {
		s.snaps[stream] = map[uint64]int64{}
	}
	s.snaps[stream][seq] = s.end
	for _, old := range drop {
		delete(s.snaps[stream], old)
	}
	s.end += int64(len(b))
	return nil
}

// at is the index in places of the first event at pos or behind it. The caller holds mu.
func (s *fileStore) at(pos uint64) int {
	i, _ := slices.BinarySearchFunc(s.places, pos, func(p filePlace, pos uint64) int { return cmp.Compare(p.pos, pos) })
	return i
}

func (s *fileStore) fetch(positions []uint64, in interner) ([]events.Envelope, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.reading(in, len(positions))
	i := 0
	for _, pos := range positions {
		// Events of a stream often stand side by side.
		if i == len(s.places) || s.places[i].pos != pos {
			i = s.at(pos)
		}
		if i == len(s.places) || s.places[i].pos != pos {
			return r.out, fmt.Errorf("%w at position %d of %s", errAbsent, pos, s.path)
		}
		if full, err := r.event(s.places[i]); full || err != nil {
			return r.out, err
		}
		i++
	}
	return r.out, nil
}

func (s *fileStore) scan(from, to uint64, in interner) ([]events.Envelope, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	places := s.places[s.at(from):]
	r := s.reading(in, min(chunkEvents, len(places)))
	for _, p := range places {
		if p.pos > to {
			break
		}
		if full, err := r.event(p); full || err != nil {
			return r.out, err
		}
	}
	return r.out, nil
}

// fileReading collects a chunk. The store's mu is held for as long as it is used.
type fileReading struct {
	path string
	w    window
	in   interner
	out  []events.Envelope
	size int
}

// reading begins a chunk of at most n events.
func (s *fileStore) reading(in interner, n int) *fileReading {
	return &fileReading{path: s.path, w: window{f: s.f, limit: s.end}, in: in, out: make([]events.Envelope, 0, n)}
}

// event reads one event and tells whether the chunk is full.
func (r *fileReading) event(p filePlace) (full bool, err error) {
	fr, err := r.w.frame(p.off)
	if err != nil {
		return false, damaged(r.path, p.off, err)
	}
	env, err := decodeEvent(fr, r.in)
	if err != nil {
		return false, damaged(r.path, p.off, err)
	}
	if env.Pos != p.pos {
		return false, fmt.Errorf("%w: %s holds event %d instead of event %d", ErrDamaged, place(r.path, p.off), env.Pos, p.pos)
	}
	env.Data = slices.Clone(env.Data)
	r.out = append(r.out, env)
	r.size += len(env.Data)
	return len(r.out) >= chunkEvents || r.size >= chunkBytes, nil
}

// damaged wraps what is wrong with the frame at an offset.
func damaged(path string, off int64, err error) error {
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("%s %w", place(path, off), err)
	}
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %s %w", ErrDamaged, place(path, off), err)
}

func (s *fileStore) snapshot(stream string, seq uint64) ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	off, ok := s.snaps[stream][seq]
	if !ok {
		return nil, fmt.Errorf("%w: snapshot %d of stream %q is not in %s", ErrDamaged, seq, stream, s.path)
	}
	w := window{f: s.f, limit: s.end}
	fr, err := w.frame(off)
	if err != nil {
		return nil, damaged(s.path, off, err)
	}
	name, at, state, err := decodeSnapshot(fr.content)
	if err != nil || name != stream || at != seq || fr.kind != snapshotFrame {
		return nil, fmt.Errorf("%w: %s is not snapshot %d of stream %q", ErrDamaged, place(s.path, off), seq, stream)
	}
	return slices.Clone(state), nil
}

// removeEvents writes the file anew without the events and without what else is no
// longer needed, and puts it in the place of the old one.
func (s *fileStore) removeEvents(positions []uint64) error {
	if err := s.space.admit(s.end, true); err != nil {
		return err
	}
	tmp, err := os.OpenFile(s.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("%w: %w", errClean, err)
	}
	next := &fileStore{path: s.path, head: s.head, f: tmp, headPos: s.headPos, snaps: map[string]map[uint64]int64{}}
	if err := s.rewrite(next, positions); err != nil {
		tmp.Close()
		os.Remove(s.path + ".new")
		if outOfSpace(err) {
			return fmt.Errorf("%w: %w; free some space", ErrNoSpace, err)
		}
		return fmt.Errorf("%w: write %s anew: %w", errClean, s.path, err)
	}
	failpoint.Hit(failpoint.MidRetention)
	if err := os.Rename(s.path+".new", s.path); err != nil {
		tmp.Close()
		return fmt.Errorf("%w: %w", errClean, err)
	}
	if err := syncDir(s.path); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.f
	s.f, s.end, s.places, s.snaps, s.epochAt, s.mark = next.f, next.end, next.places, next.snaps, next.epochAt, next.mark
	return old.Close()
}

// rewrite copies into next every frame that is still needed, and makes it durable. Every
// event closes its append there: all were acknowledged.
func (s *fileStore) rewrite(next *fileStore, remove []uint64) error {
	gone := make(map[uint64]bool, len(remove))
	for _, pos := range remove {
		gone[pos] = true
	}
	next.end = markSize
	out := &appender{f: next.f, off: markSize}
	w := window{f: s.f, limit: s.end}
	for off := int64(markSize); off < s.end; {
		fr, err := w.frame(off)
		if err != nil {
			return damaged(s.path, off, err)
		}
		off = fr.next
		keep, err := s.keep(fr, next, gone)
		if err != nil {
			return err
		}
		if keep {
			if err := out.frame(fr.kind|lastOfAppend, fr.content); err != nil {
				return err
			}
			next.end = out.end()
		}
		if fr.off < s.end/2 && off >= s.end/2 {
			if err := out.flush(); err != nil {
				return err
			}
			failpoint.Hit(failpoint.MidRetention)
		}
	}
	if err := out.flush(); err != nil {
		return err
	}
	next.mark = mark{counter: s.mark.counter + 1, end: uint64(next.end), pos: s.mark.pos, epoch: s.mark.epoch}
	if _, err := next.f.WriteAt(encodeMark(s.head, next.mark), 0); err != nil {
		return err
	}
	if err := next.f.Sync(); err != nil {
		return err
	}
	return lockFile(next.f)
}

// keep tells whether a frame goes into next, and notes its place there if it does.
func (s *fileStore) keep(fr frame, next *fileStore, gone map[uint64]bool) (bool, error) {
	switch fr.kind {
	case eventFrame:
		env, err := decodeEvent(fr, nil)
		if err != nil {
			return false, damaged(s.path, fr.off, err)
		}
		if gone[env.Pos] {
			return false, nil
		}
		next.places = append(next.places, filePlace{env.Pos, next.end})
	case epochFrame:
		if fr.off != s.epochAt {
			return false, nil
		}
		next.epochAt = next.end
	case snapshotFrame:
		stream, seq, _, err := decodeSnapshot(fr.content)
		if err != nil {
			return false, damaged(s.path, fr.off, err)
		}
		if s.snaps[stream][seq] != fr.off {
			return false, nil
		}
		if next.snaps[stream] == nil {
			next.snaps[stream] = map[uint64]int64{}
		}
		next.snaps[stream][seq] = next.end
	}
	return true, nil
}

// appender writes frames through a buffer.
type appender struct {
	f   io.WriterAt
	off int64
	buf []byte
}

func (a *appender) end() int64 { return a.off + int64(len(a.buf)) }

func (a *appender) frame(kind byte, content []byte) error {
	a.buf = appendFrame(a.buf, kind, content)
	if len(a.buf) < windowBytes {
		return nil
	}
	return a.flush()
}

func (a *appender) flush() error {
	n, err := a.f.WriteAt(a.buf, a.off)
	a.off += int64(n)
	a.buf = a.buf[:0]
	return err
}

func (s *fileStore) verify(ctx context.Context) []error {
	s.mu.RLock()
	f, err := os.Open(s.path) // of its own: the file may be replaced meanwhile
	want, head := s.end, s.headPos
	s.mu.RUnlock()
	if err != nil {
		return []error{fmt.Errorf("%w: %w", ErrDamaged, err)}
	}
	defer f.Close()
	h, _, warning, err := readMark(f, s.path, magicFile)
	if err != nil {
		return []error{err}
	}
	var found []error
	if warning != "" {
		found = append(found, fmt.Errorf("%w: %s", ErrDamaged, warning))
	}
	if h.id != s.head.id {
		found = append(found, fmt.Errorf("%w: %s now has id %s, was opened with %s", ErrDamaged, s.path, h.id, s.head.id))
	}
	scan := newFileScan(f, s.path, want)
	if err := scan.run(ctx, want); err != nil {
		found = append(found, err)
	}
	return append(found, scan.check.finish(head)...)
}

func (s *fileStore) idle() bool {
	if s.dirty && s.sync {
		if err := syncData(s.f); err != nil {
			s.log.WithError(err).Warnf("journal %s: sync of the mark", s.path)
		}
	}
	s.dirty = false
	return s.space.renew()
}

func (s *fileStore) close() error {
	s.idle()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.f.Close()
}

// newJournalID makes the id of a new journal: sortable by time.
func newJournalID() (uuid.UUID, error) { return uuid.NewV7() }
