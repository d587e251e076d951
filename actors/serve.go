package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
)

// Serve registers the coordinator's methods with a server: those of the command line
// (transport/ws/control.go) and those of daemons (transport/ws/daemon.go). A new method is
// a name and two types there, a handler here, and a command that calls it.
func (c *Coordinator) Serve(s *ws.Server) {
	handle(s, ws.MethodList, func(ctx context.Context, q ws.ListQuery) (any, error) {
		if !q.At.IsZero() {
			return c.ListAt(ctx, q.At)
		}
		return c.List(ctx, q.Brief), nil
	})
	handle(s, ws.MethodEvents, func(ctx context.Context, q ws.EventsQuery) (any, error) { return c.Events(ctx, q) })
	handle(s, ws.MethodNodes, c.serveNodes)
	handle(s, ws.MethodStart, func(ctx context.Context, p ws.Start) (any, error) {
		asked, err := askedBy(p.Asked)
		if err != nil {
			return nil, err
		}
		uuid, err := c.Start(ctx, WantRequest{
			UUID: p.UUID, Name: p.Name, Text: p.Descriptor, Path: p.Path, WorkingDir: p.WorkingDir, LogDir: p.LogDir, Env: p.Env,
			AllowShell: p.AllowShell, UV: p.UV, Debug: p.Debug, ExitWhenNodesFinish: p.ExitWhenNodesFinish, Command: "start", Asked: asked,
		})
		return ws.Started{UUID: uuid}, err
	})
	handle(s, ws.MethodResolve, func(_ context.Context, p ws.DataflowRef) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		return ws.Started{UUID: uuid}, err
	})
	handle(s, ws.MethodStop, func(ctx context.Context, p ws.Stop) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		asked, err := askedBy(p.Asked)
		if err != nil {
			return nil, err
		}
		d, err := c.Stop(ctx, uuid, StopRequest{Cause: p.Cause, Grace: p.Grace, Force: p.Force, Asked: asked})
		return ordered(uuid, d), err
	})
	handle(s, ws.MethodRestart, func(ctx context.Context, p ws.Restart) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		asked, err := askedBy(p.Asked)
		if err != nil {
			return nil, err
		}
		next, err := c.Restart(ctx, uuid, StopRequest{Grace: p.Grace, Force: p.Force, Asked: asked}, p.Env)
		return ws.Restarted{Old: uuid, New: next}, err
	})
	handle(s, ws.MethodWait, func(ctx context.Context, p ws.DataflowRef) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		r, err := c.Wait(ctx, uuid)
		return wireResult(r), err
	})
	handle(s, ws.MethodNodeStop, func(ctx context.Context, p ws.NodeStop) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		asked, err := askedBy(p.Asked)
		if err != nil {
			return nil, err
		}
		d, err := c.StopNode(ctx, uuid, events.NodeStopOrdered{Node: p.Node, Restart: p.Restart, Grace: p.Grace, Force: p.Force, Asked: asked})
		return ordered(uuid, d), err
	})
	handle(s, ws.MethodTraces, func(ctx context.Context, q ws.TracesQuery) (any, error) { return c.Traces(ctx, q.Prefix) })
	handle(s, ws.MethodLogs, c.serveLogs)
	handle(s, ws.MethodReload, c.serveReload)
	c.serveParams(s)
	handle(s, ws.MethodDaemons, func(ctx context.Context, q ws.DaemonsQuery) (any, error) { return c.wireDaemons(ctx, q.Ping), nil })
	c.serveDaemons(s)
}

func (c *Coordinator) serveParams(s *ws.Server) {
	handle(s, ws.MethodParams, func(_ context.Context, p ws.DataflowRef) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		params, err := c.Params(uuid, p.Node)
		if params == nil {
			params = map[string]json.RawMessage{}
		}
		return params, err
	})
	handle(s, ws.MethodParamSet, func(ctx context.Context, p ws.Param) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		d, err := c.SetParam(ctx, uuid, p.Node, p.Key, p.Value)
		return ordered(uuid, d), err
	})
	handle(s, ws.MethodParamDelete, func(ctx context.Context, p ws.Param) (any, error) {
		uuid, err := c.Resolve(p.Dataflow)
		if err != nil {
			return nil, err
		}
		existed, d, err := c.DeleteParam(ctx, uuid, p.Node, p.Key)
		return ws.ParamDeleted{Existed: existed, Ordered: ordered(uuid, d)}, err
	})
}

// handle registers a method whose parameters are a P.
func handle[P any](s *ws.Server, method string, h func(context.Context, P) (any, error)) {
	s.Handle(method, func(ctx context.Context, _ *ws.Session, raw json.RawMessage) (any, error) {
		p, err := params[P](method, raw)
		if err != nil {
			return nil, err
		}
		out, err := h(ctx, p)
		return out, orderError(err)
	})
}

func params[P any](method string, raw json.RawMessage) (p P, err error) {
	if len(raw) == 0 {
		return p, nil
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, ws.Errorf(ws.CodeBadRequest, "parameters of %s: %v", method, err)
	}
	return p, nil
}

// maxAsked bounds the name of a command: the longest of ours has 12 bytes.
const maxAsked = 64

// askedBy is the command that a request is made for.
func askedBy(a *ws.Asked) (*events.Asked, error) {
	switch {
	case a == nil:
		return nil, nil
	case a.Command == "" || len(a.Command) > maxAsked || a.At.IsZero() || a.PID < 0:
		return nil, ws.Errorf(ws.CodeBadRequest, "asked: expected the name of a command (1 to %d bytes), the time at which it began, and its process id", maxAsked)
	}
	return &events.Asked{Command: a.Command, PID: a.PID, At: a.At}, nil
}

func ordered(uuid string, d Delivery) ws.Ordered {
	return ws.Ordered{UUID: uuid, Machine: d.Machine, Delivered: d.Delivered}
}

// serveDaemons has the methods of daemons. A connection is a daemon's once it registered.
func (c *Coordinator) serveDaemons(s *ws.Server) {
	var mu sync.Mutex
	machines := map[*ws.Session]string{}
	machineOf := func(sess *ws.Session) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if m, ok := machines[sess]; ok {
			return m, nil
		}
		return "", ws.Errorf(ws.CodeBadRequest, "this connection has not registered as a daemon")
	}
	s.Handle(ws.MethodRegister, func(ctx context.Context, sess *ws.Session, raw json.RawMessage) (any, error) {
		reg, err := params[ws.Register](ws.MethodRegister, raw)
		if err != nil {
			return nil, err
		}
		mu.Lock()
		_, again := machines[sess]
		machines[sess] = reg.Machine
		mu.Unlock()
		if again {
			return nil, ws.Errorf(ws.CodeBadRequest, "a connection registers once")
		}
		sess.OnClose(func() {
			mu.Lock()
			delete(machines, sess)
			mu.Unlock()
			c.Detach(sess, reg.Machine)
		})
		return c.Register(ctx, sess, reg, sess.Client.Version, sess.Remote)
	})
	s.Handle(ws.MethodFacts, func(ctx context.Context, sess *ws.Session, raw json.RawMessage) (any, error) {
		machine, err := machineOf(sess)
		if err != nil {
			return nil, err
		}
		f, err := params[ws.Facts](ws.MethodFacts, raw)
		if err != nil {
			return nil, err
		}
		return c.TakeFacts(ctx, sess, machine, &f)
	})
	s.Handle(ws.MethodState, func(ctx context.Context, sess *ws.Session, raw json.RawMessage) (any, error) {
		machine, err := machineOf(sess)
		if err != nil {
			return nil, err
		}
		st, err := params[ws.State](ws.MethodState, raw)
		if err != nil {
			return nil, err
		}
		return c.TakeState(ctx, sess, machine, &st)
	})
	s.Handle(ws.MethodHeartbeat, func(_ context.Context, sess *ws.Session, _ json.RawMessage) (any, error) {
		machine, err := machineOf(sess)
		if err == nil {
			c.Heard(machine)
		}
		return nil, err
	})
}

// usagePatience is how long a list waits for numbers that only daemons have.
const usagePatience = time.Second

// List are all dataflows, the oldest first; unless brief, with what daemons can measure.
func (c *Coordinator) List(ctx context.Context, brief bool) []ws.Dataflow {
	var usage map[string]ws.Dataflow
	if !brief {
		usage = c.usage(ctx)
	}
	out := []ws.Dataflow{}
	for _, w := range c.all() {
		s, v := w.get()
		if s.OrderedAt.IsZero() {
			continue // not recorded yet
		}
		d := flowRow(w.uuid, s, v)
		d.Note = c.note(s, v)
		if u, ok := usage[w.uuid]; ok && w.live() {
			d.CPU, d.MemoryMB = u.CPU, u.MemoryMB
		}
		out = append(out, d)
	}
	return out
}

// note says what is not as it should be with a dataflow that lives.
func (c *Coordinator) note(s wantState, v view) string {
	if s.over(v) {
		return ""
	}
	c.mu.Lock()
	r := c.remotes[s.Ordered.Machine]
	c.mu.Unlock()
	if r == nil {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.conn == nil && !r.seen:
		return fmt.Sprintf("waiting for the daemon of machine %s since %s", r.machine, r.since.Format(time.DateTime))
	case r.conn == nil:
		return fmt.Sprintf("the daemon of machine %s is away since %s", r.machine, r.since.Format(time.DateTime))
	case r.cursor < r.reg.Head:
		return fmt.Sprintf("%d facts of machine %s are on their way", r.reg.Head-r.cursor, r.machine)
	}
	return ""
}

// usage asks all daemons at once what their dataflows need.
func (c *Coordinator) usage(ctx context.Context) map[string]ws.Dataflow {
	nodes, _ := c.liveNodes(ctx, "", "")
	out := map[string]ws.Dataflow{}
	for _, n := range nodes {
		d := out[n.DataflowUUID]
		d.CPU += n.Metrics.CPUUsage
		d.MemoryMB += n.Metrics.MemoryMB
		out[n.DataflowUUID] = d
	}
	return out
}

// liveNodes asks daemons for nodes with live numbers; those of one machine, or of all.
func (c *Coordinator) liveNodes(ctx context.Context, machine, uuid string) ([]ws.Node, bool) {
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	live := map[string]bool{}
	for _, w := range c.all() {
		if s, _ := w.get(); w.live() {
			live[s.Ordered.Machine] = true
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var out []ws.Node
	answered := false
	for _, r := range c.allRemotes() {
		conn, _ := r.connected()
		if conn == nil || !live[r.machine] || machine != "" && r.machine != machine {
			continue
		}
		wg.Go(func() {
			var nodes []ws.Node
			if err := conn.Call(ctx, ws.MethodNodes, ws.NodesQuery{Dataflow: uuid}, &nodes); err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out, answered = append(out, nodes...), true
		})
	}
	wg.Wait()
	return out, answered
}

// serveNodes lists the nodes of a dataflow ("": of all that live): from its daemon, or as
// they were last known.
func (c *Coordinator) serveNodes(ctx context.Context, q ws.NodesQuery) (any, error) {
	if !q.At.IsZero() {
		return c.nodesAt(ctx, q.Dataflow, q.At)
	}
	out := []ws.Node{}
	var wants []*want
	if q.Dataflow == "" {
		for _, w := range c.all() {
			if w.live() {
				wants = append(wants, w)
			}
		}
	} else {
		uuid, err := c.Resolve(q.Dataflow)
		if err != nil {
			return nil, err
		}
		w, err := c.find(uuid)
		if err != nil {
			return nil, err
		}
		wants = append(wants, w)
	}
	if len(wants) == 0 {
		return out, nil
	}
	only, machine := "", ""
	if q.Dataflow != "" {
		s, _ := wants[0].get()
		only, machine = wants[0].uuid, s.Ordered.Machine
	}
	live, _ := c.liveNodes(ctx, machine, only)
	byFlow := map[string][]ws.Node{}
	for _, n := range live {
		byFlow[n.DataflowUUID] = append(byFlow[n.DataflowUUID], n)
	}
	for _, w := range wants {
		if nodes, ok := byFlow[w.uuid]; ok && w.live() {
			out = append(out, nodes...)
		} else {
			out = append(out, w.lastKnown(c)...)
		}
	}
	return out, nil
}

// serveLogs hands the question to the daemon whose machine has the files.
func (c *Coordinator) serveLogs(ctx context.Context, q ws.LogsQuery) (any, error) {
	var page json.RawMessage
	err := c.askDaemonOf(ctx, &q.Dataflow, ws.MethodLogs, &q, &page)
	return page, err
}

// serveReload hands an operator's reload to the daemon whose machine runs it.
func (c *Coordinator) serveReload(ctx context.Context, q ws.Reload) (any, error) {
	return nil, c.askDaemonOf(ctx, &q.Dataflow, ws.MethodReload, &q, nil)
}

// askDaemonOf resolves the dataflow of a question, in place, and hands the question to the
// daemon that has it.
func (c *Coordinator) askDaemonOf(ctx context.Context, dataflow *string, method string, q, out any) error {
	uuid, err := c.Resolve(*dataflow)
	if err != nil {
		return err
	}
	w, err := c.find(uuid)
	if err != nil {
		return err
	}
	s, _ := w.get()
	conn, _ := c.connOf(s.Ordered.Machine)
	if conn == nil {
		return c.awayError(s.Ordered.Machine)
	}
	*dataflow = uuid
	if err := conn.Call(ctx, method, q, out); err != nil {
		if errors.Is(err, ws.ErrLost) {
			return c.awayError(s.Ordered.Machine)
		}
		return err
	}
	return nil
}

// lastKnown are the nodes as the facts tell.
func (w *want) lastKnown(c *Coordinator) []ws.Node {
	s, v := w.get()
	return knownNodes(w.uuid, s, v, c.note(s, v))
}

func (c *Coordinator) wireDaemons(ctx context.Context, ping bool) []ws.Daemon {
	out := []ws.Daemon{}
	silent := map[string]bool{}
	if ping {
		silent = c.silentMachines(ctx)
	}
	for _, d := range c.Daemons() {
		d.Connected = d.Connected && !silent[d.Machine]
		out = append(out, ws.Daemon{
			Machine: d.Machine, Journal: d.Journal, Version: d.Version, PID: d.PID, Host: d.Host, Home: d.Home,
			Address: d.Address, Connected: d.Connected, Since: wireTime(d.Since), Heard: wireTime(d.Heard), Behind: d.Behind,
		})
	}
	return out
}

// silentMachines are those whose daemon is connected and does not answer.
func (c *Coordinator) silentMachines(ctx context.Context) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, usagePatience)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	silent := map[string]bool{}
	for _, r := range c.allRemotes() {
		conn, _ := r.connected()
		if conn == nil {
			continue
		}
		wg.Go(func() {
			if err := conn.Call(ctx, ws.MethodPing, struct{}{}, nil); err != nil {
				mu.Lock()
				defer mu.Unlock()
				silent[r.machine] = true
			}
		})
	}
	wg.Wait()
	return silent
}

// EndDaemons has every connected daemon end. It returns when all have answered.
func (c *Coordinator) EndDaemons(ctx context.Context) error {
	var errs []error
	for _, r := range c.allRemotes() {
		conn, _ := r.connected()
		if conn == nil {
			continue
		}
		if err := conn.Call(ctx, ws.MethodEnd, struct{}{}, nil); err != nil && !errors.Is(err, ws.ErrLost) {
			errs = append(errs, fmt.Errorf("daemon of machine %s: %w", r.machine, err))
		}
	}
	return errors.Join(errs...)
}
