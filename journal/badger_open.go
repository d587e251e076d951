package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/sirupsen/logrus"
)

// Defaults of OpenBadger, in bytes. The floor is what Badger may need at any time for
// one group, for writing a full memtable to a table and for merging tables.
const (
	badgerReserve = 64 << 20
	badgerBallast = 32 << 20
	badgerFloor   = 32 << 20
)

// Sizes for a small journal: bounded memory, quick to open.
const (
	memTableBytes  = 8 << 20
	valueLogBytes  = 16 << 20
	valueThreshold = 64 << 10
)

// Files in the folder of a Badger journal.
const (
	lockName    = "lock"
	markName    = "mark"
	ballastName = "ballast"
	badgerName  = "badger"
)

// OpenBadger opens the Badger store in the folder dir for writing, or creates it with
// mode 0700. It verifies every record and compares with the mark; what is missing or
// altered is ErrDamaged. Opening takes about a second per million events.
func OpenBadger(dir string, o OpenOptions) (*Journal, error) {
	o = o.withDefaults(badgerReserve, badgerBallast)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the journal folder: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &badgerStore{
		dir: dir, lock: lock, sync: !o.NoSync, log: o.Log,
		space: space{
			dir: dir, within: lock, ballast: filepath.Join(dir, ballastName), size: o.Ballast,
			reserve: o.Reserve, floor: min(badgerFloor, o.Reserve), log: o.Log,
		},
	}
	j, err := s.open(o)
	if err != nil {
		s.abandon()
		return nil, err
	}
	return j, nil
}

// abandon closes what open opened before it failed.
func (s *badgerStore) abandon() {
	if s.db != nil {
		if err := s.closeBadger(); err != nil {
			s.log.WithError(err).Warnf("journal %s: close after a failed open", s.dir)
		}
	}
	if s.marks != nil {
		s.marks.Close()
	}
	s.lock.Close()
}

func (s *badgerStore) open(o OpenOptions) (*Journal, error) {
	var r Recovery
	// Opening writes through memory maps, too.
	if err := s.space.admit(0, true); err != nil {
		return nil, err
	}
	marked, warning, err := s.openMark()
	if err != nil {
		return nil, err
	}
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
		o.Log.Warn(warning)
	}
	if err := s.checkFolder(marked); err != nil {
		return nil, err
	}
	if err := s.checkTables(); err != nil {
		return nil, err
	}
	if r.Retried, err = s.openBadger(o); err != nil {
		return nil, err
	}
	if err := s.checkFormat(marked); err != nil {
		return nil, err
	}
	check, head, damages, err := s.examine(context.Background())
	if err != nil {
		return nil, err
	}
	if head.counter < marked.counter {
		damages = append(damages, fmt.Errorf("%w: %s ends with write %d (position %d, epoch %d), but write %d (position %d, epoch %d) was acknowledged",
			ErrDamaged, s.dir, head.counter, head.pos, head.epoch, marked.counter, marked.pos, marked.epoch))
	}
	warnings, damages := splitSnapshots(damages)
	if err := joinDamages(s.dir, damages); err != nil {
		return nil, fmt.Errorf("%w%s", err, s.rescued())
	}
	if err := os.RemoveAll(filepath.Join(s.dir, rescueName)); err != nil {
		o.Log.WithError(err).Warnf("journal %s: rescued files that are no longer needed", s.dir)
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, w.Error())
		o.Log.Warn(w)
	}
	s.snaps = head.snapshots
	s.mark = mark{counter: head.counter, pos: head.pos, epoch: head.epoch}
	if err := healMarks(s.marks, s.id, s.mark); err != nil {
		return nil, fmt.Errorf("mark of %s: %w", s.dir, err)
	}
	s.dirty = true
	s.space.renew()
	return started(s, s.id.String(), s.dir, check.index, o, r)
}

// lockFolder takes the lock of a journal folder.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	if err := lockFile(f); err != nil {
		defer f.Close()
		if !errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		// Who has it is written in it, for people only.
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0)
		return nil, fmt.Errorf("%w: %s (pid %s)", ErrLocked, dir, strings.TrimSpace(string(b[:n])))
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// openMark opens the mark file, or creates it in a folder without a store.
func (s *badgerStore) openMark() (m mark, warning string, err error) {
	path := filepath.Join(s.dir, markName)
	s.marks, err = os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(s.dir, badgerName)); err == nil {
			return m, "", fmt.Errorf("%w: %s is missing, so nobody can tell whether the store beside it is whole", ErrDamaged, path)
		}
		id, err := newJournalID()
		if err != nil {
			return m, "", err
		}
		b := encodeMark(header{magic: magicMark, id: id, created: time.Now()}, mark{})
		if err := createWhole(path, b, 0o600); err != nil {
			return m, "", fmt.Errorf("create %s: %w", path, err)
		}
		s.marks, err = os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return m, "", err
		}
	} else if err != nil {
		return m, "", fmt.Errorf("open the journal: %w", err)
	}
	h, m, warning, err := readMark(s.marks, path, magicMark)
	s.id = h.id
	return m, warning, err
}

// checkFolder looks before Badger does: Badger makes an empty store of a folder that
// lost its files.
func (s *badgerStore) checkFolder(marked mark) error {
	if marked.counter == 0 {
		return nil
	}
	manifest := filepath.Join(s.dir, badgerName, badger.ManifestFilename)
	if _, err := os.Stat(manifest); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing, events up to position %d were acknowledged", ErrDamaged, manifest, marked.pos)
	}
	return nil
}

// openBadger opens Badger, a second time if the first fails: after a kill at a bad
// moment one attempt can trip over an empty file that it removes.
func (s *badgerStore) openBadger(o OpenOptions) (retried, err error) {
	for range 2 {
		// Badger has a lock of its own, which can outlive its owner like ours.
		err = patiently(func() error { return s.tryBadger(o) })
		if err == nil {
			s.settleOpen()
			return retried, nil
		}
		if errors.Is(err, ErrLocked) {
			return nil, err
		}
		if retried == nil {
			retried = err
			o.Log.WithError(err).Warnf("journal %s: opening failed, trying once more", s.dir)
		}
	}
	return retried, fmt.Errorf("%w: %s: %w", ErrDamaged, s.dir, err)
}

// tryBadger opens Badger. ErrLocked: its folder is locked, and nothing was touched.
func (s *badgerStore) tryBadger(o OpenOptions) error {
	err := guard(func() (err error) {
		s.db, err = badger.Open(badgerOptions(filepath.Join(s.dir, badgerName), o))
		return err
	})
	if err == nil {
		return nil
	}
	s.db = nil // Badger has closed it
	if strings.Contains(err.Error(), "directory lock") {
		return fmt.Errorf("%w: %s: %w", ErrLocked, s.dir, err)
	}
	return err
}

func badgerOptions(dir string, o OpenOptions) badger.Options {
	b := badger.DefaultOptions(dir)
	b.SyncWrites = !o.NoSync
	b.MemTableSize = memTableBytes
	b.NumMemtables = 2
	b.NumCompactors = 0 // see badger_upkeep.go
	b.NumLevelZeroTables = 2
	b.NumLevelZeroTablesStall = 1 << 20
	b.BlockCacheSize = 0
	b.IndexCacheSize = 0
	b.Compression = options.None
	b.ValueLogFileSize = valueLogBytes
	b.ValueThreshold = valueThreshold
	b.DetectConflicts = false // one writer, with its own expected versions
	b.MetricsEnabled = false
	b.ChecksumVerificationMode = options.OnBlockRead // at open: checkTables
	b.Logger = badgerLog{o.Log}
	return b
}

// badgerLog lowers Badger's messages by one level: what it finds worth telling is only
// of interest when something is wrong.
type badgerLog struct{ to logrus.FieldLogger }

func (l badgerLog) Errorf(f string, a ...any)   { l.to.Warnf("Badger: "+strings.TrimSpace(f), a...) }
func (l badgerLog) Warningf(f string, a ...any) { l.to.Infof("Badger: "+strings.TrimSpace(f), a...) }
func (l badgerLog) Infof(f string, a ...any)    { l.to.Debugf("Badger: "+strings.TrimSpace(f), a...) }
func (l badgerLog) Debugf(string, ...any)       {}

// checkFormat checks whose store it is, or makes a new one ours.
func (s *badgerStore) checkFormat(marked mark) error {
	var f storeFormat
	var found, empty bool
	err := s.view(func(txn *badger.Txn) (err error) {
		f, found, err = readFormat(txn)
		it := txn.NewIterator(iterate(""))
		defer it.Close()
		it.Rewind()
		empty = !it.Valid()
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrDamaged, s.dir, err)
	case found && f.Schema > schemaVersion:
		return fmt.Errorf("%w: %s has schema %d, this dora knows %d; use a newer dora", ErrNewer, s.dir, f.Schema, schemaVersion)
	case found && f.ID != s.id:
		return fmt.Errorf("%w: %s holds journal %s, its mark belongs to %s", ErrDamaged, s.dir, f.ID, s.id)
	case found:
		return nil
	case !empty || marked.counter > 0:
		return fmt.Errorf("%w: %s has lost its beginning (no %s); events up to position %d were acknowledged", ErrDamaged, s.dir, formatKey, marked.pos)
	}
	content, err := json.Marshal(storeFormat{Schema: schemaVersion, ID: s.id, Created: time.Now().UTC()})
	if err != nil {
		return err
	}
	return s.transact(0, 0, 0, func(set func(key, content []byte) error, _ func([]byte) error) error {
		return set([]byte(formatKey), content)
	})
}

// errSnapshot is a damaged snapshot: the events it was made from are still there.
var errSnapshot = errors.New("snapshot")

func splitSnapshots(damages []error) (warnings, rest []error) {
	for _, err := range damages {
		if errors.Is(err, errSnapshot) {
			warnings = append(warnings, err)
		} else {
			rest = append(rest, err)
		}
	}
	return warnings, rest
}

// examine reads the whole store as of now. An error means that it could not be read at
// all; damages are what it found.
func (s *badgerStore) examine(ctx context.Context) (check *checker, head storeHead, damages []error, err error) {
	var last uint64
	check = newChecker(func() string { return fmt.Sprintf("%s, key %q,", s.dir, eventKey(last)) })
	err = s.view(func(txn *badger.Txn) error {
		b, err := get(txn, []byte(headKey))
		if err == nil {
			head, err = decodeHead(b)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: key %s: %w", ErrDamaged, s.dir, headKey, err)
		}
		if f, ok, err := readFormat(txn); err != nil || !ok || f.ID != s.id {
			return fmt.Errorf("%w: %s: key %s is not as it was written (%v)", ErrDamaged, s.dir, formatKey, err)
		}
		if err := s.examineEvents(ctx, txn, check, &last); err != nil {
			return err
		}
		damages, err = s.examineSnapshots(ctx, txn, check, head)
		return err
	})
	check.epoch = head.epoch
	if err != nil {
		return check, head, nil, err
	}
	return check, head, append(check.finish(head.pos), damages...), nil
}

func (s *badgerStore) examineEvents(ctx context.Context, txn *badger.Txn, check *checker, at *uint64) error {
	it := txn.NewIterator(iterate(eventPrefix))
	defer it.Close()
	in := interner{}
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		env, err := s.decode(it.Item(), in, false)
		if errors.Is(err, ErrNewer) {
			return err
		}
		if err != nil {
			check.note(err)
			continue
		}
		*at = env.Pos
		check.event(&env)
	}
	return nil
}

func (s *badgerStore) examineSnapshots(ctx context.Context, txn *badger.Txn, check *checker, head storeHead) (damages []error, err error) {
	it := txn.NewIterator(iterate(snapshotPrefix))
	defer it.Close()
	n := uint64(0)
	for it.Rewind(); it.Valid(); it.Next() {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n++
		key := it.Item().KeyCopy(nil)
		stream, seq, ok := parseSnapshotKey(key)
		if !ok {
			damages = append(damages, fmt.Errorf("%w: %s: key %q is not one of a snapshot", ErrDamaged, s.dir, key))
			continue
		}
		x := check.stream(stream)
		x.snapshots = append(x.snapshots, seq)
		err := it.Item().Value(func(value []byte) error {
			_, err := openValue(key, value)
			return err
		})
		if err != nil {
			damages = append(damages, fmt.Errorf("%w: %s: %w %d of stream %q: %w", ErrDamaged, s.dir, errSnapshot, seq, stream, err))
		}
	}
	if n != head.snapshots {
		damages = append(damages, fmt.Errorf("%w: %s holds %d snapshots, it should be %d", ErrDamaged, s.dir, n, head.snapshots))
	}
	return damages, nil
}
