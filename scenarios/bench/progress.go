package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// stepEvery is how often a step is printed where lines cannot be overwritten.
const stepEvery = 10 * time.Second

// progress shows what is being done: on a terminal in one line that is rewritten, else
// as a line now and then.
type progress struct {
	mu     sync.Mutex
	out    io.Writer
	tty    bool
	width  int
	begin  time.Time
	latest time.Time
	part   string
}

func newProgress(f *os.File) *progress {
	p := &progress{out: f, begin: time.Now()}
	if p.tty = term.IsTerminal(int(f.Fd())); p.tty {
		p.width, _, _ = term.GetSize(int(f.Fd()))
	}
	return p
}

// at says which of how many rows is being measured.
func (p *progress) at(row, rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part = fmt.Sprintf(", row %d of %d", row, rows)
}

// say prints a line that stays.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(fmt.Sprintf(format, args...), true)
}

// step shows what is being done right now.
func (p *progress) step(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.tty && time.Since(p.latest) < stepEvery {
		return
	}
	p.print(fmt.Sprintf(format, args...), !p.tty)
}

func (p *progress) print(text string, stays bool) {
	p.latest = time.Now()
	text = fmt.Sprintf("[%4.0fs%s] %s", time.Since(p.begin).Seconds(), p.part, text)
	if !p.tty {
		fmt.Fprintln(p.out, text)
		return
	}
	if runes := []rune(text); !stays && p.width > 1 && len(runes) >= p.width {
		text = string(runes[:p.width-1])
	}
	fmt.Fprintf(p.out, "\r\033[K%s", text)
	if stays {
		fmt.Fprintln(p.out)
	}
}

// clear leaves the line empty for what is printed next.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty {
		fmt.Fprint(p.out, "\r\033[K")
	}
}
