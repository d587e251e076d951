package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/transport/link"
)

// simLauncher is the Launcher and Adopter of one daemon.
type simLauncher struct {
	w    *world
	dead func() bool
}

func (l *simLauncher) Launch(ctx context.Context, req LaunchRequest) (Shim, error) {
	time.Sleep(l.w.between(time.Millisecond, 8*time.Millisecond))
	if ctx.Err() != nil || l.dead() {
		return nil, context.Canceled
	}
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.shims {
		if !other.gone {
			return nil, fmt.Errorf("the dataflow has a live shim %s", other.token)
		}
	}
	s := &simShim{w: w, token: req.Token, epoch: req.Epoch, nodes: map[string]*simNode{}}
	w.shims[req.Token] = s
	return s.connect(req, l.dead), nil
}

func (l *simLauncher) Adopt(ctx context.Context, req LaunchRequest) (Shim, error) {
	time.Sleep(l.w.between(0, 5*time.Millisecond))
	w := l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.shims[req.Token]
	if s == nil || s.gone {
		return nil, fmt.Errorf("shim %s: %w", req.Token, ErrNoShim)
	}
	return s.connect(req, l.dead), nil
}

// simShim is a shim as transport/link describes it. world.mu guards it.
type simShim struct {
	w     *world
	token string
	epoch uint64
	gone  bool

	load     *link.Load
	nodes    map[string]*simNode
	released bool
	aborted  bool

	facts []link.Fact // not acknowledged
	seq   uint64
	conn  *simConn
}

type simNode struct {
	spec       link.Node
	generation uint64
	token      string
	life       int // raised when a process ends: late timers are void
	running    bool
	phase      string
	plan       link.ExitPlan
	spawnedAt  time.Time
	stopping   bool
	held       bool
	closed     bool // its outputs
	told       bool // that no input is left
}

// simConn is one connection: a queue that is delivered in order, with delays.
type simConn struct {
	s    *simShim
	req  LaunchRequest
	dead func() bool
	wake chan struct{}

	queue  []link.Message
	broken bool
	lost   error
	closed bool
}

var errCut = errors.New("connection cut")

// connect begins a connection with a Hello and all facts that are not acknowledged.
func (s *simShim) connect(req LaunchRequest, dead func() bool) *simConn {
	if s.conn != nil {
		s.conn.closed = true
		s.conn.poke()
	}
	c := &simConn{s: s, req: req, dead: dead, wake: make(chan struct{}, 1)}
	s.conn = c
	c.greet()
	go c.deliver()
	return c
}

func (c *simConn) greet() {
	h := &link.Hello{Protocol: link.Version, Version: "sim", Dataflow: c.req.Dataflow, Token: c.s.token, PID: 1, BootID: "boot", Loaded: c.s.load != nil}
	if len(c.s.facts) > 0 {
		h.FirstUnacked, h.LastFact = c.s.facts[0].Seq, c.s.seq
	} else {
		h.LastFact = c.s.seq
	}
	c.queue = append(c.queue, link.Message{Hello: h})
	for i := range c.s.facts {
		f := c.s.facts[i]
		c.queue = append(c.queue, link.Message{Fact: &f})
	}
	c.poke()
}

func (c *simConn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// deliver hands messages over, until the shim is gone or the connection is closed.
func (c *simConn) deliver() {
	w := c.s.w
	for {
		w.mu.Lock()
		var m *link.Message
		switch {
		case c.closed || c.dead():
			w.mu.Unlock()
			return
		case len(c.queue) > 0:
			first := c.queue[0]
			m, c.queue = &first, c.queue[1:]
		case c.lost != nil:
			lost := c.lost
			w.mu.Unlock()
			c.req.Lost(lost)
			return
		}
		w.mu.Unlock()
		if m == nil {
			<-c.wake
			continue
		}
		if !w.instant && w.chance(.3) {
			time.Sleep(w.between(0, 2*time.Millisecond))
		}
		if c.dead() {
			return
		}
		c.req.Sink(*m)
	}
}

// cut ends the connection for a while: what was not delivered is lost, and after it the
// unacknowledged facts come again.
func (s *simShim) cut(after time.Duration) {
	c := s.conn
	if c == nil || c.broken || s.gone {
		return
	}
	c.broken = true
	c.queue = nil
	s.w.note("connection cut for %s", after)
	time.AfterFunc(after, func() {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		if s.gone || s.conn != c || c.closed {
			return
		}
		c.broken = false
		c.greet()
		s.w.note("connected again")
	})
}

// crash ends the shim and everything below it.
func (s *simShim) crash(why string) {
	if s.gone {
		return
	}
	s.gone = true
	s.w.note("shim %s gone: %s", s.token, why)
	for id, n := range s.nodes {
		if n.running {
			n.life++
			n.running = false
			delete(s.w.alive, id)
		}
	}
	if c := s.conn; c != nil {
		if c.broken || s.w.rng.Float64() < .5 {
			c.queue = nil
			if s.w.rng.Float64() < .5 { // what it had written is read from its file
				for i := range s.facts {
					f := s.facts[i]
					c.queue = append(c.queue, link.Message{Fact: &f})
				}
			}
		}
		c.lost = errors.New(why)
		c.poke()
	}
}

func (s *simShim) report(f link.Fact) {
	s.seq++
	f.Seq, f.At = s.seq, s.w.clock.Now()
	s.facts = append(s.facts, f)
	if c := s.conn; c != nil && !c.broken {
		c.queue = append(c.queue, link.Message{Fact: &f})
		c.poke()
	}
}

// Send implements Shim.
func (c *simConn) Send(cmd link.Command) error {
	w := c.s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.broken || c.closed || c.s.gone || c.dead() {
		return errCut
	}
	reply := &link.Reply{ID: cmd.ID}
	if cmd.Epoch < c.s.epoch {
		reply.Error = "lower epoch"
	} else {
		c.s.epoch = cmd.Epoch
		if err := c.s.handle(cmd, reply); err != nil {
			reply.Error = err.Error()
		}
	}
	if !c.broken {
		c.queue = append(c.queue, link.Message{Reply: reply})
		c.poke()
	}
	return nil
}

// Close implements Shim.
func (c *simConn) Close() error {
	c.s.w.mu.Lock()
	defer c.s.w.mu.Unlock()
	c.closed = true
	c.poke()
	return nil
}

func (s *simShim) handle(cmd link.Command, reply *link.Reply) error {
	if s.load == nil && cmd.Load == nil && cmd.Ack == nil && cmd.End == nil && cmd.State == nil {
		return errors.New("no dataflow was loaded")
	}
	switch {
	case cmd.Load != nil:
		if s.load != nil {
			return nil
		}
		s.load = cmd.Load
		for _, n := range cmd.Load.Nodes {
			s.nodes[n.ID] = &simNode{spec: n}
		}
	case cmd.Spawn != nil:
		return s.spawn(cmd.Spawn)
	case cmd.Plan != nil:
		s.nodes[cmd.Plan.Node].plan = cmd.Plan.Plan
	case cmd.Release != nil:
		s.w.checkReleased(s.load.Dataflow)
		if !s.released {
			s.released = true
			for _, n := range s.nodes {
				s.work(n)
			}
		}
	case cmd.Abort != nil:
		if !s.aborted && !s.released {
			s.aborted = true
			for _, n := range s.nodes {
				if n.running && n.phase == "subscribed" {
					s.after(n, time.Millisecond, func() { s.exit(n, link.Exited{Code: 1}) })
				}
			}
		}
	case cmd.Deliver != nil:
		return s.deliverParam(cmd.Deliver)
	case cmd.Stop != nil:
		s.stop(cmd.Stop)
	case cmd.Close != nil:
		n := s.nodes[cmd.Close.Node]
		n.held, n.closed = false, true
		s.inputs()
	case cmd.Ack != nil:
		s.ack(cmd.Ack.Seq)
	case cmd.State != nil:
		reply.State = &link.State{Released: s.released}
	case cmd.End != nil:
		s.w.note("end")
		time.AfterFunc(s.w.betweenLocked(time.Millisecond, 5*time.Millisecond), func() {
			s.w.mu.Lock()
			defer s.w.mu.Unlock()
			s.crash("ended as ordered")
		})
	}
	return nil
}

func (s *simShim) spawn(c *link.Spawn) error {
	n := s.nodes[c.Node]
	switch {
	case n == nil:
		return fmt.Errorf("no node %s", c.Node)
	case c.Generation == n.generation:
		return nil
	case c.Generation < n.generation:
		return errors.New("generation is over")
	case n.running:
		return errors.New("still runs")
	}
	w := s.w
	w.checkIntent(s.load.Dataflow, c)
	w.note("spawn %s %d", c.Node, c.Generation)
	w.spawns++
	n.generation, n.token, n.plan, n.running = c.Generation, c.Token, c.Plan, true
	n.phase, n.stopping, n.held, n.told = "spawned", false, false, false
	n.spawnedAt = time.Now()
	if g, ok := w.alive[c.Node]; ok {
		w.violated("node %s: generation %d is spawned while %d lives", c.Node, c.Generation, g)
	}
	w.alive[c.Node] = c.Generation
	p := w.plays[c.Node]
	s.after(n, w.betweenLocked(0, 3*time.Millisecond), func() {
		if p.failSpawn[c.Generation] {
			n.running = false
			n.life++
			delete(w.alive, n.spec.ID)
			s.report(link.Fact{Node: n.spec.ID, Generation: c.Generation, SpawnFailed: &link.SpawnFailed{Error: "no such file"}})
			return
		}
		s.report(link.Fact{Node: n.spec.ID, Generation: c.Generation, Spawned: &link.Spawned{
			PID: 1000 + w.spawns, StartTime: 1, BootID: "boot", Token: c.Token, Program: "/bin/" + n.spec.ID}})
		s.after(n, w.betweenLocked(0, 20*time.Millisecond), func() { s.register(n, p) })
	})
	return nil
}

// after does something in the present life of the node, unless that ends before.
func (s *simShim) after(n *simNode, d time.Duration, f func()) {
	life := n.life
	time.AfterFunc(d, func() {
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		if !s.gone && n.life == life && n.running {
			f()
		}
	})
}

func (s *simShim) register(n *simNode, p play) {
	g := n.generation
	if p.early[g] {
		s.exit(n, p.exit(g))
		return
	}
	n.phase = "registered"
	s.report(link.Fact{Node: n.spec.ID, Generation: g, Registered: &link.Registered{Version: "1.1.0"}})
	s.after(n, s.w.betweenLocked(0, 5*time.Millisecond), func() {
		n.phase = "subscribed"
		s.report(link.Fact{Node: n.spec.ID, Generation: g, Subscribed: &link.Subscribed{}})
		switch {
		case s.aborted:
			s.exit(n, link.Exited{Code: 1})
		case s.released:
			s.work(n)
			s.inputs()
		}
	})
}

func (p play) exit(generation uint64) link.Exited {
	if len(p.exits) == 0 {
		return link.Exited{}
	}
	return p.exits[min(int(generation), len(p.exits))-1]
}

// work lets a node run its time.
func (s *simShim) work(n *simNode) {
	p := s.w.plays[n.spec.ID]
	if !n.running || n.phase != "subscribed" {
		return
	}
	if p.run > 0 {
		g := n.generation
		s.after(n, s.w.betweenLocked(p.run/2, p.run), func() { s.exit(n, p.exit(g)) })
	}
}

// inputs tells nodes whose feeding nodes have all closed their outputs.
func (s *simShim) inputs() {
	if !s.released {
		return
	}
	for _, n := range s.nodes {
		if !n.running || n.phase != "subscribed" || n.told || len(n.spec.Inputs) == 0 {
			continue
		}
		open := slices.ContainsFunc(n.spec.Inputs, func(in link.Input) bool {
			return in.Kind != link.SourceNode || !s.nodes[in.Node].closed
		})
		if open {
			continue
		}
		n.told = true
		s.report(link.Fact{Node: n.spec.ID, Generation: n.generation, AllInputsClosed: &link.AllInputsClosed{}})
		if !s.w.deaf {
			s.after(n, s.w.betweenLocked(0, 5*time.Millisecond), func() { s.exit(n, link.Exited{}) })
		}
	}
}

func (s *simShim) stop(c *link.Stop) {
	for id, n := range s.nodes {
		if len(c.Nodes) > 0 && !slices.Contains(c.Nodes, id) {
			continue
		}
		if c.Plan != nil {
			n.plan = *c.Plan
		}
		if !n.running {
			continue
		}
		n.stopping = true
		obeys := s.w.plays[id].obeys
		step := func(d time.Duration, name string, signal unix.Signal) {
			s.after(n, d, func() {
				s.report(link.Fact{Node: id, Generation: n.generation, StopStep: &link.StopStep{Step: name}})
				switch {
				case name == "sigkill":
					s.exit(n, link.Exited{Code: -1, Signal: int(unix.SIGKILL)})
				case obeys == name || obeys == "" && name == "stop":
					x := link.Exited{}
					if signal != 0 {
						x = link.Exited{Code: -1, Signal: int(signal)}
					}
					s.after(n, s.w.betweenLocked(0, 5*time.Millisecond), func() { s.exit(n, x) })
				}
			})
		}
		if c.Force {
			step(0, "sigkill", unix.SIGKILL)
			continue
		}
		step(0, "stop", 0)
		step(c.Grace, "sigterm", unix.SIGTERM)
		step(c.Grace+c.Kill, "sigkill", unix.SIGKILL)
	}
}

func (s *simShim) exit(n *simNode, x link.Exited) {
	n.running = false
	n.life++
	delete(s.w.alive, n.spec.ID)
	x.Phase, x.Stopping, x.Uptime = n.phase, n.stopping, time.Since(n.spawnedAt)
	if x.Disposition = n.plan.OnFailure; x.Code == 0 && x.Signal == 0 {
		x.Disposition = n.plan.OnSuccess
	}
	if x.Disposition == "" {
		s.w.violated("node %s generation %d has no exit plan", n.spec.ID, n.generation)
	}
	s.w.note("exit %s %d code %d signal %d (%s)", n.spec.ID, n.generation, x.Code, x.Signal, x.Disposition)
	n.held, n.closed = x.Disposition == link.Hold, x.Disposition == link.Close
	s.report(link.Fact{Node: n.spec.ID, Generation: n.generation, Exited: &x})
	s.inputs()
}

// ack forgets facts; what it forgets must be in the store.
func (s *simShim) ack(seq uint64) {
	for len(s.facts) > 0 && s.facts[0].Seq <= seq {
		f := s.facts[0]
		s.facts = s.facts[1:]
		if f.Exited != nil || f.Spawned != nil {
			s.w.checkDurable(s.load.Dataflow, f)
		}
	}
}
