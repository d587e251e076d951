package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/memory"
)

// ref is which commit of a repository is wanted.
type ref struct{ kind, name string }

func refOf(n *dataflow.Node) ref {
	switch {
	case n.Branch != "":
		return ref{"branch", n.Branch}
	case n.Tag != "":
		return ref{"tag", n.Tag}
	case n.Rev != "":
		return ref{"rev", n.Rev}
	}
	return ref{kind: "HEAD"}
}

func (r ref) String() string {
	if r.name == "" {
		return r.kind
	}
	return r.kind + " " + r.name
}

// git gives the clone of a node's repository at the commit that is wanted.
func (f *fetcher) git(ctx context.Context, n *dataflow.Node) (*gitResult, error) {
	r := refOf(n)
	key := n.Git + "\x00" + r.String()
	if known, ok := f.gits[key]; ok {
		return known, known.err
	}
	res := &gitResult{}
	f.gits[key] = res
	res.dir, res.commit, res.err = f.clone(ctx, n.Git, r)
	if ctx.Err() != nil {
		res.err = fmt.Errorf("%s (%s): interrupted", redact(n.Git), r)
	}
	if res.err == nil {
		f.lock.setCommit(n.Git, r.String(), res.commit)
	}
	return res, res.err
}

func (f *fetcher) clone(ctx context.Context, written string, r ref) (dir, commit string, err error) {
	locked := f.lock.commit(written, r.String())
	switch {
	case f.opts.Locked && locked == "":
		return "", "", fmt.Errorf("%s (%s) is not in the lock file %s\n  fix: build without --locked once", redact(written), r, f.lockPath)
	case !f.opts.Update || f.opts.Locked:
		commit = locked
	}
	if commit == "" && r.kind == "rev" && isCommit.MatchString(r.name) {
		commit = r.name
	}
	if dir = f.cloneDir(written, commit); commit != "" && exists(dir) {
		return dir, commit, nil
	}
	if f.opts.Offline {
		return "", "", f.errNotHere(written)
	}
	c := &cloner{url: f.repositoryURL(written), shown: redact(written), out: f.out, ref: r, want: commit}
	if commit == "" && r.kind != "rev" {
		if c.tip, err = c.resolve(ctx); err != nil {
			return "", "", err
		}
		if dir = f.cloneDir(written, c.tip.Hash().String()); exists(dir) {
			return dir, c.tip.Hash().String(), nil
		}
	}
	dir, err = makeWhole(f.clonesDir(written), func(tmp string) (string, error) {
		var err error
		commit, err = c.clone(ctx, tmp)
		return folderName(commit), err
	})
	return dir, commit, err
}

// clonesDir is .dora/git/<name>-<url>, cloneDir <commit> in it.
func (f *fetcher) clonesDir(url string) string {
	sum := sha256.Sum256([]byte(url))
	name := strings.TrimSuffix(baseName(strings.TrimRight(url, "/")), ".git")
	return filepath.Join(f.dir, ".dora", "git", name+"-"+hex.EncodeToString(sum[:4]))
}

func (f *fetcher) cloneDir(url, commit string) string {
	return filepath.Join(f.clonesDir(url), folderName(commit))
}

// folderName is the beginning of a digest that names a folder.
func folderName(digest string) string { return digest[:min(len(digest), 12)] }

// remote addresses have a scheme, or are written host:path.
var remote = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://|[^/]+:[^/])`)

// repositoryURL makes a local path absolute; it starts at the dataflow's folder.
func (f *fetcher) repositoryURL(written string) string {
	if remote.MatchString(written) || filepath.IsAbs(written) {
		return written
	}
	return filepath.Join(f.dir, written)
}

// answerPatience bounds how long a server may take to say what it has.
const answerPatience = time.Minute

// cloner makes one clone.
type cloner struct {
	url, shown string
	ref        ref
	tip        *plumbing.Reference // of a branch, tag or HEAD
	want       string              // a commit, if it is known
	out        *lines
}

func (c *cloner) failed(err error) error {
	return fmt.Errorf("%s (%s): %w\n  fix: check the address, and whether you may read it (try `git ls-remote`)", c.shown, c.ref, hidden{err})
}

// resolve asks the repository what the ref is.
func (c *cloner) resolve(ctx context.Context) (*plumbing.Reference, error) {
	r := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{c.url}})
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	refs, err := r.ListContext(ctx, &git.ListOptions{PeelingOption: git.AppendPeeled})
	if err != nil {
		return nil, c.failed(err)
	}
	byName := map[plumbing.ReferenceName]*plumbing.Reference{}
	for _, ref := range refs {
		byName[ref.Name()] = ref
	}
	var name plumbing.ReferenceName
	var prefix string
	switch c.ref.kind {
	case "HEAD":
		head := byName[plumbing.HEAD]
		if head == nil {
			return nil, fmt.Errorf("%s has no HEAD: it is empty, or its default branch is not there\n  fix: name a `branch:`", c.shown)
		}
		if head.Type() == plumbing.SymbolicReference {
			name = head.Target()
			break
		}
		return head, nil
	case "branch":
		name, prefix = plumbing.NewBranchReferenceName(c.ref.name), "refs/heads/"
	case "tag":
		name, prefix = plumbing.NewTagReferenceName(c.ref.name), "refs/tags/"
	}
	found := byName[name]
	if found == nil {
		return nil, c.missing(refs, prefix)
	}
	if peeled := byName[name+"^{}"]; peeled != nil { // an annotated tag
		found = plumbing.NewHashReference(name, peeled.Hash())
	}
	return found, nil
}

func (c *cloner) missing(refs []*plumbing.Reference, prefix string) error {
	var known []string
	for _, r := range refs {
		if name, ok := strings.CutPrefix(r.Name().String(), prefix); ok && prefix != "" && !strings.HasSuffix(name, "^{}") {
			known = append(known, name)
		}
	}
	slices.Sort(known)
	fix := "it has none"
	if len(known) > 0 {
		fix = "it has " + strings.Join(known[:min(len(known), 10)], ", ")
	}
	return fmt.Errorf("%s has no %s\n  fix: %s", c.shown, c.ref, fix)
}

// clone clones into an empty folder and gives the commit that is checked out.
func (c *cloner) clone(ctx context.Context, dir string) (string, error) {
	c.out.printf("cloning %s (%s)", c.shown, c.ref)
	progress := &gitProgress{out: c.out, shown: c.shown}
	o := &git.CloneOptions{URL: c.url, NoCheckout: true, Progress: progress, Tags: git.AllTags}
	if c.tip != nil { // only what is needed: the newest commit of one branch or tag
		o.SingleBranch, o.Depth, o.Tags, o.ReferenceName = true, 1, git.NoTags, c.tip.Name()
	}
	repo, err := git.PlainCloneContext(ctx, dir, false, o)
	if err != nil {
		return "", c.failed(err)
	}
	hash, err := c.find(repo)
	if err != nil {
		return "", err
	}
	tree, err := repo.Worktree()
	if err != nil {
		return "", c.failed(err)
	}
	if err := tree.Checkout(&git.CheckoutOptions{Hash: hash, Force: true}); err != nil {
		return "", c.failed(err)
	}
	return hash.String(), nil
}

// find gives the commit in the clone.
func (c *cloner) find(repo *git.Repository) (plumbing.Hash, error) {
	var name string
	switch {
	case c.want != "":
		name = c.want
	case c.ref.kind == "rev":
		name = c.ref.name
	default:
		// What the branch is now, should it have moved since it was resolved.
		head, err := repo.Head()
		if err != nil {
			return plumbing.ZeroHash, c.failed(err)
		}
		name = head.Hash().String()
	}
	for _, n := range []string{name, "refs/remotes/origin/" + name} {
		hash, err := repo.ResolveRevision(plumbing.Revision(n))
		if err != nil || hash == nil {
			continue
		}
		if tag, err := repo.TagObject(*hash); err == nil {
			if commit, err := tag.Commit(); err == nil {
				return commit.Hash, nil
			}
		}
		if _, err := repo.CommitObject(*hash); err == nil {
			return *hash, nil
		}
	}
	if c.want != "" && c.ref.kind != "rev" {
		return plumbing.ZeroHash, fmt.Errorf("%s no longer has the commit %s that the lock file names for %s\n  fix: `dora build` takes the newest one", c.shown, c.want, c.ref)
	}
	return plumbing.ZeroHash, fmt.Errorf("%s has no %s\n  fix: write the hash of a commit that is on one of its branches", c.shown, c.ref)
}

// gitProgress shows what the other side says of its progress, once a second.
type gitProgress struct {
	out   *lines
	shown string

	mu   sync.Mutex
	last time.Time
}

func (p *gitProgress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		p.last = time.Now()
	}
	parts := bytes.FieldsFunc(b, func(r rune) bool { return r == '\r' || r == '\n' })
	if len(parts) > 0 && time.Since(p.last) >= progressEvery {
		p.last = time.Now()
		p.out.printf("  %s: %s", p.shown, bytes.TrimSpace(parts[len(parts)-1]))
	}
	return len(b), nil
}
