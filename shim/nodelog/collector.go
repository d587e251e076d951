package nodelog

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/transport/link"
)

const (
	tailLines = 20
	tailBytes = 1 << 10
)

// Config is what a Collector needs to know of its node.
type Config struct {
	Node            string
	Dir             string // of the file; it must exist
	MinLevel        string
	MaxSize         int64
	MaxRotatedFiles int
	// Line gets every line, kept or not, in order, never two at once. raw is the line as
	// text with its end, if it had one, and may be held on to. It must not block.
	Line func(l link.LogLine, raw []byte, kept bool)
	// Warn tells the user something about the file.
	Warn func(text string)
	Now  func() time.Time
}

// Collector takes the output of one node, over all its generations.
type Collector struct {
	cfg  Config
	file *file

	mu   sync.Mutex // order of lines of both streams
	tail []string   // last lines of stderr, of the running generation
}

// New returns a Collector; Close ends it. The file is made by the first line, or by Touch.
func New(cfg Config) *Collector {
	return &Collector{cfg: cfg, file: newFile(filepath.Join(cfg.Dir, FileName(cfg.Node)),
		cfg.Node, cfg.MaxSize, cfg.MaxRotatedFiles, cfg.Warn)}
}

// Output is the output of one generation.
type Output struct {
	done    chan struct{}
	files   [2]*os.File
	read    atomic.Int64 // bytes so far
	working atomic.Int32 // streams whose lines are being handled right now
}

// foreignBytes is more than the pipes of an ended node can hold: what still comes after
// that is printed by something else.
const foreignBytes = 4 << 20

// Start drains both pipes of a generation until their ends.
func (c *Collector) Start(generation uint64, stdout, stderr *os.File) *Output {
	c.mu.Lock()
	c.tail = nil
	c.mu.Unlock()
	o := &Output{done: make(chan struct{}), files: [2]*os.File{stdout, stderr}}
	o.working.Store(2)
	var wg sync.WaitGroup
	for i, stream := range []string{"stdout", "stderr"} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.drain(generation, stream, o.files[i], o)
		}()
	}
	go func() {
		wg.Wait()
		close(o.done)
	}()
	return o
}

func (c *Collector) drain(generation uint64, stream string, f *os.File, o *Output) {
	defer f.Close()
	s := splitter{emit: func(line []byte, skipped int, ended bool) {
		c.line(generation, stream, line, skipped, ended)
	}}
	s.read(&counted{f, o}, c.file.flush)
	o.working.Add(-1) // the last read has counted itself
}

// counted tells its Output what it reads and when it waits.
type counted struct {
	f *os.File
	o *Output
}

func (r *counted) Read(b []byte) (int, error) {
	r.o.working.Add(-1)
	n, err := r.f.Read(b)
	r.o.working.Add(1)
	r.o.read.Add(int64(n))
	return n, err
}

// Wait waits, after the end of the process, until both pipes have ended and all lines are
// handled. A pipe that something else still holds open is given up when nothing came for
// patience, or too much to be the node's.
func (o *Output) Wait(patience time.Duration) {
	t := time.NewTicker(patience)
	defer t.Stop()
	first := o.read.Load()
	for last := first; ; {
		select {
		case <-o.done:
			return
		case <-t.C:
		}
		now := o.read.Load()
		if o.working.Load() == 0 && now == last || now-first > foreignBytes {
			break
		}
		last = now
	}
	for _, f := range o.files {
		f.SetReadDeadline(time.Unix(1, 0))
	}
	<-o.done
}

func (c *Collector) line(generation uint64, stream string, line []byte, skipped int, ended bool) {
	text := clean(line, skipped)
	l := Parse(text, c.cfg.Now())
	l.Node, l.Generation, l.Stream = c.cfg.Node, generation, stream
	raw := text
	if ended {
		raw += "\n"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if stream == "stderr" {
		c.keepTail(text)
	}
	kept := Passes(l.Level, c.cfg.MinLevel)
	if kept {
		c.file.put(&l)
	}
	c.cfg.Line(l, []byte(raw), kept)
}

func (c *Collector) keepTail(text string) {
	if len(text) > tailBytes {
		text = text[:tailBytes]
		for len(text) > 0 && text[len(text)-1]&0xC0 == 0x80 {
			text = text[:len(text)-1]
		}
		if n := len(text); n > 0 && text[n-1] >= 0xC0 {
			text = text[:n-1]
		}
	}
	if len(c.tail) == tailLines {
		c.tail = append(c.tail[:0:0], c.tail[1:]...)
	}
	c.tail = append(c.tail, text)
}

// Tail returns the last lines that the generation wrote to stderr: at most 20, each of at
// most 1 KiB.
func (c *Collector) Tail() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.tail...)
}

// Sync waits until every line so far is in the file, as long as something is written at
// least every stall, and 10 s at most.
func (c *Collector) Sync(stall time.Duration) { c.file.sync(stall) }

// Close writes what is queued, waiting at most limit.
func (c *Collector) Close(limit time.Duration) { c.file.close(limit) }
