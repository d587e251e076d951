package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// DefaultDeadline is how long a daemon may be away before its dataflows count as failed
// (upstream re-adopts within the same time).
const DefaultDeadline = 60 * time.Second

// CoordinatorOptions of a coordinator. Store and NewUUID are required.
type CoordinatorOptions struct {
	Store journal.Store
	// Clock defaults to SystemClock, Log to a logger that discards.
	Clock   Clock
	Log     *logrus.Logger
	Version string
	PID     int
	BootID  string
	// NewUUID makes the UUIDs of dataflows (version 7).
	NewUUID func() string
	// Deadline is DefaultDeadline if zero.
	Deadline time.Duration
	// MaxPending is DefaultMaxPending if zero.
	MaxPending int
	// Verified: as in Options.
	Verified bool
	// Vault keeps the environments of dataflows until they are over.
	Vault Vault
	// Observe, if set, is told of every event as soon as it is durable.
	Observe func(stream string, at time.Time, e events.Event)
}

// Coordinator owns what is wanted: which dataflows, under which names, where, with which
// parameters. What is, it knows from its daemons' facts. All methods may be called from
// any goroutine.
type Coordinator struct {
	opts    CoordinatorOptions
	env     *environment
	system  *actor.ActorSystem
	root    *actor.PID
	ctx     context.Context
	cancel  context.CancelFunc
	calls   sync.WaitGroup // orders on their way to daemons
	pending atomic.Int64

	ledMu sync.Mutex
	led   ledger // of the coordinator's own stream

	mu      sync.Mutex
	wants   map[string]*want
	order   []string // UUIDs, the oldest first
	remotes map[string]*remote
	closed  bool
}

// want is what outlives a crash of the actor of one dataflow. Locks: see flow.
type want struct {
	c    *Coordinator
	uuid string
	name string
	led  *ledger

	mu    sync.Mutex
	state wantState
	view  view
	pid   *actor.PID

	ended chan struct{} // closed when all is over
}

// OpenCoordinator verifies and replays the journal, raises the epoch, records that and
// starts the actors. Serve its API only after that.
func OpenCoordinator(opts CoordinatorOptions) (*Coordinator, error) {
	if opts.Store == nil || opts.NewUUID == nil {
		return nil, errors.New("actors: Store and NewUUID are needed")
	}
	if opts.Clock == nil {
		opts.Clock = SystemClock()
	}
	if opts.Log == nil {
		opts.Log = logrus.New()
		opts.Log.SetOutput(io.Discard)
	}
	if opts.Deadline == 0 {
		opts.Deadline = DefaultDeadline
	}
	if opts.MaxPending == 0 {
		opts.MaxPending = DefaultMaxPending
	}
	c := &Coordinator{
		opts: opts, wants: map[string]*want{}, remotes: map[string]*remote{},
		env: &environment{store: opts.Store, clock: opts.Clock, log: opts.Log, observe: opts.Observe},
	}
	c.led = ledger{env: c.env, stream: events.CoordinatorStream}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if err := c.recover(); err != nil {
		c.cancel()
		return nil, err
	}
	c.system = newSystem(opts.Log)
	props := actor.PropsFromProducer(func() actor.Actor { return guarded(c.env, (&coordinatorActor{c: c}).Receive) },
		actor.WithSupervisor(&supervisor{env: c.env, giveUp: func(*actor.PID, any) {}}))
	root, err := c.system.Root.SpawnNamed(props, "coordinator")
	if err != nil {
		c.cancel()
		return nil, fmt.Errorf("actors: start the coordinator's actor: %w", err)
	}
	c.root = root
	c.await(root)
	for _, r := range c.allRemotes() {
		c.await(r.pidOf())
	}
	return c, nil
}

// await waits until an actor has worked off what was told to it so far.
func (c *Coordinator) await(pid *actor.PID) {
	if pid == nil {
		return
	}
	done := make(chan error, 1)
	c.tell(pid, pingMsg{done})
	<-done
}

// ID is that of the coordinator's journal, Epoch that of its present life.
func (c *Coordinator) ID() string { return c.env.store.ID() }

// Epoch fences orders: a daemon obeys none of an earlier life.
func (c *Coordinator) Epoch() uint64 { return c.env.epoch }

func (c *Coordinator) tell(pid *actor.PID, msg any) {
	if pid != nil {
		c.system.Root.Send(pid, msg)
	}
}

// Close lets go of the daemons and ends the actors. Dataflows run on. The store stays
// open.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	remotes := slices.Collect(maps.Values(c.remotes))
	c.mu.Unlock()
	c.cancel()
	for _, r := range remotes {
		if conn, _ := r.connected(); conn != nil {
			conn.Close()
		}
	}
	err := c.system.Root.StopFuture(c.root).Wait()
	if err != nil {
		err = fmt.Errorf("actors: the coordinator's actor does not end: %w", err)
	}
	c.calls.Wait()
	c.system.Shutdown()
	if recErr := c.recordOwn(events.CoordinatorStopped{}); recErr != nil && err == nil {
		err = fmt.Errorf("actors: record the end of the coordinator: %w", recErr)
	}
	return err
}

func (c *Coordinator) recordOwn(evs ...events.Event) error {
	c.ledMu.Lock()
	defer c.ledMu.Unlock()
	_, err := c.led.write(records(c.env.clock.Now(), 0, evs), false)
	return err
}

func (c *Coordinator) admit() (done func(), err error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if c.pending.Add(1) > int64(c.opts.MaxPending) {
		c.pending.Add(-1)
		return nil, fmt.Errorf("%w (%d); try again", ErrBusy, c.opts.MaxPending)
	}
	return func() { c.pending.Add(-1) }, nil
}

func (c *Coordinator) newWant(uuid, name string) *want {
	return &want{
		c: c, uuid: uuid, name: name, led: &ledger{env: c.env, stream: events.OrderStream(uuid)},
		view: view{Nodes: map[string]*nodeState{}}, ended: make(chan struct{}),
	}
}

// live says that the dataflow is not over.
func (w *want) live() bool { return !isClosed(w.ended) }

// get is a consistent copy of what is known.
func (w *want) get() (wantState, view) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state, w.view
}

// publish makes the state known to queries and to those who wait.
func (w *want) publish(s wantState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = s
	w.settle()
}

// see takes a newer view over.
func (w *want) see(v view) {
	w.mu.Lock()
	w.view = v
	w.settle()
	pid := w.pid
	w.mu.Unlock()
	w.c.tell(pid, nudge{})
}

// settle closes ended when all is over; mu is held.
func (w *want) settle() {
	if !w.state.OrderedAt.IsZero() && w.state.over(w.view) {
		closeOnce(w.ended)
	}
}

// register claims UUID and name. A dataflow that replaces another one shares its name.
func (c *Coordinator) register(w *want, replaces string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.wants[w.uuid] != nil {
		return fmt.Errorf("dataflow %s: %w", w.uuid, ErrNameTaken)
	}
	for _, other := range c.wants {
		if w.name != "" && other.name == w.name && other.live() && other.uuid != replaces {
			return fmt.Errorf("there is already a running dataflow with name %q (%s): the name is %w; stop that one or choose another name", w.name, other.uuid, ErrNameTaken)
		}
	}
	c.wants[w.uuid] = w
	c.order = append(c.order, w.uuid)
	return nil
}

// forget undoes register for an order that was not recorded.
func (c *Coordinator) forget(w *want) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wants[w.uuid] == w {
		delete(c.wants, w.uuid)
		c.order = slices.DeleteFunc(c.order, func(id string) bool { return id == w.uuid })
	}
}

// find is the dataflow of a UUID.
func (c *Coordinator) find(uuid string) (*want, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.wants[uuid]; w != nil {
		return w, nil
	}
	return nil, fmt.Errorf("dataflow %s: %w", uuid, ErrUnknownDataflow)
}

// all are the dataflows, the oldest first.
func (c *Coordinator) all() []*want {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*want, 0, len(c.order))
	for _, uuid := range c.order {
		out = append(out, c.wants[uuid])
	}
	return out
}

// minPrefix is the shortest beginning of a UUID that selects a dataflow.
const minPrefix = 4

// Resolve finds a dataflow by UUID, by the name of a live one or the newest that had it,
// or by a unique beginning of its UUID.
func (c *Coordinator) Resolve(ref string) (uuid string, err error) {
	if ref == "" {
		return "", fmt.Errorf("no dataflow was named: %w", ErrUnknownDataflow)
	}
	all := c.all()
	var named, prefixed []*want
	for _, w := range all {
		switch {
		case w.uuid == ref:
			return ref, nil
		case w.name == ref && w.live():
			return w.uuid, nil
		case w.name == ref:
			named = append(named, w)
		case len(ref) >= minPrefix && strings.HasPrefix(w.uuid, strings.ToLower(ref)):
			prefixed = append(prefixed, w)
		}
	}
	switch {
	case len(named) > 0:
		return named[len(named)-1].uuid, nil
	case len(prefixed) == 1:
		return prefixed[0].uuid, nil
	case len(prefixed) > 1:
		var ids []string
		for _, w := range prefixed {
			ids = append(ids, w.uuid)
		}
		return "", fmt.Errorf("%q is the beginning of %d dataflows (%s): %w; write more of it", ref, len(ids), shortList(ids), ErrAmbiguous)
	}
	text := fmt.Sprintf("no dataflow %q", ref)
	if near := dataflow.Nearest(ref, liveNames(all)); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return "", fmt.Errorf("%s: %w; `dora list` shows the dataflows", text, ErrUnknownDataflow)
}

// liveNames are the names that are in use.
func liveNames(all []*want) []string {
	var names []string
	for _, w := range all {
		if w.name != "" && w.live() {
			names = append(names, w.name)
		}
	}
	return names
}
