package nodeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// shared moves messages through shared memory, under this project's own dora. Timers,
// logs, Stop, parameters and everything that a node says of itself go over the
// connections as before; what closes or restarts an input comes in the order of its
// messages, as notices of the shared memory.
type shared struct {
	*tcp
	ep *shm.Endpoint

	// What follows belongs to the one goroutine that receives (dispatcher.turn).
	inputs    map[string]*sharedInput
	latest    *sharedInput
	preferShm bool // the last message came over the connection
	finishing bool
	drained   bool // nothing more comes from the shared memory
	recovered *Input
	last      *Input // kept alive until the next one is asked for
	lent      *lease // its memory
	ahead     ahead
	message   shm.Message // the latest

	// Bytes of messages that are not released, and the number of them at which the
	// garbage collector is asked for help.
	leased, collectAt atomic.Int64
	collectFrom       int64
	collecting        atomic.Bool

	passable atomic.Pointer[passable] // of the latest message, if it is one

	dropsMu sync.Mutex
	dropped map[string]uint64 // reported before
}

// sharedInput is what is known of one input.
type sharedInput struct {
	id      string
	closed  bool
	decoder payload.Decoder
	plain   nodewire.PlainReader
}

// lease is the memory of a message in the hands of the node's code.
type lease struct {
	payload.Owner
	message shm.Lease
	s       *shared
	bytes   int64 // of its sender's memory
	at      *byte // where the message was expected
}

// Return gives the memory back to the sender.
func (l *lease) Return() {
	if l.bytes > 0 {
		l.s.leased.Add(-l.bytes)
	}
	l.message.Release()
}

// collectPause is how long the collector is left alone after it was asked for help.
const collectPause = 20 * time.Millisecond

// trimInterval is how often idle memory is given back.
const trimInterval = 5 * time.Second

// newTransport chooses how messages travel: through shared memory if the dataflow has
// some. If that cannot be used, the other side sees it, and everything goes over the
// connections.
func newTransport(ctx context.Context, cfg *nodewire.Config, clock *nodewire.Clock, log *slog.Logger) transport {
	t := newTCP(cfg, clock)
	if cfg.Shared == nil {
		return t
	}
	ep, err := join(ctx, cfg.Shared)
	if err != nil {
		log.Warn("messages go over connections instead of shared memory, which is slower", "reason", err.Error())
		return t
	}
	return newShared(t, ep)
}

func newShared(t *tcp, ep *shm.Endpoint) *shared {
	s := &shared{tcp: t, ep: ep, inputs: make(map[string]*sharedInput), dropped: make(map[string]uint64)}
	s.collectFrom = min(64<<20, ep.Writer.Stats().Limit/16)
	s.collectAt.Store(s.collectFrom)
	return s
}

// join connects to the dataflow's shared memory.
func join(ctx context.Context, at *nodewire.Shared) (*shm.Endpoint, error) {
	ep, err := shm.Dial(at.Socket, at.Token, shm.Options{Trim: trimInterval})
	if err != nil {
		return nil, err
	}
	select {
	case <-ep.Ready():
		return ep, nil
	case <-ep.Done():
		err = shm.ErrDisconnected
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	ep.Close()
	return nil, err
}

// recv returns the next event of the connection's queue or of the shared memory. One
// goroutine at a time calls it.
func (s *shared) recv(ctx context.Context, q *queue) (Event, error) {
	s.last = nil
	s.clock.Settle()
	if s.lent != nil {
		s.lent.Watch()
		s.lent = nil
		s.passable.Store(nil) // it would keep a forgotten message
	}
	if in := s.recovered; in != nil {
		s.recovered = nil
		return s.keep(in), nil
	}
	for {
		ev, err := s.next(ctx, q)
		if ev != nil || err != nil {
			return ev, err
		}
	}
}

// keep holds on to an input while its receiver works on it: slices of its values do not
// keep shared memory alive.
func (s *shared) keep(in *Input) Event {
	s.last = in
	return in
}

// next makes one step; both results nil means that it led to nothing.
func (s *shared) next(ctx context.Context, q *queue) (Event, error) {
	if s.preferShm && !s.drained {
		s.preferShm = false
		if m, ok := s.ep.Reader.TryRecv(); ok {
			return s.convert(&m, q), nil
		}
	}
	it, ok, err := q.poll()
	switch {
	case ok:
		return s.fromConnection(&it, q), nil
	case err != nil && (s.drained || !errors.Is(err, io.EOF)):
		return nil, err
	case err != nil: // what was published before still follows
		s.endShared()
	}
	if s.drained {
		it, err := q.pop(ctx)
		if err != nil {
			return nil, err
		}
		return convert(&it), nil
	}
	s.prepare()
	s.message = shm.Message{}
	err = s.ep.Reader.Next(ctx, &s.message)
	switch {
	case err == nil:
		return s.convert(&s.message, q), nil
	case errors.Is(err, shm.ErrInterrupted):
		return nil, nil
	case errors.Is(err, shm.ErrFinished), errors.Is(err, shm.ErrClosed):
		s.drained = true
		return nil, nil
	case errors.Is(err, shm.ErrDisconnected):
		s.drained = true
		if s.finishing {
			return nil, nil
		}
		return &Error{Err: fmt.Errorf("no more messages from other Go nodes: %w", err)}, nil
	}
	return nil, err
}

// endShared has the shared memory end with what is queued.
func (s *shared) endShared() {
	if !s.finishing {
		s.finishing = true
		s.ep.Reader.Finish()
	}
}

func (s *shared) fromConnection(it *item, q *queue) Event {
	ev := convert(it)
	switch ev := ev.(type) {
	case *Input:
		s.preferShm = true
	case *Stop:
		s.endShared()
	case *InputClosed:
		s.of(ev.ID).closed = true
	case *InputRecovered:
		s.of(ev.ID).closed = false
	}
	return ev
}

// of returns what is known of an input.
func (s *shared) of(id string) *sharedInput {
	if in := s.latest; in != nil && in.id == id {
		return in
	}
	in := s.inputs[id]
	if in == nil {
		in = &sharedInput{id: id}
		s.inputs[id] = in
	}
	s.latest = in
	return in
}

// convert makes an event of what the shared memory brought, or nil.
func (s *shared) convert(m *shm.Message, q *queue) Event {
	switch {
	case m.Notice != nil:
		return s.notice(m.Notice, q)
	case m.End == shm.Broken:
		return &Error{Err: m.Err}
	case m.End != shm.NotEnded:
		return nil // a notice says what it means
	}
	known := s.of(m.Input)
	in, err := s.input(m, known)
	s.clock.Saw(m.Time)
	if err != nil {
		return &Error{Err: fmt.Errorf("input %s: %w", m.Input, err)}
	}
	if known.closed {
		// Its timeout had closed it. The shim sees the traffic later than we do.
		known.closed = false
		s.recovered = in
		return &InputRecovered{ID: m.Input}
	}
	return s.keep(in)
}

// notice is a control event that has its place among the messages.
func (s *shared) notice(b []byte, q *queue) Event {
	ev, err := nodewire.DecodeEvent(b)
	if err != nil {
		return &Error{Err: fmt.Errorf("a notice that cannot be read: %w", err)}
	}
	switch ev.Kind {
	case nodewire.InputClosed:
		if s.of(ev.ID).closed {
			return nil
		}
		s.of(ev.ID).closed = true
	case nodewire.InputRecovered:
		if !s.of(ev.ID).closed {
			return nil
		}
		s.of(ev.ID).closed = false
	case nodewire.AllInputsClosed:
		q.stop()
		s.endShared()
	}
	return convert(&item{ev: ev})
}

// input decodes a message in place.
func (s *shared) input(m *shm.Message, known *sharedInput) (*Input, error) {
	at, plain := known.plain.Read(m.Meta, m.Time)
	if in := s.prepared(m, known); in != nil && plain {
		in.Metadata.Timestamp = timestampOf(at)
		return in, nil
	}
	in := &Input{ID: m.Input}
	var err error
	if plain {
		in.Metadata.Timestamp = timestampOf(at)
	} else if md, err := nodewire.DecodeMetadata(m.Meta); err == nil {
		in.Metadata = publicMetadata(md)
	} else {
		m.Release()
		return nil, err
	}
	if len(m.Payload) == 0 {
		m.Release()
		in.Data = array.NewNull(0)
		return in, nil
	}
	l := &lease{message: m.Lease(), s: s}
	l.To = l
	if m.InSlot() {
		l.Foreign, l.bytes = true, int64(len(m.Payload))
		s.lent = l
		if s.leased.Add(l.bytes) > s.collectAt.Load() {
			s.collect()
		}
	}
	in.Data, err = known.decoder.Decode(m.Payload, &l.Owner)
	if err != nil {
		return in, err
	}
	if at, ok := m.Place(); ok {
		s.passable.Store(&passable{in.Data, at})
	}
	return in, nil
}

// collect has the garbage collector look for messages that were forgotten. It does not
// see the memory that they hold, so it would come too late.
func (s *shared) collect() {
	if !s.collecting.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.collecting.Store(false)
		runtime.GC()
		time.Sleep(collectPause) // cleanups run beside the collector
		s.collectAt.Store(max(s.collectFrom, 2*s.leased.Load()))
	}()
}

// publish sends a message: its parts are copied once, to where receivers read them.
func (s *shared) publish(output string, at nodewire.Timestamp, p Parameters, b *scratch) error {
	h := b.header(at, p)
	if err := s.ep.Writer.SendParts(context.Background(), output, b.encoded.Segments(), b.encoded.Size(), h); err != nil {
		return sharedError(output, err)
	}
	return nil
}

// sharedError words an error of the shared memory as one of this package.
func sharedError(output string, err error) error {
	if errors.Is(err, shm.ErrClosed) {
		err = ErrClosed
	}
	return fmt.Errorf("output %s: %w", output, err)
}

func (b *scratch) header(at nodewire.Timestamp, p Parameters) shm.Header {
	if len(p) == 0 {
		b.meta = nodewire.AppendPlainMetadata(b.meta[:0], at)
		return shm.Header{Meta: b.meta, Time: at.Time}
	}
	b.meta = nodewire.AppendMetadata(b.meta[:0], nodewire.Metadata{Time: at, Parameters: wireParameters(p)})
	h := shm.Header{Meta: b.meta, Time: at.Time}
	for _, name := range [...]string{ParamRequestID, ParamGoalID, ParamGoalStatus} {
		if _, ok := p[name]; ok {
			h.Protected = true
		}
	}
	flush, _ := Lookup[Bool](p, ParamFlush)
	h.Flush = bool(flush)
	return h
}

func (s *shared) closeOutputs(outputs []string) error {
	for _, id := range outputs {
		s.ep.Writer.CloseOutput(id)
	}
	return s.tcp.closeOutputs(outputs)
}

func (s *shared) unsubscribe() error {
	for _, in := range s.ep.Reader.Stats() {
		s.ep.Reader.CloseInput(in.Input)
	}
	return s.tcp.unsubscribe()
}

func (s *shared) finish(outputs []string) error {
	for _, id := range outputs {
		s.ep.Writer.CloseOutput(id)
	}
	return s.tcp.finish(outputs)
}

func (s *shared) abort() {
	s.tcp.abort()
	s.ep.Close()
}

// drops adds what the shared memory's queues have dropped since the last call.
func (s *shared) drops(out map[string]uint64) map[string]uint64 {
	s.dropsMu.Lock()
	defer s.dropsMu.Unlock()
	for _, in := range s.ep.Reader.Stats() {
		total := in.Dropped + in.Withheld
		if n := total - s.dropped[in.Input]; n > 0 {
			if out == nil {
				out = make(map[string]uint64)
			}
			out[in.Input] += n
			s.dropped[in.Input] = total
		}
	}
	return out
}
