package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dora-go/dora/dataflow"
)

// Options of one Fetch.
type Options struct {
	Dataflow *dataflow.Descriptor
	// Update looks for newer commits and downloads; otherwise what the lock file names
	// is taken, and the network is asked only for what is not here.
	Update bool
	// Locked refuses sources that the lock file does not have.
	Locked bool
	// Offline refuses what is not here already.
	Offline bool
	// Out takes what happens, line by line.
	Out io.Writer
	// Client makes the requests of downloads; nil: one with timeouts of its own.
	Client *http.Client
	// Limits of downloads; zero fields take DefaultLimits.
	Limits Limits
}

// Limits bound what a download may cost.
type Limits struct {
	Download int64 // bytes of one download
	Unpacked int64 // bytes of all files of one archive
	Entries  int   // files, folders and links of one archive
}

// DefaultLimits let a large model pass and stop an archive that was made to fill a disk.
var DefaultLimits = Limits{Download: 16 << 30, Unpacked: 32 << 30, Entries: 500_000}

func (l Limits) withDefaults() Limits {
	if l.Download <= 0 {
		l.Download = DefaultLimits.Download
	}
	if l.Unpacked <= 0 {
		l.Unpacked = DefaultLimits.Unpacked
	}
	if l.Entries <= 0 {
		l.Entries = DefaultLimits.Entries
	}
	return l
}

// Fetch brings the sources of all nodes here and makes the nodes ordinary ones: their Kind
// becomes KindExecutable (git nodes get WorkingDir and Commit, downloads an absolute Path).
// Nodes that share a source share what was fetched. All failures are reported. Only one
// process may fetch for a folder at a time.
func Fetch(ctx context.Context, o Options) error {
	var nodes []*dataflow.Node
	for _, n := range o.Dataflow.Nodes {
		if n.Kind == dataflow.KindGit || n.Kind == dataflow.KindURL {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	f, err := newFetcher(o)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		if err := f.node(ctx, n); err != nil {
			errs = append(errs, err)
			if ctx.Err() != nil {
				break
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return f.lock.write(f.lockPath)
}

// Place makes the nodes of a dataflow ordinary ones as Fetch does, from what was fetched
// before; it asks nobody.
func Place(d *dataflow.Descriptor) error {
	return Fetch(context.Background(), Options{Dataflow: d, Offline: true})
}

// errNotHere is said instead of asking the network.
func (f *fetcher) errNotHere(what string) error {
	return fmt.Errorf("%s was not fetched on this machine\n  fix: run `dora build %s` here", redact(what), f.opts.Dataflow.File)
}

type fetcher struct {
	opts     Options
	dir      string // of the dataflow
	lockPath string
	lock     *lockFile
	out      *lines
	gits     map[string]*gitResult
	urls     map[string]*urlResult
}

type gitResult struct {
	dir, commit string
	err         error
}

type urlResult struct {
	file string
	err  error
}

// LockPath is the lock file of a dataflow file.
func LockPath(dataflowFile string) string {
	return strings.TrimSuffix(dataflowFile, filepath.Ext(dataflowFile)) + ".lock.json"
}

func newFetcher(o Options) (*fetcher, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Client == nil {
		o.Client = defaultClient()
	}
	o.Limits = o.Limits.withDefaults()
	f := &fetcher{opts: o, dir: o.Dataflow.Dir(), lockPath: LockPath(o.Dataflow.File), out: &lines{w: o.Out},
		gits: map[string]*gitResult{}, urls: map[string]*urlResult{}}
	var err error
	f.lock, err = readLock(f.lockPath)
	return f, err
}

func (f *fetcher) node(ctx context.Context, n *dataflow.Node) error {
	if n.Kind == dataflow.KindGit {
		r, err := f.git(ctx, n)
		if err != nil {
			return fmt.Errorf("%s: git source of node %q: %w", f.place(n, "git"), n.ID, err)
		}
		n.Kind, n.WorkingDir, n.Commit = dataflow.KindExecutable, r.dir, r.commit
		return nil
	}
	file, err := f.url(ctx, n)
	if err != nil {
		return fmt.Errorf("%s: download for node %q: %w", f.place(n, "path"), n.ID, err)
	}
	n.Kind, n.Path = dataflow.KindExecutable, file
	return nil
}

func (f *fetcher) place(n *dataflow.Node, key string) string {
	at := n.Keys.At(key)
	return fmt.Sprintf("%s:%d:%d", f.opts.Dataflow.File, at.Line, at.Column)
}

// makeWhole fills a folder under another name and renames it when it is complete, to the
// name that fill gives. One that is there already is taken. The caller sees to it that
// nobody else fetches into the same parent.
func makeWhole(parent string, fill func(tmp string) (name string, err error)) (string, error) {
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("%w\n  fix: make %s writable", err, parent)
	}
	sweep(parent)
	tmp, err := os.MkdirTemp(parent, tmpPrefix)
	if err != nil {
		return "", fmt.Errorf("%w\n  fix: make %s writable", err, parent)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	name, err := fill(tmp)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(parent, name)
	if exists(dir) {
		return dir, nil
	}
	return dir, os.Rename(tmp, dir)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tmpPrefix begins the names of folders that are not complete.
const tmpPrefix = ".incomplete-"

// sweep removes what an interrupted fetch left.
func sweep(parent string) {
	old, _ := filepath.Glob(filepath.Join(parent, tmpPrefix+"*"))
	for _, path := range old {
		_ = os.RemoveAll(path)
	}
}

// userInfo is the part of a URL that may hold a password.
var userInfo = regexp.MustCompile(`://[^/@\s]*@`)

// redact hides user and password of URLs in a text.
func redact(text string) string { return userInfo.ReplaceAllString(text, "://...@") }

// hidden is an error without passwords.
type hidden struct{ err error }

func (h hidden) Error() string { return redact(h.err.Error()) }
func (h hidden) Unwrap() error { return h.err }

// baseName is the last part of a URL's path, fit for a file name.
func baseName(raw string) string {
	path := raw
	if u, err := url.Parse(raw); err == nil && u.Path != "" {
		path = u.Path
	}
	name := path[strings.LastIndexAny(path, "/:")+1:]
	name = unfit.ReplaceAllString(name, "_")
	if name = strings.TrimLeft(name, "."); len(name) > 100 {
		name = name[len(name)-100:]
	}
	if name == "" {
		return "download"
	}
	return name
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9_.-]`)

// lines writes whole lines.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}

// progressEvery is how often a transfer says how far it is; nothing is said in its first
// second.
const progressEvery = time.Second
