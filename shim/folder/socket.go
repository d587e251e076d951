package folder

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
)

// maxSocketPath is the longest path of a Unix socket on Linux: 108 bytes with the NUL.
const maxSocketPath = 107

// NewName returns 16 random hexadecimal digits.
func NewName() string {
	var b [8]byte
	rand.Read(b[:]) // never fails (documented)
	return hex.EncodeToString(b[:])
}

// SocketPath returns a fresh path for a shim's socket: in $XDG_RUNTIME_DIR/dora, else
// /run/dora, else a private folder in /tmp. The folder exists afterwards, belongs to this
// user and has mode 0700.
func SocketPath() (string, error) {
	name := NewName()
	var tried []error
	for _, dir := range socketDirs() {
		if len(dir)+1+len(name) > maxSocketPath {
			tried = append(tried, fmt.Errorf("%s: too long for a socket's path", dir))
			continue
		}
		if err := ownDir(dir); err != nil {
			tried = append(tried, err)
			continue
		}
		return filepath.Join(dir, name), nil
	}
	dir, err := os.MkdirTemp("/tmp", contain.SocketDirPrefix)
	if err != nil {
		tried = append(tried, err)
		return "", fmt.Errorf("no folder for the shim's socket; set XDG_RUNTIME_DIR to a private folder with a short path: %w", errors.Join(tried...))
	}
	return filepath.Join(dir, name), nil
}

// strayAfter is the age from which a socket on which nobody listens is nobody's.
const strayAfter = 10 * time.Second

// SweepSockets removes this user's sockets on which nobody listens any more: those of shims
// whose folder does not name them (it was removed, or its files are damaged). Nobody is dialled,
// which a shim would take for its next daemon: to a socket of another type than the one that
// listens, the kernel says that it is of the wrong type, or, if nobody does, that it refuses.
// (Tables of sockets end at the network namespace.)
func SweepSockets() {
	for _, dir := range socketDirs() {
		fi, err := os.Lstat(dir)
		if err != nil || !fi.IsDir() {
			continue
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
			continue
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || e.Type() != os.ModeSocket || len(e.Name()) != 16 || time.Since(info.ModTime()) < strayAfter {
				continue
			}
			path := filepath.Join(dir, e.Name())
			c, err := net.Dial("unixgram", path)
			if err == nil {
				c.Close()
			} else if errors.Is(err, syscall.ECONNREFUSED) {
				os.Remove(path)
			}
		}
	}
}

func socketDirs() []string {
	var dirs []string
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		dirs = append(dirs, filepath.Join(base, "dora"))
	}
	return append(dirs, "/run/dora", fmt.Sprintf("/tmp/dora-%d", os.Geteuid()))
}

// ownDir makes dir, or checks that it is a real folder of this user alone. Its parent is
// never made: a missing /run or runtime folder is an answer.
func ownDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of this user", dir)
	}
	if fi.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}
