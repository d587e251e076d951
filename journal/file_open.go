package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Defaults of OpenFile, in bytes. A file has no floor: a full disk is an error of write(2).
const fileReserve = 8 << 20

// OpenFile opens the file store at path for writing, or creates it. It verifies every
// record. An append that was under way when the last writer was killed is cut off and
// told in [Journal.Recovery]; everything else that is missing or altered is ErrDamaged
// with its offset, and the file stays as it is.
func OpenFile(path string, o OpenOptions) (*Journal, error) {
	o = o.withDefaults(fileReserve, 0)
	f, err := openOrCreateFile(path, !o.NoSync)
	if err != nil {
		return nil, err
	}
	j, err := openFile(f, path, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func openFile(f *os.File, path string, o OpenOptions) (*Journal, error) {
	h, m, warning, err := readMark(f, path, magicFile)
	if err != nil {
		return nil, err
	}
	var r Recovery
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
		o.Log.Warn(warning)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	scan := newFileScan(f, path, size)
	if err := scan.toMark(context.Background(), m); err != nil {
		return nil, err
	}
	if err := scan.beyondMark(); err != nil {
		return nil, err
	}
	if scan.end < size {
		if err := f.Truncate(scan.end); err != nil {
			return nil, fmt.Errorf("cut the unfinished end of %s at offset %d: %w", path, scan.end, err)
		}
		r.Cut, r.CutAt = size-scan.end, scan.end
		o.Log.Infof("journal %s: cut %d bytes at offset %d, an append that was never acknowledged", path, r.Cut, r.CutAt)
	}
	s := &fileStore{
		path: path, sync: !o.NoSync, log: o.Log, head: h, f: f, end: scan.end,
		places: scan.places, snaps: scan.snaps, epochAt: scan.epochAt, headPos: scan.check.head,
		mark:  mark{counter: m.counter, end: m.end, pos: scan.check.head, epoch: scan.check.epoch},
		space: space{dir: path, ballast: path + ".ballast", size: o.Ballast, reserve: o.Reserve, log: o.Log},
	}
	// What was found beyond the mark is adopted: the next mark covers it.
	if err := s.append(nil, scan.check.head, scan.check.epoch, ""); err != nil {
		return nil, err
	}
	if err := healMarks(s.f, s.head.id, s.mark); err != nil {
		return nil, fmt.Errorf("mark of %s: %w", path, err)
	}
	s.space.renew()
	return started(s, h.id.String(), path, scan.check.index, o, r)
}

// openOrCreateFile returns the open and locked file; sync says whether a new one is durable.
func openOrCreateFile(path string, sync bool) (*os.File, error) {
	for range 100 {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			f, err = os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE, 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("open the journal: %w", err)
		}
		ok, err := settle(f, path, sync)
		if ok {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Millisecond)
	}
	return nil, fmt.Errorf("%w: %s changes all the time", ErrLocked, path)
}

// settle locks f, which was opened as path or path.new, and makes sure that it is the
// file at path afterwards. False without an error: another process was faster.
func settle(f *os.File, path string, sync bool) (bool, error) {
	if err := lockFile(f); err != nil {
		if errors.Is(err, ErrLocked) {
			return false, fmt.Errorf("%w: %s", ErrLocked, path)
		}
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !mine.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a file", path)
	}
	there, err := os.Stat(path)
	switch {
	case err == nil && os.SameFile(mine, there):
		_ = os.Remove(path + ".new") // of a rewriting or a creation that was killed
		return true, nil
	case err == nil:
		return false, nil
	case !errors.Is(err, os.ErrNotExist):
		return false, err
	}
	if there, err = os.Stat(path + ".new"); err != nil || !os.SameFile(mine, there) {
		return false, nil
	}
	return true, create(f, path, sync)
}

// create writes an empty journal into f, the file path.new, and gives it its name.
func create(f *os.File, path string, sync bool) error {
	id, err := newJournalID()
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	b := encodeMark(header{magic: magicFile, id: id, created: time.Now()}, mark{end: markSize})
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("create %s: %w", path, err)
		}
	}
	if err := os.Rename(path+".new", path); err != nil || !sync {
		return err
	}
	return syncDir(path)
}

// fileScan reads a file from its first frame and builds the index.
type fileScan struct {
	path string
	w    window
	in   interner
	// end is behind the last whole append, off behind the last whole frame.
	end, off int64
	at       int64   // of the event at hand
	pending  []frame // of an append whose last event was not read yet

	check   *checker
	places  []filePlace
	snaps   map[string]map[uint64]int64
	epochAt int64
}

func newFileScan(f io.ReaderAt, path string, size int64) *fileScan {
	s := &fileScan{
		path: path, w: window{f: f, limit: size}, in: interner{}, end: markSize, off: markSize,
		snaps: map[string]map[uint64]int64{},
	}
	s.check = newChecker(func() string { return place(path, s.at) })
	return s
}

// toMark reads what was acknowledged. Any fault there is damage.
func (s *fileScan) toMark(ctx context.Context, m mark) error {
	if m.end < markSize || int64(m.end) > s.w.limit {
		return fmt.Errorf("%w: %s ends at offset %d, events up to offset %d (position %d) were acknowledged", ErrDamaged,
			s.path, s.w.limit, m.end, m.pos)
	}
	if err := s.run(ctx, int64(m.end)); err != nil {
		return err
	}
	damages := s.check.finish(m.pos)
	if s.check.epoch < m.epoch {
		damages = append(damages, fmt.Errorf("%w: %s holds epoch %d, epoch %d was acknowledged", ErrDamaged, s.path, s.check.epoch, m.epoch))
	}
	return joinDamages(s.path, damages)
}

// run reads frames up to an offset, where an append must end.
func (s *fileScan) run(ctx context.Context, to int64) error {
	for n := 0; s.off < to; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.next(); err != nil {
			return err
		}
	}
	if s.off != to || s.end != to {
		return fmt.Errorf("%w: %s has no append that ends at offset %d", ErrDamaged, s.path, to)
	}
	return nil
}

// beyondMark reads what was written but perhaps not acknowledged, up to the last whole
// append.
func (s *fileScan) beyondMark() error {
	for s.off < s.w.limit {
		err := s.next()
		if errors.Is(err, errFrame) {
			break
		}
		if err != nil {
			return err
		}
	}
	return joinDamages(s.path, s.check.finish(s.check.head))
}

// next reads one frame; with the last of an append the append takes effect.
func (s *fileScan) next() error {
	fr, err := s.w.frame(s.off)
	if err != nil {
		return damaged(s.path, s.off, err)
	}
	s.off = fr.next
	switch {
	case fr.kind == eventFrame && !fr.last:
		fr.content = slices.Clone(fr.content)
		s.pending = append(s.pending, fr)
		return nil
	case fr.kind == eventFrame:
		return s.take(fr)
	case len(s.pending) > 0:
		return fmt.Errorf("%w: %s a frame of kind %d stands within an append", ErrDamaged, place(s.path, fr.off), fr.kind)
	}
	s.end = fr.next
	return s.other(fr)
}

// take indexes the events of a whole append, the last of which is given.
func (s *fileScan) take(last frame) error {
	for _, fr := range append(s.pending, last) {
		env, err := decodeRecord(fr.content, s.in)
		if err != nil {
			return damaged(s.path, fr.off, err)
		}
		s.at = fr.off
		s.check.event(&env)
		s.places = append(s.places, filePlace{env.Pos, fr.off})
	}
	s.pending = s.pending[:0]
	s.end = last.next
	return nil
}

func (s *fileScan) other(fr frame) error {
	switch fr.kind {
	case epochFrame:
		if len(fr.content) != 8 {
			return fmt.Errorf("%w: %s an epoch of %d bytes", ErrDamaged, place(s.path, fr.off), len(fr.content))
		}
		s.check.epoch, s.epochAt = binary.LittleEndian.Uint64(fr.content), fr.off
	case snapshotFrame:
		stream, seq, _, err := decodeSnapshot(fr.content)
		if err != nil {
			return damaged(s.path, fr.off, err)
		}
		s.addSnapshot(stream, seq, fr.off)
	default:
		return fmt.Errorf("%w: %s a frame of kind %d", ErrNewer, place(s.path, fr.off), fr.kind)
	}
	return nil
}

func (s *fileScan) addSnapshot(stream string, seq uint64, off int64) {
	x := s.check.stream(stream)
	if s.snaps[stream] == nil {
		s.snaps[stream] = map[uint64]int64{}
	}
	s.snaps[stream][seq] = off
	if n := len(x.snapshots); n == 0 || x.snapshots[n-1] != seq {
		x.snapshots = append(x.snapshots, seq)
	}
	if len(x.snapshots) > 2 {
		delete(s.snaps[stream], x.snapshots[0])
		x.snapshots = x.snapshots[1:]
	}
}
