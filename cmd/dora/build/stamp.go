package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stamp says what a node was made of when it was last built. A node is current if its
// lines, its variables, its commit or source tree are the same, and what it runs is there.
//
// The environment of dora itself (PATH, compilers) is not compared, nor is what lies
// outside of the source tree; `dora build --force` builds in any case. An edit made while
// a build runs counts as seen.
type stamp struct {
	Version int       `json:"version"`
	Inputs  string    `json:"inputs"` // digest of lines, variables and commit
	Tree    string    `json:"tree"`   // digest of the source tree; empty for a commit
	BuiltAt time.Time `json:"built_at"`
}

const (
	stampVersion = 1
	// maxStamp bounds the file in bytes; ours have about 250.
	maxStamp = 4 << 10
)

// digest covers what the descriptor says.
func (j *job) digest() string {
	h := sha256.New()
	field := func(s string) { fmt.Fprintf(h, "%d:%s,", len(s), s) }
	field(j.dir)
	field(j.commit)
	field(j.venv)
	for _, l := range j.lines {
		for _, a := range l.argv {
			field(a)
		}
		field("\n")
	}
	for _, v := range j.declared {
		field(v)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// current reports whether the node needs no build.
func (b *builder) current(j *job) bool {
	s, err := readStamp(j.stampPath)
	if err != nil || s.Inputs != j.inputs {
		return false
	}
	if j.product != "" && !exists(j.product) || j.venv != "" && !isFile(filepath.Join(j.venv, "bin", "python")) {
		return false
	}
	if j.commit != "" {
		return true
	}
	tree, ok := b.trees.digest(j.dir)
	return ok && tree == s.Tree
}

// writeStamp is called when all builds are over.
func (b *builder) writeStamp(j *job) error {
	s := stamp{Version: stampVersion, Inputs: j.inputs, BuiltAt: time.Now().UTC()}
	if j.commit == "" {
		tree, ok := b.trees.digest(j.dir)
		if !ok {
			return nil // too large to look at: it is built every time
		}
		s.Tree = tree
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(j.stampPath)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("stamp of node %q: %w", j.node, err)
	}
	tmp := j.stampPath + ".new"
	if err := os.WriteFile(tmp, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("stamp of node %q: %w", j.node, err)
	}
	if err := os.Rename(tmp, j.stampPath); err != nil {
		return fmt.Errorf("stamp of node %q: %w", j.node, err)
	}
	return nil
}

func (j *job) clearStamp() error {
	if err := os.Remove(j.stampPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stamp of node %q: %w", j.node, err)
	}
	return nil
}

func readStamp(path string) (stamp, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // nor does a pipe in its place hold us
	if err != nil {
		return stamp{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxStamp+1))
	if err != nil {
		return stamp{}, err
	}
	return parseStamp(raw)
}

// parseStamp refuses whatever it did not write: the node is then built again.
func parseStamp(raw []byte) (stamp, error) {
	var s stamp
	if len(raw) > maxStamp {
		return s, fmt.Errorf("a stamp has at most %d bytes", maxStamp)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return stamp{}, err
	}
	if s.Version != stampVersion || len(s.Inputs) != 2*sha256.Size || s.Tree != "" && len(s.Tree) != 2*sha256.Size {
		return stamp{}, errors.New("not a stamp of this version")
	}
	return s, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// trees remembers the digests of source trees, by the folder they begin at.
type trees struct{ known map[string]treeDigest }

type treeDigest struct {
	sum string
	ok  bool
}

func newTrees() *trees { return &trees{known: map[string]treeDigest{}} }

// maxTreeFiles bounds what is looked at to find out whether something changed (about a
// second on a slow disk); nodes in a larger tree are built every time.
const maxTreeFiles = 200_000

// digest of the source tree that a folder belongs to: the git work tree around it, or the
// folder itself.
func (t *trees) digest(dir string) (string, bool) {
	root := sourceRoot(dir)
	d, known := t.known[root]
	if !known {
		d.sum, d.ok = digestTree(root)
		t.known[root] = d
	}
	return d.sum, d.ok
}

func sourceRoot(dir string) string {
	for up := dir; ; up = filepath.Dir(up) {
		if exists(filepath.Join(up, ".git")) {
			return up
		}
		if up == filepath.Dir(up) {
			return dir
		}
	}
}

// notSource are folders that programs write into while nodes run or are built, and that
// hold no sources.
var notSource = map[string]bool{".git": true, ".dora": true, ".venv": true, "target": true, "node_modules": true, "__pycache__": true}

// isRunFolder: logs of a run, out/<uuid>.
func isRunFolder(path string) bool {
	name := filepath.Base(path)
	return filepath.Base(filepath.Dir(path)) == "out" && len(name) == 36 && strings.Count(name, "-") == 4
}

// digestTree covers name, size, mode and time of change of every file. It is not ok if
// there are too many, or something cannot be read.
func digestTree(root string) (string, bool) {
	h := sha256.New()
	files := 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			if path != root && (notSource[e.Name()] || isRunFolder(path)) {
				return filepath.SkipDir
			}
			return nil
		}
		if files++; files > maxTreeFiles {
			return errors.New("too many files")
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while we looked
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %d %o %d\n", path[len(root):], info.Size(), info.Mode(), info.ModTime().UnixNano())
		return nil
	})
	return hex.EncodeToString(h.Sum(nil)), err == nil
}
