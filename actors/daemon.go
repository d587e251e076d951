package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	cmap "github.com/orcaman/concurrent-map"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
)

// Daemon is the control plane of one machine. All methods may be called from any
// goroutine.
type Daemon struct {
	opts   Options
	env    *environment
	system *actor.ActorSystem
	root   *actor.PID
	ledMu  sync.Mutex
	led    ledger // of the daemon's own stream
	obeyed obeyed

	// final are snapshots of streams that have ended, taken after the recovery: the next
	// one need not replay them.
	final []func()

	newsMu sync.Mutex
	newsC  chan struct{} // see news

	ctx    context.Context
	cancel context.CancelFunc
	// goroutines are the launches of shims.
	goroutines sync.WaitGroup
	pending    atomic.Int64

	mu     sync.Mutex
	flows  map[string]*flow
	order  []string // UUIDs, the oldest first
	closed bool
}

// The actor library keeps its processes in 1024 tables, each of which splits itself into
// 32 again: 32,768 maps, 2.8 MiB and 5 to 15 ms for every actor system. 1024 are enough.
func init() { cmap.SHARD_COUNT = 1 }

func newSystem(log *logrus.Logger) *actor.ActorSystem {
	return actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slogTo{log: log}) }),
		// The library keeps a goroutine for this long after a message to nobody.
		actor.WithDeadLetterThrottleInterval(time.Millisecond),
	)
}

// Open verifies and replays the journal, raises the epoch and starts the actors.
// Dataflows that had not ended are adopted if the Launcher is an Adopter; without one
// they are recorded as failed, because their processes went with their daemon.
func Open(opts Options) (*Daemon, error) {
	if opts.Store == nil || opts.NewToken == nil || opts.Launcher == nil {
		return nil, errors.New("actors: Store, Launcher and NewToken are needed")
	}
	if opts.Clock == nil {
		opts.Clock = SystemClock()
	}
	if opts.Log == nil {
		opts.Log = logrus.New()
		opts.Log.SetOutput(io.Discard)
	}
	if opts.Machine == "" {
		opts.Machine = "local"
	}
	if opts.MaxPending == 0 {
		opts.MaxPending = DefaultMaxPending
	}
	d := &Daemon{
		opts: opts, flows: map[string]*flow{},
		env: &environment{store: opts.Store, clock: opts.Clock, log: opts.Log},
	}
	d.env.observe = func(stream string, at time.Time, e events.Event) {
		d.recorded()
		if opts.Observe != nil {
			opts.Observe(stream, at, e)
		}
	}
	d.led = ledger{env: d.env, stream: events.DaemonStream(opts.Machine)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := d.recover(); err != nil {
		d.cancel()
		return nil, err
	}
	d.system = newSystem(opts.Log)
	props := actor.PropsFromProducer(func() actor.Actor { return guarded(d.env, (&daemonActor{d: d}).Receive) },
		actor.WithSupervisor(&supervisor{env: d.env, giveUp: d.flowBroken}))
	root, err := d.system.Root.SpawnNamed(props, "daemon")
	if err != nil {
		d.cancel()
		return nil, fmt.Errorf("actors: start the daemon's actor: %w", err)
	}
	d.root = root
	begun := make(chan error, 1)
	d.tell(root, pingMsg{begun})
	if len(d.final) > 0 {
		d.goroutines.Go(d.takeFinal)
	}
	return d, <-begun
}

// finalPause is left between two snapshots, each of which is a write to the disk.
const finalPause = 10 * time.Millisecond

// takeFinal keeps the states of what has ended, without hurry.
func (d *Daemon) takeFinal() {
	for _, take := range d.final {
		woken := make(chan struct{})
		t := d.env.clock.AfterFunc(finalPause, func() { close(woken) })
		select {
		case <-woken:
			take()
		case <-d.ctx.Done():
			t.Stop()
			return
		}
	}
}

// Epoch of this daemon: it is in every command to a shim.
func (d *Daemon) Epoch() uint64 { return d.env.epoch }

// tell sends a message to an actor, if there is one.
func (d *Daemon) tell(pid *actor.PID, msg any) {
	if pid != nil {
		d.system.Root.Send(pid, msg)
	}
}

func (d *Daemon) adopter() Adopter {
	a, _ := d.opts.Launcher.(Adopter)
	return a
}

func (d *Daemon) closing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// admit is the limit at the edge: mailboxes have none.
func (d *Daemon) admit() (done func(), err error) {
	if d.closing() {
		return nil, ErrClosed
	}
	if d.pending.Add(1) > int64(d.opts.MaxPending) {
		d.pending.Add(-1)
		return nil, fmt.Errorf("%w (%d); try again", ErrBusy, d.opts.MaxPending)
	}
	return func() { d.pending.Add(-1) }, nil
}

// find is the dataflow of a UUID.
func (d *Daemon) find(uuid string) (*flow, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.flows[uuid]
	if f == nil {
		return nil, fmt.Errorf("dataflow %s: %w", uuid, ErrUnknownDataflow)
	}
	return f, nil
}

// findNode returns the dataflow, if it has that node.
func (d *Daemon) findNode(uuid, node string) (*flow, error) {
	f, err := d.find(uuid)
	if err != nil {
		return nil, err
	}
	if f.nodes[node] == nil {
		return nil, fmt.Errorf("node %s of dataflow %s: %w; it has %s", node, uuid, ErrUnknownNode, f.nodeList())
	}
	return f, nil
}

// Start accepts a dataflow; it returns when that is journaled, or with an error when
// nothing was started.
func (d *Daemon) Start(ctx context.Context, r StartRequest) error {
	done, err := d.admit()
	if err != nil {
		return err
	}
	defer done()
	load, err := LoadFor(r)
	if err != nil {
		return err
	}
	load.Machine = d.opts.Machine
	created, err := d.createdEvent(r, load)
	if err != nil {
		return err
	}
	params, err := paramEvents(r)
	if err != nil {
		return err
	}
	if known, err := d.startedBefore(ctx, r); known || err != nil {
		return err
	}
	f := newFlow(d, r.UUID, r.Descriptor, created)
	f.load = load
	close(f.known)
	answer := make(chan error, 1)
	f.create = &creation{event: created, params: params, order: r.Order, reply: func(err error) { answer <- err }}
	if err := d.register(f, r.Name); err != nil {
		return err
	}
	if err := d.keepEnvironment(r); err != nil {
		d.forget(f)
		return err
	}
	d.tell(d.root, beginFlow{f})
	return await(ctx, answer, nil)
}

// startedBefore says that this very order was carried out already: its answer was lost.
func (d *Daemon) startedBefore(ctx context.Context, r StartRequest) (bool, error) {
	f, err := d.find(r.UUID)
	if err != nil || r.Order == "" {
		return false, nil
	}
	f.mu.Lock()
	order, recorded := f.state.Order, !f.state.CreatedAt.IsZero()
	f.mu.Unlock()
	return recorded && coveredOrder(order, r.Order), nil
}

// register claims UUID and name.
func (d *Daemon) register(f *flow, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	if d.flows[f.uuid] != nil {
		return fmt.Errorf("dataflow %s: %w", f.uuid, ErrNameTaken)
	}
	for _, other := range d.flows {
		if name != "" && other.liveName() == name {
			return fmt.Errorf("the name %q is %w by the running dataflow %s; stop that one or choose another name", name, ErrNameTaken, other.uuid)
		}
	}
	f.name = name
	d.flows[f.uuid] = f
	d.order = append(d.order, f.uuid)
	return nil
}

// forget undoes register for a start that was not recorded.
func (d *Daemon) forget(f *flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flows[f.uuid] == f {
		delete(d.flows, f.uuid)
		d.order = d.order[:len(d.order):len(d.order)]
		for i, id := range d.order {
			if id == f.uuid {
				d.order = append(d.order[:i], d.order[i+1:]...)
				break
			}
		}
	}
	f.markGone()
}

// await waits for an answer, the end of the one who answers, or of the caller.
func await[T any](ctx context.Context, answer <-chan T, gone <-chan struct{}) error {
	result := func(v T) error {
		err, _ := any(v).(error)
		return err
	}
	select {
	case v := <-answer:
		return result(v)
	case <-ctx.Done():
		return ctx.Err()
	case <-gone:
		select {
		case v := <-answer:
			return result(v)
		default:
			return ErrEnded
		}
	}
}

// Stop asks a dataflow to end. It returns when that is journaled; see Wait. A second
// stop can only shorten the first.
func (d *Daemon) Stop(ctx context.Context, uuid string, r StopRequest) error {
	done, err := d.admit()
	if err != nil {
		return err
	}
	defer done()
	f, err := d.find(uuid)
	if err != nil {
		return err
	}
	if r.Grace <= 0 {
		r.Grace = DefaultStopGrace
	}
	if r.Cause == "" {
		r.Cause = "stop"
	}
	answer := make(chan error, 1)
	return f.ask(ctx, answer, stopMsg{
		event: events.DataflowStopRequested{Cause: r.Cause, Grace: r.Grace, Force: r.Force},
		order: r.Order,
		reply: func(err error) { answer <- err },
	})
}

// StopNode asks one node to end. It returns when that is journaled.
func (d *Daemon) StopNode(ctx context.Context, uuid, node string, grace time.Duration, force bool) error {
	if grace <= 0 {
		grace = DefaultStopGrace
	}
	return d.orderNode(ctx, uuid, node, events.NodeStopRequested{Grace: grace, Force: force}, "")
}

// RestartNode asks one node to end and come back: its outputs stay open meanwhile. It
// returns when that is journaled.
func (d *Daemon) RestartNode(ctx context.Context, uuid, node string, grace time.Duration) error {
	if grace <= 0 {
		grace = DefaultRestartGrace
	}
	return d.orderNode(ctx, uuid, node, events.NodeStopRequested{Restart: true, Grace: grace}, "")
}

func (d *Daemon) orderNode(ctx context.Context, uuid, node string, order events.NodeStopRequested, command string) error {
	done, err := d.admit()
	if err != nil {
		return err
	}
	defer done()
	f, err := d.findNode(uuid, node)
	if err != nil {
		return err
	}
	answer := make(chan error, 1)
	return f.askNode(ctx, node, answer, stopNodeMsg{order: order, command: command, reply: func(err error) { answer <- err }})
}

// Started waits until the start barrier of a dataflow opened, and returns false if it
// ended before that.
func (d *Daemon) Started(ctx context.Context, uuid string) (bool, error) {
	f, err := d.find(uuid)
	if err != nil {
		return false, err
	}
	select {
	case <-f.started:
		return true, nil
	default:
	}
	select {
	case <-f.started:
		return true, nil
	case <-f.finished:
		return isClosed(f.started), nil
	case <-f.gone:
		return isClosed(f.started), nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close waits, as long as ctx allows, for the shims of dataflows that have ended; lets
// go of the shims of those that have not (they work on, or end with their parent pipe);
// and stops the actors. The store stays open.
func (d *Daemon) Close(ctx context.Context) error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	flows := slices.Collect(maps.Values(d.flows))
	d.mu.Unlock()
	err := d.awaitEnds(ctx, flows)
	if stopErr := d.shutdown(); stopErr != nil && err == nil {
		err = stopErr
	}
	d.ledMu.Lock()
	defer d.ledMu.Unlock()
	if _, writeErr := d.led.write(records(d.env.clock.Now(), 0, []events.Event{events.DaemonStopped{}}), false); writeErr != nil && err == nil {
		err = fmt.Errorf("actors: record the end of the daemon: %w", writeErr)
	}
	return err
}

// shutdown ends the actors, then the launches that they began, then the connections.
func (d *Daemon) shutdown() error {
	d.cancel()
	err := d.system.Root.StopFuture(d.root).Wait()
	if err != nil {
		err = fmt.Errorf("actors: the daemon's actor does not end: %w", err)
	}
	d.goroutines.Wait()
	d.mu.Lock()
	flows := slices.Collect(maps.Values(d.flows))
	d.mu.Unlock()
	for _, f := range flows {
		f.letGo()
	}
	d.system.Shutdown()
	return err
}

func (d *Daemon) awaitEnds(ctx context.Context, flows []*flow) error {
	for _, f := range flows {
		if !isClosed(f.finished) {
			continue
		}
		select {
		case <-f.gone:
		case <-ctx.Done():
			return fmt.Errorf("the shim of dataflow %s has not ended: %w", f.uuid, ctx.Err())
		}
	}
	return nil
}

// letGo closes the connection to the shim, without ending what it runs.
func (f *flow) letGo() {
	f.mu.Lock()
	shims := []Shim{f.shim}
	for _, item := range f.inbox {
		if item.launched != nil {
			shims = append(shims, item.launched.shim)
		}
	}
	f.shim, f.ready, f.inbox = nil, false, nil
	f.mu.Unlock()
	for _, shim := range shims {
		if shim != nil {
			shim.Close()
		}
	}
	f.markGone()
}
