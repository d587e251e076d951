package folder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/shim/contain"
)

// Names of the files in a shim's folder.
const (
	LockName     = "lock"
	WantName     = "want"
	FactsName    = "facts.log"
	SegmentsName = "segments"
	StderrName   = "stderr.log"
)

// ErrHeld is returned by Acquire when another process holds the lock.
var ErrHeld = errors.New("shim folder: the lock is held by another process")

// Root is the folder of all shims of a state folder.
func Root(stateDir string) string { return filepath.Join(stateDir, "shims") }

// Dir is the folder of one dataflow's shim. The dataflow's id must be a plain name.
func Dir(stateDir, dataflow string) (string, error) {
	if dataflow == "" || dataflow == "." || dataflow == ".." || strings.ContainsAny(dataflow, "/\x00") {
		return "", fmt.Errorf("shim folder: %q is not a dataflow id; use its UUID", dataflow)
	}
	return filepath.Join(Root(stateDir), dataflow), nil
}

// Create makes the folder of a dataflow's shim (mode 0700).
func Create(stateDir, dataflow string) (string, error) {
	dir, err := Dir(stateDir, dataflow)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("shim folder: create %s: %w", dir, err)
	}
	return dir, nil
}

// Owner is the text of the lock file: who holds it. It is only meaningful while the lock
// is held, and afterwards for cleaning up.
type Owner struct {
	PID       int       `json:"pid"`
	StartTime uint64    `json:"start_time"` // field 22 of /proc/<pid>/stat
	GuardPID  int       `json:"guard_pid,omitempty"`
	BootID    string    `json:"boot_id"`
	Token     string    `json:"token"`
	Dataflow  string    `json:"dataflow"`
	Version   string    `json:"version"`
	Socket    string    `json:"socket"`
	Mark      string    `json:"mark"`             // value of DORA_SHIM_MARK in every node's environment
	Cgroup    string    `json:"cgroup,omitempty"` // folder of the shim's cgroup
	Run       bool      `json:"run,omitempty"`    // lives only as long as its parent pipe
	Started   time.Time `json:"started"`
}

// Ready is what a shim tells its starter, as one JSON document: who it is, or why there is
// none.
type Ready struct {
	Owner Owner  `json:"owner"`
	Error string `json:"error,omitempty"`
}

// BootID identifies this boot of the machine; a lock file of another boot is of a shim
// that is gone.
func BootID() string { return contain.BootID() }

// Lock is the held lock of a shim's folder.
type Lock struct {
	dir string
	f   *os.File
}

// Acquire takes the lock of a folder. Others look at the lock by holding it shared for an
// instant, so a refusal counts only after patience has passed.
func Acquire(dir string, patience time.Duration) (*Lock, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("shim folder: open lock: %w", err)
	}
	until := time.Now().Add(patience)
	for {
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &Lock{dir: dir, f: f}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(until) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w (%s)", ErrHeld, path)
	}
	return nil, fmt.Errorf("shim folder: lock %s: %w", path, err)
}

// Publish writes who holds the lock.
func (l *Lock) Publish(o Owner) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("shim folder: encode lock: %w", err)
	}
	body = append(body, '\n')
	if err := l.f.Truncate(0); err != nil {
		return fmt.Errorf("shim folder: write %s: %w", l.f.Name(), err)
	}
	if _, err := l.f.WriteAt(body, 0); err != nil {
		return fmt.Errorf("shim folder: write %s: %w", l.f.Name(), err)
	}
	return nil
}

// Dir is the locked folder.
func (l *Lock) Dir() string { return l.dir }

// Close gives the lock back. A shim does so only by ending.
func (l *Lock) Close() error { return l.f.Close() }

// Held says whether a shim lives in the folder. A missing folder holds none.
func Held(dir string) (bool, error) {
	f, err := os.Open(filepath.Join(dir, LockName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("shim folder: look at lock: %w", err)
	}
	defer f.Close()
	switch err := flock(f, unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return false, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	default:
		return false, fmt.Errorf("shim folder: look at lock of %s: %w", dir, err)
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ReadOwner reads the lock file's text.
func ReadOwner(dir string) (Owner, error) {
	var o Owner
	err := readJSON(filepath.Join(dir, LockName), &o)
	return o, err
}

// Want is what the daemon wants in this folder: a shim with another token ends itself,
// and orders below Epoch are refused from the start.
type Want struct {
	Token string `json:"token"`
	Epoch uint64 `json:"epoch"`
}

// WriteWant replaces the want file.
func WriteWant(dir string, w Want) error {
	body, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("shim folder: encode want: %w", err)
	}
	path := filepath.Join(dir, WantName)
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, append(body, '\n'), 0o600); err != nil {
		return fmt.Errorf("shim folder: write want: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("shim folder: write want: %w", err)
	}
	return nil
}

// ReadWant reads the want file.
func ReadWant(dir string) (Want, error) {
	var w Want
	err := readJSON(filepath.Join(dir, WantName), &w)
	return w, err
}

func readJSON(path string, v any) error {
	body, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("shim folder: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("shim folder: %s is damaged: %w", path, err)
	}
	return nil
}

// Is says whether a file is the held lock itself, and not another one of its name.
func (l *Lock) Is(fi os.FileInfo) bool {
	own, err := l.f.Stat()
	return err == nil && os.SameFile(own, fi)
}
