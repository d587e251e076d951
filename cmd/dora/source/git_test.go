package source

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// repository is a bare repository and a work tree that pushes into it.
type repository struct {
	t    *testing.T
	bare string
	work *git.Repository
	dir  string
}

func newRepository(t *testing.T, bare string) *repository {
	t.Helper()
	if _, err := git.PlainInitWithOptions(bare, &git.PlainInitOptions{Bare: true, InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"}}); err != nil {
		t.Fatal(err)
	}
	r := &repository{t: t, bare: bare, dir: t.TempDir()}
	var err error
	if r.work, err = git.PlainInitWithOptions(r.dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: "refs/heads/main"}}); err != nil {
		t.Fatal(err)
	}
	return r
}

// commit commits a file run.py with this text and pushes everything.
func (r *repository) commit(text string) string {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "run.py"), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
	w, err := r.work.Worktree()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := w.Add("run.py"); err != nil {
		r.t.Fatal(err)
	}
	who := &object.Signature{Name: "t", Email: "t@example.com", When: time.Unix(1e9, 0)}
	hash, err := w.Commit(text, &git.CommitOptions{Author: who})
	if err != nil {
		r.t.Fatal(err)
	}
	r.push()
	return hash.String()
}

func (r *repository) push() {
	r.t.Helper()
	// By hand: everything that go-git pushes by its file transport needs a program.
	from, to := r.work.Storer, r.bareStorer()
	objects, err := from.IterEncodedObjects(plumbing.AnyObject)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = objects.ForEach(func(o plumbing.EncodedObject) error {
		_, err := to.Storer.SetEncodedObject(o)
		return err
	})
	refs, err := from.IterReferences()
	if err != nil {
		r.t.Fatal(err)
	}
	_ = refs.ForEach(func(ref *plumbing.Reference) error { return to.Storer.SetReference(ref) })
}

func (r *repository) bareStorer() *git.Repository {
	b, err := git.PlainOpen(r.bare)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *repository) tag(name string, annotated bool) {
	r.t.Helper()
	head, err := r.work.Head()
	if err != nil {
		r.t.Fatal(err)
	}
	var o *git.CreateTagOptions
	if annotated {
		o = &git.CreateTagOptions{Tagger: &object.Signature{Name: "t", Email: "t@example.com", When: time.Unix(1e9, 0)}, Message: name}
	}
	if _, err := r.work.CreateTag(name, head.Hash(), o); err != nil {
		r.t.Fatal(err)
	}
	r.push()
}

func (r *repository) branch(name, commit string) {
	r.t.Helper()
	if err := r.work.Storer.SetReference(plumbing.NewHashReference(plumbing.NewBranchReferenceName(name), plumbing.NewHash(commit))); err != nil {
		r.t.Fatal(err)
	}
	r.push()
}

// fetchNode fetches a dataflow with one node that has these further lines.
func fetchNode(t *testing.T, dir string, o Options, lines ...string) (*dataflow.Node, error) {
	t.Helper()
	file := filepath.Join(dir, "flow.yml")
	text := "nodes:\n  - id: n\n"
	for _, l := range lines {
		text += "    " + l + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	d, _, diags := dataflow.Load(file)
	if len(diags.Errors()) > 0 {
		t.Fatal(diags)
	}
	o.Dataflow = d
	err := Fetch(context.Background(), o)
	assertWhole(t, dir)
	return d.Nodes[0], err
}

// assertWhole: nothing incomplete lies about.
func assertWhole(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(dir, ".dora"), func(path string, _ os.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.Base(path), tmpPrefix) {
			t.Errorf("left over: %s", path)
		}
		return nil
	})
}

func TestGitRefs(t *testing.T) {
	dir := t.TempDir()
	r := newRepository(t, filepath.Join(dir, "repo.git"))
	first := r.commit("one")
	r.tag("v1", true)
	r.branch("old", first)
	second := r.commit("two")
	r.tag("v2", false)
	third := r.commit("three")
	for _, c := range []struct{ line, commit string }{
		{"branch: main", third}, {"branch: old", first}, {"tag: v1", first}, {"tag: v2", second},
		{"rev: " + second, second}, {"rev: " + second[:8], second}, {"description: HEAD", third},
	} {
		// A path that is not absolute starts at the dataflow's folder.
		n, err := fetchNode(t, dir, Options{Update: true}, "git: ./repo.git", "path: run.py", c.line)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if n.Commit != c.commit || n.Kind != dataflow.KindExecutable {
			t.Errorf("%s: commit %s of kind %s, want %s", c.line, n.Commit, n.Kind, c.commit)
		}
		want := map[string]string{first: "one", second: "two", third: "three"}[c.commit]
		if got, _ := os.ReadFile(filepath.Join(n.WorkingDir, "run.py")); string(got) != want {
			t.Errorf("%s: the clone has %q, want %q", c.line, got, want)
		}
	}
}

func TestGitErrors(t *testing.T) {
	dir := t.TempDir()
	r := newRepository(t, filepath.Join(dir, "repo.git"))
	r.commit("one")
	r.tag("v1", false)
	newRepository(t, filepath.Join(dir, "empty.git"))
	for _, c := range []struct {
		lines []string
		want  []string
	}{
		{[]string{"git: ./repo.git", "branch: mian"}, []string{"flow.yml:3:10: git source of node \"n\": ./repo.git has no branch mian", "it has main"}},
		{[]string{"git: ./repo.git", "tag: v2"}, []string{"./repo.git has no tag v2", "it has v1"}},
		{[]string{"git: ./repo.git", "rev: 0123456789012345678901234567890123456789"}, []string{"./repo.git has no rev 0123456789012345678901234567890123456789"}},
		{[]string{"git: ./none.git"}, []string{"./none.git (HEAD): ", "fix: check the address"}},
		{[]string{"git: ./empty.git"}, []string{"./empty.git"}},
		{[]string{"git: https://me:secret@127.0.0.1:1/x.git"}, []string{"https://...@127.0.0.1:1/x.git"}},
	} {
		_, err := fetchNode(t, dir, Options{Update: true}, append(c.lines, "path: run.py")...)
		if err == nil {
			t.Errorf("%v: no error", c.lines)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%v: %q is missing in: %v", c.lines, w, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("a password is shown: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "flow.lock.json")); err == nil {
		t.Error("a failed fetch wrote a lock file")
	}
}

// A build looks for the newest commit; a run, and a build that is told so, keeps to the
// lock file, also when the clone is gone.
func TestGitLock(t *testing.T) {
	dir := t.TempDir()
	r := newRepository(t, filepath.Join(dir, "repo.git"))
	first := r.commit("one")
	source := []string{"git: ./repo.git", "branch: main", "path: run.py"}
	if _, err := fetchNode(t, dir, Options{Update: true, Locked: true}, source...); err == nil || !strings.Contains(err.Error(), "flow.lock.json") {
		t.Errorf("--locked without a lock file: %v", err)
	}
	n, err := fetchNode(t, dir, Options{}, source...) // a run of what was never built
	if err != nil || n.Commit != first {
		t.Fatalf("first: %v %v", n.Commit, err)
	}
	second := r.commit("two")
	if n, err := fetchNode(t, dir, Options{Offline: true}, source...); err != nil || n.Commit != first {
		t.Errorf("offline has %s, %v", n.Commit, err)
	}
	if _, err := fetchNode(t, dir, Options{Offline: true}, "git: ./repo.git", "tag: v9", "path: run.py"); err == nil || !strings.Contains(err.Error(), "was not fetched on this machine") {
		t.Errorf("offline, not there: %v", err)
	}
	var out bytes.Buffer
	if n, err = fetchNode(t, dir, Options{Out: &out}, source...); err != nil || n.Commit != first || out.Len() > 0 {
		t.Errorf("a run has %s, %v, %q; want the locked commit, silently", n.Commit, err, out.String())
	}
	if err := os.RemoveAll(filepath.Join(dir, ".dora")); err != nil {
		t.Fatal(err)
	}
	if n, err = fetchNode(t, dir, Options{Update: true, Locked: true}, source...); err != nil || n.Commit != first {
		t.Errorf("--locked has %s, %v", n.Commit, err)
	}
	if n, err = fetchNode(t, dir, Options{Update: true}, source...); err != nil || n.Commit != second {
		t.Errorf("a build has %s, %v; want %s", n.Commit, err, second)
	}
	if n, err = fetchNode(t, dir, Options{}, source...); err != nil || n.Commit != second {
		t.Errorf("the run after it has %s, %v", n.Commit, err)
	}
}

// What an interrupted fetch left is removed by the next one.
func TestGitInterrupted(t *testing.T) {
	dir := t.TempDir()
	r := newRepository(t, filepath.Join(dir, "repo.git"))
	r.commit("one")
	source := []string{"git: ./repo.git", "path: run.py"}
	n, err := fetchNode(t, dir, Options{}, source...)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(n.WorkingDir), tmpPrefix+"123")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	r.commit("two")
	if _, err := fetchNode(t, dir, Options{Update: true}, source...); err != nil {
		t.Fatal(err)
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte(`{"version":1,"git":[{"url":"u","ref":"HEAD","commit":"0123456789012345678901234567890123456789"}],"url":[]}`))
	f.Add([]byte(`{"version":1,"git":null,"url":[{"url":"u","sha256":"` + strings.Repeat("0a", 32) + `","etag":"\"x\""}]}`))
	f.Add([]byte(`{"version":9}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := parseLock(raw)
		if err != nil {
			return
		}
		for _, g := range l.Git {
			if !isCommit.MatchString(g.Commit) {
				t.Fatalf("accepted %q", g.Commit)
			}
		}
		l.setCommit("a", "HEAD", strings.Repeat("0", 40))
		path := filepath.Join(t.TempDir(), "lock")
		if err := l.write(path); err != nil {
			t.Fatal(err)
		}
		again, err := readLock(path)
		if err != nil || again.commit("a", "HEAD") == "" || len(again.URL) != len(l.URL) {
			t.Fatalf("not read back: %v", err)
		}
	})
}
