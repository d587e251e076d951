package actors

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// Messages of the actors. All of them may be repeated.
type (
	// nudge: something changed that this actor depends on; look.
	nudge struct{}
	// flushDue: what is held back is to be written.
	flushDue struct{}
	// timeUp: what was to happen at this time is due. The timer says so, which runs by the
	// monotonic clock: the clock of the machine may have been set meanwhile.
	timeUp struct{ at time.Time }
	// stopNodeMsg and its answer.
	stopNodeMsg struct {
		order   events.NodeStopRequested
		command string
		reply   func(error)
	}
	// spawnRefusedMsg: the shim did not accept a Spawn.
	spawnRefusedMsg struct {
		generation uint64
		text       string
	}
)

// nodeActor is the writer of a node's stream.
type nodeActor struct {
	f   *flow
	cfg *nodeConfig
	log *logrus.Entry

	self *actor.PID
	s    nodeState
	led  *ledger

	due, flush Timer
	dueAt      time.Time // of the back-off that due is for
	dueOver    bool      // and it is over
	lastFlush  time.Time
}

func newNodeActor(f *flow, id string) *nodeActor {
	return &nodeActor{
		f: f, cfg: f.nodes[id], s: newNodeState(),
		log: f.d.env.log.WithFields(logrus.Fields{"dataflow": f.uuid, "node": id}),
		led: f.ledgers[id],
	}
}

// Receive implements actor.Actor.
func (n *nodeActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		n.self = ctx.Self()
		n.s = newNodeState()
		written, err := n.led.load(&n.s, func(r record) { n.s = n.s.apply(r) })
		if err != nil {
			panic(err)
		}
		if written {
			n.led.release(n.f, 0, 0)
		}
		if len(n.led.held) > 0 {
			n.armFlush(storeRetry)
		}
		n.f.forgetSent(n.cfg.ID)
		n.publish()
		n.step()
	case *actor.Stopping:
		n.stopTimers()
		n.led.close()
	case *actor.Restarting:
		n.stopTimers()
	case nudge:
		n.step()
	case timeUp:
		n.dueOver = n.dueOver || m.at.Equal(n.dueAt)
		n.step()
	case flushDue:
		n.flush = nil
		n.write(nil, true, nodeItem{})
		n.step()
	case spawnRefusedMsg:
		n.step()
		n.must(n.cfg.spawnRefused(n.s, n.orders(), m.generation, m.text, n.now()))
		n.step()
	case stopNodeMsg:
		n.stopNode(m)
	case paramsToldMsg:
		n.paramsTold(m)
	}
}

func (n *nodeActor) now() time.Time  { return n.f.d.env.clock.Now() }
func (n *nodeActor) orders() *orders { return n.f.orders.Load() }

func (n *nodeActor) stopNode(m stopNodeMsg) {
	err := errInternal
	defer func() { m.reply(err) }() // also if this panics
	n.step()                        // what is known already comes first
	if coveredOrder(n.s.Order, m.command) {
		err = nil
		return
	}
	evs, refused := n.cfg.stopNode(n.s, n.orders(), m.order)
	if refused != nil {
		err = refused
		return
	}
	if err = n.write(commanded(records(n.now(), 0, evs), m.command), !m.order.Restart, nodeItem{}); err != nil {
		return
	}
	n.step()
}

// step works off facts, then does what follows from the state: records first, then
// commands.
func (n *nodeActor) step() {
	n.drain()
	n.shimGone()
	o := n.orders()
	n.must(n.cfg.reconsider(n.s, o))
	n.armDue()
	n.intend(o)
	n.sync(o)
	n.f.acknowledge()
	n.led.snapshot(n.s)
}

// drain works off the facts that have come.
func (n *nodeActor) drain() {
	for {
		item, incarnation, ok := n.f.next(n.cfg.ID)
		if !ok {
			return
		}
		seq := item.fact.Seq
		switch {
		case item.incarnation != incarnation: // of a shim that is gone
		case n.led.holds(incarnation, seq): // again; not durable yet
		case seq <= n.s.Cursor: // again
			n.f.settle(incarnation, seq)
		default:
			n.onFact(item)
		}
		n.f.done(n.cfg.ID)
	}
}

func (n *nodeActor) onFact(item nodeItem) {
	o := n.orders()
	if item.outlived {
		o = &orders{Started: true} // what is wanted by now came later
	}
	evs := n.cfg.onFact(n.s, o, item.fact)
	if len(evs) == 0 {
		n.f.settle(item.incarnation, item.fact.Seq)
		return
	}
	n.record(records(n.now(), item.fact.Seq, evs), item)
}

// shimGone records the end of a process that went down with its shim.
func (n *nodeActor) shimGone() {
	n.f.mu.Lock()
	lost := n.f.lost
	n.f.mu.Unlock()
	if lost != nil {
		n.must(n.cfg.shimLost(n.s, n.orders(), lost.At, lost.Error))
	}
}

// intend records the next spawn, if it is due.
func (n *nodeActor) intend(o *orders) {
	evs := n.cfg.spawnFirst(n.s, o, "")
	if evs == nil {
		at := n.s.Due
		if !n.dueOver {
			at = at.Add(-1)
		}
		evs = n.cfg.respawn(n.s, o, at, "")
	}
	if len(evs) == 0 || n.f.withoutShim() {
		return
	}
	if e := evs[0].(events.NodeSpawnIntended); e.Token == "" {
		e.Token = n.f.d.opts.NewToken()
		evs[0] = e
	}
	recs := records(n.now(), 0, evs)
	if n.cfg.holdable(n.s, recs) { // an earlier intent stands for it
		n.record(recs, nodeItem{})
		return
	}
	if err := n.write(recs, false, nodeItem{}); err != nil {
		// A process whose intent is not recorded could not be found again.
		n.log.Warnf("cannot be spawned while the journal cannot be written: %v; trying again", err)
		n.armFlush(storeRetry)
	}
}

// must records events that cannot be refused.
func (n *nodeActor) must(evs []events.Event) {
	if len(evs) > 0 {
		n.record(records(n.now(), 0, evs), nodeItem{})
	}
}

// record saves what follows from a fact (a zero item: from none), or holds it back. The
// fact is acknowledged when that is durable.
func (n *nodeActor) record(recs []record, item nodeItem) {
	if n.cfg.holdable(n.s, recs) && len(n.led.held) < maxHeld {
		n.led.hold(recs)
		n.led.holdFact(item.incarnation, item.fact.Seq)
		n.applyAll(recs)
		n.armFlush(min(loopEvery, loopEvery-n.now().Sub(n.lastFlush)))
		return
	}
	n.write(recs, true, item)
}

// write records, and panics if the stream cannot be trusted any more. There is an error
// only without must.
func (n *nodeActor) write(recs []record, must bool, item nodeItem) error {
	durable, err := n.led.write(recs, must)
	if err != nil {
		if !must && !errors.Is(err, journal.ErrConflict) {
			return err
		}
		panic(err)
	}
	if durable {
		n.lastFlush = n.now()
		n.led.release(n.f, item.incarnation, item.fact.Seq)
	} else {
		n.led.holdFact(item.incarnation, item.fact.Seq)
		n.armFlush(storeRetry)
	}
	if len(recs) == 0 {
		n.publish()
	}
	n.applyAll(recs)
	return nil
}

const storeRetry = time.Second

func (n *nodeActor) applyAll(recs []record) {
	if len(recs) == 0 {
		return
	}
	for _, r := range recs {
		before := n.s
		n.s = n.s.apply(r)
		logNode(n.log, n.cfg, before, n.s, r)
	}
	n.publish()
}

func (n *nodeActor) publish() { n.f.publish(n.cfg.ID, n.s, len(n.led.held) > 0) }

// sync sends what the shim has to be told, and keeps the timer of a back-off.
func (n *nodeActor) sync(o *orders) {
	n.armDue()
	for _, cmd := range n.f.nodeEffects(n.cfg, n.s, o) {
		generation := n.s.Generation
		note := func(id uint64) { n.f.noteNode(n.cfg.ID, id, generation, cmd) }
		if !n.f.send(cmd, note, n.onReply(cmd, generation)) {
			return
		}
	}
	for _, cmd := range n.f.paramEffects(n.cfg, n.s, o) {
		generation, seq := n.s.Generation, o.paramSeq(cmd.Deliver)
		note := func(uint64) { n.f.noteParam(n.cfg.ID, generation, seq) }
		if !n.f.send(cmd, note, n.onParamReply(cmd, generation, seq)) {
			return
		}
	}
}

// onReply runs in the goroutine that reads from the shim.
func (n *nodeActor) onReply(cmd link.Command, generation uint64) func(*link.Reply) {
	self, d, log := n.self, n.f.d, n.log
	return func(r *link.Reply) {
		switch {
		case r.Error == "":
		case cmd.Spawn != nil:
			d.tell(self, spawnRefusedMsg{generation: generation, text: r.Error})
		default:
			log.Warnf("the shim refused a command (%s): %s", commandName(cmd), r.Error)
		}
	}
}

// onParamReply runs in the goroutine that reads from the shim.
func (n *nodeActor) onParamReply(cmd link.Command, generation, seq uint64) func(*link.Reply) {
	self, d, log := n.self, n.f.d, n.log
	return func(r *link.Reply) {
		if r.Error != "" {
			log.Warnf("parameter %s was not delivered: %s", cmd.Deliver.Key, r.Error)
			return
		}
		d.tell(self, paramsToldMsg{generation: generation, seq: seq})
	}
}

// armDue keeps one timer for the end of a back-off. What the clocks of shim and daemon
// make of it is never more than the delay that was decided.
func (n *nodeActor) armDue() {
	backoff := n.s.Phase == phaseBackoff
	if backoff && !n.dueAt.IsZero() && n.dueAt.Equal(n.s.Due) {
		return
	}
	if n.due != nil {
		n.due.Stop()
		n.due = nil
	}
	n.dueAt, n.dueOver = time.Time{}, false
	if !backoff {
		return
	}
	n.dueAt = n.s.Due
	wait := n.s.Due.Sub(n.now())
	if n.s.LastExit != nil {
		wait = min(wait, n.s.Due.Sub(n.s.LastExit.At))
	}
	if n.dueOver = wait <= 0; !n.dueOver {
		n.due = n.after(wait, timeUp{n.dueAt})
	}
}

func (n *nodeActor) armFlush(d time.Duration) {
	if n.flush == nil {
		n.flush = n.after(max(d, time.Millisecond), flushDue{})
	}
}

func (n *nodeActor) after(d time.Duration, msg any) Timer {
	self, daemon := n.self, n.f.d
	return daemon.env.clock.AfterFunc(d, func() { daemon.tell(self, msg) })
}

func (n *nodeActor) stopTimers() {
	for _, t := range []Timer{n.due, n.flush} {
		if t != nil {
			t.Stop()
		}
	}
	n.due, n.flush, n.dueAt = nil, nil, time.Time{}
}

// nodeEffects are the commands that are due for a node on the present connection.
func (f *flow) nodeEffects(cfg *nodeConfig, s nodeState, o *orders) []link.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ready {
		return nil
	}
	sent := f.sentNodes[cfg.ID]
	if sent.Connection != f.connection {
		sent = sentNode{Connection: f.connection}
		f.sentNodes[cfg.ID] = sent
	}
	return cfg.effects(s, o, sent, f.sent.Stop, f.incarnation > 1)
}

// paramEffects are the parameters that are due for a node on the present connection.
func (f *flow) paramEffects(cfg *nodeConfig, s nodeState, o *orders) []link.Command {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ready {
		return nil
	}
	return cfg.paramEffects(s, o, f.sentNodes[cfg.ID])
}

// noteParam remembers what was sent; mu is held.
func (f *flow) noteParam(id string, generation, seq uint64) {
	sent := f.sentNodes[id]
	sent.Connection, sent.ParamsFor, sent.Params = f.connection, generation, seq
	f.sentNodes[id] = sent
}

// forgetSent has everything sent again that is still wanted, after a crash of an actor:
// it may have been on its way ("": what concerns the dataflow as a whole).
func (f *flow) forgetSent(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id == "" {
		f.sent = sentFlow{Connection: f.connection}
		return
	}
	delete(f.sentNodes, id)
}

// noteNode remembers what was sent; mu is held.
func (f *flow) noteNode(id string, cmdID, generation uint64, cmd link.Command) {
	sent := f.sentNodes[id]
	sent.note(cmdID, generation, cmd)
	f.sentNodes[id] = sent
}

// withoutShim: a shim was lost and no other one is wanted yet, so that an intent would
// be taken for one of the lost shim.
func (f *flow) withoutShim() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost != nil
}
