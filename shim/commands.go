package shim

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/shim/route"
	"github.com/dora-go/dora/shim/spawn"
	"github.com/dora-go/dora/transport/link"
)

// handle executes one command and answers it. end says that it was an End.
func (s *Shim) handle(ss *session, c *link.Command) (reply *link.Reply, end bool) {
	reply = &link.Reply{ID: c.ID}
	defer func() {
		if r := recover(); r != nil {
			reply.Error = fmt.Sprintf("internal error in the shim: %v", r)
			s.facts.warn("", 0, reply.Error)
		}
	}()
	err := s.fence(c.Epoch)
	if err == nil {
		end, err = s.execute(ss, c, reply)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply, end
}

// fence refuses commands of a daemon that was replaced.
func (s *Shim) fence(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch < s.epoch {
		return fmt.Errorf("command of epoch %d refused: this shim obeys epoch %d", epoch, s.epoch)
	}
	s.epoch = epoch
	return nil
}

var errNotLoaded = errors.New("no dataflow was loaded into this shim yet")

func (s *Shim) execute(ss *session, c *link.Command, reply *link.Reply) (end bool, err error) {
	if err := s.needsLoad(c); err != nil {
		return false, err
	}
	switch {
	case c.Load != nil:
		return false, s.loadDataflow(c.Load)
	case c.Spawn != nil:
		return false, s.acceptSpawn(c.Spawn)
	case c.Plan != nil:
		return false, s.withNode(c.Plan.Node, func(n *node) { s.setPlan(n, c.Plan.Plan) })
	case c.Release != nil:
		s.mu.Lock()
		s.released = true
		s.mu.Unlock()
		s.router.Release()
	case c.Abort != nil:
		s.router.Abort(c.Abort.Reason)
	case c.Stop != nil:
		nodes, err := s.choose(c.Stop.Nodes)
		if err != nil {
			return false, err
		}
		s.stopNodes(nodes, c.Stop)
	case c.Close != nil:
		if err := s.withNode(c.Close.Node, func(n *node) { n.held = false; n.stopHold() }); err != nil {
			return false, err
		}
		s.router.CloseOutputs(c.Close.Node, c.Close.Failed)
	case c.Deliver != nil:
		return false, s.router.Deliver(*c.Deliver)
	case c.Ack != nil:
		s.facts.ack(c.Ack.Seq)
	case c.Logs != nil:
		ss.mu.Lock()
		ss.logs = c.Logs.On
		ss.mu.Unlock()
	case c.State != nil:
		reply.State = s.state()
	case c.Tap != nil:
		reply.Tap, err = s.router.Tap(*c.Tap)
		return false, err
	case c.End != nil:
		return true, nil
	default:
		return false, errors.New("this shim does not know the command; see the capabilities in its hello")
	}
	return false, nil
}

// needsLoad refuses what makes no sense before Load.
func (s *Shim) needsLoad(c *link.Command) error {
	if c.Load != nil || c.Ack != nil || c.Logs != nil || c.State != nil || c.End != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.load == nil {
		return errNotLoaded
	}
	return nil
}

func (s *Shim) loadDataflow(l *link.Load) error {
	s.mu.Lock()
	loaded := s.load
	s.mu.Unlock()
	if loaded != nil {
		if loaded.Dataflow == l.Dataflow {
			return nil
		}
		return fmt.Errorf("this shim runs dataflow %s, not %s", loaded.Dataflow, l.Dataflow)
	}
	if l.Dataflow != s.cfg.Dataflow {
		return fmt.Errorf("this shim was started for dataflow %s, not %s", s.cfg.Dataflow, l.Dataflow)
	}
	if err := os.MkdirAll(l.LogDir, 0o755); err != nil {
		// A robot runs without log files, too; every line that is lost is counted.
		s.facts.warn("", 0, fmt.Sprintf("the folder of the node logs cannot be made: %v", err))
	}
	programs := map[string]string{}
	for i := range l.Nodes {
		if n := &l.Nodes[i]; n.Kind != link.KindDynamic {
			programs[n.ID] = spawn.Program(n, l.Env)
		}
	}
	nodes, order := map[string]*node{}, make([]*node, 0, len(l.Nodes))
	for i := range l.Nodes {
		spec := &l.Nodes[i]
		if nodes[spec.ID] != nil {
			return fmt.Errorf("node `%s` is there twice", spec.ID)
		}
		n := &node{spec: spec}
		nodes[spec.ID] = n
		order = append(order, n)
	}
	router, err := route.New(route.Config{
		Load: l, Programs: programs, ParentPID: os.Getpid(), StateDir: s.cfg.Dir,
		LocalListenPort: localListenPort(l.Env),
		Report:          func(f link.Fact) { s.routerReports(nodes[f.Node], f) },
		Unhealthy:       func(id string, unread time.Duration) { s.unhealthy(nodes[id], unread) },
		Mapped:          s.mapped,
		Naming:          func(file string) { s.marks.add(file) },
	})
	if err != nil {
		return fmt.Errorf("load dataflow %s: %w", l.Dataflow, err)
	}
	for _, n := range order {
		if n.spec.Kind != link.KindDynamic {
			n.logs = s.collector(l, n.spec, router)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load, s.router, s.nodes, s.order = l, router, nodes, order
	s.resolver = spawn.NewResolver(l, s.table.Run)
	return nil
}

func (s *Shim) collector(l *link.Load, spec *link.Node, router *route.Router) *nodelog.Collector {
	return nodelog.New(nodelog.Config{
		Node: spec.ID, Dir: l.LogDir, MinLevel: spec.MinLogLevel,
		MaxSize: spec.MaxLogSize, MaxRotatedFiles: spec.MaxRotatedFiles, Clock: s.logClock,
		Warn: func(text string) { s.facts.warn(spec.ID, 0, text) },
		Line: func(line link.LogLine, raw []byte, kept bool) {
			router.Line(spec.ID, line, raw)
			if kept {
				s.liveLine(line)
			}
		},
		Heard: func() bool { return router.Hears(spec.ID) || s.wantsLines() },
	})
}

// wantsLines says whether a daemon is connected that wants log lines as they come.
func (s *Shim) wantsLines() bool {
	s.mu.Lock()
	ss := s.session
	s.mu.Unlock()
	if ss == nil {
		return false
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.logs
}

// liveLine hands a log line to the daemon, if one is connected.
func (s *Shim) liveLine(l link.LogLine) {
	s.mu.Lock()
	ss := s.session
	s.mu.Unlock()
	if ss != nil {
		ss.line(l)
	}
}

// mapped notes the shared memory of a node, and of this process, which has a part in it.
func (s *Shim) mapped(id string) {
	s.marks.note(os.Getpid())
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[id]; n != nil && n.proc != nil {
		s.marks.note(n.proc.PID)
	}
}

// routerReports makes a fact of what the router saw.
func (s *Shim) routerReports(n *node, f link.Fact) {
	if n != nil {
		// The Spawned fact comes first; this waits for it.
		n.announced.Lock()
		//lint:ignore SA2001 nothing is to be done under the lock
		n.announced.Unlock()
	}
	if f.Dropped != nil {
		s.drops.report(f)
		return
	}
	s.facts.report(f)
	if n != nil && f.Subscribed != nil {
		s.mu.Lock()
		if n.proc != nil && n.generation == f.Generation {
			s.marks.watch(n.proc)
		}
		s.mu.Unlock()
	}
}

// acceptSpawn is idempotent by generation.
func (s *Shim) acceptSpawn(c *link.Spawn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[c.Node]
	switch {
	case n == nil:
		return fmt.Errorf("node `%s` is not part of this dataflow", c.Node)
	case n.spec.Kind == link.KindDynamic:
		return fmt.Errorf("node `%s` is dynamic: it is never started, it joins", c.Node)
	case c.Generation == 0:
		return fmt.Errorf("node `%s`: generations count from 1", c.Node)
	case c.Generation == n.generation:
		return nil
	case c.Generation < n.generation:
		return fmt.Errorf("node `%s`: generation %d is over, %d is the newest", c.Node, c.Generation, n.generation)
	case n.state != idle:
		return fmt.Errorf("node `%s`: generation %d still runs", c.Node, n.generation)
	case s.closing:
		return spawn.ErrClosed
	}
	n.state, n.generation, n.held = starting, c.Generation, false
	s.setPlan(n, c.Plan)
	n.stopHold()
	go s.spawn(n, c)
	return nil
}

// setPlan says what happens at the node's next exit. s.mu is held.
func (s *Shim) setPlan(n *node, p link.ExitPlan) {
	n.plan = p
	s.router.Plan(n.spec.ID, p)
}

func (s *Shim) withNode(id string, do func(*node)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.nodes[id]
	if n == nil {
		return fmt.Errorf("node `%s` is not part of this dataflow", id)
	}
	do(n)
	return nil
}

func (s *Shim) choose(ids []string) ([]*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ids) == 0 {
		return s.order, nil
	}
	var nodes []*node
	for _, id := range ids {
		n := s.nodes[id]
		if n == nil {
			return nil, fmt.Errorf("node `%s` is not part of this dataflow", id)
		}
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// state is the whole view.
func (s *Shim) state() *link.State {
	s.mu.Lock()
	st := &link.State{Released: s.released}
	for _, n := range s.order {
		st.Nodes = append(st.Nodes, link.NodeState{ID: n.spec.ID, Generation: n.generation, Spawned: n.spawned})
	}
	router := s.router
	s.mu.Unlock()
	for i := range st.Nodes {
		router.Fill(&st.Nodes[i])
	}
	return st
}
