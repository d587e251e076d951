package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/shim/contain"
)

// runRecord is what `dora run` leaves under DORA_HOME/runs/<uuid>.json, so that other
// commands find it without a coordinator. The file is locked exactly as long as the run
// lives: a lock, unlike a pid, cannot lie.
type runRecord struct {
	UUID       string    `json:"uuid"`
	PID        int       `json:"pid"`
	Socket     string    `json:"socket"`
	Path       string    `json:"path"`
	WorkingDir string    `json:"working_dir"`
	LogDir     string    `json:"log_dir"`
	Nodes      []string  `json:"nodes"`
	StartedAt  time.Time `json:"started_at"`
	// EndedAt and Status are written at the end; a record without them whose lock is
	// free belongs to a run that was killed.
	EndedAt *time.Time `json:"ended_at,omitempty"`
	Status  string     `json:"status,omitempty"`
	Reason  string     `json:"reason,omitempty"`

	live bool
}

// runRecordsKept bounds DORA_HOME/runs.
const runRecordsKept = 200

func runsDir() (string, error) {
	home, err := doraHome()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(home, "runs")
	return dir, os.MkdirAll(dir, 0o700)
}

// register writes the record and locks it until finish or death.
func (r *runRecord) register() (*os.File, error) {
	dir, err := runsDir()
	if err != nil {
		return nil, err
	}
	pruneRuns(dir)
	f, err := os.OpenFile(filepath.Join(dir, r.UUID+".json"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record of this run: %w", err)
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("record of this run: lock %s: %w", f.Name(), err)
	}
	if err := r.write(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// write replaces the content in place, because the lock belongs to this file. Records
// are far smaller than a page, so a reader sees the old or the new one.
func (r *runRecord) write(f *os.File) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if _, err := f.WriteAt(raw, 0); err != nil {
		return fmt.Errorf("record of this run: %w", err)
	}
	return f.Truncate(int64(len(raw)))
}

// finish records the end and frees the lock.
func (r *runRecord) finish(f *os.File, status, reason string) {
	now := time.Now()
	r.EndedAt, r.Status, r.Reason = &now, status, reason
	_ = r.write(f)
	_ = f.Close()
}

// runRecords lists the runs known here, newest first.
func runRecords() ([]*runRecord, error) {
	dir, err := runsDir()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []*runRecord
	for _, p := range paths {
		if r, err := readRunRecord(p); err == nil {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *runRecord) int { return strings.Compare(b.UUID, a.UUID) }) // version 7: by time
	return out, nil
}

func readRunRecord(path string) (*runRecord, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r runRecord
	if err := json.NewDecoder(f).Decode(&r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r.live = lockHeld(f)
	if !r.live && r.Status == "" {
		// Read again: it may have ended between the two looks.
		if _, err := f.Seek(0, 0); err == nil {
			_ = json.NewDecoder(f).Decode(&r)
		}
		if r.Status == "" {
			r.Status, r.Reason = "Failed", "`dora run` was killed"
			contain.RemoveSocket(r.Socket) // if guard and shim were killed with it, nobody else does
		}
	}
	return &r, nil
}

func pruneRuns(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	slices.Sort(paths)
	for len(paths) >= runRecordsKept {
		if f, err := os.Open(paths[0]); err == nil {
			if !lockHeld(f) {
				_ = os.Remove(paths[0])
			}
			_ = f.Close()
		}
		paths = paths[1:]
	}
}

// ended is when the run ended; for a killed run, when it was last seen to start.
func (r *runRecord) ended() time.Time {
	if r.EndedAt != nil {
		return *r.EndedAt
	}
	return r.StartedAt
}

func recordPath(r *runRecord) string {
	dir, _ := runsDir()
	return filepath.Join(dir, r.UUID+".json")
}
