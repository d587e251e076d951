package route

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/zenoh"
)

// A message that an official node sends directly comes in two parts: the message itself by
// Zenoh, and the word that it was sent (OutputSent) over the node's connection, on which
// also goes what the node does not send directly. The connection says the order: a message
// has its turn when its word comes, and is recognised by its time, of which a node gives
// no two messages the same. So nothing is overtaken, whichever way it goes, and what Zenoh
// loses is missed and counted.

const (
	// inletCount and inletBytes bound what waits for its turn.
	inletCount = 4096
	inletBytes = 64 << 20
	// arrivalWait is how long a turn waits for its message. A word may overtake its
	// message by some microseconds; where none came for a whole arrivalWait, the next
	// turns wait for silentWait only.
	arrivalWait = time.Second
	silentWait  = 20 * time.Millisecond
	// lendMin is the size in bytes from which a message is not copied for Go nodes.
	lendMin = 64 << 10
)

const (
	causeLost = "lost on the direct path"
	// paramSchemaHash is on messages without a schema: it is that of an earlier message.
	paramSchemaHash = "_schema_hash"
)

// inlet is where the messages of one output of an official node arrive.
type inlet struct {
	o    *output
	b    *bridge
	acks *zenoh.Publisher
	sub  *zenoh.Subscription
	// consumers that get their messages from here
	consumers []*input
	shared    atomic.Uint64 // messages that came through shared memory

	came  chan struct{} // something arrived
	noted atomic.Bool   // what the node shares is

	words sync.Mutex // one at a time has its turn

	mu      sync.Mutex
	due     *nodewire.Message // the word whose message is waited for; nil once that was routed
	waiting []arrival
	bytes   int
	ended   bool
	silent  bool // nothing came for a whole arrivalWait
	schema  schemaMemory
}

// arrival is a message before its turn.
type arrival struct {
	time    nodewire.Timestamp
	payload []byte
	sample  *zenoh.Sample // holds payload; nil if nothing has to
}

func (a *arrival) release() {
	if a.sample != nil {
		a.sample.Release()
		a.sample = nil
	}
}

// openInlet subscribes to an output.
func (b *bridge) openInlet(o *output) error {
	key := outputKey(b.n.r.dataflow, b.n.id, o.id)
	in := &inlet{o: o, b: b, consumers: o.goConsumers(), came: make(chan struct{}, 1)}
	var err error
	if in.acks, err = b.session.Publisher(ackKey(b.n.r.dataflow, b.n.id, o.id)); err != nil {
		return err
	}
	if in.sub, err = b.session.Subscribe(key, in.take); err != nil {
		in.acks.Close()
		return err
	}
	b.inlets[o] = in
	return nil
}

// answer says that the consumers hear what is sent.
func (in *inlet) answer() {
	for _, c := range in.consumers {
		md := nodewire.AppendMetadata(nil, nodewire.Metadata{Time: in.b.n.r.clock.Now(),
			Parameters: map[string]nodewire.Parameter{
				nodewire.ParamStartupAck:         {Kind: nodewire.Bool, Bool: true},
				nodewire.ParamStartupAckConsumer: {Kind: nodewire.String, Str: c.node.id},
				nodewire.ParamStartupAckInput:    {Kind: nodewire.String, Str: c.id},
			}})
		_ = in.acks.Put(nil, md) // it asks again
	}
}

func (in *inlet) close() {
	in.sub.Close()
	in.acks.Close()
	in.clear()
}

// clear gives up what waits, for good.
func (in *inlet) clear() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	for len(in.waiting) > 0 {
		a := in.pop()
		a.release()
	}
}

// take gets a sample on a thread of the engine.
func (in *inlet) take(s *zenoh.Sample) {
	m, err := nodewire.ScanMetadata(s.Attachment)
	if err != nil {
		in.b.n.r.reports.reject(in.b.n, fmt.Sprintf("output %s: a message on the direct path is dropped: its metadata: %v", in.o.id, err))
		s.Release()
		return
	}
	if m.Flags&nodewire.StartupMarker != 0 {
		s.Release()
		select {
		case in.b.questions <- in:
		default: // it asks again
		}
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	a, ok := in.arrival(s, &m)
	if !ok {
		return
	}
	in.silent = false
	if due := in.due; due != nil && len(in.waiting) == 0 && due.Timestamp() == a.time && in.lendNow(due, &a) {
		in.due = nil
	} else {
		in.waiting = append(in.waiting, a)
		in.bytes += len(a.payload)
	}
	select {
	case in.came <- struct{}{}:
	default:
	}
}

// rouse wakes Go nodes, as a message is about to come.
func (in *inlet) rouse() {
	if ep := in.b.n.r.mem.sender(in.o); ep != nil {
		ep.Writer.Rouse(outputName(in.o), 0)
	}
}

// lendNow routes the message of a word that came before it, on the engine's thread, if that
// is a matter of lending; mu is held.
func (in *inlet) lendNow(sent *nodewire.Message, a *arrival) bool {
	if !in.noted.Load() || a.sample == nil || !a.sample.Valid() {
		return false
	}
	for _, c := range in.consumers {
		if c.hold || !c.node.shared.Load() {
			return false
		}
	}
	if in.o.closed.Load() {
		return false
	}
	b, m := in.message(sent, *a)
	lent := in.lend(b, &m)
	if lent {
		b.Release()
	}
	return lent
}

// message is what a sample and its word make.
func (in *inlet) message(sent *nodewire.Message, a arrival) (*direct, message) {
	b := &direct{in: in, a: a}
	b.refs.Store(1)
	return b, message{buf: b, meta: sent.Meta, payload: a.payload, time: sent.Time, flags: sent.Flags}
}

// arrival makes a sample a message; it is released if it is none. mu is held.
func (in *inlet) arrival(s *zenoh.Sample, m *nodewire.Message) (arrival, bool) {
	a := arrival{time: m.Timestamp(), payload: s.Payload, sample: s}
	if in.ended || len(in.waiting) >= inletCount || in.bytes+len(s.Payload) > inletBytes {
		a.release()
		return a, false
	}
	if s.Shared {
		in.shared.Add(1)
	} else {
		// The engine's memory is not bounded by anybody: what waits here is a copy.
		payload, ok := in.schema.complete(s.Payload, m.Meta)
		a.release()
		if !ok {
			return a, false
		}
		a.payload = payload
	}
	return a, true
}

// turn waits for the message of a word. Messages whose turn is over are dropped: nobody
// waits for them any more. It is over if the message was routed as it came.
func (in *inlet) turn(sent *nodewire.Message) (a arrival, ok, over bool) {
	t := sent.Timestamp()
	var timer *time.Timer
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		in.mu.Lock()
		if timer != nil && in.due == nil {
			in.mu.Unlock()
			return arrival{}, true, true
		}
		for len(in.waiting) > 0 && in.waiting[0].time.Time < t.Time {
			a := in.pop()
			a.release()
		}
		if len(in.waiting) > 0 || in.ended {
			// A node sends in order: if a later one is here, this one is lost.
			ok := !in.ended && in.waiting[0].time == t
			if ok {
				a = in.pop()
			}
			in.due = nil
			in.mu.Unlock()
			return a, ok, false
		}
		wait := arrivalWait
		if in.silent {
			wait = silentWait
		}
		in.due = sent
		in.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(wait)
			in.rouse()
		}
		select {
		case <-in.came:
		case <-timer.C:
			in.mu.Lock()
			late := len(in.waiting) == 0 && in.due != nil
			if late {
				in.silent, in.due = true, nil
			}
			in.mu.Unlock()
			if late {
				return arrival{}, false, false
			}
			timer.Reset(arrivalWait)
		case <-in.b.n.r.closed:
			in.mu.Lock()
			in.due = nil
			in.mu.Unlock()
			return arrival{}, false, false
		}
	}
}

func (in *inlet) pop() arrival {
	a := in.waiting[0]
	in.waiting[0] = arrival{}
	in.waiting = in.waiting[1:]
	in.bytes -= len(a.payload)
	return a
}

// deliver routes the message of a word to the consumers for which the inlet stands.
func (in *inlet) deliver(sent *nodewire.Message) {
	in.words.Lock()
	defer in.words.Unlock()
	a, ok, over := in.turn(sent)
	if over {
		return
	}
	if in.o.closed.Load() {
		a.release()
		return
	}
	if ok && a.sample != nil && !a.sample.Valid() {
		a.release()
		ok = false
	}
	if !ok {
		for _, c := range in.consumers {
			c.lose(causeLost)
		}
		return
	}
	if a.sample != nil && in.noted.CompareAndSwap(false, true) {
		in.b.mapped() // the node's pool
	}
	b, m := in.message(sent, a)
	shared := in.o.tapped.Load()
	for _, c := range in.consumers {
		if c.node.shared.Load() {
			shared = true
			continue
		}
		queued := c.message(b, sent, a.payload)
		_ = c.node.offer(c, &queued)
	}
	if shared && !in.lend(b, &m) {
		in.b.n.r.mem.send(in.o, &m, true)
	}
	b.Release()
}

// lend publishes a large message to Go nodes where it lies. It is false if a copy has to be
// sent.
func (in *inlet) lend(b *direct, m *message) bool {
	s := b.a.sample
	if s == nil || s.Segment == 0 || len(m.payload) < lendMin {
		return false
	}
	ep := in.b.n.r.mem.sender(in.o)
	if ep == nil {
		return false
	}
	f := in.b.adopt(ep, s.Segment)
	if f == nil {
		return false
	}
	b.Retain()
	in.b.reportOverdue()
	lent, _ := ep.Writer.Lend(context.Background(), outputName(in.o), f, s.Offset, len(m.payload), m.shared(), b.back)
	if !lent {
		b.Release()
	}
	return lent
}

// back takes back what was lent. The engine takes shared memory away from readers that look
// dead to it: this process, when it did not run for long. Then what was read may be damaged.
func (d *direct) back() {
	if !d.a.sample.Valid() {
		d.in.b.overdue.Store(true) // said with the next message: a lock is held
	}
	d.Release()
}

// direct counts the uses of a message that came by the direct path.
type direct struct {
	refs atomic.Int32
	in   *inlet
	a    arrival
}

func (d *direct) Retain() { d.refs.Add(1) }

func (d *direct) Release() {
	if d.refs.Add(-1) == 0 {
		d.a.release()
	}
}

// schemaMemory completes small messages, of which a node sends the schema only when it
// changes and every few seconds.
type schemaMemory struct {
	block []byte
	hash  uint64
}

// complete returns a copy of an Arrow stream in full. It is false for one whose schema did
// not come.
func (s *schemaMemory) complete(payload, meta []byte) ([]byte, bool) {
	if md, err := nodewire.DecodeMetadata(meta); err == nil {
		if hash, ok := md.Parameters[paramSchemaHash]; ok {
			if s.block == nil || uint64(hash.Int) != s.hash {
				return nil, false
			}
			return append(append(make([]byte, 0, len(s.block)+len(payload)), s.block...), payload...), true
		}
	}
	full := append([]byte(nil), payload...)
	if n := schemaLength(full); n > 0 {
		h := fnv.New64a()
		_, _ = h.Write(full[:n])
		s.block, s.hash = full[:n:n], h.Sum64()
	}
	return full, true
}

// schemaLength is the length of the first block of an Arrow stream in bytes, 0 if there is
// none: 0xffffffff, the length of what follows as int32, and that.
func schemaLength(stream []byte) int {
	if len(stream) < 8 || binary.LittleEndian.Uint32(stream) != 0xffffffff {
		return 0
	}
	n := int64(8) + int64(int32(binary.LittleEndian.Uint32(stream[4:])))
	if n < 8 || n > int64(len(stream)) {
		return 0
	}
	return int(n)
}
