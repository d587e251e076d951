package journal

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
)

// space refuses writes before the disk is full. Badger writes through memory maps, where
// a full disk is a signal that ends the process; and what stops a robot must still be
// recorded when the disk is almost full. So there are three lines:
//
//	above reserve:            everything is written
//	between floor and reserve: urgent appends only
//	below floor:              the ballast is deleted; if that does not help, nothing
//
// The check is made before each group. A process that takes the whole floor between the
// check and the write (milliseconds) is not survived by Badger.
type space struct {
	dir     string   // on the file system in question
	within  *os.File // an open file in dir: what is open works on when dir is removed
	ballast string   // path
	size    int64    // of the ballast
	reserve int64
	floor   int64
	log     logrus.FieldLogger

	checked time.Time
	free    int64
}

// nearby is the distance to the reserve at which the disk is asked again for each
// append; farther away, once in 20 ms is enough.
const nearby = 256 << 20

// admit tells whether bytes more may be written. For the writer only.
func (s *space) admit(bytes int64, urgent bool) error {
	if s.reserve == 0 && s.floor == 0 {
		return nil
	}
	if s.free-bytes > s.reserve+nearby && time.Since(s.checked) < 20*time.Millisecond {
		return nil
	}
	free, err := s.measure()
	if err != nil {
		return err
	}
	if free-bytes >= max(s.reserve, s.floor) || urgent && free-bytes >= s.floor {
		return nil
	}
	if urgent && s.drop() {
		if free, err = s.measure(); err != nil {
			return err
		}
		if free-bytes >= s.floor {
			return nil
		}
	}
	line := s.reserve
	if urgent {
		line = s.floor
	}
	return fmt.Errorf("%w: %s has %s free, %s must stay; free some space", ErrNoSpace, s.dir, mib(free), mib(line))
}

func (s *space) measure() (int64, error) {
	measure := func() (int64, error) { return freeSpace(s.dir) }
	if s.within != nil {
		measure = func() (int64, error) { return freeSpaceAt(s.within) }
	}
	free, err := measure()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errClean, err)
	}
	s.free, s.checked = free, time.Now()
	return free, nil
}

// drop deletes the ballast and tells whether there was one.
func (s *space) drop() bool {
	if s.size == 0 {
		return false
	}
	if err := os.Remove(s.ballast); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			s.log.WithError(err).Warnf("the ballast %s cannot be deleted", s.ballast)
		}
		return false
	}
	s.log.Warnf("the disk of %s is almost full: deleted the ballast of %s for urgent events", s.dir, mib(s.size))
	return true
}

// renew makes the ballast if it is missing and there is room for it; it returns whether
// that should be tried again.
func (s *space) renew() bool {
	if s.size == 0 {
		return false
	}
	if info, err := os.Stat(s.ballast); err == nil && info.Size() == s.size {
		return false
	}
	free, err := s.measure()
	if err != nil || free < max(s.reserve, s.floor)+2*s.size {
		return true
	}
	if err := s.makeBallast(); errors.Is(err, os.ErrNotExist) {
		s.log.Errorf("the folder %s was removed while its journal is open: it works on, and nothing of it is left afterwards", s.dir)
		return false
	} else if err != nil {
		s.log.WithError(err).Warnf("no ballast in %s", s.dir)
		_ = os.Remove(s.ballast)
		return true
	}
	return false
}

func (s *space) makeBallast() error {
	f, err := os.OpenFile(s.ballast, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return takeUp(f, s.size)
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
