package shim

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/shim/spawn"
	"github.com/dora-go/dora/transport/link"
)

type state int

const (
	idle     state = iota // no process
	starting              // a spawn is under way
	running
)

// node is one node of the dataflow. Everything below spec and logs is guarded by Shim.mu.
type node struct {
	spec *link.Node
	logs *nodelog.Collector // nil for dynamic nodes
	// announced is held while a spawn's own fact is not written yet: what the router
	// reports of the node waits for it.
	announced sync.Mutex

	state      state
	generation uint64
	plan       link.ExitPlan
	proc       *spawn.Process
	spawned    *link.Spawned
	stop       *ladder
	startup    *time.Timer
	reason     string // why the shim itself ended the process
	held       bool   // the outputs are open for a restart
	holdFor    time.Duration
	hold       *countdown
}

// Reasons for which the shim itself ends a node; the daemon counts them (link.Exited).
const (
	reasonHealth  = "health check"
	reasonStartup = "startup timeout"
)

const (
	// leftoverPatience bounds the killing of what a finished node left behind.
	leftoverPatience = time.Second
	// pipePatience bounds the wait for pipes that something unknown still holds open.
	pipePatience = 500 * time.Millisecond
)

// spawn starts a generation. The caller has set n.state to starting.
func (s *Shim) spawn(n *node, c *link.Spawn) {
	defer s.recovered("start of node " + n.spec.ID)
	output, err := s.start(n, c)
	if err != nil {
		s.mu.Lock()
		n.stop.cancel()
		n.state, n.stop = idle, nil
		s.mu.Unlock()
		s.facts.report(link.Fact{Node: n.spec.ID, Generation: c.Generation, SpawnFailed: &link.SpawnFailed{Error: err.Error()}})
		s.afterNode()
		return
	}
	s.watch(n, output)
}

// start makes the process and says so.
func (s *Shim) start(n *node, c *link.Spawn) (*nodelog.Output, error) {
	control, err := s.router.Environment(n.spec.ID, c.Generation, c.RestartCount)
	if err != nil {
		return nil, fmt.Errorf("node `%s`: %w", n.spec.ID, err)
	}
	cmd, err := s.resolver.Resolve(n.spec, control)
	if err != nil {
		return nil, err
	}
	for _, w := range cmd.Warnings {
		s.facts.warn(n.spec.ID, c.Generation, w)
	}
	pipes, err := openPipes()
	if err != nil {
		return nil, fmt.Errorf("node `%s`: %w (is the limit of open files reached?)", n.spec.ID, err)
	}
	defer pipes.closeChildEnds()
	s.router.Spawned(n.spec.ID, c.Generation)
	n.announced.Lock()
	defer n.announced.Unlock()
	p, err := s.table.Start(cmd, c.Token, pipes.stdin, pipes.stdout[1], pipes.stderr[1])
	if err != nil {
		pipes.closeOwnEnds()
		return nil, fmt.Errorf("node `%s`: %w", n.spec.ID, err)
	}
	spawned := &link.Spawned{PID: p.PID, StartTime: p.StartTime, BootID: s.owner.BootID, Token: c.Token, Program: cmd.Display}
	s.facts.report(link.Fact{Node: n.spec.ID, Generation: c.Generation, Spawned: spawned})
	output := n.logs.Start(c.Generation, pipes.stdout[0], pipes.stderr[0])
	s.mu.Lock()
	n.state, n.proc, n.spawned = running, p, spawned
	stopping := n.stop != nil
	if d := n.spec.StartupTimeout; d > 0 {
		s.watchStartup(n, c.Generation, d)
	}
	if stopping {
		s.climb(n) // a stop came while the process was being made
	}
	s.mu.Unlock()
	if stopping {
		s.router.StopNode(n.spec.ID)
	}
	return output, nil
}

// watch waits for the end of the process and tells it.
func (s *Shim) watch(n *node, output *nodelog.Output) {
	<-n.proc.Done()
	status := n.proc.Status()
	n.proc.KillLeftovers(leftoverPatience)
	output.Wait(pipePatience)
	n.logs.Sync(pipePatience)

	s.mu.Lock()
	if n.startup != nil {
		n.startup.Stop()
	}
	stopping := n.stop != nil
	clean := cleanEnd(status, stopping)
	disposition := n.plan.OnFailure
	if clean {
		disposition = n.plan.OnSuccess
	}
	if disposition != link.Hold || s.closing {
		disposition = link.Close
	}
	reason, generation, id := n.reason, n.generation, n.spec.ID
	s.mu.Unlock()

	failure := ""
	if !clean {
		failure = describe(status, reason)
	}
	phase := s.router.Phase(id)
	s.router.Exited(id, generation, disposition, failure)
	phase = later(phase, s.router.Phase(id))
	s.marks.sweep(n.proc.PID)
	s.facts.report(link.Fact{Node: id, Generation: generation, Exited: &link.Exited{
		Code: status.Code, Signal: status.Signal, Stopping: stopping, Phase: phase, Disposition: disposition,
		Stderr: n.logs.Tail(), Uptime: time.Since(n.proc.Started), Reason: reason,
	}})
	s.mu.Lock()
	n.stop.cancel()
	n.state, n.proc, n.spawned, n.stop, n.reason = idle, nil, nil, nil, ""
	n.held, n.holdFor = disposition == link.Hold, n.plan.HoldFor
	if s.session == nil {
		s.armHold(n)
	}
	s.mu.Unlock()
	s.afterNode()
}

// afterNode is called when a node has no process any more.
func (s *Shim) afterNode() {
	s.mu.Lock()
	last := s.closing && !s.busy()
	s.considerIdle()
	s.mu.Unlock()
	if last {
		s.end("its nodes have ended", false)
	}
}

// cleanEnd: code 0, or the way out that a stop asks for.
func cleanEnd(st spawn.Status, stopping bool) bool {
	if st == (spawn.Status{}) {
		return true
	}
	return stopping && (st.Signal == int(syscall.SIGTERM) || st.Signal == int(syscall.SIGINT) ||
		st.Code == 143 || st.Code == 130)
}

// describe is the failure as consumers are told it.
func describe(st spawn.Status, reason string) string {
	text := fmt.Sprintf("exited with code %d", st.Code)
	if st.Signal != 0 {
		text = "exited because of signal " + signalName(st.Signal)
	}
	if reason != "" {
		text += " (" + reason + ")"
	}
	return text
}

func later(a, b string) string {
	rank := map[string]int{"spawned": 1, "registered": 2, "subscribed": 3}
	if rank[b] > rank[a] {
		return b
	}
	if rank[a] == 0 {
		return "spawned"
	}
	return a
}

// kill ends a running node at once. s.mu is held.
func (s *Shim) kill(n *node) {
	s.marks.note(n.proc.PID)
	n.proc.SignalGroup(syscall.SIGKILL)
}

// armHold starts the clock of outputs that are held open for a restart while no daemon is
// there to order it. s.mu is held.
func (s *Shim) armHold(n *node) {
	if !n.held || n.holdFor <= 0 {
		return
	}
	n.stopHold()
	generation := n.generation
	n.hold = after(n.holdFor, func() { s.holdExpired(n, generation) })
}

func (n *node) stopHold() {
	if n.hold != nil {
		n.hold.Stop()
		n.hold = nil
	}
}

func (s *Shim) holdExpired(n *node, generation uint64) {
	s.mu.Lock()
	expired := s.session == nil && n.held && n.generation == generation && n.state == idle
	if expired {
		n.held = false
	}
	s.mu.Unlock()
	if !expired {
		return
	}
	text := fmt.Sprintf("its outputs were held open for a restart; no daemon ordered one within %v, so they are closed", n.holdFor)
	s.facts.warn(n.spec.ID, generation, text)
	s.router.CloseOutputs(n.spec.ID, text)
}

// pipes are the standard files of a node.
type pipes struct {
	stdin          *os.File
	stdout, stderr [2]*os.File // read end, write end
}

func openPipes() (*pipes, error) {
	var p pipes
	var err error
	if p.stdin, err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	if p.stdout[0], p.stdout[1], err = os.Pipe(); err == nil {
		if p.stderr[0], p.stderr[1], err = os.Pipe(); err == nil {
			return &p, nil
		}
		p.stdout[0].Close()
		p.stdout[1].Close()
	}
	p.stdin.Close()
	return nil, err
}

func (p *pipes) closeChildEnds() {
	p.stdin.Close()
	p.stdout[1].Close()
	p.stderr[1].Close()
}

func (p *pipes) closeOwnEnds() {
	p.stdout[0].Close()
	p.stderr[0].Close()
}

func signalName(n int) string {
	if name, ok := signalNames[syscall.Signal(n)]; ok {
		return name
	}
	return strings.ToUpper(syscall.Signal(n).String())
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGHUP: "SIGHUP", syscall.SIGINT: "SIGINT", syscall.SIGQUIT: "SIGQUIT", syscall.SIGILL: "SIGILL",
	syscall.SIGABRT: "SIGABRT", syscall.SIGFPE: "SIGFPE", syscall.SIGKILL: "SIGKILL", syscall.SIGSEGV: "SIGSEGV",
	syscall.SIGPIPE: "SIGPIPE", syscall.SIGALRM: "SIGALRM", syscall.SIGTERM: "SIGTERM", syscall.SIGBUS: "SIGBUS",
	syscall.SIGXCPU: "SIGXCPU", syscall.SIGXFSZ: "SIGXFSZ", syscall.SIGTRAP: "SIGTRAP", syscall.SIGSYS: "SIGSYS",
	syscall.SIGUSR1: "SIGUSR1", syscall.SIGUSR2: "SIGUSR2",
}
