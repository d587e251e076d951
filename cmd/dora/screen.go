package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/sirupsen/logrus"
)

// screen shows log lines of nodes and of dora itself on stderr. Lines are shown by one
// goroutine; a burst is written with one flush.
type screen struct {
	filter  *logFilter
	printer *logPrinter
	lines   chan *link.LogLine
	done    chan struct{}

	mu     sync.RWMutex // held for reading while a line is handed over
	closed bool
}

func newScreen(f *os.File, o *runOptions, uuid string) *screen {
	s := &screen{filter: &o.filter, printer: newLogPrinter(f, o.format.value, useColor(f), uuid),
		lines: make(chan *link.LogLine, 4096), done: make(chan struct{})}
	go s.loop()
	return s
}

func (s *screen) loop() {
	defer close(s.done)
	for l := range s.lines {
		s.print(l)
		for more := true; more; {
			select {
			case l, ok := <-s.lines:
				if more = ok; ok {
					s.print(l)
				}
			default:
				more = false
			}
		}
		_ = s.printer.flush() // a closed terminal is no reason to stop the nodes
	}
	_ = s.printer.flush()
}

func (s *screen) print(l *link.LogLine) {
	if s.filter.pass(l.Node, l.Level) {
		s.printer.print(l)
	}
}

// show hands over a line; it waits when the terminal is slow (the shim then drops live
// lines and counts them; the files have every line).
func (s *screen) show(l *link.LogLine) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		s.lines <- l
	}
}

// close shows what is left.
func (s *screen) close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.lines)
	}
	s.mu.Unlock()
	<-s.done
}

// fail shows the verdict of a failed run and returns the error for exit code 1. In JSON
// format nothing but JSON lines goes to stderr.
func (s *screen) fail(text string) error {
	if s.printer.format != "json" {
		s.close()
		return errors.New(text)
	}
	s.show(&link.LogLine{At: time.Now(), Level: "error", Stream: "dora", Message: text})
	s.close()
	return errSilent
}

// logger is the logger of the control plane; its entries become lines of the screen.
func (s *screen) logger() *logrus.Logger {
	return lineLogger(func(level logrus.Level, l *link.LogLine) {
		if level <= logrus.InfoLevel || s.verbose() {
			s.show(l)
		}
	})
}

// lineLogger makes log lines of its entries.
func lineLogger(show func(logrus.Level, *link.LogLine)) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(discard{})
	log.SetLevel(logrus.TraceLevel)
	log.AddHook(lineHook(show))
	return log
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

type lineHook func(logrus.Level, *link.LogLine)

func (lineHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h lineHook) Fire(e *logrus.Entry) error {
	l := &link.LogLine{At: e.Time, Stream: "dora", Message: e.Message, Level: map[logrus.Level]string{
		logrus.PanicLevel: "error", logrus.FatalLevel: "error", logrus.ErrorLevel: "error", logrus.WarnLevel: "warn",
		logrus.InfoLevel: "info", logrus.DebugLevel: "debug", logrus.TraceLevel: "trace"}[e.Level]}
	for k, v := range e.Data {
		switch k {
		case "dataflow": // there is only one
		case "node":
			l.Message = fmt.Sprintf("node %v: %s", v, l.Message)
		default:
			if l.Fields == nil {
				l.Fields = map[string]string{}
			}
			l.Fields[k] = fmt.Sprint(v)
		}
	}
	h(e.Level, l)
	return nil
}

// verbose: dora's own debug lines are shown only to somebody who asks for that level;
// the default shows everything that nodes print.
func (s *screen) verbose() bool { return s.filter.level == "debug" || s.filter.level == "trace" }
