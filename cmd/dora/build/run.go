package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/dora-go/dora/cmd/dora/source"
	"github.com/dora-go/dora/dataflow"
)

// Options of one build.
type Options struct {
	Dataflow *dataflow.Descriptor
	// Env is the environment of the build lines, as KEY=VALUE; a node's own variables
	// come on top.
	Env []string
	// UV lets uv install Python packages, into an environment of its own for every Python
	// node that has build lines.
	UV bool
	// Force builds what has not changed, too.
	Force bool
	// Update looks for newer commits and downloads than the lock file names; Locked takes
	// exactly those, and refuses sources that it does not name.
	Update, Locked bool
	// ShowCurrent names the nodes that need no build.
	ShowCurrent bool
	// Out takes what happens, line by line.
	Out io.Writer
}

// Run fetches the sources of the dataflow's nodes (see source.Fetch, which changes the
// nodes) and builds what is not built. The error names the node, the line and the place.
func Run(ctx context.Context, o Options) error {
	if !hasWork(o.Dataflow) {
		return nil
	}
	out := &lineWriter{w: o.Out}
	unlock, err := lockFolder(ctx, o.Dataflow.Dir(), out)
	if err != nil {
		return err
	}
	defer unlock()
	err = source.Fetch(ctx, source.Options{Dataflow: o.Dataflow, Update: o.Update, Locked: o.Locked, Out: o.Out})
	if err != nil {
		return err
	}
	jobs, err := plan(&o)
	if err != nil {
		return err
	}
	b := &builder{opts: &o, out: out, trees: newTrees()}
	return b.build(ctx, jobs)
}

// hasWork: a node has build lines, or a source elsewhere.
func hasWork(d *dataflow.Descriptor) bool {
	for _, n := range d.Nodes {
		if len(n.BuildLines()) > 0 || n.Kind == dataflow.KindGit || n.Kind == dataflow.KindURL {
			return true
		}
	}
	return false
}

// builder is one run over the nodes of a dataflow.
type builder struct {
	opts  *Options
	out   *lineWriter
	trees *trees
	// installing is held by a line that installs Python packages into an environment
	// that is not the node's own: installers do not expect company.
	installing sync.Mutex
}

func (b *builder) build(ctx context.Context, jobs []*job) error {
	var todo []*job
	for _, j := range jobs {
		if !b.opts.Force && b.current(j) {
			if b.opts.ShowCurrent {
				b.out.printf("%s is up to date", j.node)
			}
			continue
		}
		todo = append(todo, j)
	}
	if len(todo) == 0 {
		return nil
	}
	for _, j := range todo {
		if err := j.clearStamp(); err != nil {
			return err
		}
	}
	err := b.runAll(ctx, todo)
	// The tree is looked at again when everything stands still: nodes build beside each
	// other, and what one of them made is no change to the others.
	b.trees = newTrees()
	for _, j := range todo {
		if j.done {
			err = errors.Join(err, b.writeStamp(j))
		}
	}
	return err
}

// runAll runs the jobs beside each other, at most one per core. The first failure ends
// the others.
func (b *builder) runAll(ctx context.Context, jobs []*job) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	slots := make(chan struct{}, max(2, runtime.NumCPU()))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	finished := 0
	for _, j := range jobs {
		slots <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			start := time.Now()
			err := b.runJob(ctx, j)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if first == nil {
					first = err
				}
				cancel()
				return
			}
			finished++
			j.done = true
			b.out.printf("built %s in %.1f s (%d of %d)", j.node, time.Since(start).Seconds(), finished, len(jobs))
		})
	}
	wg.Wait()
	if first == nil {
		first = context.Cause(ctx)
	}
	return first
}

func (b *builder) runJob(ctx context.Context, j *job) error {
	if j.venv != "" {
		if err := b.makeVenv(ctx, j); err != nil {
			return err
		}
	}
	for i := range j.lines {
		if err := b.runLine(ctx, j, &j.lines[i]); err != nil {
			return err
		}
	}
	return nil
}

// lineWriter writes whole lines for many.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}
