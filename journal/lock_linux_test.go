package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/journal/journaltest"
)

// share returns a second descriptor of the open file of this process at path, as a child
// has one between fork and exec: the lock lives on in it when the file is closed.
func share(t *testing.T, path string) *os.File {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || to != path {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(other), path)
	}
	t.Fatalf("%s is not open", path)
	return nil
}

// TestSharedLock: an open waits for a lock that a closed store left in a process about to
// exec, and no longer than it must.
func TestSharedLock(t *testing.T) {
	for kind, name := range map[string]string{
		"file": journal.RunFileName, "badger": "lock", "badger's own": "badger",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			open := kinds["badger"]
			if kind == "file" {
				open = kinds["file"]
			}
			st, err := open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Append(t.Context(), journal.Append{Stream: "a", Events: journaltest.Events(0, 1)}); err != nil {
				t.Fatal(err)
			}
			held := share(t, filepath.Join(dir, name))
			defer held.Close()
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}

			// It stays: refused, in bounded time.
			begin := time.Now()
			if st, err := open(dir); !errors.Is(err, journal.ErrLocked) {
				if err == nil {
					st.Close()
				}
				t.Fatalf("a lock that stays: %v", err)
			}
			t.Logf("refused after %s", time.Since(begin))

			// It goes away: opened, and whole.
			const after = 100 * time.Millisecond
			begin = time.Now()
			timer := time.AfterFunc(after, func() { held.Close() })
			defer timer.Stop()
			st, err = open(dir)
			if err != nil {
				t.Fatalf("a lock that goes away: %v", err)
			}
			defer st.Close()
			if took := time.Since(begin); took < after {
				t.Errorf("opened after %s, the lock was held for %s", took, after)
			}
			if v, err := st.Version("a"); err != nil || v != 1 {
				t.Errorf("version %d, %v", v, err)
			}
		})
	}
}
