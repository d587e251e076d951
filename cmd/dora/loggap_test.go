package main

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// TestEveryLineOrACountedGap: a follower that cannot keep up with rotation at 1 KB gets
// every line once and in order, or is told how many are missing, whatever it asks for.
func TestEveryLineOrACountedGap(t *testing.T) {
	for _, grep := range []string{"", "line 1"} {
		t.Run("grep="+grep, func(t *testing.T) { follow(t, grep) })
	}
}

func follow(t *testing.T, grep string) {
	const lines = 3000
	dir := t.TempDir()
	stdout, stderr, in := printed(t)
	c := nodelog.New(nodelog.Config{Node: "n", Dir: dir, MaxSize: 1 << 10, MaxRotatedFiles: 3, Clock: nodelog.NewClock(time.Now),
		Line: func(link.LogLine, []byte, bool) {}, Warn: func(text string) { t.Error(text) }})
	out := c.Start(1, stdout, stderr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range lines {
			fmt.Fprintf(in, "line %d\n", i)
			if i%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		in.Close()
		out.Wait(time.Second)
		c.Close(10 * time.Second)
	}()
	next, missing, gaps, begun := 0, 0, 0, false
	q := ws.LogsQuery{Grep: grep}
	var hist []string // for the message
	for over := false; ; {
		select {
		case <-done:
			over = true
		default:
		}
		p := page(t, dir, q)
		for _, raw := range p.Lines {
			l := parseLogFileLine(raw.Node, raw.Raw)
			hist = append(hist, fmt.Sprint(l.Message, l.Fields, q.Cursor))
			if isDeletedNotice(l) {
				n, err := strconv.Atoi(l.Fields[deletedField])
				if err != nil {
					t.Fatalf("a gap without a number: %+v", l)
				}
				missing += n
				gaps++
				next += n
				continue
			}
			i, err := strconv.Atoi(strings.TrimPrefix(l.Message, "line "))
			if !begun { // what was deleted before it came does not concern it
				begun, next = true, i
			}
			if err != nil || i < next || grep == "" && i != next {
				t.Fatalf("got %q after line %d:\n%s", l.Message, next-1, strings.Join(hist[max(0, len(hist)-12):], "\n"))
			}
			if grep == "" {
				next = i + 1
			}
		}
		q.Cursor = p.Cursor
		if over && !p.More && len(p.Lines) == 0 {
			break
		}
		if rand.IntN(10) == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
	if grep == "" && next != lines {
		t.Errorf("%d lines and gaps, want %d", next, lines)
	}
	t.Logf("%d lines missing in %d gaps", missing, gaps)
	if gaps == 0 {
		t.Error("this follower kept up, so nothing is tested")
	}
}
