package actors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

type (
	// beginWant and beginRemote start the actors of a dataflow and of a machine.
	beginWant struct {
		w      *want
		create *creationOrder
	}
	beginRemote struct{ r *remote }
)

// coordinatorActor is the root: the parent of the actors of dataflows and machines.
type coordinatorActor struct{ c *Coordinator }

const (
	wantPrefix   = "order-"
	remotePrefix = "machine-"
)

// Receive implements actor.Actor.
func (a *coordinatorActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		for _, w := range a.c.all() {
			if err := a.spawnWant(ctx, w, nil); err != nil {
				panic(err)
			}
		}
		for _, r := range a.c.allRemotes() {
			if err := a.spawnRemote(ctx, r); err != nil {
				panic(err)
			}
		}
	case beginWant:
		if err := a.spawnWant(ctx, m.w, m.create); err != nil && m.create != nil {
			a.c.forget(m.w)
			m.create.reply(0, err)
		}
	case beginRemote:
		if err := a.spawnRemote(ctx, m.r); err != nil {
			a.c.env.log.Errorf("the actor of machine %s cannot be started: %v", m.r.machine, err)
		}
	case pingMsg:
		m.answer <- nil
	}
}

func (a *coordinatorActor) spawnWant(ctx actor.Context, w *want, create *creationOrder) error {
	props := actor.PropsFromProducer(func() actor.Actor {
		next := newWantActor(w)
		next.create, create = create, nil
		return guarded(a.c.env, next.Receive)
	})
	pid, err := ctx.SpawnNamed(props, wantPrefix+w.uuid)
	if err != nil {
		return fmt.Errorf("start the actor of dataflow %s: %w", w.uuid, err)
	}
	w.mu.Lock()
	w.pid = pid
	w.mu.Unlock()
	return nil
}

func (a *coordinatorActor) spawnRemote(ctx actor.Context, r *remote) error {
	props := actor.PropsFromProducer(func() actor.Actor {
		return guarded(a.c.env, (&remoteActor{r: r, log: a.c.env.log.WithField("machine", r.machine)}).Receive)
	})
	pid, err := ctx.SpawnNamed(props, remotePrefix+r.machine)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.pid = pid
	r.mu.Unlock()
	return nil
}

func (r *remote) pidOf() *actor.PID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pid
}

func (w *want) pidOf() *actor.PID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pid
}

func (c *Coordinator) allRemotes() []*remote {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*remote, 0, len(c.remotes))
	for _, r := range c.remotes {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *remote) int { return strings.Compare(a.machine, b.machine) })
	return out
}

// maxMachines bounds what strangers with the token can make us keep.
const maxMachines = 1000

// remoteOf is the machine of that name, made if it is new.
func (c *Coordinator) remoteOf(machine string) (*remote, error) {
	c.mu.Lock()
	r, known := c.remotes[machine]
	switch {
	case c.closed:
		c.mu.Unlock()
		return nil, ErrClosed
	case known:
	case len(c.remotes) >= maxMachines:
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: %d machines are known already", ErrBusy, maxMachines)
	default:
		r = &remote{c: c, machine: machine, since: c.env.clock.Now()}
		c.remotes[machine] = r
	}
	c.mu.Unlock()
	if !known {
		c.tell(c.root, beginRemote{r})
	}
	if r.pidOf() == nil { // begun, and not there yet
		c.await(c.root)
	}
	return r, nil
}

// nudgeMachine wakes the dataflows of a machine: their orders can be sent now.
func (c *Coordinator) nudgeMachine(machine string) {
	for _, w := range c.all() {
		if s, _ := w.get(); s.Ordered.Machine == machine && w.live() {
			c.tell(w.pidOf(), nudge{})
		}
	}
}

// recover verifies and replays the journal, raises the epoch, and records that a
// coordinator is here.
func (c *Coordinator) recover() error {
	store := c.opts.Store
	if err := verify(store, c.opts.Verified); err != nil {
		return err
	}
	var err error
	if c.env.epoch, err = store.RaiseEpoch(); err != nil {
		return fmt.Errorf("raise the epoch: %w", err)
	}
	if err := c.replayOwn(); err != nil {
		return err
	}
	prefix := events.OrderStream("")
	streams, err := store.Streams(prefix)
	if err != nil {
		return fmt.Errorf("list the dataflows: %w", err)
	}
	for _, stream := range streams {
		if err := c.replayWant(strings.TrimPrefix(stream, prefix)); err != nil {
			return err
		}
	}
	slices.SortStableFunc(c.order, func(a, b string) int {
		return c.wants[a].state.OrderedAt.Compare(c.wants[b].state.OrderedAt)
	})
	started := events.CoordinatorStarted{Version: c.opts.Version, PID: c.opts.PID, BootID: c.opts.BootID}
	if err := c.recordOwn(started); err != nil {
		return fmt.Errorf("record the start of the coordinator: %w", err)
	}
	return nil
}

// replayOwn reads the coordinator's own stream: the daemons that were here.
func (c *Coordinator) replayOwn() error {
	var none struct{}
	_, err := c.led.load(&none, func(r record) {
		e, ok := r.Event.(events.DaemonJoined)
		if !ok {
			return
		}
		rem := c.remotes[e.Machine]
		if rem == nil {
			rem = &remote{c: c, machine: e.Machine, since: c.env.clock.Now()}
			c.remotes[e.Machine] = rem
		}
		rem.reg.Machine, rem.reg.Journal, rem.reg.PID, rem.reg.BootID = e.Machine, e.Journal, e.PID, e.BootID
		rem.version, rem.address = e.Version, e.Address
	})
	return err
}

func (c *Coordinator) replayWant(uuid string) error {
	w := c.newWant(uuid, "")
	var s wantState
	if _, err := w.led.load(&s, func(r record) { s = s.apply(r) }); err != nil {
		return err
	}
	if s.OrderedAt.IsZero() {
		return fmt.Errorf("stream %s does not begin with DataflowOrdered: %w", w.led.stream, journal.ErrDamaged)
	}
	w.name = s.Ordered.Name
	w.publish(s)
	c.wants[uuid] = w
	c.order = append(c.order, uuid)
	return nil
}

// adoptWant takes a dataflow over that a daemon reported and nobody here ordered.
func (c *Coordinator) adoptWant(machine string, v view) (*want, error) {
	e := adoptedOrder(machine, v)
	w := c.newWant(e.UUID, e.Name)
	if err := c.register(w, ""); err != nil {
		// Its name is taken meanwhile: it lives on without.
		w.name, e.Name = "", ""
		if err := c.register(w, ""); err != nil {
			return nil, err
		}
	}
	answer := make(chan error, 1)
	c.tell(c.root, beginWant{w, &creationOrder{event: e, reply: func(_ uint64, err error) { answer <- err }}})
	return w, <-answer
}
