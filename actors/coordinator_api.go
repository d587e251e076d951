package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
)

// WantRequest orders a dataflow. Path, WorkingDir and LogDir are absolute, on the machine
// that runs it; LogDir may hold "{uuid}".
type WantRequest struct {
	// UUID is made if empty. A request with the UUID of an earlier one is that one: so a
	// client that lost the answer may ask again.
	UUID, Name            string
	Text                  string // YAML
	Path, WorkingDir      string
	LogDir                string
	Env                   []string
	AllowShell, UV, Debug bool
	ExitWhenNodesFinish   *bool
	Command               string
	Asked                 *events.Asked
	replaces              string
	stopReplaced          *events.StopOrdered
	params                map[string]map[string]json.RawMessage
	machine               string
}

// uuidMark is replaced in a WantRequest's LogDir.
const uuidMark = "{uuid}"

// Start orders a dataflow. It returns its UUID when its daemon has accepted it. ErrAway: no
// daemon is there to run it, and nothing was ordered.
func (c *Coordinator) Start(ctx context.Context, r WantRequest) (string, error) {
	return c.start(ctx, r)
}

func (c *Coordinator) start(ctx context.Context, r WantRequest) (string, error) {
	done, err := c.admit()
	if err != nil {
		return "", err
	}
	defer done()
	if r.UUID == "" {
		r.UUID = c.opts.NewUUID()
	} else if known, err := c.startedBefore(ctx, r); known || err != nil {
		return r.UUID, err
	}
	e, err := c.orderOf(r)
	if err != nil {
		return "", err
	}
	if conn, _ := c.connOf(e.Machine); conn == nil {
		return "", c.awayError(e.Machine)
	}
	w := c.newWant(r.UUID, r.Name)
	if err := c.register(w, r.replaces); err != nil {
		return "", err
	}
	if c.opts.Vault != nil {
		if err := c.opts.Vault.Keep(r.UUID, r.Env); err != nil {
			c.forget(w)
			return "", fmt.Errorf("dataflow %s cannot be started: its environment cannot be kept: %w", r.UUID, err)
		}
	}
	recorded, settled := make(chan error, 1), make(chan error, 1)
	c.tell(c.root, beginWant{w, &creationOrder{event: e,
		reply: func(_ uint64, err error) { recorded <- err }, settled: func(err error) { settled <- err }}})
	if err := await(ctx, recorded, nil); err != nil {
		return "", err
	}
	return r.UUID, c.awaitSettled(ctx, settled)
}

// startedBefore waits for the outcome of an earlier request with this UUID.
func (c *Coordinator) startedBefore(ctx context.Context, r WantRequest) (bool, error) {
	w, err := c.find(r.UUID)
	if err != nil {
		return false, nil
	}
	for {
		s, v := w.get()
		switch {
		case s.Ordered.Descriptor != r.Text || s.Ordered.Name != r.Name:
			return true, fmt.Errorf("dataflow %s: %w by another one", r.UUID, ErrNameTaken)
		case s.Refused != "":
			return true, errors.New(s.Refused)
		case v.reported():
			return true, nil
		}
		if err := c.sleep(ctx, 50*time.Millisecond); err != nil {
			return true, err
		}
	}
}

// awaitSettled waits for the outcome of an order.
func (c *Coordinator) awaitSettled(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return ErrClosed
	}
}

func (c *Coordinator) sleep(ctx context.Context, d time.Duration) error {
	woken := make(chan struct{})
	t := c.env.clock.AfterFunc(d, func() { close(woken) })
	defer t.Stop()
	select {
	case <-woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// orderOf checks a request and makes the event of it.
func (c *Coordinator) orderOf(r WantRequest) (events.DataflowOrdered, error) {
	desc, diags := dataflow.Parse(r.Path, []byte(r.Text))
	if err := diags.Err(); err != nil {
		return events.DataflowOrdered{}, err
	}
	if strings.ContainsAny(r.UUID, "/\x00") {
		return events.DataflowOrdered{}, fmt.Errorf("%q is no UUID of a dataflow", r.UUID)
	}
	e := events.DataflowOrdered{
		UUID: r.UUID, Name: r.Name, Path: r.Path, WorkingDir: r.WorkingDir, LogDir: strings.ReplaceAll(r.LogDir, uuidMark, r.UUID),
		Descriptor: r.Text, Nodes: []string{}, Command: r.Command, AllowShell: r.AllowShell, UV: r.UV, Debug: r.Debug,
		ExitWhenNodesFinish: r.ExitWhenNodesFinish, Params: r.params, Replaces: r.replaces, StopReplaced: r.stopReplaced, Machine: r.machine, Asked: r.Asked,
	}
	for _, n := range desc.Nodes {
		e.Nodes = append(e.Nodes, n.ID)
	}
	for _, entry := range r.Env {
		if name, _, ok := strings.Cut(entry, "="); ok {
			e.EnvNames = append(e.EnvNames, name)
		}
	}
	slices.Sort(e.EnvNames)
	var err error
	if e.Machine == "" {
		e.Machine, err = c.place(desc)
	}
	return e, err
}

// place says on which machine a dataflow runs.
func (c *Coordinator) place(d *dataflow.Descriptor) (string, error) {
	wanted := map[string]string{} // machine -> a node that wants it
	for _, n := range d.Nodes {
		machine := ""
		if n.Deploy != nil {
			machine = n.Deploy.Machine
		}
		if _, known := wanted[machine]; !known {
			wanted[machine] = n.ID
		}
	}
	if len(wanted) > 1 {
		machines := slices.Sorted(maps.Keys(wanted))
		return "", fmt.Errorf("its nodes want to run on different machines (node %s on %q, node %s on %q), which this version of dora cannot do",
			wanted[machines[0]], machines[0], wanted[machines[1]], machines[1])
	}
	for machine, node := range wanted {
		if machine == "" {
			continue
		}
		if conn, _ := c.connOf(machine); conn == nil {
			return "", fmt.Errorf("no matching daemon for machine id %q, which node %s wants: %w%s", machine, node, ErrAway, c.connectedText())
		}
		return machine, nil
	}
	for _, d := range c.Daemons() {
		if d.Connected {
			return d.Machine, nil
		}
	}
	return "", fmt.Errorf("no daemon is connected to run it: %w; start one with `dora daemon` or `dora up`", ErrAway)
}

func (c *Coordinator) awayError(machine string) error {
	return fmt.Errorf("the daemon of machine %q is needed: %w%s", machine, ErrAway, c.connectedText())
}

func (c *Coordinator) connectedText() string {
	var ids []string
	for _, d := range c.Daemons() {
		if d.Connected {
			ids = append(ids, d.Machine)
		}
	}
	if len(ids) == 0 {
		return "; no daemon is: start it with `dora daemon` or `dora up`"
	}
	return "; connected are: " + shortList(ids)
}

// Delivery says what became of an order that was recorded.
type Delivery struct {
	// Delivered: its daemon has accepted it. Otherwise the daemon is away, and gets it
	// when it is back.
	Delivered bool
	// Machine whose daemon it is.
	Machine string
}

// issue records an order and waits for its daemon's answer, if it is there.
func (c *Coordinator) issue(ctx context.Context, uuid string, e events.Event) (Delivery, error) {
	done, err := c.admit()
	if err != nil {
		return Delivery{}, err
	}
	defer done()
	w, err := c.find(uuid)
	if err != nil {
		return Delivery{}, err
	}
	recorded, settled := make(chan error, 1), make(chan error, 1)
	c.tell(w.pidOf(), orderMsg{event: e, recorded: func(_ uint64, err error) { recorded <- err }, settled: func(err error) { settled <- err }})
	if err := await(ctx, recorded, nil); err != nil {
		return Delivery{}, err
	}
	s, _ := w.get()
	d := Delivery{Machine: s.Ordered.Machine}
	for {
		conn, _ := c.connOf(d.Machine)
		if conn == nil {
			return d, nil
		}
		wait, cancel := context.WithTimeout(ctx, time.Second)
		err := c.awaitSettled(wait, settled)
		cancel()
		switch {
		case err == nil:
			d.Delivered = true
			return d, nil
		case ctx.Err() != nil:
			return d, nil
		case !errors.Is(err, context.DeadlineExceeded):
			return d, err
		}
	}
}

// Stop orders the end of a dataflow. It returns when that is recorded and its daemon has
// accepted it, or is away; see Wait.
func (c *Coordinator) Stop(ctx context.Context, uuid string, r StopRequest) (Delivery, error) {
	if r.Grace <= 0 {
		r.Grace = DefaultStopGrace
	}
	if r.Cause == "" {
		r.Cause = "stop"
	}
	return c.issue(ctx, uuid, events.StopOrdered{Cause: r.Cause, Grace: r.Grace, Force: r.Force, Asked: r.Asked})
}

// StopNode orders the end of one node, or its restart.
func (c *Coordinator) StopNode(ctx context.Context, uuid string, e events.NodeStopOrdered) (Delivery, error) {
	if err := c.checkNode(uuid, e.Node); err != nil {
		return Delivery{}, err
	}
	return c.issue(ctx, uuid, e)
}

func (c *Coordinator) checkNode(uuid, node string) error {
	w, err := c.find(uuid)
	if err != nil {
		return err
	}
	s, _ := w.get()
	if slices.Contains(s.Ordered.Nodes, node) {
		return nil
	}
	hint := ""
	if near := dataflow.Nearest(node, s.Ordered.Nodes); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	return fmt.Errorf("node %q of dataflow %s: %w; available nodes: %s%s", node, uuid, ErrUnknownNode, shortList(s.Ordered.Nodes), hint)
}

// SetParam gives a parameter of a node a value. It is kept, delivered to the node while it
// runs and after every restart of it, and carried over when the dataflow is restarted.
func (c *Coordinator) SetParam(ctx context.Context, uuid, node, key string, value json.RawMessage) (Delivery, error) {
	if err := c.checkNode(uuid, node); err != nil {
		return Delivery{}, err
	}
	if value == nil {
		value = json.RawMessage("null")
	}
	if err := CheckParam(key, value); err != nil {
		return Delivery{}, err
	}
	return c.issue(ctx, uuid, events.ParamOrdered{Node: node, Key: key, Value: value})
}

// DeleteParam removes a parameter; existed says whether there was one.
func (c *Coordinator) DeleteParam(ctx context.Context, uuid, node, key string) (existed bool, d Delivery, err error) {
	params, err := c.Params(uuid, node)
	if err != nil {
		return false, d, err
	}
	if _, existed = params[key]; !existed {
		return false, d, nil
	}
	d, err = c.issue(ctx, uuid, events.ParamDeleteOrdered{Node: node, Key: key})
	return true, d, err
}

// Params are the parameters of a node. The map must not be changed.
func (c *Coordinator) Params(uuid, node string) (map[string]json.RawMessage, error) {
	if err := c.checkNode(uuid, node); err != nil {
		return nil, err
	}
	w, err := c.find(uuid)
	if err != nil {
		return nil, err
	}
	s, _ := w.get()
	return s.Params[node], nil
}

// Restart orders a dataflow anew, from what is known of it, and the end of the old one;
// the new one begins when the old one is over. Params go with it. env is used if the old
// environment is not known any more. It returns when the new one is accepted.
func (c *Coordinator) Restart(ctx context.Context, uuid string, stop StopRequest, env []string) (string, error) {
	old, err := c.find(uuid)
	if err != nil {
		return "", err
	}
	s, v := old.get()
	if s.over(v) {
		status, _ := s.status(v)
		return "", fmt.Errorf("dataflow %s %w (%s): only a running dataflow can be restarted", uuid, ErrEnded, status)
	}
	o := s.Ordered
	if kept, err := c.environmentOf(uuid); err == nil && kept != nil {
		env = kept
	}
	r := WantRequest{
		UUID: c.opts.NewUUID(), Name: o.Name, Text: o.Descriptor, Path: o.Path, WorkingDir: o.WorkingDir,
		LogDir: strings.ReplaceAll(o.LogDir, uuid, uuidMark), Env: env, AllowShell: o.AllowShell, UV: o.UV, Debug: o.Debug,
		ExitWhenNodesFinish: o.ExitWhenNodesFinish, Command: "restart", replaces: uuid, params: s.Params, machine: o.Machine, Asked: stop.Asked,
	}
	if conn, _ := c.connOf(o.Machine); conn == nil {
		return "", c.awayError(o.Machine)
	}
	if stop.Grace <= 0 {
		stop.Grace = DefaultStopGrace
	}
	r.stopReplaced = &events.StopOrdered{Cause: "restart", Grace: stop.Grace, Force: stop.Force}
	return c.start(ctx, r)
}

// Wait waits until a dataflow is over.
func (c *Coordinator) Wait(ctx context.Context, uuid string) (Result, error) {
	w, err := c.find(uuid)
	if err != nil {
		return Result{}, err
	}
	select {
	case <-w.ended:
		return w.result(), nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-c.ctx.Done():
		return Result{}, ErrClosed
	}
}

func (w *want) result() Result {
	s, v := w.get()
	r := Result{
		UUID: w.uuid, Name: s.Ordered.Name, Status: statusFailed, CreatedAt: s.OrderedAt,
		StartedAt: v.Flow.StartedAt, FinishedAt: v.Flow.FinishedAt,
	}
	if s.Stop != nil {
		r.StopCause = s.Stop.Cause
	} else if v.Flow.Stop != nil {
		r.StopCause = v.Flow.Stop.Cause
	}
	if v.Flow.Finished == nil {
		r.Failures, r.FinishedAt = []events.NodeFailure{{Error: s.Refused}}, s.RefusedAt
		return r
	}
	r.Status, r.Failures = v.Flow.Finished.Status, v.Flow.Finished.Failures
	for _, id := range s.Ordered.Nodes {
		if n := v.node(id); n.Status == statusStopped && n.Error != "" {
			r.Killed = append(r.Killed, id)
		}
	}
	return r
}
