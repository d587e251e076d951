package actors

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/ws"
)

// Messages of a daemon's actor.
type (
	registerMsg struct {
		conn             DaemonConn
		reg              ws.Register
		version, address string
		answer           chan<- registration
	}
	registration struct {
		ok  ws.Registered
		err error
	}
	factsMsg struct {
		conn   DaemonConn
		facts  *ws.Facts
		state  *ws.State
		answer chan<- stored
	}
	stored struct {
		cursor uint64
		err    error
	}
	// detachMsg: the connection has ended. deadlineMsg: it has for too long.
	detachMsg   struct{ conn DaemonConn }
	deadlineMsg struct{ since time.Time }
)

// remoteActor is the writer of the streams of one machine's facts.
type remoteActor struct {
	r    *remote
	log  *logrus.Entry
	self *actor.PID

	journal string // whose facts are at hand
	led     *ledger
	cursor  uint64
	proj    *projection
	late    Timer

	retained time.Time // when old facts were last looked for
}

// Receive implements actor.Actor.
func (a *remoteActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		a.self = ctx.Self()
		a.begin()
	case *actor.Stopping, *actor.Restarting:
		if a.late != nil {
			a.late.Stop()
		}
	case registerMsg:
		ok, err := a.register(m)
		m.answer <- registration{ok, err}
	case factsMsg:
		cursor, err := a.take(m)
		m.answer <- stored{cursor, err}
	case detachMsg:
		a.detach(m.conn)
	case deadlineMsg:
		a.missed(m.since)
	case pingMsg:
		m.answer <- nil
	}
}

// begin reads the facts of the newest journal of the machine.
func (a *remoteActor) begin() {
	a.r.mu.Lock()
	id := a.r.reg.Journal
	a.r.pid = a.self
	a.r.mu.Unlock()
	if id != "" {
		if err := a.load(id); err != nil {
			panic(err)
		}
		for uuid := range a.proj.views {
			a.show(uuid)
		}
	}
	a.arm()
}

// load reads the stream of one journal.
func (a *remoteActor) load(id string) error {
	led := &ledger{env: a.r.c.env, stream: events.FactsStream(a.r.machine, id)}
	proj, cursor, err := replayFacts(led, a.r.machine, a.log)
	if err != nil {
		return err
	}
	a.journal, a.led, a.cursor, a.proj = id, led, cursor, proj
	a.r.mu.Lock()
	a.r.cursor = cursor
	a.r.mu.Unlock()
	return nil
}

// replayFacts makes the projection of a stream, from its newest snapshot on.
func replayFacts(led *ledger, machine string, log *logrus.Entry) (*projection, uint64, error) {
	snap := factsSnapshot{Views: map[string]view{}}
	proj := newProjection(machine)
	first := true
	restore := func() {
		if first {
			first = false
			proj.views = snap.Views
		}
	}
	cursor := uint64(0)
	_, err := led.load(&snap, func(r record) {
		restore()
		switch e := r.Event.(type) {
		case events.FactReceived:
			cursor = e.Envelope.Pos
			if _, err := proj.apply(e.Envelope); err != nil {
				log.Warn(err)
			}
		case events.StateReceived:
			cursor = e.Through
			if _, err := proj.replace(e); err != nil {
				log.Warn(err)
			}
		}
	})
	restore()
	return proj, max(cursor, snap.Cursor), err
}

// factsSnapshot is the projection at some record of the stream.
type factsSnapshot struct {
	Cursor uint64          `json:"cursor"`
	Views  map[string]view `json:"views"`
}

func (a *remoteActor) register(m registerMsg) (ws.Registered, error) {
	c, r := a.r.c, a.r
	conn, old := r.connected()
	if conn != nil && old.Journal != m.reg.Journal {
		return ws.Registered{}, ws.Errorf(ws.CodeMachineTaken,
			"machine id %q is taken by the daemon with pid %d on %s (state in %s); give this one another --machine-id", r.machine, old.PID, old.Host, old.Home)
	}
	if a.journal != m.reg.Journal {
		lost := a.proj
		if err := a.load(m.reg.Journal); err != nil {
			return ws.Registered{}, err
		}
		a.abandon(lost)
	}
	joined := events.DaemonJoined{
		Machine: r.machine, Journal: m.reg.Journal, Version: m.version, PID: m.reg.PID, BootID: m.reg.BootID, Address: m.address,
	}
	known := old.Journal == joined.Journal && old.PID == joined.PID && r.version == joined.Version && old.BootID == joined.BootID
	if !known {
		if err := c.recordOwn(joined); err != nil {
			return ws.Registered{}, err
		}
	}
	now := c.env.clock.Now()
	r.mu.Lock()
	r.conn, r.reg, r.version, r.address, r.since, r.heard, r.seen = m.conn, m.reg, m.version, m.address, now, now, true
	r.mu.Unlock()
	if conn != nil && conn != m.conn {
		conn.Close()
	}
	if a.late != nil {
		a.late.Stop()
		a.late = nil
	}
	a.log.Infof("daemon %s connected (pid %d, %d of %d facts known)", m.version, m.reg.PID, a.cursor, m.reg.Head)
	a.settled()
	c.nudgeMachine(r.machine)
	return ws.Registered{Coordinator: c.ID(), Epoch: c.env.epoch, Cursor: a.cursor}, nil
}

// abandon ends, as far as is known, what an earlier journal of the machine had running:
// its daemon lost its memory.
func (a *remoteActor) abandon(lost *projection) {
	if lost == nil {
		return
	}
	for uuid, v := range lost.views {
		if v.over() {
			continue
		}
		if w, err := a.r.c.find(uuid); err == nil {
			a.r.c.tell(w.pidOf(), missMsg{reason: fmt.Sprintf("the daemon of machine %s has lost its journal", a.r.machine)})
		}
	}
}

// take stores facts in the daemon's order, in one append, and shows what they say. The
// cursor is the position of the last one: it cannot be apart from them.
func (a *remoteActor) take(m factsMsg) (uint64, error) {
	if !a.r.current(m.conn) {
		return 0, ws.Errorf(ws.CodeStale, "another connection of machine %q has taken over", a.r.machine)
	}
	a.r.mu.Lock()
	a.r.heard = a.r.c.env.clock.Now()
	a.r.mu.Unlock()
	if m.state != nil {
		return a.takeState(m.state)
	}
	envs, err := a.fresh(m.facts)
	if err != nil || len(envs) == 0 {
		return a.cursor, err
	}
	now := a.r.c.env.clock.Now()
	recs := make([]record, len(envs))
	for i, env := range envs {
		recs[i] = record{Event: events.FactReceived{Envelope: env}, At: now}
	}
	if err := a.led.writeUrgent(recs); err != nil {
		return a.cursor, err
	}
	a.moved(envs[len(envs)-1].Pos)
	changed := map[string]bool{}
	for _, env := range envs {
		uuid, err := a.proj.apply(env)
		if err != nil {
			a.log.Warn(err)
		}
		if uuid != "" {
			changed[uuid] = true
		}
	}
	for uuid := range changed {
		a.show(uuid)
	}
	a.settled()
	a.snapshot()
	a.retain(now)
	return a.cursor, nil
}

func (a *remoteActor) moved(cursor uint64) {
	a.cursor = cursor
	a.r.mu.Lock()
	a.r.cursor = cursor
	a.r.mu.Unlock()
}

// fresh are the records that are not known yet; they must follow on those that are.
func (a *remoteActor) fresh(f *ws.Facts) ([]events.Envelope, error) {
	if f.Journal != a.journal {
		return nil, ws.Errorf(ws.CodeStale, "these are facts of journal %s, and %s was registered", f.Journal, a.journal)
	}
	var envs []events.Envelope
	next := a.cursor + 1
	for _, raw := range f.Records {
		var env events.Envelope
		if err := json.Unmarshal(raw, &env); err != nil {
			return nil, ws.Errorf(ws.CodeBadRequest, "a fact that cannot be read: %v", err)
		}
		switch {
		case env.Pos < next:
			continue // known
		case env.Pos > next:
			return nil, ws.Errorf(ws.CodeGap, "fact %d came where %d was expected", env.Pos, next)
		case env.Stream == "" || env.Seq == 0 || env.Type == "":
			return nil, ws.Errorf(ws.CodeBadRequest, "fact %d has no stream, number or type", env.Pos)
		}
		next++
		envs = append(envs, env)
	}
	return envs, nil
}

func (a *remoteActor) takeState(s *ws.State) (uint64, error) {
	if s.Journal != a.journal {
		return 0, ws.Errorf(ws.CodeStale, "this is the state of journal %s, and %s was registered", s.Journal, a.journal)
	}
	if s.Through <= a.cursor {
		return a.cursor, nil
	}
	e := events.StateReceived{After: a.cursor, Through: s.Through, Dataflows: s.Dataflows, Seqs: s.Seqs}
	if _, err := a.led.write(records(a.r.c.env.clock.Now(), 0, []events.Event{e}), false); err != nil {
		return a.cursor, err
	}
	a.moved(s.Through)
	a.log.Warnf("facts %d to %d of the daemon are not available any more; its state was taken instead", e.After+1, e.Through)
	uuids, err := a.proj.replace(e)
	if err != nil {
		a.log.Warn(err)
	}
	for _, uuid := range uuids {
		a.show(uuid)
	}
	return a.cursor, nil
}

// show hands a view to the dataflow that it is of; one that nobody here knows is taken
// over.
func (a *remoteActor) show(uuid string) {
	v := a.proj.views[uuid]
	w, err := a.r.c.find(uuid)
	if err != nil {
		if !v.reported() {
			return
		}
		if got := v.Flow.Created.UUID; got != uuid {
			a.log.Warnf("the history of dataflow %s says that it is of dataflow %q, and is not shown", uuid, got)
			return
		}
		if w, err = a.r.c.adoptWant(a.r.machine, v); err != nil {
			a.log.WithField("dataflow", uuid).Warnf("a dataflow that its daemon knows cannot be taken over: %v", err)
			return
		}
	}
	w.see(v)
}

// settled tells dataflows that were missed, once all facts are here, that they are found.
func (a *remoteActor) settled() {
	a.r.mu.Lock()
	caughtUp := a.r.conn != nil && a.cursor >= a.r.reg.Head
	a.r.mu.Unlock()
	if !caughtUp {
		return
	}
	for uuid, v := range a.proj.views {
		if v.over() {
			continue
		}
		if w, err := a.r.c.find(uuid); err == nil {
			if s, _ := w.get(); s.Missed != "" {
				a.r.c.tell(w.pidOf(), foundMsg{})
			}
		}
	}
}

// factsPerSnapshot is how many facts may have to be replayed.
const factsPerSnapshot = 4096

func (a *remoteActor) snapshot() {
	if a.led.version >= a.led.saved+factsPerSnapshot {
		a.saveSnapshot()
	}
}

// saveSnapshot keeps the projection as it is.
func (a *remoteActor) saveSnapshot() {
	if a.led.version == a.led.saved {
		return
	}
	a.led.saved = a.led.version
	raw, err := json.Marshal(factsSnapshot{Cursor: a.cursor, Views: a.proj.views})
	if err == nil && len(raw) < journal.MaxSnapshotBytes {
		err = a.r.c.env.store.SaveSnapshot(a.led.stream, a.led.version, raw)
	}
	if err != nil {
		a.log.Warnf("no snapshot was kept: %v", err)
	}
}

func (a *remoteActor) detach(conn DaemonConn) {
	now := a.r.c.env.clock.Now()
	a.r.mu.Lock()
	mine := a.r.conn == conn
	if mine {
		a.r.conn, a.r.since = nil, now
	}
	a.r.mu.Unlock()
	if !mine {
		return
	}
	a.log.Warn("the daemon is away; what it runs is expected to run on")
	a.arm()
}

// arm waits for a daemon that is away, but not for ever.
func (a *remoteActor) arm() {
	a.r.mu.Lock()
	away, since := a.r.conn == nil, a.r.since
	a.r.mu.Unlock()
	if !away {
		return
	}
	c, self := a.r.c, a.self
	a.late = c.env.clock.AfterFunc(c.opts.Deadline, func() { c.tell(self, deadlineMsg{since}) })
}

// missed gives up, for now, on what a daemon runs that did not come back.
func (a *remoteActor) missed(since time.Time) {
	a.r.mu.Lock()
	still := a.r.conn == nil && a.r.since.Equal(since)
	a.r.mu.Unlock()
	if !still {
		return
	}
	c := a.r.c
	for _, w := range c.all() {
		if s, v := w.get(); s.Ordered.Machine == a.r.machine && !s.over(v) {
			c.tell(w.pidOf(), missMsg{reason: fmt.Sprintf("the daemon of machine %s did not come back within %s", a.r.machine, c.opts.Deadline)})
		}
	}
}
