package journal

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal/failpoint"
)

// backend is where a journal keeps its records. Methods that write are called from one
// goroutine at a time, methods that read from any, beside writes and one another.
//
// A write that returns nil is durable and covered by the mark (mark.go). One that
// returns an error that wraps errClean has changed nothing; after any other the journal
// refuses to write until it is opened again.
type backend interface {
	limits() limits
	// admit tells whether there is room for bytes more, as an error.
	admit(bytes int64, urgent bool) error
	writeEvents(recs []record) error
	writeEpoch(epoch uint64) error
	// writeSnapshot stores one and removes those with the sequence numbers drop.
	writeSnapshot(stream string, seq uint64, state []byte, drop []uint64) error
	// removeEvents removes events by position; it may be interrupted.
	removeEvents(positions []uint64) error
	// fetch reads events by ascending position, as many as fit one chunk; an event
	// that is not there ends the chunk with errAbsent.
	fetch(positions []uint64, in interner) ([]events.Envelope, error)
	// scan reads the next chunk of events from a position up to one; none: the end.
	scan(from, to uint64, in interner) ([]events.Envelope, error)
	// snapshot reads one that was written.
	snapshot(stream string, seq uint64) ([]byte, error)
	// verify reads everything and returns all damages.
	verify(ctx context.Context) []error
	// idle is called when no write came for a second after a write; it returns
	// whether it wants to be called again.
	idle() bool
	close() error
}

// limits of one writeEvents. A record counts as its encoded length, or, from large on, as
// nothing, and as perRecord in addition.
type limits struct{ records, bytes, large int }

// perRecord is the bookkeeping for one record, generously.
const perRecord = 64

// maxGroup bounds the memory of one group: no more is added once it has so many bytes.
const maxGroup = 16 << 20

// record is one event on its way to the disk.
type record struct {
	pos    uint64
	body   []byte // see appendRecord
	last   bool   // of its append: the append takes effect with this record
	stream string
	seq    uint64
}

// chunk bounds what one read holds in memory and how long it holds locks.
const (
	chunkEvents = 1024
	chunkBytes  = 1 << 20
)

// Journal implements Store over a Badger store, a file or memory. Open one with
// [OpenBadger], [OpenFile] or [NewMemory].
type Journal struct {
	b        backend
	id       string
	name     string // for messages
	log      logrus.FieldLogger
	maxBatch int
	recovery Recovery

	mu sync.RWMutex // guards x
	x  index

	// One writer: a goroutine that takes requests from queue, or, for a store
	// without a disk, whoever holds direct.
	queue   chan *request
	closing chan struct{}
	exited  chan struct{}
	direct  *sync.Mutex
	failed  error // the writer's own

	life   sync.RWMutex // held for reading while the backend is read
	closed bool         // guarded by life
	once   sync.Once
}

var _ Store = (*Journal)(nil)

// prepare makes a journal of a verified backend; its writer does not run yet.
func prepare(b backend, id, name string, x index, o OpenOptions, r Recovery) *Journal {
	return &Journal{
		b: b, id: id, name: name, log: o.Log, maxBatch: o.MaxBatch, recovery: r, x: x,
		queue: make(chan *request, 256), closing: make(chan struct{}), exited: make(chan struct{}),
	}
}

// started finishes interrupted truncations and starts the writer.
func started(b backend, id, name string, x index, o OpenOptions, r Recovery) (*Journal, error) {
	j := prepare(b, id, name, x, o, r)
	if err := j.resume(); err != nil {
		return nil, err
	}
	go j.write()
	return j, nil
}

// Recovery tells what the open found and dealt with.
func (j *Journal) Recovery() Recovery { return j.recovery }

// ID implements Store.
func (j *Journal) ID() string { return j.id }

// Head implements Store.
func (j *Journal) Head() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.x.head
}

// Epoch implements Store.
func (j *Journal) Epoch() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.x.epoch
}

// Version implements Store.
func (j *Journal) Version(stream string) (uint64, error) {
	if err := j.enter(); err != nil {
		return 0, err
	}
	defer j.life.RUnlock()
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.x.streams[stream].version(), nil
}

// Streams implements Store.
func (j *Journal) Streams(prefix string) ([]string, error) {
	if err := j.enter(); err != nil {
		return nil, err
	}
	defer j.life.RUnlock()
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.x.names(prefix), nil
}

// Append implements Store. If ctx ends before the writer took the request, nothing is
// written and its error is returned; after that Append waits for the outcome, which
// takes one write to the disk.
func (j *Journal) Append(ctx context.Context, appends ...Append) error {
	failpoint.Hit(failpoint.BeforeAppend)
	for i := range appends {
		if err := checkAppend(&appends[i]); err != nil {
			return err
		}
	}
	if len(appends) == 0 {
		return nil
	}
	r := &request{appends: appends}
	if err := r.measure(j.b.limits()); err != nil {
		return fmt.Errorf("%w in %s", err, j.name)
	}
	err := j.submit(ctx, r)
	if err == nil {
		failpoint.Hit(failpoint.AfterAck)
	}
	return err
}

func checkAppend(a *Append) error {
	if err := checkStream(a.Stream); err != nil {
		return err
	}
	for i := range a.Events {
		e := &a.Events[i]
		var wrong string
		switch {
		case e.Type == "":
			wrong = "no type"
		case e.Version < 1:
			wrong = "no version"
		case e.At.IsZero():
			wrong = "no time"
		case recordSize(a.Stream, e) > MaxEventBytes:
			wrong = fmt.Sprintf("%d bytes, the limit is %d", len(e.Data), MaxEventBytes)
		case !jsontext.Value(e.Data).IsValid():
			wrong = "data that is not JSON"
		default:
			continue
		}
		return fmt.Errorf("%w: event %d (%s) for stream %q has %s; make events with events.Seal", ErrInvalid, i, e.Type, a.Stream, wrong)
	}
	return nil
}

func checkStream(stream string) error {
	switch {
	case stream == "":
		return fmt.Errorf("%w: an empty stream name", ErrInvalid)
	case len(stream) > MaxStreamName:
		return fmt.Errorf("%w: a stream name of %d bytes, the limit is %d", ErrInvalid, len(stream), MaxStreamName)
	case strings.ContainsRune(stream, 0) || !utf8.ValidString(stream):
		return fmt.Errorf("%w: stream name %q is not text", ErrInvalid, stream)
	}
	return nil
}

// SaveSnapshot implements Store. Seq must not be above the version of the stream nor
// below the snapshot saved last.
func (j *Journal) SaveSnapshot(stream string, seq uint64, state []byte) error {
	if err := checkStream(stream); err != nil {
		return err
	}
	if len(state) > MaxSnapshotBytes {
		return fmt.Errorf("%w: a snapshot of stream %q has %d bytes, the limit is %d", ErrInvalid, stream, len(state), MaxSnapshotBytes)
	}
	return j.submit(context.Background(), &request{op: func() error { return j.saveSnapshot(stream, seq, state) }})
}

// LoadSnapshot implements Store. It falls back to the older snapshot if the newer one
// is damaged; if none is whole, the error wraps ErrDamaged.
func (j *Journal) LoadSnapshot(stream string) (uint64, []byte, error) {
	if err := j.enter(); err != nil {
		return 0, nil, err
	}
	defer j.life.RUnlock()
	var damage error
	// A snapshot may be replaced between reading the index and the disk.
	for tries := 0; ; tries++ {
		j.mu.RLock()
		var seqs []uint64
		if s := j.x.streams[stream]; s != nil {
			seqs = slices.Clone(s.snapshots)
		}
		j.mu.RUnlock()
		if len(seqs) == 0 {
			return 0, nil, fmt.Errorf("%w of stream %q", ErrNoSnapshot, stream)
		}
		damage = nil
		for _, seq := range slices.Backward(seqs) {
			state, err := j.b.snapshot(stream, seq)
			if err == nil {
				return seq, state, nil
			}
			if damage == nil {
				damage = err
			}
			j.log.WithError(err).Warnf("journal %s: snapshot %d of stream %q cannot be read", j.name, seq, stream)
		}
		if tries == 2 {
			return 0, nil, damage
		}
	}
}

// RaiseEpoch implements Store.
func (j *Journal) RaiseEpoch() (uint64, error) {
	var raised uint64
	err := j.submit(context.Background(), &request{op: func() error {
		j.mu.RLock()
		next := j.x.epoch + 1
		j.mu.RUnlock()
		if err := j.b.admit(64, true); err != nil {
			return err
		}
		if err := j.b.writeEpoch(next); err != nil {
			return err
		}
		j.mu.Lock()
		j.x.epoch = next
		j.mu.Unlock()
		raised = next
		return nil
	}})
	return raised, err
}

// Truncate implements Store. The stream's version rises by one for the summary, so only
// the stream's writer may call it, or anyone once the stream has ended. If it is
// interrupted, the next open finishes it. Nothing happens when there is nothing to
// remove.
func (j *Journal) Truncate(ctx context.Context, stream string, before uint64, summary string, at time.Time) error {
	if err := checkStream(stream); err != nil {
		return err
	}
	if at.IsZero() {
		return fmt.Errorf("%w: truncation of stream %q without a time", ErrInvalid, stream)
	}
	return j.submit(ctx, &request{op: func() error { return j.truncate(stream, before, summary, at) }})
}

// Verify implements Store. It runs beside writes and looks at what was written when it
// began.
func (j *Journal) Verify(ctx context.Context) error {
	if err := j.enter(); err != nil {
		return err
	}
	defer j.life.RUnlock()
	return joinDamages(j.name, j.b.verify(ctx))
}

// Read implements Store. The iteration ends with what is there when it gets to the end;
// events that are removed meanwhile are skipped. Data belongs to the caller.
func (j *Journal) Read(ctx context.Context, stream string, from uint64) iter.Seq2[events.Envelope, error] {
	return func(yield func(events.Envelope, error) bool) {
		in := interner{}
		for {
			chunk, err := j.readChunk(ctx, stream, from, in)
			for _, env := range chunk {
				if !yield(env, nil) {
					return
				}
				from = env.Seq + 1
			}
			if err != nil {
				yield(events.Envelope{}, err)
				return
			}
			if len(chunk) == 0 {
				return
			}
		}
	}
}

func (j *Journal) readChunk(ctx context.Context, stream string, from uint64, in interner) ([]events.Envelope, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := j.enter(); err != nil {
		return nil, err
	}
	defer j.life.RUnlock()
	for {
		j.mu.RLock()
		first, pos := j.x.streams[stream].from(from)
		j.mu.RUnlock()
		if len(pos) == 0 {
			return nil, nil
		}
		chunk, err := j.b.fetch(pos[:min(len(pos), chunkEvents)], in)
		for i := range chunk {
			if chunk[i].Stream != stream || chunk[i].Seq != first+uint64(i) {
				return chunk[:i], fmt.Errorf("%w: %s: position %d holds event %d of stream %q instead of event %d of stream %q", ErrDamaged,
					j.name, pos[i], chunk[i].Seq, chunk[i].Stream, first+uint64(i), stream)
			}
		}
		if err == nil || len(chunk) > 0 {
			return chunk, nil
		}
		// Gone since the index was read? Then the stream begins later now.
		j.mu.RLock()
		removed := j.x.streams[stream].first > first
		j.mu.RUnlock()
		if !removed {
			return nil, err
		}
	}
}

// ReadAll implements Store. As for Read. While the receiver works on one chunk, the next
// is read, so that reading and what is done with the events use two processors.
func (j *Journal) ReadAll(ctx context.Context, from uint64) iter.Seq2[events.Envelope, error] {
	return func(yield func(events.Envelope, error) bool) {
		ahead := &readAhead{j: j, in: interner{}}
		defer ahead.wait()
		from := max(from, 1)
		for {
			chunk, err := ahead.take(ctx, from)
			if len(chunk) > 0 {
				from = chunk[len(chunk)-1].Pos + 1
				ahead.start(ctx, from)
			}
			for _, env := range chunk {
				if !yield(env, nil) {
					return
				}
			}
			if err != nil {
				yield(events.Envelope{}, err)
				return
			}
			if len(chunk) == 0 {
				return
			}
		}
	}
}

// readAhead reads at most one chunk more than was asked for.
type readAhead struct {
	j       *Journal
	in      interner
	pending chan scanned // nil: nothing is being read
}

type scanned struct {
	chunk []events.Envelope
	err   error
}

// start reads the chunk at from, if there is one by now.
func (a *readAhead) start(ctx context.Context, from uint64) {
	if from > a.j.Head() {
		return
	}
	pending := make(chan scanned, 1)
	a.pending = pending
	go func() {
		chunk, err := a.j.scanChunk(ctx, from, a.in)
		pending <- scanned{chunk, err}
	}()
}

// take returns the chunk at from, which is the one that is being read, if any.
func (a *readAhead) take(ctx context.Context, from uint64) ([]events.Envelope, error) {
	if a.pending == nil {
		return a.j.scanChunk(ctx, from, a.in)
	}
	next := a.wait()
	return next.chunk, next.err
}

// wait ends the reading that is under way: nothing of it outlives the iteration.
func (a *readAhead) wait() (next scanned) {
	if a.pending != nil {
		next = <-a.pending
		a.pending = nil
	}
	return next
}

func (j *Journal) scanChunk(ctx context.Context, from uint64, in interner) ([]events.Envelope, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := j.enter(); err != nil {
		return nil, err
	}
	defer j.life.RUnlock()
	head := j.Head()
	if from > head {
		return nil, nil
	}
	chunk, err := j.b.scan(from, head, in)
	if len(chunk) > 0 {
		return chunk, nil // the error, if it stays, comes with the next chunk
	}
	return nil, err
}

// enter keeps the backend open until life.RUnlock.
func (j *Journal) enter() error {
	j.life.RLock()
	if j.closed {
		j.life.RUnlock()
		return fmt.Errorf("%w: %s", ErrClosed, j.name)
	}
	return nil
}

// Close implements Store. Appends that the writer has taken are finished, others get
// ErrClosed. Closing twice is harmless.
func (j *Journal) Close() error {
	var err error
	j.once.Do(func() {
		if j.direct != nil {
			j.direct.Lock()
			defer j.direct.Unlock()
		} else {
			close(j.closing)
			<-j.exited
		}
		j.life.Lock()
		defer j.life.Unlock()
		j.closed = true
		err = j.b.close()
	})
	return err
}
