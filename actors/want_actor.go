package actors

import (
	"context"
	"errors"
	"fmt"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

// Messages of the actor of a dataflow's orders.
type (
	// orderMsg is a new order. recorded is called when it is durable, with its number, or
	// refused; settled when its daemon has answered it.
	orderMsg struct {
		event    events.Event
		recorded func(number uint64, err error)
		settled  func(error)
		once     bool // void if a stop was ordered already
	}
	// answerMsg is the daemon's answer to an order that was sent on conn.
	answerMsg struct {
		number uint64
		conn   DaemonConn
		err    error
	}
	// missMsg: its daemon does not come back, or has forgotten it. foundMsg: it is back.
	missMsg  struct{ reason string }
	foundMsg struct{}
)

// creationOrder is the first order of a dataflow.
type creationOrder struct {
	event   events.DataflowOrdered
	reply   func(number uint64, err error)
	settled func(error)
}

// wantActor is the writer of the stream of a dataflow's orders, and sends them.
type wantActor struct {
	w    *want
	log  *logrus.Entry
	self *actor.PID
	s    wantState

	create *creationOrder
	// sent is the connection on which the order sending is on its way, or was accepted up
	// to accepted.
	sent     DaemonConn
	sending  uint64
	accepted uint64
	retry    Timer
	settled  map[uint64]func(error)
	over     bool
}

func newWantActor(w *want) *wantActor {
	return &wantActor{w: w, log: w.c.env.log.WithField("dataflow", w.uuid), settled: map[uint64]func(error){}}
}

// Receive implements actor.Actor.
func (a *wantActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.self = ctx.Self()
		a.begin()
	case *actor.Stopping, *actor.Restarting:
		a.stopTimer()
		a.w.led.close()
		a.settleAll(ErrClosed)
	case nudge:
		a.step()
	case orderMsg:
		a.order(m)
	case answerMsg:
		a.answered(m)
	case missMsg:
		a.miss(m.reason)
	case foundMsg:
		if a.s.Missed != "" {
			a.log.Info("found again")
			a.must(events.DataflowFound{})
		}
	}
}

func (a *wantActor) begin() {
	if _, err := a.w.led.load(&a.s, func(r record) { a.s = a.s.apply(r) }); err != nil {
		panic(err)
	}
	a.w.mu.Lock()
	a.w.pid = a.self
	a.w.mu.Unlock()
	if c := a.create; c != nil {
		a.create = nil
		if c.settled != nil {
			a.settled[a.w.led.next()] = c.settled
		}
		err := a.write(c.event)
		if err != nil {
			a.w.c.forget(a.w)
			clear(a.settled)
		}
		c.reply(a.w.led.version, err)
		if err != nil {
			return
		}
	}
	a.w.publish(a.s)
	a.step()
}

// write records an event and takes it over. The stop of a dataflow is taken over even if
// nothing can be recorded, and recorded once it can: what runs can always be stopped. (Not
// that of a node: should this process die before it is recorded, the number of that order
// would be given to another one, which the daemon would take for the one it knows.)
func (a *wantActor) write(e events.Event) error {
	recs := records(a.w.c.env.clock.Now(), 0, []events.Event{e})
	recs[0].Seq = a.w.led.next()
	if _, stop := e.(events.StopOrdered); stop {
		if durable, err := a.w.led.write(recs, true); err != nil {
			return err
		} else if !durable {
			a.again()
		}
	} else if err := a.w.led.record(recs, ending(e)); err != nil {
		return err
	}
	a.s = a.s.apply(recs[0])
	a.w.publish(a.s)
	return nil
}

// flush records what could not be recorded before.
func (a *wantActor) flush() {
	if len(a.w.led.held) == 0 {
		return
	}
	if durable, err := a.w.led.write(nil, true); err != nil {
		panic(err)
	} else if !durable {
		a.again()
	}
}

// ending says that an order ends something: it may use the last of the disk.
func ending(e events.Event) bool {
	stop, ok := e.(events.NodeStopOrdered)
	return ok && !stop.Restart
}

// must records what cannot be refused; if it cannot be recorded, it is decided again.
func (a *wantActor) must(e events.Event) {
	if err := a.write(e); err != nil {
		a.log.Errorf("%s cannot be recorded: %v; trying again", e.EventType(), err)
		a.again()
	}
}

func (a *wantActor) again() {
	if a.retry == nil {
		c, self := a.w.c, a.self
		a.retry = c.env.clock.AfterFunc(storeRetry, func() { c.tell(self, nudge{}) })
	}
}

func (a *wantActor) stopTimer() {
	if a.retry != nil {
		a.retry.Stop()
		a.retry = nil
	}
}

// order records a new order, or says why it makes no sense.
func (a *wantActor) order(m orderMsg) {
	_, v := a.w.get()
	if m.once && a.s.Stop != nil {
		return
	}
	if err := a.s.admits(a.w.uuid, v, m.event); err != nil {
		m.recorded(0, err)
		return
	}
	number := a.w.led.next()
	if m.settled != nil {
		a.settled[number] = m.settled
	}
	if err := a.write(m.event); err != nil {
		delete(a.settled, number)
		m.recorded(0, err)
		return
	}
	m.recorded(number, nil)
	a.step()
}

// admits says why an order makes no sense, as far as the coordinator knows; the daemon
// has the last word.
func (s wantState) admits(uuid string, v view, e events.Event) error {
	if s.over(v) {
		status, _ := s.status(v)
		return fmt.Errorf("dataflow %s %w (%s)", uuid, ErrEnded, status)
	}
	switch e := e.(type) {
	case events.NodeStopOrdered:
		if s.Stop != nil && e.Restart {
			return fmt.Errorf("node %s cannot be restarted: its dataflow is stopping (%s): it %w", e.Node, s.Stop.Cause, ErrEnded)
		}
	case events.ParamOrdered:
		if _, known := s.Params[e.Node][e.Key]; !known && len(s.Params[e.Node]) >= MaxParams {
			return fmt.Errorf("%w: node %s has %d parameters already", ErrParam, e.Node, MaxParams)
		}
	}
	return nil
}

// step sends what is due: one order after the other, all again on every new connection.
func (a *wantActor) step() {
	a.stopTimer()
	a.flush()
	_, v := a.w.get()
	if a.s.over(v) {
		a.end()
		return
	}
	conn, _ := a.w.c.connOf(a.s.Ordered.Machine)
	if conn == nil {
		return
	}
	if conn != a.sent {
		a.sent, a.sending, a.accepted = conn, 0, 0
	}
	if a.sending != 0 {
		return
	}
	for _, o := range a.s.pending(a.w.c.ID(), v) {
		if o.Number <= a.accepted {
			continue // its fact is on the way
		}
		a.send(conn, o)
		return
	}
}

// send has one order carried out; the answer comes as a message.
func (a *wantActor) send(conn DaemonConn, o wantOrder) {
	c, self := a.w.c, a.self
	msg, wait, err := a.message(o)
	if wait {
		return
	}
	if err != nil {
		a.answered(answerMsg{number: o.Number, conn: conn, err: ws.Errorf(CodeRefused, "%v", err)})
		return
	}
	a.sending = o.Number
	c.calls.Go(func() {
		ctx, cancel := context.WithTimeout(c.ctx, callPatience)
		defer cancel()
		err := conn.Call(ctx, ws.MethodOrder, msg, nil)
		c.tell(self, answerMsg{number: o.Number, conn: conn, err: err})
	})
}

// message is an order as it is sent. wait says that it is not its time yet.
func (a *wantActor) message(o wantOrder) (msg ws.Order, wait bool, err error) {
	c := a.w.c
	msg = ws.Order{Coordinator: c.ID(), Epoch: c.env.epoch, Number: o.Number, Dataflow: a.w.uuid}
	switch e := o.Event.(type) {
	case events.DataflowOrdered:
		if e.Replaces != "" && !c.replaced(e) {
			return msg, true, nil
		}
		env, err := c.environmentOf(a.w.uuid)
		if err != nil {
			return msg, false, err
		}
		msg.Start = &ws.OrderStart{
			Name: e.Name, Path: e.Path, WorkingDir: e.WorkingDir, LogDir: e.LogDir, Descriptor: e.Descriptor, Env: env,
			Command: e.Command, AllowShell: e.AllowShell, UV: e.UV, Debug: e.Debug, ExitWhenNodesFinish: e.ExitWhenNodesFinish, Params: e.Params,
		}
	case events.StopOrdered:
		msg.Stop = &ws.OrderStop{Cause: e.Cause, Grace: e.Grace, Force: e.Force}
	case events.NodeStopOrdered:
		msg.NodeStop = &ws.OrderNodeStop{Node: e.Node, Restart: e.Restart, Grace: e.Grace, Force: e.Force}
	case events.ParamOrdered:
		msg.SetParam = &ws.OrderParam{Node: e.Node, Key: e.Key, Value: e.Value}
	case events.ParamDeleteOrdered:
		msg.DeleteParam = &ws.OrderParam{Node: e.Node, Key: e.Key}
	}
	return msg, false, nil
}

// answered takes the daemon's answer. Anything but a refusal of the order itself means
// that it is sent again.
func (a *wantActor) answered(m answerMsg) {
	if m.conn != a.sent {
		a.step()
		return
	}
	a.sending = 0
	var refusal *ws.Error
	switch {
	case m.err == nil:
		a.accepted = m.number
		a.settle(m.number, nil)
	case errors.As(m.err, &refusal) && refusal.Code != ws.CodeStale && refusal.Code != ws.CodeInternal:
		a.log.Warnf("order %d was refused: %v", m.number, m.err)
		if err := a.write(events.OrderRefused{Order: m.number, Code: refusal.Code, Error: refusal.Message}); err != nil {
			a.log.Errorf("the refusal of order %d cannot be recorded: %v; trying again", m.number, err)
			a.again()
			return
		}
		a.settle(m.number, refusal)
	default:
		a.log.Warnf("order %d is not answered: %v; it is sent again", m.number, m.err)
		a.again()
		return
	}
	a.step()
}

func (a *wantActor) settle(number uint64, err error) {
	if f := a.settled[number]; f != nil {
		delete(a.settled, number)
		f(err)
	}
}

func (a *wantActor) settleAll(err error) {
	for number := range a.settled {
		a.settle(number, err)
	}
}

// miss counts the dataflow as failed until it is found.
func (a *wantActor) miss(reason string) {
	_, v := a.w.get()
	if a.s.Missed != "" || a.s.over(v) {
		return
	}
	a.log.Errorf("missed: %s", reason)
	a.must(events.DataflowMissed{Reason: reason})
}

// end lets go of what only a living dataflow needs, once.
func (a *wantActor) end() {
	if a.over {
		return
	}
	a.over = true
	a.settleAll(fmt.Errorf("dataflow %s %w", a.w.uuid, ErrEnded))
	a.w.c.forgetEnvironment(a.w.uuid)
	a.w.c.nudgeReplacing(a.w.uuid)
}

// connOf is the connection to the daemon of a machine, if there is one.
func (c *Coordinator) connOf(machine string) (DaemonConn, ws.Register) {
	c.mu.Lock()
	r := c.remotes[machine]
	c.mu.Unlock()
	if r == nil {
		return nil, ws.Register{}
	}
	return r.connected()
}

// replaced says that the dataflow that this one takes the place of is over; if it is
// not, it is ordered to stop.
func (c *Coordinator) replaced(e events.DataflowOrdered) bool {
	old, err := c.find(e.Replaces)
	if err != nil || !old.live() {
		return true
	}
	if s, _ := old.get(); s.Stop == nil && e.StopReplaced != nil {
		c.tell(old.pidOf(), orderMsg{event: *e.StopReplaced, once: true, recorded: func(uint64, error) {}})
	}
	return false
}

// nudgeReplacing wakes a dataflow that waits for the end of this one.
func (c *Coordinator) nudgeReplacing(uuid string) {
	for _, w := range c.all() {
		if s, _ := w.get(); s.Ordered.Replaces == uuid && w.live() {
			c.tell(w.pidOf(), nudge{})
		}
	}
}

func (c *Coordinator) environmentOf(uuid string) ([]string, error) {
	if c.opts.Vault == nil {
		return nil, nil
	}
	env, err := c.opts.Vault.Open(uuid)
	if err != nil {
		return nil, fmt.Errorf("the environment of dataflow %s is not there any more: %w", uuid, err)
	}
	return env, nil
}

func (c *Coordinator) forgetEnvironment(uuid string) {
	if c.opts.Vault == nil {
		return
	}
	if err := c.opts.Vault.Forget(uuid); err != nil {
		c.env.log.WithField("dataflow", uuid).Warnf("its environment could not be removed: %v", err)
	}
}
