package actors

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// finish heals everything, lets it come to rest, and checks what must hold.
func (cl *cluster) finish(ctx context.Context) {
	t := cl.t
	cl.mu.Lock()
	cl.faulty = false
	cl.mu.Unlock()
	time.Sleep(3 * time.Minute) // longer than every deadline and back-off
	c := cl.coordinator()
	for _, m := range cl.machines {
		cl.check(c, m)
	}
	for _, m := range cl.machines {
		if _, err := c.find(m.w.flow); err != nil {
			continue
		}
		if _, err := c.Stop(ctx, m.w.flow, StopRequest{Grace: time.Second}); err != nil && !errors.Is(err, ErrEnded) {
			t.Errorf("stop of %s: %v", m.w.flow, err)
		}
		wait, cancel := context.WithTimeout(ctx, 10*time.Minute)
		if _, err := c.Wait(wait, m.w.flow); err != nil {
			w, _ := c.find(m.w.flow)
			s, v := w.get()
			t.Errorf("%s does not end: %v; wanted %+v, seen %s", m.w.flow, err, s, asJSON(t, v))
		}
		cancel()
	}
	time.Sleep(time.Minute)
	for _, m := range cl.machines {
		cl.checkFacts(m)
		m.up.Close()
		if err := m.d.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		m.w.mu.Lock()
		for _, text := range m.w.broken {
			t.Errorf("machine %s: %s", m.w.machine, text)
		}
		m.w.mu.Unlock()
	}
	if err := c.Close(); err != nil {
		t.Errorf("close the coordinator: %v", err)
	}
	time.Sleep(time.Minute)
}

// check compares what the coordinator shows of a machine with what its daemon has.
func (cl *cluster) check(c *Coordinator, m *simMachine) {
	t := cl.t
	f, err := m.d.find(m.w.flow)
	if err != nil {
		w, werr := c.find(m.w.flow)
		if werr != nil {
			return
		}
		// Ordered, and never accepted: then it must have been refused.
		if s, _ := w.get(); s.Refused == "" {
			t.Errorf("%s was ordered (%+v), its daemon does not know it", m.w.flow, s)
		}
		return
	}
	w, err := c.find(m.w.flow)
	if err != nil {
		t.Errorf("%s runs, the coordinator does not know it", m.w.flow)
		return
	}
	s, v := w.get()
	// What the daemon holds back (a crash loop) is not shown yet.
	durable := newProjection(m.w.machine)
	for env, err := range m.w.disk.ReadAll(context.Background(), 1) {
		if err == nil {
			_, err = durable.apply(env)
		}
		if err != nil {
			t.Error(err)
		}
	}
	if got, want := asJSON(t, v), asJSON(t, durable.views[m.w.flow]); got != want {
		t.Errorf("the coordinator shows\n%s\nthe daemon recorded\n%s", got, want)
	}
	f.mu.Lock()
	params := f.state.Params
	over := f.state.Finished != nil
	f.mu.Unlock()
	if s.Missed != "" {
		t.Errorf("%s is there and counts as missed: %s", m.w.flow, s.Missed)
	}
	// A command that was answered is in force, unless all ended before.
	last := map[string]string{}
	for _, a := range cl.acked {
		if machine, rest, _ := strings.Cut(a, " "); machine == m.w.machine {
			if node, value, ok := strings.Cut(strings.TrimPrefix(rest, "param "), " "); ok && strings.HasPrefix(rest, "param ") {
				last[node] = value
			}
		}
	}
	for node, value := range last {
		if got := string(params[node]["k"].Value); got != value && !over && !cl.lostDisk && !cl.laterParam(m, node, value, got) {
			t.Errorf("%s: parameter of %s was answered with %s and is %s", m.w.flow, node, value, got)
		}
	}
}

// laterParam says that a change that was not answered came after the one that was.
func (cl *cluster) laterParam(m *simMachine, node, answered, got string) bool {
	at, after := 0, 0
	for i, env := range streamOn(cl.t, cl.disk, events.OrderStream(m.w.flow)) {
		var p events.ParamOrdered
		if env.Type != "ParamOrdered" || json.Unmarshal(env.Data, &p) != nil || p.Node != node {
			continue
		}
		switch string(p.Value) {
		case answered:
			at = i + 1
		case got:
			after = i + 1
		}
	}
	return at > 0 && after > at
}

func streamOn(t *testing.T, store *journal.Journal, stream string) []events.Envelope {
	var out []events.Envelope
	for env, err := range store.Read(context.Background(), stream, 1) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, env)
	}
	return out
}

// checkFacts: the coordinator has every record of the daemon once and in order; orders were
// carried out at most once; epochs of a coordinator never went back.
func (cl *cluster) checkFacts(m *simMachine) {
	t := cl.t
	var own []events.Envelope
	for env, err := range m.w.disk.ReadAll(context.Background(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		own = append(own, env)
	}
	var facts []events.Envelope
	for _, env := range streamOn(t, cl.disk, events.FactsStream(m.w.machine, m.w.disk.ID())) {
		e, err := events.Open(env)
		if err != nil {
			t.Fatal(err)
		}
		if f, ok := e.(events.FactReceived); ok {
			facts = append(facts, f.Envelope)
		}
	}
	if len(facts) != len(own) {
		t.Errorf("machine %s recorded %d facts, the coordinator has %d", m.w.machine, len(own), len(facts))
	}
	for i := range min(len(facts), len(own)) {
		if facts[i].Pos != own[i].Pos || facts[i].Stream != own[i].Stream || !bytes.Equal(facts[i].Data, own[i].Data) {
			t.Errorf("machine %s: fact %d is %+v, recorded was %+v", m.w.machine, i+1, facts[i], own[i])
			break
		}
	}
	orders := map[string]string{}
	epochs := map[string]uint64{}
	for _, env := range own {
		if _, number, ok := splitOrder(env.Command); ok && env.Type != "NodeFinished" && env.Type != "NodeRestartScheduled" && number > 1 {
			key := env.Stream + " " + env.Command
			if orders[key] != "" {
				t.Errorf("order %s was carried out twice on %s: %s and %s", env.Command, env.Stream, orders[key], env.Type)
			}
			orders[key] = env.Type
		}
		var a events.CoordinatorAccepted
		if env.Type == "CoordinatorAccepted" && json.Unmarshal(env.Data, &a) == nil {
			if a.Epoch < epochs[a.Coordinator] {
				t.Errorf("machine %s went back from epoch %d to %d", m.w.machine, epochs[a.Coordinator], a.Epoch)
			}
			epochs[a.Coordinator] = a.Epoch
		}
	}
}
