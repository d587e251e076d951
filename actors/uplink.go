package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

// How a daemon keeps its connection.
const (
	// A coordinator that is lost, or not there yet, is dialled every redialSoon for
	// redialEager: `dora up`, or its service, has it back within a second, and this pause is
	// a part of the time of a recovery. Then it is dialled every redialAfter until
	// redialPatience is over, then with growing pauses up to redialMax.
	redialSoon     = 25 * time.Millisecond
	redialEager    = 5 * time.Second
	redialAfter    = 250 * time.Millisecond
	redialPatience = time.Minute
	redialMax      = 5 * time.Second

	// HeartbeatEvery is how often a daemon that has nothing to tell says that it is there.
	HeartbeatEvery = 3 * time.Second
	// callPatience is how long an answer of the other side may take before the connection
	// counts as lost.
	callPatience = 10 * time.Second

	// One message of facts.
	maxFacts     = 512
	maxFactBytes = 1 << 20
)

// CoordinatorConn is a daemon's connection to its coordinator (*ws.Client).
type CoordinatorConn interface {
	Call(ctx context.Context, method string, params, out any) error
	Done() <-chan struct{}
	Close()
}

// UplinkOptions of a daemon's way to its coordinator.
type UplinkOptions struct {
	// Dial connects; the handlers answer requests of the coordinator.
	Dial func(ctx context.Context, handlers map[string]ws.ClientHandler) (CoordinatorConn, error)
	// Register introduces the daemon; Journal and Head are filled in.
	Register ws.Register
	// Handlers answers further requests (ws.MethodNodes, ...).
	Handlers map[string]ws.ClientHandler
	// Joined, if set, is told of every registration that was accepted.
	Joined func(ws.Registered)
}

// Uplink ships the daemon's journal to the coordinator and carries out its orders. The
// daemon works on without it.
type Uplink struct {
	d    *Daemon
	o    UplinkOptions
	log  *logrus.Entry
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	refusal  string // said once
	accepted ws.Registered
}

// Connect begins to look for the coordinator. Close it before the daemon.
func Connect(d *Daemon, o UplinkOptions) *Uplink {
	u := &Uplink{d: d, o: o, log: d.env.log.WithField("machine", d.opts.Machine), done: make(chan struct{})}
	u.ctx, u.stop = context.WithCancel(context.Background())
	go u.run()
	return u
}

// Close ends the connection.
func (u *Uplink) Close() {
	u.stop()
	<-u.done
}

func (u *Uplink) run() {
	defer close(u.done)
	lost := u.d.env.clock.Now()
	for u.ctx.Err() == nil {
		if u.connection() {
			lost = u.d.env.clock.Now()
		}
		u.sleep(pause(u.d.env.clock.Now().Sub(lost)))
	}
}

// pause before the next dial, so long after the loss.
func pause(lost time.Duration) time.Duration {
	switch {
	case lost < redialEager:
		return redialSoon
	case lost < redialPatience:
		return redialAfter
	}
	return min(redialMax, (lost-redialPatience)/10+redialAfter)
}

func (u *Uplink) sleep(d time.Duration) {
	woken := make(chan struct{})
	t := u.d.env.clock.AfterFunc(d, func() { close(woken) })
	defer t.Stop()
	select {
	case <-woken:
	case <-u.ctx.Done():
	}
}

// connection dials and serves one connection to its end; false if there was none.
func (u *Uplink) connection() bool {
	ctx, cancel := context.WithCancel(u.ctx)
	defer cancel()
	handlers := map[string]ws.ClientHandler{
		ws.MethodOrder: u.order,
		ws.MethodPing:  func(context.Context, json.RawMessage) (any, error) { return nil, nil },
	}
	for method, h := range u.o.Handlers {
		handlers[method] = h
	}
	conn, err := u.o.Dial(ctx, handlers)
	if err != nil {
		u.refused(err)
		return false
	}
	defer conn.Close()
	reg := u.o.Register
	reg.Machine, reg.Journal, reg.Head = u.d.opts.Machine, u.d.env.store.ID(), u.d.env.store.Head()
	var r ws.Registered
	if err := u.call(ctx, conn, ws.MethodRegister, reg, &r); err != nil {
		u.refused(err)
		return false
	}
	if err := u.d.acceptCoordinator(r.Coordinator, r.Epoch); err != nil {
		u.refused(err)
		return false
	}
	u.mu.Lock()
	u.accepted, u.refusal = r, ""
	u.mu.Unlock()
	u.log.Infof("connected to the coordinator (epoch %d); it knows %d of %d facts", r.Epoch, r.Cursor, reg.Head)
	if u.o.Joined != nil {
		u.o.Joined(r)
	}
	if err := u.ship(ctx, conn, r.Cursor); u.ctx.Err() == nil {
		u.log.Warnf("the connection to the coordinator is lost: %v", err)
	}
	return true
}

// refused says why there is no connection, once for every reason.
func (u *Uplink) refused(err error) {
	u.mu.Lock()
	again := u.refusal == err.Error()
	u.refusal = err.Error()
	u.mu.Unlock()
	if !again && u.ctx.Err() == nil {
		u.log.Warnf("no connection to the coordinator: %v; trying again", err)
	}
}

func (u *Uplink) call(ctx context.Context, conn CoordinatorConn, method string, params, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return conn.Call(ctx, method, params, out)
}

// ship sends every record after cursor, and then those that follow, until the connection
// ends.
func (u *Uplink) ship(ctx context.Context, conn CoordinatorConn, cursor uint64) error {
	var retained time.Time
	for {
		news := u.d.news() // taken first, so that nothing is missed
		next, err := u.shipFrom(ctx, conn, cursor)
		if err != nil {
			return err
		}
		if next > cursor {
			cursor = next
			continue
		}
		if now := u.d.env.clock.Now(); now.Sub(retained) > retainEvery {
			u.d.retain(cursor)
			retained = now
		}
		beat := make(chan struct{})
		t := u.d.env.clock.AfterFunc(HeartbeatEvery, func() { close(beat) })
		select {
		case <-news:
		case <-beat:
			err = u.call(ctx, conn, ws.MethodHeartbeat, struct{}{}, nil)
		case <-conn.Done():
			err = ws.ErrLost
		case <-ctx.Done():
			err = ctx.Err()
		}
		t.Stop()
		if err != nil {
			return err
		}
	}
}

// shipFrom sends one message of facts and returns the coordinator's new cursor.
func (u *Uplink) shipFrom(ctx context.Context, conn CoordinatorConn, cursor uint64) (uint64, error) {
	store := u.d.env.store
	msg := ws.Facts{Journal: store.ID()}
	bytes, next := 0, cursor+1
	for env, err := range store.ReadAll(ctx, cursor+1) {
		if err != nil {
			return cursor, fmt.Errorf("read the journal after %d: %w", cursor, err)
		}
		if env.Pos != next {
			if len(msg.Records) > 0 {
				break
			}
			return u.shipState(ctx, conn, cursor, env.Pos)
		}
		next++
		raw, err := json.Marshal(env)
		if err != nil {
			return cursor, fmt.Errorf("encode fact %d: %w", env.Pos, err)
		}
		msg.Records = append(msg.Records, raw)
		if bytes += len(raw); len(msg.Records) == maxFacts || bytes > maxFactBytes {
			break
		}
	}
	if len(msg.Records) == 0 {
		return cursor, nil
	}
	var stored ws.FactsStored
	if err := u.call(ctx, conn, ws.MethodFacts, msg, &stored); err != nil {
		return cursor, err
	}
	return stored.Cursor, nil
}

// shipState sends all that is known in place of the facts between cursor and before.
func (u *Uplink) shipState(ctx context.Context, conn CoordinatorConn, cursor, before uint64) (uint64, error) {
	msg, err := u.d.stateRecord()
	if err != nil {
		return cursor, err
	}
	msg.After, msg.Through = cursor, before-1
	var stored ws.FactsStored
	if err := u.call(ctx, conn, ws.MethodState, msg, &stored); err != nil {
		return cursor, err
	}
	return stored.Cursor, nil
}

// order carries one order out. What it answers with nil is journaled.
func (u *Uplink) order(ctx context.Context, raw json.RawMessage) (any, error) {
	var o ws.Order
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, ws.Errorf(ws.CodeBadRequest, "an order that cannot be read: %v", err)
	}
	if err := u.d.obeys(o.Coordinator, o.Epoch); err != nil {
		return nil, err
	}
	return nil, orderError(u.d.carryOut(ctx, o))
}

// carryOut is the daemon's method for an order.
func (d *Daemon) carryOut(ctx context.Context, o ws.Order) error {
	key := orderKey(o.Coordinator, o.Number)
	switch {
	case o.Start != nil:
		return d.startOrdered(ctx, o.Dataflow, key, o.Start)
	case o.Stop != nil:
		return d.Stop(ctx, o.Dataflow, StopRequest{Cause: o.Stop.Cause, Grace: o.Stop.Grace, Force: o.Stop.Force, Order: key})
	case o.NodeStop != nil:
		n := o.NodeStop
		if n.Grace <= 0 && n.Restart {
			n.Grace = DefaultRestartGrace
		} else if n.Grace <= 0 {
			n.Grace = DefaultStopGrace
		}
		return d.orderNode(ctx, o.Dataflow, n.Node, events.NodeStopRequested{Restart: n.Restart, Grace: n.Grace, Force: n.Force}, key)
	case o.SetParam != nil:
		return d.SetParam(ctx, o.Dataflow, o.SetParam.Node, o.SetParam.Key, o.SetParam.Value, key)
	case o.DeleteParam != nil:
		return d.DeleteParam(ctx, o.Dataflow, o.DeleteParam.Node, o.DeleteParam.Key, key)
	}
	return ws.Errorf(ws.CodeUnknownMethod, "this daemon does not know the order")
}

// Codes of refused orders and commands.
const (
	CodeUnknownDataflow = "unknown_dataflow"
	CodeUnknownNode     = "unknown_node"
	CodeNameTaken       = "name_taken"
	CodeEnded           = "ended"
	CodeNotOwned        = "not_owned"
	CodeBusy            = "busy"
	CodeInvalid         = "invalid"
	CodeAmbiguous       = "ambiguous"
	CodeAway            = "away" // the daemon that is needed is not connected
	CodeRefused         = "refused"
)

var errorCodes = []struct {
	err  error
	code string
}{
	{ErrUnknownDataflow, CodeUnknownDataflow}, {ErrUnknownNode, CodeUnknownNode}, {ErrNameTaken, CodeNameTaken},
	{ErrEnded, CodeEnded}, {ErrNotOwned, CodeNotOwned}, {ErrBusy, CodeBusy}, {ErrParam, CodeInvalid}, {ErrAway, CodeAway}, {ErrAmbiguous, CodeAmbiguous},
}

// orderError gives an error its code. The end of a context or of the daemon is no
// refusal: the order comes again.
func orderError(err error) error {
	var coded *ws.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrClosed) {
		return ws.Errorf(ws.CodeStale, "%v", err)
	}
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			return ws.Errorf(e.code, "%v", err)
		}
	}
	return ws.Errorf(CodeRefused, "%v", err)
}
