package actors

import (
	"context"
	"fmt"
	"time"

	"github.com/dora-go/dora/events"
)

// How long single events are kept. After that a summary stands for them, and the state of
// what they were about stays.
const (
	// A daemon keeps what its coordinator has for keepOwn, and in any case its last
	// keepLast events.
	keepOwn  = 7 * 24 * time.Hour
	keepLast = 10_000
	// KeepHistory is how long a coordinator keeps everything.
	KeepHistory = 14 * 24 * time.Hour
	// retainEvery is how often it is looked.
	retainEvery = time.Hour
)

// retain replaces the events of dataflows that have ended by summaries, as far as the
// coordinator has them (all up to shipped) and they are old enough.
func (d *Daemon) retain(shipped uint64) {
	d.mu.Lock()
	var flows []*flow
	for _, uuid := range d.order {
		if f := d.flows[uuid]; isClosed(f.finished) && isClosed(f.gone) {
			flows = append(flows, f)
		}
	}
	d.mu.Unlock()
	for _, f := range flows {
		if err := d.summarize(f, shipped); err != nil {
			d.env.log.WithField("dataflow", f.uuid).Warnf("its old history could not be replaced by a summary: %v", err)
			return
		}
	}
}

// summarize does so for one dataflow, node by node, itself last.
func (d *Daemon) summarize(f *flow, shipped uint64) error {
	f.mu.Lock()
	ended, status := f.state.FinishedAt, ""
	if f.state.Finished != nil {
		status = f.state.Finished.Status
	}
	f.mu.Unlock()
	now, head := d.env.clock.Now(), d.env.store.Head()
	if now.Sub(ended) < keepOwn {
		return nil
	}
	streams := []string{}
	for id := range f.nodes {
		streams = append(streams, events.NodeStream(f.uuid, id))
	}
	for _, stream := range append(streams, events.DataflowStream(f.uuid)) {
		if d.ctx.Err() != nil {
			return nil
		}
		last, n, err := lastOf(d.ctx, d, stream)
		if err != nil {
			return err
		}
		if n < 2 || last > shipped || last+keepLast > head {
			continue
		}
		if err := d.keepState(f, stream); err != nil {
			return err
		}
		version, err := d.env.store.Version(stream)
		if err == nil {
			text := fmt.Sprintf("%s on %s", status, ended.Format(time.DateOnly))
			err = d.env.store.Truncate(d.ctx, stream, version+1, text, now)
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", stream, err)
		}
	}
	return nil
}

// lastOf is the position of the last event of a stream, and how many there are.
func lastOf(ctx context.Context, d *Daemon, stream string) (pos uint64, n int, err error) {
	for env, err := range d.env.store.Read(ctx, stream, 1) {
		if err != nil {
			return 0, 0, err
		}
		pos = env.Pos
		n++
	}
	return pos, n, nil
}

// keepState makes sure that the state of a stream is known without its events.
func (d *Daemon) keepState(f *flow, stream string) error {
	led := ledger{env: d.env, stream: stream}
	var state any
	var err error
	if stream == events.DataflowStream(f.uuid) {
		var s flowState
		_, err = led.load(&s, func(r record) { s = s.apply(r) })
		state = &s
	} else {
		s := newNodeState()
		_, err = led.load(&s, func(r record) { s = s.apply(r) })
		state = &s
	}
	if err != nil {
		return err
	}
	if led.version > led.saved {
		led.snapshotNow(state)
	}
	seq, _, err := d.env.store.LoadSnapshot(stream)
	if err == nil && seq != led.version {
		err = fmt.Errorf("the newest state of %s is of event %d, not %d", stream, seq, led.version)
	}
	return err
}

// retain replaces facts that are older than KeepHistory by a summary. What was made of
// them stays in the snapshot.
func (a *remoteActor) retain(now time.Time) {
	if now.Sub(a.retained) < retainEvery || a.led == nil || a.led.version == 0 {
		return
	}
	a.retained = now
	a.retained = now
	store, before := a.r.c.env.store, uint64(0)
	for env, err := range store.Read(a.r.c.ctx, a.led.stream, 1) {
		if err != nil {
			a.log.Warnf("old history: %v", err)
			return
		}
		if now.Sub(env.At) < KeepHistory {
			break
		}
		before = env.Seq + 1
	}
	if before < 3 { // nothing, or a summary alone
		return
	}
	a.saveSnapshot()
	if seq, _, err := store.LoadSnapshot(a.led.stream); err != nil || seq < before-1 {
		a.log.Warnf("old history is kept: there is no state of it (%v)", err)
		return
	}
	text := fmt.Sprintf("facts received before %s", now.Add(-KeepHistory).Format(time.DateOnly))
	if err := store.Truncate(a.r.c.ctx, a.led.stream, before, text, now); err != nil {
		a.log.Warnf("old history: %v", err)
	}
	if v, err := store.Version(a.led.stream); err == nil {
		a.led.version = v // the summary is one event more
	}
}
