package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// environment is what all actors of a daemon share.
type environment struct {
	store   journal.Store
	clock   Clock
	log     *logrus.Logger
	epoch   uint64
	observe func(stream string, at time.Time, e events.Event)
}

// ledger is the one writer of a stream. It belongs to the actor of that name.
//
// Records are saved before anything that depends on them is sent or answered. There are
// two exceptions, and both keep the records here, in order, until they are saved: a
// crash loop (see loopAfter), and a disk without space. Facts of such records are not
// acknowledged, so that the shim sends them again if this process dies.
type ledger struct {
	env     *environment
	stream  string
	version uint64 // Seq of the last saved event
	saved   uint64 // version of the last snapshot

	held []record
	// facts of the held records, of the shim of that incarnation.
	facts       []uint64
	incarnation int
	// trouble is set while the store refuses.
	trouble bool
	// dropped counts held details that were given up to bound memory.
	dropped uint64
}

// next is the Seq of the next record.
func (l *ledger) next() uint64 { return l.version + uint64(len(l.held)) + 1 }

// write saves the records, after those that are held. With must it fails only if there
// is a second writer, so that the state of this actor cannot be trusted any more; every
// other trouble of the store makes it hold the records (durable is false then), because
// what runs shall run on. Without must it fails, and nothing is changed, whenever the
// records are not known to be saved.
func (l *ledger) write(recs []record, must bool) (durable bool, err error) {
	all := recs
	if len(l.held) > 0 {
		all = append(compact(l.held), recs...)
	}
	if len(all) == 0 {
		return true, nil
	}
	all = l.withGap(all)
	err = l.append(all, must)
	log := l.env.log.WithField("stream", l.stream)
	switch {
	case err == nil:
		l.held, l.dropped = nil, 0
		if l.trouble {
			l.trouble = false
			log.Info("the journal can be written again; what happened meanwhile is recorded")
		}
		for _, r := range all { // last: should this panic, all is as it is on the disk
			l.env.tell(l.stream, r)
		}
		return true, nil
	case errors.Is(err, journal.ErrConflict):
		return false, fmt.Errorf("stream %s has a second writer (expected version %d): %w", l.stream, l.version, err)
	case !must:
		return false, err
	}
	if !l.trouble {
		l.trouble = true
		log.Errorf("the journal cannot be written; this goes on unrecorded until it can: %v", err)
	}
	l.hold(recs)
	return false, nil
}

// writeUrgent is write without must, for what may use the last of the disk: stops, ends,
// facts. Nothing is held: it is asked for, or sent, again.
func (l *ledger) writeUrgent(recs []record) error {
	if err := l.append(recs, true); err != nil {
		return err
	}
	for _, r := range recs {
		l.env.tell(l.stream, r)
	}
	return nil
}

// record is writeUrgent, or a write that is refused below the reserve.
func (l *ledger) record(recs []record, urgent bool) error {
	if urgent && len(l.held) == 0 {
		return l.writeUrgent(recs)
	}
	_, err := l.write(recs, false) // after what is held
	return err
}

// close makes a last attempt for records that are held.
func (l *ledger) close() {
	if len(l.held) == 0 {
		return
	}
	if durable, err := l.write(nil, true); err != nil || !durable {
		l.env.log.WithField("stream", l.stream).Errorf("%d events could not be recorded: %v", len(l.held), err)
	}
}

// hold keeps records for a later write.
func (l *ledger) hold(recs []record) {
	l.held = append(l.held, recs...)
	if len(l.held) > 2*maxHeld {
		kept := l.held[:0:0]
		for _, r := range compact(l.held) {
			if movesLife(r.Event) {
				kept = append(kept, r)
			} else {
				l.dropped++
			}
		}
		l.held = kept
	}
}

// withGap tells of details that were given up.
func (l *ledger) withGap(recs []record) []record {
	if l.dropped == 0 {
		return recs
	}
	gap := events.HistoryGap{
		After: 0, Before: recs[len(recs)-1].SourceSeq,
		Reason: fmt.Sprintf("%d details (drops, breakers, warnings) were not kept while the journal could not be written", l.dropped),
	}
	return append([]record{{Event: gap, At: recs[0].At}}, recs...)
}

// movesLife says that an event is more than a detail.
func movesLife(e events.Event) bool {
	switch e.(type) {
	case events.NodeMessagesDropped, events.NodeRejected, events.WarningRaised, events.NodeOutputsClosed,
		events.NodeInputBroken, events.NodeInputRecovered, events.NodeStopStepped:
		return false
	}
	return true
}

func (l *ledger) append(recs []record, urgent bool) error {
	envs := make([]events.Envelope, len(recs))
	for i, r := range recs {
		env, err := l.env.seal(r)
		if err != nil {
			return fmt.Errorf("stream %s: %w", l.stream, err)
		}
		envs[i] = env
	}
	err := l.env.store.Append(context.Background(), journal.Append{
		Stream: l.stream, Expected: l.version, Events: envs, Options: journal.Options{Urgent: urgent},
	})
	if err != nil && !l.written(len(envs)) {
		return err
	}
	l.version += uint64(len(envs))
	return nil
}

// written says that an append of n events took place although its outcome was an error.
func (l *ledger) written(n int) bool {
	v, err := l.env.store.Version(l.stream)
	return err == nil && v == l.version+uint64(n)
}

func (env *environment) seal(r record) (events.Envelope, error) {
	return events.Seal(r.Event, events.Meta{At: r.At, Epoch: env.epoch, SourceSeq: r.SourceSeq, Command: r.Command})
}

func (env *environment) tell(stream string, r record) {
	if env.observe != nil {
		env.observe(stream, r.At, r.Event)
	}
}

// records wraps events that were decided now.
func records(now time.Time, sourceSeq uint64, evs []events.Event) []record {
	recs := make([]record, len(evs))
	for i, e := range evs {
		recs[i] = record{Event: e, At: now, SourceSeq: sourceSeq}
	}
	return recs
}

// commanded marks records as what an order of a coordinator led to.
func commanded(recs []record, order string) []record {
	for i := range recs {
		recs[i].Command = order
	}
	return recs
}

// snapshotEvery is how many events may have to be replayed.
const snapshotEvery = 256

// snapshot keeps the state, if many events have come since the last one.
func (l *ledger) snapshot(state any) {
	if len(l.held) > 0 || l.version < l.saved+snapshotEvery {
		return
	}
	l.snapshotNow(state)
}

// snapshotNow keeps the state as it is after the last event.
func (l *ledger) snapshotNow(state any) {
	l.saved = l.version // also if it fails: it is only a shorter way, try at the next one
	raw, err := json.Marshal(state)
	if err == nil {
		err = l.env.store.SaveSnapshot(l.stream, l.version, raw)
	}
	if err != nil {
		l.env.log.WithField("stream", l.stream).Warnf("no snapshot was kept: %v", err)
	}
}

// load brings a state up to date: from the newest snapshot, by what follows in the
// stream, and by what is held. written says that the facts that were held turned out to
// be in the stream: an append whose outcome nobody had heard.
func (l *ledger) load(state any, apply func(record)) (written bool, err error) {
	seq, raw, err := l.env.store.LoadSnapshot(l.stream)
	switch {
	case errors.Is(err, journal.ErrNoSnapshot):
		seq = 0
	case err != nil:
		return false, fmt.Errorf("snapshot of %s: %w", l.stream, err)
	default:
		if err := json.Unmarshal(raw, state); err != nil {
			return false, fmt.Errorf("snapshot of %s at version %d: %w", l.stream, seq, err)
		}
	}
	known := l.version
	var fresh []record // what is in the stream and was not known to be
	l.saved, l.version = seq, seq
	for env, err := range l.env.store.Read(context.Background(), l.stream, seq+1) {
		if err != nil {
			return false, fmt.Errorf("replay %s after version %d: %w", l.stream, l.version, err)
		}
		e, err := events.Open(env)
		if err != nil {
			return false, fmt.Errorf("replay %s at version %d: %w", l.stream, env.Seq, err)
		}
		r := record{Event: e, At: env.At, SourceSeq: env.SourceSeq, Command: env.Command, Seq: env.Seq}
		apply(r)
		l.version = env.Seq
		if len(l.held) > 0 && env.Seq > known {
			fresh = append(fresh, r)
		}
	}
	l.held = l.held[countWritten(l.held, fresh):]
	for _, r := range l.held {
		apply(r)
	}
	return len(l.held) == 0 && len(l.facts) > 0, nil
}

// countWritten is how many of the held records are in the stream: all up to the last one
// that is found there, because they are written in order.
func countWritten(held, fresh []record) int {
	for i := len(held) - 1; i >= 0; i-- {
		same := func(r record) bool {
			return r.SourceSeq == held[i].SourceSeq && r.At.Equal(held[i].At) && r.Event.EventType() == held[i].Event.EventType()
		}
		if slices.ContainsFunc(fresh, same) {
			return i + 1
		}
	}
	return 0
}

// holds says that a fact was worked off but is not durable yet.
func (l *ledger) holds(incarnation int, seq uint64) bool {
	k := len(l.facts)
	if k == 0 || incarnation != l.incarnation || seq > l.facts[k-1] {
		return false
	}
	_, found := slices.BinarySearch(l.facts, seq)
	return found
}

// holdFact keeps a fact from being acknowledged (seq 0: there is none).
func (l *ledger) holdFact(incarnation int, seq uint64) {
	if seq == 0 {
		return
	}
	if incarnation != l.incarnation {
		l.incarnation, l.facts = incarnation, nil // an older shim hears nothing any more
	}
	l.facts = append(l.facts, seq)
}

// release gives the facts that are durable now, together with one more.
func (l *ledger) release(f *flow, incarnation int, seq uint64) {
	f.settle(l.incarnation, l.facts...)
	l.facts = nil
	if seq != 0 {
		f.settle(incarnation, seq)
	}
}
