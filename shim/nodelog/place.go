package nodelog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstLineAttr is an extended attribute of a log file that may be rotated: the number of
// the node's lines in files before it, as decimal text. It goes with the file whatever that
// is renamed to, so that a reader whose file was deleted can say how many lines it missed.
const firstLineAttr = "user.dora.first"

// FirstLine returns how many lines of the node are in files before this one. It is false
// where the file system keeps no extended attributes.
func FirstLine(f *os.File) (uint64, bool) {
	buf := make([]byte, 20)
	n, err := unix.Fgetxattr(int(f.Fd()), firstLineAttr, buf)
	if err != nil {
		return 0, false
	}
	first, err := strconv.ParseUint(string(buf[:n]), 10, 64)
	return first, err == nil
}

func setFirstLine(f *os.File, first uint64) {
	// Without it a gap has no number; that is told.
	_ = unix.Fsetxattr(int(f.Fd()), firstLineAttr, strconv.AppendUint(nil, first, 10), 0)
}

// lookEvery is how often it is looked whether a file that is written is still there.
const lookEvery = time.Second

// look begins a new file if the one that is open was removed, with its folder or without, or
// renamed by somebody else. Lines that went into a removed one since the last look are lost.
func (w *file) look() {
	now := time.Now()
	if w.f == nil || now.Sub(w.looked) < lookEvery {
		return
	}
	w.looked = now
	mine, err := w.f.Stat()
	if err != nil {
		return
	}
	st, err := os.Stat(w.path)
	if err == nil && os.SameFile(mine, st) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.unseen = 0
		return
	}
	what := "renamed"
	if sys, ok := mine.Sys().(*syscall.Stat_t); ok && sys.Nlink == 0 {
		what = "removed"
		w.missing += w.unseen
	}
	w.unseen = 0
	w.warn(fmt.Sprintf("log file of node `%s` was %s while it was written: a new one is begun", w.node, what))
	w.f.Close()
	w.f = nil
	_ = os.MkdirAll(filepath.Dir(w.path), 0o755) // that it failed is told when the file cannot be opened
}

// count finds out where the lines of a file that is there already end.
func (w *file) count(f *os.File, size int64) {
	if w.counted {
		return
	}
	w.counted = true
	first, ok := FirstLine(f)
	if !ok && size > 0 {
		return
	}
	w.lines = first
	buf := make([]byte, 64<<10)
	r, err := os.Open(w.path)
	if err != nil {
		return
	}
	defer r.Close()
	for {
		n, err := r.Read(buf)
		w.lines += countLines(buf[:n])
		if err != nil {
			return
		}
	}
}
