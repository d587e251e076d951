package actors

import (
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

type (
	// stopMsg asks for the end of the dataflow.
	stopMsg struct {
		event events.DataflowStopRequested
		order string
		reply func(error)
	}
	// nodeBroken: the actor of a node crashed again and again and was stopped.
	nodeBroken struct {
		node   string
		reason any
	}
)

// stopPatience is how long after its last deadline a stop may take before the shim
// itself is ended; endPatience how long a shim may take to end.
const (
	stopPatience = 10 * time.Second
	endPatience  = 5 * time.Second
)

// errInternal is what a caller gets whose command crashed an actor.
var errInternal = errors.New("internal error: the command was not carried out; the log has the details")

// flowActor is the writer of a dataflow's stream, and the parent of its nodes' actors.
type flowActor struct {
	f   *flow
	log *logrus.Entry

	self *actor.PID
	s    flowState
	led  *ledger

	wake, retry, deadline Timer
	wakeAt, deadlineAt    time.Time
	wakeOver              bool // wakeAt is over, by the timer
	known                 nodeViews
	// broken are nodes whose actor was given up.
	broken map[string]string
}

func newFlowActor(f *flow) *flowActor {
	return &flowActor{
		f:   f,
		log: f.d.env.log.WithField("dataflow", f.uuid),
		led: f.ledgers[""], broken: map[string]string{},
	}
}

// Receive implements actor.Actor.
func (a *flowActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.begin(ctx)
	case *actor.Stopping:
		a.stopTimers()
		a.led.close()
	case *actor.Restarting:
		a.stopTimers()
	case nudge:
		a.step()
	case timeUp:
		a.wakeOver = a.wakeOver || m.at.Equal(a.wakeAt)
		a.step()
	case flushDue:
		a.retry = nil
		a.write(nil, true, inboxItem{})
		a.step()
	case stopMsg:
		a.stop(m)
	case paramMsg:
		a.changeParam(m)
	case nodeBroken:
		a.nodeBroken(m)
	}
	if a.over() {
		a.f.load = nil // what queries need stays; this can be large
		a.f.d.forgetEnvironment(a.f.uuid)
		ctx.Stop(a.self)
	}
}

// begin replays the stream, records a new dataflow, and starts the nodes' actors.
func (a *flowActor) begin(ctx actor.Context) {
	a.self = ctx.Self()
	a.s = flowState{}
	written, err := a.led.load(&a.s, func(r record) { a.s = a.s.apply(r) })
	if err != nil {
		panic(err)
	}
	if written {
		a.led.release(a.f, 0, 0)
	}
	if len(a.led.held) > 0 {
		a.armRetry()
	}
	a.f.mu.Lock()
	create := a.f.create
	a.f.create = nil
	a.f.pid = a.self
	a.f.mu.Unlock()
	if create != nil {
		err := errInternal
		defer func() { create.reply(err) }() // also if this panics
		if err = a.create(create); err != nil {
			a.f.d.forget(a.f)
			return
		}
	}
	if a.s.CreatedAt.IsZero() { // it crashed before the start was recorded
		a.f.d.forget(a.f)
		return
	}
	a.f.forgetSent("")
	a.publish()
	a.spawnNodes(ctx)
	a.step()
}

// create records the start together with the intent of its shim.
func (a *flowActor) create(c *creation) error {
	evs := append([]events.Event{c.event}, c.params...)
	if len(a.f.cfg.Nodes) > 0 {
		evs = append(evs, events.ShimStartIntended{Token: a.f.d.opts.NewToken()})
	}
	recs := commanded(records(a.now(), 0, evs), c.order)
	if _, err := a.led.write(recs, false); err != nil {
		return fmt.Errorf("dataflow %s cannot be started: %w", a.f.uuid, err)
	}
	a.applyAll(recs)
	if a.s.Shim.up() {
		a.launch(false)
	}
	return nil
}

func (a *flowActor) spawnNodes(ctx actor.Context) {
	if a.s.Finished != nil {
		return
	}
	pids := map[string]*actor.PID{}
	for _, n := range a.f.cfg.Nodes {
		props := actor.PropsFromProducer(func() actor.Actor {
			return guarded(a.f.d.env, newNodeActor(a.f, n.ID).Receive)
		})
		pid, err := ctx.SpawnNamed(props, "node-"+n.ID)
		if err != nil {
			panic(fmt.Errorf("start the actor of node %s: %w", n.ID, err))
		}
		pids[n.ID] = pid
	}
	a.f.mu.Lock()
	a.f.nodePIDs = pids
	a.f.mu.Unlock()
}

func (a *flowActor) now() time.Time { return a.f.d.env.clock.Now() }

// over says that nothing is left to do, to hear or to write.
func (a *flowActor) over() bool {
	return isClosed(a.f.gone) && len(a.led.held) == 0 && a.f.allWritten()
}

func (a *flowActor) stop(m stopMsg) {
	err := errInternal
	defer func() { m.reply(err) }()
	a.step()
	if coveredOrder(a.s.Order, m.order) {
		err = nil
		return
	}
	if a.s.Finished != nil {
		err = fmt.Errorf("dataflow %s %w (%s)", a.f.uuid, ErrEnded, a.s.Finished.Status)
		return
	}
	a.write(commanded(records(a.now(), 0, []events.Event{m.event}), m.order), true, inboxItem{})
	err = nil
	a.step()
}

// step works off what has come, then does what follows: records first, then commands.
func (a *flowActor) step() {
	for {
		item, ok := a.f.nextItem()
		if !ok {
			break
		}
		a.onItem(item)
		a.f.doneItem()
	}
	a.adopt()
	for {
		evs, wake := a.f.cfg.follow(a.s, a.views(), a.wakeTime())
		a.must(evs...)
		if len(evs) == 0 {
			a.armWake(wake)
			break
		}
	}
	a.order()
	if a.f.cfg.shimWanted(a.s, a.views()) && !a.f.d.closing() {
		a.relaunch()
	}
	a.sync()
	a.f.acknowledge()
	a.led.snapshot(a.s)
}

// views are the nodes' newest states; a node whose actor was given up counts as failed.
func (a *flowActor) views() nodeViews {
	a.f.mu.Lock()
	fresh := a.f.changed
	if a.known == nil {
		a.known = nodeViews{}
		fresh = a.f.views
	}
	for id, v := range fresh {
		if text, ok := a.broken[id]; ok && v.Phase != phaseEnded {
			v.Phase, v.Status, v.Error = phaseEnded, statusFailed, text
		}
		a.known[id] = v
	}
	clear(a.f.changed)
	a.f.mu.Unlock()
	return a.known
}

// order publishes what the dataflow wants of its nodes, if that changed.
func (a *flowActor) order() {
	next := a.f.cfg.orders(a.s, a.views())
	if !next.equal(a.f.orders.Load()) {
		a.f.orders.Store(next)
		a.f.nudgeAll()
	}
}

func (a *flowActor) onItem(item inboxItem) {
	switch {
	case item.incarnation != a.s.Shim.Incarnation:
		if item.launched != nil && item.launched.shim != nil {
			item.launched.shim.Close()
		}
	case item.hello != nil:
		a.onHello(item.hello)
	case item.launched != nil:
		a.onLaunched(item.launched)
	case item.lost != nil:
		a.onLost(item.lost.err)
	case item.fact != nil:
		a.onFact(item)
	}
}

// onFact records a fact of the whole dataflow.
func (a *flowActor) onFact(item inboxItem) {
	f := item.fact
	var evs []events.Event
	switch {
	case a.led.holds(item.incarnation, f.Seq): // again; not durable yet
		return
	case f.Seq <= a.s.Cursor, a.s.Finished != nil: // again, or too late for the history
	case f.Node != "":
		text := fmt.Sprintf("the shim reports on node %q, which this dataflow does not have", f.Node)
		evs = append(evs, events.WarningRaised{Text: text, At: f.At})
	case f.Warning != nil:
		a.log.Warn(f.Warning.Text)
		evs = append(evs, events.WarningRaised{Text: f.Warning.Text, At: f.At})
	case f.Rejected != nil:
		evs = append(evs, events.WarningRaised{Text: "connection rejected: " + f.Rejected.Reason, At: f.At})
	}
	if len(evs) == 0 {
		a.f.settle(item.incarnation, f.Seq)
		return
	}
	a.write(records(a.now(), f.Seq, evs), true, item)
}

// must records events that cannot be refused.
func (a *flowActor) must(evs ...events.Event) {
	if len(evs) > 0 {
		a.write(records(a.now(), 0, evs), true, inboxItem{})
	}
}

// write records what follows from a fact (a zero item: from none), and panics if the
// stream cannot be trusted any more.
func (a *flowActor) write(recs []record, must bool, item inboxItem) {
	var seq uint64
	if item.fact != nil {
		seq = item.fact.Seq
	}
	durable := false
	if a.s.Finished == nil && !ends(recs) || a.f.allWritten() {
		var err error
		if durable, err = a.led.write(recs, must); err != nil {
			panic(err)
		}
	} else { // the end is the last thing that is written
		a.led.hold(recs)
	}
	if durable {
		a.led.release(a.f, item.incarnation, seq)
	} else {
		a.led.holdFact(item.incarnation, seq)
		a.armRetry()
	}
	a.applyAll(recs)
}

func (a *flowActor) armRetry() {
	if a.retry == nil {
		a.retry = a.after(storeRetry, flushDue{})
	}
}

func ends(recs []record) bool {
	for _, r := range recs {
		if _, ok := r.Event.(events.DataflowFinished); ok {
			return true
		}
	}
	return false
}

func (a *flowActor) applyAll(recs []record) {
	if len(recs) == 0 {
		return
	}
	for _, r := range recs {
		a.s = a.s.apply(r)
		logFlow(a.log, a.s, r)
	}
	a.publish()
}

func (a *flowActor) publish() { a.f.publishFlow(a.s) }

// sync sends what the shim has to be told about the dataflow as a whole.
func (a *flowActor) sync() {
	if a.s.Finished != nil && a.f.endSentAt().IsZero() {
		a.f.acknowledge() // facts that are acknowledged need not outlive the shim
		a.f.sendEnd(a.now())
	}
	for _, cmd := range a.f.flowEffects(a.s) {
		note := func(id uint64) { a.f.sent.note(id, cmd) }
		if !a.f.send(cmd, note, a.onReply(cmd)) {
			break
		}
		if cmd.Stop != nil {
			a.f.nudgeAll() // nodes whose spawn overtook it send their own
		}
	}
	a.armDeadline()
	if a.s.Finished != nil && !a.f.hasShim() {
		a.f.markGone()
	}
}

func (a *flowActor) onReply(cmd link.Command) func(*link.Reply) {
	log, self, d := a.log, a.self, a.f.d
	incarnation, f := a.s.Shim.Incarnation, a.f
	return func(r *link.Reply) {
		if r.Error == "" {
			return
		}
		log.Errorf("the shim refused a command (%s): %s", commandName(cmd), r.Error)
		if cmd.Load != nil { // without it nothing else can work
			f.post(inboxItem{incarnation: incarnation, lost: &lostNotice{
				err: fmt.Errorf("the shim does not accept the dataflow: %s", r.Error)}})
			d.tell(self, nudge{})
		}
	}
}

// nodeBroken gives a node up whose actor cannot go on: the dataflow is stopped, and
// says why.
func (a *flowActor) nodeBroken(m nodeBroken) {
	text := fmt.Sprintf("internal error: the control of node %s failed repeatedly: %v", m.node, m.reason)
	a.log.WithField("node", m.node).Error(text)
	a.broken[m.node], a.known = text, nil
	a.f.mu.Lock()
	delete(a.f.nodePIDs, m.node)
	a.f.mu.Unlock()
	if a.s.Stop == nil {
		a.must(events.WarningRaised{Text: text, At: a.now()},
			events.DataflowStopRequested{Cause: "internal error", Grace: DefaultStopGrace})
	}
	a.step()
}

func (a *flowActor) armWake(at time.Time) {
	if a.wakeAt.Equal(at) {
		return
	}
	if a.wake != nil {
		a.wake.Stop()
		a.wake = nil
	}
	if a.wakeAt, a.wakeOver = at, false; !at.IsZero() {
		a.wake = a.after(at.Sub(a.now()), timeUp{at})
	}
}

// wakeTime is the time for what waits until wakeAt. Whether that is over, its timer says:
// the clock of the machine may have been set since.
func (a *flowActor) wakeTime() time.Time {
	switch now := a.now(); {
	case a.wakeAt.IsZero():
		return now
	case a.wakeOver:
		return later(now, a.wakeAt)
	case !now.Before(a.wakeAt):
		return a.wakeAt.Add(-1)
	default:
		return now
	}
}

func (a *flowActor) after(d time.Duration, msg any) Timer {
	self, daemon := a.self, a.f.d
	return daemon.env.clock.AfterFunc(max(0, d), func() { daemon.tell(self, msg) })
}

func (a *flowActor) stopTimers() {
	for _, t := range []Timer{a.wake, a.retry, a.deadline} {
		if t != nil {
			t.Stop()
		}
	}
	a.wake, a.retry, a.deadline = nil, nil, nil
	a.wakeAt, a.deadlineAt = time.Time{}, time.Time{}
}
