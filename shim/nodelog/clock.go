package nodelog

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// ClockField marks the line of a file behind which all lines are newer than those before it,
// whatever their times say: the clock of the machine was set back. Its value counts how
// often; files that are begun later begin with such a line, with ClockAgain beside it.
const (
	ClockField = "clock"
	ClockAgain = "again"
)

// clockTolerance is a step back that nobody need be told of: lines of different nodes are
// not ordered any finer.
const clockTolerance = 10 * time.Millisecond

// Clock gives the times of the lines of all nodes of one shim, so that the order of lines
// survives a clock that is set back.
type Clock struct {
	now func() time.Time

	mu   sync.Mutex
	last time.Time // the latest time since the clock was set back
	turn uint64    // how often it was
	back time.Duration
}

// NewClock returns a clock that reads now, mostly time.Now.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now} }

// read gives the time, how often the clock was set back so far, and how far the last time.
func (c *Clock) read() (at time.Time, turn uint64, back time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at = c.now().Round(0) // a monotonic reading would hide it
	switch d := c.last.Sub(at); {
	case d > clockTolerance:
		c.turn++
		c.back, c.last = d, at
	case d < 0:
		c.last = at
	}
	return at, c.turn, c.back
}

// clockMark is the line that says so.
func clockMark(b []byte, node string, at time.Time, turn uint64, back time.Duration) []byte {
	return appendLine(b, &link.LogLine{At: at, Node: node, Level: "warn", Stream: "dora",
		Message: fmt.Sprintf("the clock of the machine was set back by %v: later lines have earlier times", back.Round(time.Millisecond)),
		Fields:  map[string]string{ClockField: strconv.FormatUint(turn, 10)}})
}

// turnBack has the lines of the batch begin with a mark if the clock was set back. c.mu is
// held.
func (c *Collector) turnBack(turn uint64, back time.Duration) {
	if turn == c.turn {
		return
	}
	c.turn = turn
	c.file.turning.Store(turn)
	c.batch.lines = clockMark(c.batch.lines, c.cfg.Node, c.batch.at, turn, back)
	c.batch.count++
}

// turned notes that a mark among the lines is in the file, so that the next one begins with
// it. Of the writer alone.
func (w *file) turned(lines []byte) {
	turn := w.turning.Load()
	if turn != w.turn && bytes.Contains(lines, fmt.Appendf(nil, `"fields":{"%s":"%d"}`, ClockField, turn)) {
		w.turn = turn
	}
}

// againMark is what a file begins with when the clock was set back before it.
func (w *file) againMark() []byte {
	return encode(&link.LogLine{At: time.Now(), Node: w.node, Level: "warn", Stream: "dora",
		Message: "the clock of the machine was set back before this file was begun",
		Fields:  map[string]string{ClockField: strconv.FormatUint(w.turn, 10), ClockAgain: "1"}})
}
