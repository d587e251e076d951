package source

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"syscall"
)

// lockFile is what was fetched for a dataflow. It belongs into version control, so that
// everybody runs the same.
type lockFile struct {
	Version int       `json:"version"`
	Git     []gitLock `json:"git"`
	URL     []urlLock `json:"url"`

	changed bool
}

// gitLock is one git source: what was asked for, and the commit that it was.
type gitLock struct {
	URL    string `json:"url"`
	Ref    string `json:"ref"` // "branch main", "tag v1", "rev abc", or "HEAD"
	Commit string `json:"commit"`
}

// urlLock is one download.
type urlLock struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
	// ETag is how the server named this version, if it did.
	ETag string `json:"etag,omitempty"`
}

const (
	lockVersion = 1
	// maxLock bounds the file in bytes; an entry has about 200.
	maxLock = 4 << 20
)

var (
	isCommit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	isSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func readLock(path string) (*lockFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // nor does a pipe in its place hold us
	if errors.Is(err, fs.ErrNotExist) {
		return &lockFile{Version: lockVersion}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxLock+1))
	if err != nil {
		return nil, err
	}
	l, err := parseLock(raw)
	if err != nil {
		return nil, fmt.Errorf("lock file %s: %w\n  fix: remove it to fetch the newest sources, or take it from version control", path, err)
	}
	return l, nil
}

func parseLock(raw []byte) (*lockFile, error) {
	if len(raw) > maxLock {
		return nil, fmt.Errorf("more than %d bytes", maxLock)
	}
	var l lockFile
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows behind its end")
	}
	if l.Version != lockVersion {
		return nil, fmt.Errorf("version %d is not known, only %d", l.Version, lockVersion)
	}
	for _, g := range l.Git {
		if !isCommit.MatchString(g.Commit) {
			return nil, fmt.Errorf("%q is no commit (of %s)", g.Commit, redact(g.URL))
		}
	}
	for _, u := range l.URL {
		if !isSHA256.MatchString(u.SHA256) {
			return nil, fmt.Errorf("%q is no SHA-256 (of %s)", u.SHA256, redact(u.URL))
		}
	}
	return &l, nil
}

// write stores what changed, by a rename.
func (l *lockFile) write(path string) error {
	if !l.changed {
		return nil
	}
	slices.SortFunc(l.Git, func(a, b gitLock) int { return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.Ref, b.Ref)) })
	slices.SortFunc(l.URL, func(a, b urlLock) int { return cmp.Compare(a.URL, b.URL) })
	if l.Git == nil {
		l.Git = []gitLock{}
	}
	if l.URL == nil {
		l.URL = []urlLock{}
	}
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("lock file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("lock file: %w", err)
	}
	return nil
}

func (l *lockFile) commit(url, ref string) string {
	for _, g := range l.Git {
		if g.URL == url && g.Ref == ref {
			return g.Commit
		}
	}
	return ""
}

func (l *lockFile) setCommit(url, ref, commit string) {
	if l.commit(url, ref) == commit {
		return
	}
	l.changed = true
	l.Git = slices.DeleteFunc(l.Git, func(g gitLock) bool { return g.URL == url && g.Ref == ref })
	l.Git = append(l.Git, gitLock{URL: url, Ref: ref, Commit: commit})
}

func (l *lockFile) download(url string) urlLock {
	for _, u := range l.URL {
		if u.URL == url {
			return u
		}
	}
	return urlLock{URL: url}
}

func (l *lockFile) setDownload(d urlLock) {
	if l.download(d.URL) == d {
		return
	}
	l.changed = true
	l.URL = slices.DeleteFunc(l.URL, func(u urlLock) bool { return u.URL == d.URL })
	l.URL = append(l.URL, d)
}
