package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// recover verifies and replays the journal, raises the epoch, and records that a daemon
// is here. Replay has no effects: what is to be done follows later, from what the
// states ask for and what the shims report.
func (d *Daemon) recover() error {
	store := d.opts.Store
	if err := verify(store, d.opts.Verified); err != nil {
		return err
	}
	version, err := store.Version(d.led.stream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", d.led.stream, err)
	}
	d.led.version = version
	if d.env.epoch, err = store.RaiseEpoch(); err != nil {
		return fmt.Errorf("raise the epoch: %w", err)
	}
	if err := d.replayOwn(); err != nil {
		return err
	}
	if err := d.replay(); err != nil {
		return err
	}
	if d.adopter() == nil {
		for _, f := range d.live() {
			if err := d.recordDeath(f); err != nil {
				return err
			}
		}
	}
	started := events.DaemonStarted{Machine: d.opts.Machine, Version: d.opts.Version, PID: d.opts.PID, BootID: d.opts.BootID}
	if _, err := d.led.write(records(d.env.clock.Now(), 0, []events.Event{started}), false); err != nil {
		return fmt.Errorf("record the start of the daemon: %w", err)
	}
	return nil
}

func verify(store journal.Store, verified bool) error {
	if verified {
		return nil
	}
	if err := store.Verify(context.Background()); err != nil {
		return fmt.Errorf("the journal cannot be trusted: %w", err)
	}
	return nil
}

// replay reads all dataflows and their nodes.
func (d *Daemon) replay() error {
	prefix := events.DataflowStream("")
	streams, err := d.opts.Store.Streams(prefix)
	if err != nil {
		return fmt.Errorf("list the dataflows: %w", err)
	}
	for _, stream := range streams {
		if err := d.replayFlow(strings.TrimPrefix(stream, prefix)); err != nil {
			return err
		}
	}
	d.sortFlows()
	return nil
}

func (d *Daemon) replayFlow(uuid string) error {
	var s flowState
	led := ledger{env: d.env, stream: events.DataflowStream(uuid)}
	if _, err := led.load(&s, func(r record) { s = s.apply(r) }); err != nil {
		return err
	}
	var states []func() // that are worth a snapshot
	if led.version > led.saved {
		states = append(states, func() { led.snapshotNow(s) })
	}
	if s.CreatedAt.IsZero() {
		return fmt.Errorf("stream %s does not begin with DataflowCreated: %w", led.stream, journal.ErrDamaged)
	}
	desc, diags := dataflow.Parse(s.Created.Path, []byte(s.Created.Descriptor))
	if desc == nil {
		// An older descriptor that this version cannot read any more: the ids are known.
		d.env.log.WithField("dataflow", uuid).Warnf("its descriptor cannot be read: %v", diags.Err())
		desc = &dataflow.Descriptor{File: s.Created.Path}
		for _, id := range s.Created.Nodes {
			desc.Nodes = append(desc.Nodes, &dataflow.Node{ID: id, Kind: dataflow.KindExecutable})
		}
	}
	f := newFlow(d, uuid, desc, s.Created)
	f.name = s.Created.Name
	for id := range f.nodes {
		v := newNodeState()
		led := ledger{env: d.env, stream: events.NodeStream(uuid, id)}
		if _, err := led.load(&v, func(r record) { v = v.apply(r) }); err != nil {
			return err
		}
		f.views[id] = v
		if led.version > led.saved {
			states = append(states, func() { led.snapshotNow(v) })
		}
	}
	f.publishFlow(s)
	f.orders.Store(f.cfg.orders(s, f.views))
	if s.Finished == nil {
		f.load = d.recallLoad(f, s.Created)
	} else {
		d.forgetEnvironment(uuid)
	}
	if s.Finished != nil && (!s.Shim.up() || d.adopter() == nil) {
		f.markGone()
		if d.adopter() != nil {
			d.final = append(d.final, states...)
		}
	}
	d.flows[uuid] = f
	d.order = append(d.order, uuid)
	return nil
}

// recordDeath ends a dataflow whose processes went with their daemon: in one append, so
// that it is either over or not. The actors do not exist yet; this is their streams'
// only writer.
func (d *Daemon) recordDeath(f *flow) error {
	now, s := d.env.clock.Now(), f.state
	text := "run was killed"
	if s.Created.Command != "run" {
		text = "its daemon and its shim were both killed"
	}
	b := batch{env: d.env, now: now}
	views := nodeViews{}
	for _, n := range f.cfg.Nodes {
		v := f.views[n.ID]
		for _, r := range b.add(events.NodeStream(f.uuid, n.ID), deathOf(n, v, text, now)...) {
			v = v.apply(r)
		}
		views[n.ID] = v
	}
	evs := []events.Event{events.DataflowFinished{Status: statusFailed, Failures: []events.NodeFailure{{Error: text}}}}
	if s.Shim.up() {
		evs = append([]events.Event{events.ShimLost{Token: s.Shim.Token}}, evs...)
	}
	for _, r := range b.add(events.DataflowStream(f.uuid), evs...) {
		s = s.apply(r)
	}
	if err := b.write(); err != nil {
		return fmt.Errorf("record the death of %s: %w", f.uuid, err)
	}
	f.views = views
	f.publishFlow(s)
	f.markGone()
	return nil
}

// batch is one append to several streams.
type batch struct {
	env     *environment
	now     time.Time
	appends []journal.Append
	recs    [][]record
	err     error
}

func (b *batch) add(stream string, evs ...events.Event) []record {
	if len(evs) == 0 || b.err != nil {
		return nil
	}
	a := journal.Append{Stream: stream, Options: journal.Options{Urgent: true}}
	if a.Expected, b.err = b.env.store.Version(stream); b.err != nil {
		return nil
	}
	recs := records(b.now, 0, evs)
	for _, r := range recs {
		env, err := b.env.seal(r)
		if err != nil {
			b.err = err
			return nil
		}
		a.Events = append(a.Events, env)
	}
	b.appends, b.recs = append(b.appends, a), append(b.recs, recs)
	return recs
}

func (b *batch) write() error {
	if b.err != nil {
		return b.err
	}
	if err := b.env.store.Append(context.Background(), b.appends...); err != nil {
		return err
	}
	for i, recs := range b.recs {
		for _, r := range recs {
			b.env.tell(b.appends[i].Stream, r)
		}
	}
	return nil
}

// deathOf is what a node's stream lacks when everything was killed at once.
func deathOf(n flowNode, v nodeState, text string, now time.Time) []events.Event {
	var evs []events.Event
	if v.Phase.alive() {
		exit := events.NodeExited{
			Generation: v.Generation, Code: -1, Phase: string(v.Phase), Disposition: string(link.Close),
			Reason: reasonShimLost, At: now,
		}
		if !v.SpawnedAt.IsZero() {
			exit.Uptime = now.Sub(v.SpawnedAt)
		}
		evs = append(evs, exit)
	}
	if v.Phase != phaseEnded && !n.Dynamic {
		evs = append(evs, events.NodeFinished{Status: statusFailed, Error: text})
	}
	return evs
}

// sortFlows puts the dataflows into the order in which they were created.
func (d *Daemon) sortFlows() {
	slices.SortStableFunc(d.order, func(a, b string) int {
		return d.flows[a].state.CreatedAt.Compare(d.flows[b].state.CreatedAt)
	})
}
