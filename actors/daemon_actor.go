package actors

import (
	"fmt"
	"strings"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/dora-go/dora/events"
)

type (
	// beginFlow starts the actor of a dataflow.
	beginFlow struct{ f *flow }
	// pingMsg is answered when everything before it was worked off.
	pingMsg struct{ answer chan<- error }
)

// daemonActor is the root: the parent of the dataflows' actors.
type daemonActor struct{ d *Daemon }

const flowPrefix = "flow-"

// Receive implements actor.Actor.
func (a *daemonActor) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		for _, f := range a.d.live() {
			a.spawn(ctx, f)
		}
	case beginFlow:
		if err := a.spawn(ctx, m.f); err != nil {
			a.d.forget(m.f)
			m.f.create.reply(err)
		}
	case pingMsg:
		m.answer <- nil
	}
}

func (a *daemonActor) spawn(ctx actor.Context, f *flow) error {
	d := a.d
	props := actor.PropsFromProducer(
		func() actor.Actor { return guarded(d.env, newFlowActor(f).Receive) },
		actor.WithSupervisor(&supervisor{env: d.env, giveUp: func(child *actor.PID, reason any) {
			node := child.Id[strings.LastIndex(child.Id, "/node-")+len("/node-"):]
			d.tell(f.flowPID(), nodeBroken{node: node, reason: reason})
		}}))
	pid, err := ctx.SpawnNamed(props, flowPrefix+f.uuid)
	if err != nil {
		return fmt.Errorf("start the actor of dataflow %s: %w", f.uuid, err)
	}
	f.mu.Lock()
	f.pid = pid
	f.mu.Unlock()
	return nil
}

func (f *flow) flowPID() *actor.PID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pid
}

// live are the dataflows that have not ended, or whose shim may not have.
func (d *Daemon) live() []*flow {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*flow
	for _, uuid := range d.order {
		if f := d.flows[uuid]; !isClosed(f.gone) {
			out = append(out, f)
		}
	}
	return out
}

// flowBroken ends a dataflow whose actor was given up. That actor is suspended for good,
// so that this is now the only writer of its stream.
func (d *Daemon) flowBroken(child *actor.PID, reason any) {
	uuid := child.Id[strings.LastIndex(child.Id, flowPrefix)+len(flowPrefix):]
	f, err := d.find(uuid)
	if err != nil {
		return
	}
	text := fmt.Sprintf("internal error: the control of the dataflow failed repeatedly: %v", reason)
	f.mu.Lock()
	s := f.state
	f.mu.Unlock()
	if s.Finished == nil {
		end := record{At: d.env.clock.Now(), Event: events.DataflowFinished{
			Status: statusFailed, Failures: []events.NodeFailure{{Error: text}},
		}}
		led := ledger{env: d.env, stream: events.DataflowStream(uuid)}
		led.version, err = d.env.store.Version(led.stream)
		if err == nil {
			_, err = led.write([]record{end}, false)
		}
		if err != nil {
			d.env.log.WithField("dataflow", uuid).Errorf("its end could not be recorded: %v", err)
		}
		s = s.apply(end)
	}
	f.sendEnd(d.env.clock.Now())
	f.endShim(d.env.clock.Now(), "")
	f.publishFlow(s)
	f.markGone()
}
