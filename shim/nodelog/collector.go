package nodelog

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

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
	// Heard says whether Line has anybody to tell; it is asked once for what one read of a
	// pipe gave. Nil: always.
	Heard func() bool
	// Warn tells the user something about the file.
	Warn func(text string)
	// Clock is that of all nodes.
	Clock *Clock
}

// Collector takes the output of one node, over all its generations.
type Collector struct {
	cfg  Config
	file *file

	mu    sync.Mutex // order of lines of both streams
	tail  tail       // of stderr, of the running generation
	turn  uint64     // of the clock, at the last batch
	batch batch
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
	c.tail.n = 0
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
	r := &counted{f, o}
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		c.mu.Lock()
		c.begin(stream)
		s.feed(buf[:n])
		if err != nil {
			s.flush(false)
		}
		c.put()
		c.mu.Unlock()
		if err != nil {
			break
		}
		if n == len(buf) && n < floodSize { // it prints a lot: fewer reads, and fewer waits for them
			buf = make([]byte, floodSize)
			growPipe(f)
		}
	}
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

// batch is what one read gave: all its lines have one time, and go to the file at once.
type batch struct {
	at    time.Time
	heard bool // somebody wants the lines as such
	head  []byte
	lines []byte // encoded, not yet queued
	count int
}

// begin makes ready for the lines of one read. c.mu is held, also for line and put.
func (c *Collector) begin(stream string) {
	b := &c.batch
	at, turn, back := c.cfg.Clock.read()
	b.at = at
	c.turnBack(turn, back)
	b.heard = c.cfg.Heard == nil || c.cfg.Heard()
	b.head = appendHead(b.head[:0], &link.LogLine{At: b.at, Level: Raw, Node: c.cfg.Node, Stream: stream})
}

// put hands the encoded lines to the file.
func (c *Collector) put() {
	if c.batch.count > 0 {
		c.file.put(c.batch.lines, c.batch.count)
		c.batch.lines, c.batch.count = c.batch.lines[:0], 0
		if cap(c.batch.lines) > spareBytes {
			c.batch.lines = nil
		}
	}
}

// line takes one line. Most are plain text that nobody listens to: those are copied into
// the file's form and nothing else.
func (c *Collector) line(generation uint64, stream string, line []byte, skipped int, ended bool) {
	b := &c.batch
	if !b.heard && skipped == 0 && plain(line) && !structured(line) {
		if stream == "stderr" {
			c.tail.add(line)
		}
		if Passes(Raw, c.cfg.MinLevel) {
			b.lines = append(b.lines, b.head...)
			b.lines = append(b.lines, line...)
			b.lines = append(b.lines, plainEnd...)
			c.counted()
		}
		return
	}
	text := clean(line, skipped)
	l := Parse(text, b.at)
	l.Node, l.Generation, l.Stream = c.cfg.Node, generation, stream
	if stream == "stderr" {
		c.tail.add([]byte(text))
	}
	kept := Passes(l.Level, c.cfg.MinLevel)
	if kept {
		b.lines = appendLine(b.lines, &l)
		c.counted()
	}
	if b.heard {
		raw := text
		if ended {
			raw += "\n"
		}
		c.cfg.Line(l, []byte(raw), kept)
	}
}

// counted notes a line in the batch, which is queued in pieces.
func (c *Collector) counted() {
	if c.batch.count++; len(c.batch.lines) >= pieceBytes {
		c.put()
	}
}

// tail keeps the last lines of stderr.
type tail struct {
	lines [tailLines][]byte
	n     int // lines so far
}

func (t *tail) add(line []byte) {
	i := t.n % tailLines
	t.lines[i] = append(t.lines[i][:0], line[:min(len(line), tailBytes+1)]...)
	t.n++
}

// text is a line, cut between runes.
func (t *tail) text(i int) string {
	line := t.lines[i%tailLines]
	if len(line) > tailBytes {
		line = line[:tailBytes]
		for i := 0; i < utf8.UTFMax && len(line) > 0 && !utf8.FullRune(line[len(line)-min(len(line), utf8.UTFMax):]); i++ {
			line = line[:len(line)-1]
		}
	}
	return strings.ToValidUTF8(string(line), "")
}

// Tail returns the last lines that the generation wrote to stderr: at most 20, each of at
// most 1 KiB.
func (c *Collector) Tail() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for i := max(0, c.tail.n-tailLines); i < c.tail.n; i++ {
		out = append(out, c.tail.text(i))
	}
	return out
}

// Sync waits until every line so far is in the file, as long as something is written at
// least every stall, and 10 s at most.
func (c *Collector) Sync(stall time.Duration) { c.file.sync(stall) }

// Close writes what is queued, waiting at most limit.
func (c *Collector) Close(limit time.Duration) { c.file.close(limit) }
