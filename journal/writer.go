package journal

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dora-go/dora/events"
)

// errClean marks a failed write that changed nothing.
var errClean = errors.New("nothing was written")

// idleAfter is how long after the last write the backend may do its idle work.
const idleAfter = time.Second

// write is the writer goroutine. Appends that wait are written together: a sync costs
// the same for one as for a thousand.
func (j *Journal) write() {
	defer close(j.exited)
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	var carry *request // taken from the queue, not yet looked at
	for {
		r := carry
		carry = nil
		if r == nil {
			select {
			case r = <-j.queue:
			case <-idle.C:
				if j.b.idle() {
					idle.Reset(idleAfter)
				}
				continue
			case <-j.closing:
				j.refuseQueued()
				return
			}
		}
		if r.op == nil {
			var group []*request
			group, carry = j.gather(r)
			j.commit(group)
		} else if r.take() {
			r.done <- j.run(r.op)
		}
		idle.Reset(idleAfter)
	}
}

func (j *Journal) refuseQueued() {
	for {
		select {
		case r := <-j.queue:
			if r.take() {
				r.done <- fmt.Errorf("%w: %s", ErrClosed, j.name)
			}
		default:
			return
		}
	}
}

// gather takes the appends that wait, up to the limits of one group, and the request
// that did not fit.
func (j *Journal) gather(first *request) (group []*request, carry *request) {
	records, cost, bytes := 0, 0, 0
	l := j.b.limits()
	j.assemble()
	for r := first; ; {
		fits := r.op == nil && bytes < maxGroup && cost+r.cost <= l.bytes && records+r.records <= min(l.records, j.maxBatch)
		if len(group) > 0 && !fits {
			return group, r
		}
		if r.take() {
			group = append(group, r)
			records, cost, bytes = records+r.records, cost+r.cost, bytes+r.bytes
		}
		select {
		case r = <-j.queue:
			if len(group) == 0 && r.op != nil {
				return nil, r
			}
		default:
			return group, nil
		}
	}
}

// assemble lets callers whose last append was just acknowledged send the next one, so
// that it goes into the group at hand and not into the one after it. The writer yields for
// as long as appends keep coming and waits for none: with a single caller that is two
// yields, well below a microsecond.
func (j *Journal) assemble() {
	for waiting, quiet := len(j.queue), 0; quiet < 2 && waiting < cap(j.queue); {
		runtime.Gosched()
		if n := len(j.queue); n > waiting {
			waiting, quiet = n, 0
		} else {
			quiet++
		}
	}
}

// measure counts the records and bytes of a request and compares them with the limits.
func (r *request) measure(l limits) error {
	for i := range r.appends {
		a := &r.appends[i]
		r.records += len(a.Events)
		for k := range a.Events {
			n := recordSize(a.Stream, &a.Events[k])
			r.bytes += n
			r.cost += perRecord
			if l.large == 0 || n < l.large {
				r.cost += n
			}
		}
	}
	if r.records > l.records || r.cost > l.bytes || r.bytes > 4*maxGroup {
		return fmt.Errorf("%w: one append of %d events and %d bytes is too much; at most %d events and %d bytes go together",
			ErrInvalid, r.records, r.bytes, l.records, l.bytes-perRecord*r.records)
	}
	return nil
}

// group is a group commit in the making: what the journal will look like after it.
type group struct {
	head     uint64
	versions map[string]uint64
	records  []record
	members  []*request
	bytes    int64
	arena    []byte
}

// commit decides on every append by itself, writes those that may be written in one go
// and answers all.
func (j *Journal) commit(requests []*request) {
	if j.failed != nil {
		answer(requests, j.failed)
		return
	}
	g := group{head: j.Head(), versions: map[string]uint64{}}
	for _, r := range requests {
		if err := j.join(&g, r); err != nil {
			r.done <- err
		} else {
			g.members = append(g.members, r)
		}
	}
	if len(g.records) > 0 {
		if err := j.b.writeEvents(g.records); err != nil {
			answer(g.members, j.writeFailed(err))
			return
		}
	}
	j.mu.Lock()
	i := 0
	for _, r := range g.members {
		i = j.fillIn(r, g.records, i)
	}
	j.mu.Unlock()
	answer(g.members, nil)
}

func answer(requests []*request, err error) {
	for _, r := range requests {
		r.done <- err
	}
}

// join checks one request against the group so far and adds it.
func (j *Journal) join(g *group, r *request) error {
	urgent := len(r.appends) > 0
	versions := make([]uint64, len(r.appends)) // before each append
	seen := map[string]uint64{}
	for i := range r.appends {
		a := &r.appends[i]
		urgent = urgent && a.Urgent
		v, ok := seen[a.Stream]
		if !ok {
			v = j.versionIn(g, a.Stream)
		}
		if a.Expected != Any && a.Expected != v {
			return fmt.Errorf("%w: stream %q is at %d, expected was %d", ErrConflict, a.Stream, v, a.Expected)
		}
		versions[i] = v
		seen[a.Stream] = v + uint64(len(a.Events))
	}
	if r.records == 0 {
		return nil // only a check of versions
	}
	if err := j.b.admit(g.bytes+int64(r.bytes), urgent); err != nil {
		return err
	}
	g.bytes += int64(r.bytes)
	for i := range r.appends {
		j.encode(g, &r.appends[i], versions[i])
	}
	g.records[len(g.records)-1].last = true
	for stream, v := range seen {
		g.versions[stream] = v
	}
	return nil
}

// versionIn is the version of a stream after the group so far.
func (j *Journal) versionIn(g *group, stream string) uint64 {
	if v, ok := g.versions[stream]; ok {
		return v
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.x.streams[stream].version()
}

func (j *Journal) encode(g *group, a *Append, version uint64) {
	for k := range a.Events {
		env := a.Events[k]
		g.head++
		env.Pos, env.Stream, env.Seq = g.head, a.Stream, version+uint64(k)+1
		start := len(g.arena)
		g.arena = appendRecord(g.arena, &env)
		// Growing moves the arena; what was cut from it before stays where it is.
		body := g.arena[start:len(g.arena):len(g.arena)]
		g.records = append(g.records, record{pos: env.Pos, body: body, stream: a.Stream, seq: env.Seq})
	}
}

// fillIn takes the events of an acknowledged request into the index and tells the
// caller their places, beginning with the record i.
func (j *Journal) fillIn(r *request, records []record, i int) int {
	for a := range r.appends {
		for k := range r.appends[a].Events {
			env := &r.appends[a].Events[k]
			env.Pos, env.Stream, env.Seq = records[i].pos, records[i].stream, records[i].seq
			if err := j.x.add(env); err != nil {
				j.log.WithError(err).Warnf("journal %s: a summary that cannot be read", j.name)
			}
			i++
		}
	}
	return i
}

// writeFailed turns the error of a backend into the one for callers and stops writing
// when it is unknown what is on the disk.
func (j *Journal) writeFailed(err error) error {
	if isClean(err) || errors.Is(err, ErrFailed) {
		return err
	}
	j.failed = fmt.Errorf("%w: %s: %w", ErrFailed, j.name, err)
	j.log.WithError(err).Errorf("journal %s: a write failed; no more is written until it is opened again", j.name)
	return j.failed
}

func isClean(err error) bool {
	for _, clean := range []error{errClean, ErrNoSpace, ErrInvalid, ErrConflict} {
		if errors.Is(err, clean) {
			return true
		}
	}
	return false
}

// run executes any other write in the writer.
func (j *Journal) run(op func() error) error {
	if j.failed != nil {
		return j.failed
	}
	if err := op(); err != nil {
		return j.writeFailed(err)
	}
	return nil
}

func (j *Journal) saveSnapshot(stream string, seq uint64, state []byte) error {
	j.mu.RLock()
	s := j.x.streams[stream]
	version := s.version()
	var stored []uint64
	if s != nil {
		stored = slices.Clone(s.snapshots)
	}
	j.mu.RUnlock()
	switch {
	case seq == 0 || seq > version:
		return fmt.Errorf("%w: a snapshot of stream %q at %d; the stream has events 1 to %d", ErrInvalid, stream, seq, version)
	case len(stored) > 0 && seq < stored[len(stored)-1]:
		return fmt.Errorf("%w: a snapshot of stream %q at %d is older than the one at %d", ErrInvalid, stream, seq, stored[len(stored)-1])
	}
	keep := stored
	if len(keep) == 0 || keep[len(keep)-1] != seq {
		keep = append(keep, seq)
	}
	drop := keep[:max(0, len(keep)-2)]
	keep = keep[len(drop):]
	if err := j.b.admit(int64(len(state)), false); err != nil {
		return err
	}
	if err := j.b.writeSnapshot(stream, seq, state, drop); err != nil {
		return err
	}
	j.mu.Lock()
	j.x.stream(stream).snapshots = slices.Clone(keep)
	j.mu.Unlock()
	return nil
}

func (j *Journal) truncate(stream string, before uint64, summary string, at time.Time) error {
	j.mu.RLock()
	s := j.x.streams[stream]
	version, epoch := s.version(), j.x.epoch
	first := uint64(0)
	if s != nil {
		first = s.first
	}
	j.mu.RUnlock()
	before = min(before, version+1)
	if version == 0 || before <= first {
		return nil
	}
	env, err := events.Seal(events.HistorySummarized{FirstSeq: 1, LastSeq: before - 1, Text: summary},
		events.Meta{At: at, Epoch: epoch, Cause: "retention"})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	r := &request{
		appends: []Append{{Stream: stream, Expected: version, Events: []events.Envelope{env}, Options: Options{Urgent: true}}},
		done:    make(chan error, 1),
	}
	if err := r.measure(j.b.limits()); err != nil {
		return err
	}
	j.commit([]*request{r})
	if err := <-r.done; err != nil {
		return err
	}
	return j.removeLeftovers(stream)
}

// removeLeftovers removes what the summaries of a stream stand for: from the index
// first, so that no reader looks for what is being removed.
func (j *Journal) removeLeftovers(stream string) error {
	j.mu.Lock()
	s := j.x.streams[stream]
	before := *s
	positions := s.leftovers()
	s.forget(len(positions))
	j.mu.Unlock()
	if len(positions) == 0 {
		return nil
	}
	if err := j.b.removeEvents(positions); err != nil {
		if isClean(err) {
			j.mu.Lock()
			s.first, s.pos = before.first, before.pos
			j.mu.Unlock()
		}
		return fmt.Errorf("remove %d old events of stream %q: %w", len(positions), stream, err)
	}
	return nil
}

// resume finishes the truncations that the last owner of the journal did not. Called
// before the writer starts.
func (j *Journal) resume() error {
	for _, stream := range j.x.names("") {
		n := len(j.x.streams[stream].leftovers())
		if n == 0 {
			continue
		}
		err := j.removeLeftovers(stream)
		if errors.Is(err, ErrNoSpace) {
			j.log.WithError(err).Warnf("journal %s: the truncation of stream %q stays unfinished", j.name, stream)
			continue
		}
		if err != nil {
			return err
		}
		j.recovery.Resumed = append(j.recovery.Resumed, stream)
		j.log.Infof("journal %s: removed %d events of stream %q, finishing an interrupted truncation", j.name, n, stream)
	}
	return nil
}
