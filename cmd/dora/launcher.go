package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/guard"
	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
)

// shimLauncher is the effect "a shim for this dataflow" under `dora run`: guard and shim
// are real processes that hold a pipe of ours and end with us.
type shimLauncher struct {
	home   string
	show   func(*link.LogLine)
	socket string // the control socket of this run, removed should we be killed
	// launched is called when the shim is up, before anything is asked of it.
	launched func() error

	mu    sync.Mutex
	shims []*runShim
}

func newShimLauncher(show func(*link.LogLine)) (*shimLauncher, error) {
	home, err := doraHome()
	if err != nil {
		return nil, err
	}
	sweepDeadRuns(home)
	return &shimLauncher{home: home, show: show}, nil
}

// sweepDeadRuns ends and removes what runs left behind whose `dora run`, guard and shim
// were all killed in one instant, so that nobody was left to do it. A run that lives has
// its record locked and looks after its own shim.
func sweepDeadRuns(home string) {
	found, err := launch.Find(home)
	if err != nil {
		return // starting our own shim will say what is wrong with the folder
	}
	for _, f := range found {
		if f.Alive || !f.Owner.Run || liveByRecord(f.Dataflow) {
			continue
		}
		_ = f.Remove()
	}
}

// logsCommandID marks our own command among those of the actors.
const logsCommandID = 1 << 62

// Launch implements actors.Launcher.
func (l *shimLauncher) Launch(ctx context.Context, req actors.LaunchRequest) (actors.Shim, error) {
	go link.Ready() // while guard and shim start
	h, err := launch.Launch(ctx, launch.Options{StateDir: l.home, Dataflow: req.Dataflow, Token: req.Token, Epoch: req.Epoch,
		Version: version, ParentPipe: true, StarterSocket: l.socket, Ahead: guard.TakeAhead()})
	if err != nil {
		return nil, err
	}
	if err := l.launched(); err != nil {
		_ = h.Close()
		return nil, err
	}
	s := &runShim{shimConn: newShimConn(h, req, l.show)}
	l.mu.Lock()
	l.shims = append(l.shims, s)
	l.mu.Unlock()
	if err := s.conn.Send(s.logsCommand()); err != nil {
		_ = h.Close()
		return nil, err
	}
	go s.read()
	return s, nil
}

// close ends every shim and waits until all of their processes are gone.
func (l *shimLauncher) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shims {
		s.end()
	}
	l.shims = nil
}

// runShim is a shim of `dora run`: it ends when the launcher is closed.
type runShim struct{ *shimConn }

// Close implements actors.Shim. The shim itself ends when the launcher is closed.
func (s *runShim) Close() error { return nil }

// shimConn is one shim and its reader.
type shimConn struct {
	h    *launch.Handle
	req  actors.LaunchRequest
	show func(*link.LogLine) // nil: log lines are not asked for
	done chan struct{}       // closed when the reader has ended

	closing   chan struct{} // closed when nobody wants to hear of the shim any more
	closeOnce sync.Once

	mu   sync.Mutex
	conn *link.Conn
}

func newShimConn(h *launch.Handle, req actors.LaunchRequest, show func(*link.LogLine)) *shimConn {
	return &shimConn{h: h, conn: h.Conn, req: req, show: show, done: make(chan struct{}), closing: make(chan struct{})}
}

func (s *shimConn) logsCommand() link.Command {
	return link.Command{ID: logsCommandID, Epoch: s.req.Epoch, Logs: &link.Logs{On: s.show != nil}}
}

// Send implements actors.Shim.
func (s *shimConn) Send(c link.Command) error {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	return conn.Send(c)
}

// read delivers messages until the shim is lost, reconnecting when only the connection
// broke. Facts that a dead shim had written but not sent are delivered from its file.
func (s *shimConn) read() {
	defer close(s.done)
	s.req.Sink(link.Message{Hello: s.h.Hello})
	for {
		s.readConn()
		select {
		case <-s.h.Lost():
			deliverLeftFacts(s.h.Dir(), s.req)
			s.req.Lost(fmt.Errorf("shim process %d ended%s", s.h.Owner().PID, s.lastWords()))
			return
		case <-s.closing:
			return
		case <-time.After(20 * time.Millisecond): // a broken connection of a live shim
			if err := s.redial(); err != nil {
				continue
			}
		}
	}
}

func (s *shimConn) readConn() {
	for {
		m, err := s.conn.ReadMessage()
		switch {
		case err != nil:
			return
		case m.Log != nil && s.show != nil:
			s.show(m.Log)
		case m.LogGap != nil && s.show != nil:
			s.show(&link.LogLine{At: time.Now(), Level: "warn", Stream: "dora",
				Message: fmt.Sprintf("lines not shown here because the terminal was too slow: %d; the log files have them", m.LogGap.Count)})
		case m.Reply != nil && m.Reply.ID == logsCommandID:
		default:
			s.req.Sink(*m)
		}
	}
}

func (s *shimConn) redial() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.h.Redial(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.conn = s.h.Conn
	s.mu.Unlock()
	s.req.Sink(link.Message{Hello: s.h.Hello})
	return s.Send(s.logsCommand())
}

func deliverLeftFacts(dir string, req actors.LaunchRequest) {
	facts, err := (launch.Found{Dir: dir}).Facts()
	if err != nil {
		return // the folder is gone: the shim ended in order and nothing was left
	}
	for i := range facts {
		req.Sink(link.Message{Fact: &facts[i]})
	}
}

// lastWords is what guard and shim printed, normally nothing.
func (s *shimConn) lastWords() string {
	raw, err := os.ReadFile(filepath.Join(s.h.Dir(), folder.StderrName))
	if err != nil || len(raw) == 0 {
		return ""
	}
	return "; it printed:\n" + string(raw[:min(len(raw), 4096)])
}

// endPatience is how long a shim that was told to end may take before its pipe is closed.
const endPatience = 2 * time.Second

func (s *runShim) end() {
	select {
	case <-s.done:
	case <-time.After(endPatience):
	}
	_ = s.h.Close()
	if g := s.h.GuardDone(); g != nil {
		select {
		case <-g:
		case <-time.After(endPatience):
		}
	}
	select {
	case <-s.done:
	case <-time.After(endPatience):
	}
}

// newToken makes an unguessable name.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
