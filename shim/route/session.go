package route

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

const (
	// maxConns bounds the connections of one node's listener. A node uses three; while
	// it is restarted, those of two generations may exist.
	maxConns = 16
	// maxFirstFrame bounds the first frame of a connection in bytes. A Register has less
	// than 200.
	maxFirstFrame = 64 << 10
	// spawnWait is how long a connection waits to be told whose process it is of: the
	// process may be faster than the news of it.
	spawnWait = 5 * time.Second
	// inlineWrite: an answer up to this size (in bytes) is written by whoever brings the
	// event to the waiting node, without a change of goroutine, as far as the socket
	// takes it at once.
	inlineWrite = 64 << 10
)

// session is what the connections of one generation of a node have in common.
type session struct {
	n   *node
	gen uint64
	// after is closed when the messages of the generation before, which come first, are
	// routed.
	after <-chan struct{}
	// drained is closed when everything this generation had sent is routed.
	drained chan struct{}
	// done is closed when the process is gone; idle when the last connection has ended
	// as well.
	done chan struct{}
	idle chan struct{}
	// big hands answers that may block to the writer; answering: one is in it.
	big       chan *batch
	answering atomic.Bool
	bridge    *bridge // its direct path to Go nodes; nil without

	// The rest belongs to n.mu.
	events *conn // the connection that subscribed
	asked  bool  // it waits for events
	live   int   // registered connections
	ended  bool
	said   bool // Registered was reported
}

func newSession(n *node, gen uint64, after <-chan struct{}) *session {
	return &session{n: n, gen: gen, after: after,
		drained: make(chan struct{}), done: make(chan struct{}), idle: make(chan struct{}), big: make(chan *batch, 1)}
}

// end says that no process stands behind the session any more; n.mu is held.
func (s *session) end() {
	if !s.ended {
		s.ended = true
		s.asked = false
		close(s.done)
	}
	if s.live == 0 {
		s.rest()
	}
}

func (s *session) rest() {
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// conn is one connection of a node.
type conn struct {
	n    *node
	wire *nodewire.Conn
	nc   net.Conn
	sess *session // nil until registered; n.mu
	// frames read, to see whether the connection is quiet.
	frames atomic.Uint64

	wmu sync.Mutex // of writes
	g   nodewire.Gather
}

func (n *node) acceptLoop() {
	defer n.r.wg.Done()
	for {
		nc, err := n.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, for example: it may pass.
			n.r.reports.reject(n, "cannot accept a connection: "+err.Error())
			time.Sleep(50 * time.Millisecond)
			continue
		}
		c := &conn{n: n, wire: nodewire.NewConn(nc), nc: nc}
		if !n.admitConn(c) {
			_ = nc.Close()
			continue
		}
		n.r.wg.Add(1)
		go c.serve()
	}
}

// admitConn enters a connection. If there are too many, one that has not registered has
// to go.
func (n *node) admitConn(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.r.closed:
		return false
	default:
	}
	if len(n.conns) >= maxConns {
		for old := range n.conns {
			if old.sess == nil {
				delete(n.conns, old)
				_ = old.wire.Close()
				break
			}
		}
	}
	if len(n.conns) >= maxConns {
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

func (n *node) closeConns() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.wire.Close()
	}
	if n.sess != nil {
		n.sess.end()
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// serve reads a connection to its end. A panic ends this connection only.
func (c *conn) serve() {
	defer c.n.r.wg.Done()
	defer c.end()
	defer func() {
		if p := recover(); p != nil {
			c.n.r.reports.reject(c.n, fmt.Sprintf("internal error while serving it: %v", p))
		}
	}()
	if !c.register() {
		return
	}
	for {
		buf, err := c.wire.ReadFrame()
		if err != nil {
			c.readFailed(err)
			return
		}
		c.frames.Add(1)
		req, err := nodewire.DecodeRequest(buf.Bytes())
		if err == nil {
			err = c.handle(&req, buf)
		}
		buf.Release()
		if err != nil {
			c.readFailed(err)
			return
		}
	}
}

// errQuiet ends a connection without a report.
var errQuiet = errors.New("connection ended")

// readFailed reports why a connection ends, unless its peer just left.
func (c *conn) readFailed(err error) {
	if errors.Is(err, nodewire.ErrMalformed) || errors.Is(err, nodewire.ErrFrameTooLarge) ||
		errors.Is(err, nodewire.ErrStalled) || errors.Is(err, errProtocol) {
		c.n.r.reports.reject(c.n, err.Error())
	}
}

// errProtocol is wrapped by requests that are well-formed but out of place.
var errProtocol = errors.New("protocol violation")

// end takes the connection out of its session.
func (c *conn) end() {
	_ = c.wire.Close()
	n := c.n
	n.mu.Lock()
	delete(n.conns, c)
	s := c.sess
	if s == nil {
		n.mu.Unlock()
		return
	}
	s.live--
	lostEvents := s.events == c && !s.ended
	if s.events == c {
		s.asked = false
	}
	left := n.dynamic && n.sess == s && s.live == 0
	if left {
		n.alive, n.sess = false, nil
		n.phase = ""
		s.end()
	} else if s.ended && s.live == 0 {
		s.rest()
	}
	n.mu.Unlock()
	if left {
		n.r.left(n, s)
	} else if lostEvents {
		c.watchDeaf(s)
	}
}

// deafAfter is how long a process may outlive its event connection before nothing is
// queued for it any more.
const deafAfter = 2 * time.Second

// watchDeaf deals with a process that lives on but closed its event connection without a
// word: nobody will read what is queued.
func (c *conn) watchDeaf(s *session) {
	n := c.n
	time.AfterFunc(deafAfter, func() {
		n.mu.Lock()
		if n.sess == s && n.alive {
			n.deafen()
		}
		n.flush()
	})
}

// deafen forgets what is queued and queues no more; n.mu is held.
func (n *node) deafen() {
	n.deaf = true
	n.q.clear()
	n.freed()
}

// register reads and answers the first frame.
func (c *conn) register() bool {
	c.wire.SetLimit(maxFirstFrame)
	buf, err := c.wire.ReadFrame()
	if err != nil {
		c.readFailed(err)
		return false
	}
	req, err := nodewire.DecodeRequest(buf.Bytes())
	buf.Release()
	if err != nil {
		c.readFailed(err)
		return false
	}
	if err := c.enter(&req); err != nil {
		c.n.r.reports.reject(c.n, err.Error())
		if req.Kind.Answered() {
			_ = c.result(err.Error())
		}
		return false
	}
	c.wire.SetLimit(nodewire.MaxFrame)
	return c.result("") == nil
}

// enter checks a Register and makes the connection part of the node's session.
func (c *conn) enter(req *nodewire.Request) error {
	n := c.n
	switch {
	case req.Kind != nodewire.Register:
		return fmt.Errorf("the first request of a connection must be Register, not %v", req.Kind)
	case req.Dataflow != n.r.dataflow:
		return fmt.Errorf("this is dataflow %v, not %v", n.r.dataflow, req.Dataflow)
	case req.Node != n.id:
		return fmt.Errorf("this is the address of node %q, not of %q", n.id, printable(req.Node))
	}
	if err := nodewire.CheckVersion(req.Version, req.MetadataVersion); err != nil {
		return err
	}
	_ = n.r.clock.Update(req.Time.Time)
	if err := n.awaitProcess(); err != nil {
		return err
	}
	n.mu.Lock()
	s := n.sess
	if s == nil {
		n.mu.Unlock()
		return fmt.Errorf("node %s has no running process", n.id)
	}
	c.sess = s
	s.live++
	first := !s.said
	s.said = true
	if n.phase == phaseSpawned {
		n.phase = phaseRegistered
	}
	n.isGo.Store(strings.HasSuffix(req.Version, "+go"))
	gen := s.gen
	n.mu.Unlock()
	if first {
		n.r.cfg.Report(link.Fact{Node: n.id, Generation: gen,
			Registered: &link.Registered{Version: req.Version, Dynamic: n.dynamic}})
	}
	return nil
}

// awaitProcess waits until the shim has said which process it started. A dynamic node's
// first connection begins its generation.
func (n *node) awaitProcess() error {
	if n.dynamic {
		n.mu.Lock()
		alive, next := n.alive, n.gen+1
		n.mu.Unlock()
		if !alive {
			n.begin(next)
			n.r.reopenOutputs(n)
		}
		return nil
	}
	timeout := time.NewTimer(spawnWait)
	defer timeout.Stop()
	for {
		n.mu.Lock()
		alive, changed := n.alive, n.changed
		n.mu.Unlock()
		if alive {
			return nil
		}
		select {
		case <-changed:
		case <-timeout.C:
			return fmt.Errorf("node %s has no running process", n.id)
		case <-n.r.closed:
			return errQuiet
		}
	}
}

// printable shortens and cleans text of a peer for a message.
func printable(s string) string {
	const limit = 80
	s = strings.ToValidUTF8(s, "?")
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// result answers with success, or with why it failed.
func (c *conn) result(reason string) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.g.Reset()
	c.g.Commit(nodewire.AppendResult(c.g.Scratch(), reason))
	return c.wire.WriteGather(&c.g)
}
