package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Badger writes its files through memory maps. If the disk fills up while it does, the
// kernel sends a signal that no Go program survives. So nothing of Badger writes behind
// our back: a full memtable is on the disk as a table before the write that filled it is
// acknowledged, and tables are merged only when there is room for all of them twice.
// What remains is a disk that another process fills, from above the floor to the last
// byte, within the milliseconds of one write.

// Numbers of tables at which they are merged: when nothing else is to be done, and in
// any case. More tables make opening and reading slower, not wrong.
const (
	mergeIdle = 8
	mergeBusy = 32
)

// settlePatience is how long a table may take to be written.
const settlePatience = 10 * time.Second

func (s *badgerStore) memtableFile(n int) string {
	return filepath.Join(s.dir, badgerName, fmt.Sprintf("%05d.mem", n))
}

// settle waits until Badger has written the memtable that the last write filled, if it
// filled one. Badger numbers their files and deletes each when its table is written.
func (s *badgerStore) settle() {
	rotated := false
	for there(s.memtableFile(s.memtable + 1)) {
		s.await(s.memtable)
		s.memtable++
		rotated = true
	}
	if rotated {
		s.merge(mergeBusy)
	}
}

// settleOpen waits until Badger has written the memtables that the last owner left.
func (s *badgerStore) settleOpen() {
	names, err := filepath.Glob(filepath.Join(s.dir, badgerName, "*.mem"))
	if err != nil {
		return
	}
	numbers := make([]int, 0, len(names))
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(name), "%05d.mem", &n); err == nil {
			numbers = append(numbers, n)
			s.memtable = max(s.memtable, n)
		}
	}
	for _, n := range numbers {
		if n != s.memtable {
			s.await(n)
		}
	}
}

func (s *badgerStore) await(memtable int) {
	path := s.memtableFile(memtable)
	for end := time.Now().Add(settlePatience); there(path); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			s.log.Warnf("journal %s: Badger does not get %s written", s.dir, path)
			return
		}
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// maintain runs upkeep beside other work if none is running and so much space is there.
func (s *badgerStore) maintain(what string, bytes int64, f func() error) {
	if !s.upkeep.TryLock() {
		return
	}
	if err := s.space.admit(bytes, false); err != nil {
		s.upkeep.Unlock()
		return
	}
	s.background.Go(func() {
		defer s.upkeep.Unlock()
		if err := guard(f); err != nil {
			s.log.WithError(err).Warnf("journal %s: %s", s.dir, what)
		}
	})
}

// merge merges tables if there are so many at the level where new ones arrive.
func (s *badgerStore) merge(tables int) {
	levels := s.db.Levels()
	if len(levels) == 0 || levels[0].NumTables < tables {
		return
	}
	bytes := int64(0)
	for _, l := range levels {
		bytes += l.Size
	}
	s.maintain("merge of tables", 2*bytes, func() error { return s.db.Flatten(1) })
}

// collect gives back the space of large values that were removed.
func (s *badgerStore) collect() {
	s.maintain("collection of removed values", 4*valueLogBytes, func() error {
		for {
			err := s.db.RunValueLogGC(0.5)
			if errors.Is(err, badger.ErrNoRewrite) || errors.Is(err, badger.ErrRejected) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

// closeBadger closes Badger if there is room for the table that it writes then. On a full
// disk that would end the process; without it everything is in the log of the memtable,
// and the next open reads it from there. What Badger holds in this process stays held,
// its lock included.
func (s *badgerStore) closeBadger() error {
	if err := s.space.admit(2*memTableBytes, true); err != nil {
		return fmt.Errorf("nothing is lost, but the store was not tidied up: %w", err)
	}
	return guard(s.db.Close)
}
