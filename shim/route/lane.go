package route

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
	"github.com/dora-go/dora/transport/zenoh"
)

// Large messages of Go nodes reach an official node through memory that it finds as Zenoh's
// shared memory, the sender's own or a pool; all else over its connection. The node puts what comes by either way into one channel, in
// order of arrival. So that nothing is overtaken:
//
//   - A message goes directly only while the node waits for events, with nothing queued:
//     then everything before it is in the channel.
//   - Until the node has answered the probe that follows the message (with which it shows
//     that it has read what came before), nothing goes over the connection. The probe is
//     sent when something waits for that, or a little later: it would only hold up the node
//     on its way to the message.
//
// The node drops what comes directly when its channel is full, and nobody is told. So it
// gets so only what fits for sure: laneHeld messages that it has not let go, and never more
// events than laneRoom of which nothing shows that they are out of the channel. What a
// message shows, when the node lets it go, is that everything before it is. Where nothing has
// shown it for longer, because what came went over the connection, one message goes directly to
// see, laneScout apart. It is lost if the channel is full to the last place just then: if the
// node has read nothing since exactly that many events ago.

const (
	// laneMin is the size in bytes from which a message goes directly.
	laneMin = 64 << 10
	// laneHeld bounds the messages that the node has not let go.
	laneHeld = 8
	// laneRoom: official nodes make their channel for 64 events at least.
	laneRoom = 64 - laneHeld - 8
	// laneScout is the pause between messages that go directly to see whether more may.
	laneScout = time.Second
	// laneWait is how long the node may take to answer. The messages of one that does not
	// take the slower path for a while (laneopen.go).
	laneWait = 500 * time.Millisecond
	// laneAsk is how long after a message its probe follows, if nothing waits for the answer.
	laneAsk = time.Millisecond
	// lanePool bounds the shared memory of a node's lanes, in bytes; below laneLeast they
	// are not worth it.
	lanePool  = 16 << 20
	laneLeast = 2 << 20
)

// lanes lead from Go nodes to one process of an official node.
type lanes struct {
	b       *bridge
	byInput map[*input]*lane

	begin sync.Once
	came  chan struct{} // an answer came
	late  chan struct{} // one did not come in time

	use    sync.Mutex // of the pool and the publishers; taken before the node's mu
	pool   *zenoh.Pool
	closed bool
	leases leases

	// The rest belongs to the node's mu.
	open bool
	// due: the lane whose probe is not answered yet; unasked: it was not even sent.
	due     *lane
	unasked bool
	answers uint64 // so many came
	// passed counts the events that went over the connection. marks are its readings at
	// the direct messages that the node holds, from number first on; gone is that at the
	// newest which it let go.
	passed, gone uint64
	marks        []uint64
	first        uint64
	scouted      time.Time // when a message was sent to see whether more may
	timer        *time.Timer
	// files of senders' memory. The latest message lies in one that is not known yet, and
	// the latest probe asks for one.
	files    map[*shm.Export]*file
	unproven *shm.Export
	proving  *file
}

// lane leads from an output of a Go node to one input.
type lane struct {
	all *lanes
	in  *input
	pub *zenoh.Publisher
	sub *zenoh.Subscription
	// direct counts messages, and inPlace those of them that lie where their sender has
	// written them; they belong to the node's mu.
	direct, inPlace uint64
}

// laneInputs are the inputs of a node to which lanes may lead.
func (r *Router) laneInputs(n *node) []*input {
	if !n.bridged.Load() || r.pools.lane == 0 {
		return nil
	}
	var out []*input
	for _, in := range n.inputs {
		p := in.producer
		if p == nil || !p.isGo.Load() || p.dynamic || in.hold || in.output().own {
			continue
		}
		// What is sent on an output reaches all inputs that it leads to.
		twice := 0
		for _, c := range in.output().consumers {
			if c.node == n {
				twice++
			}
		}
		if twice == 1 {
			out = append(out, in)
		}
	}
	return out
}

func (b *bridge) openLanes(from []*input) error {
	b.lanes = &lanes{b: b, byInput: map[*input]*lane{}, files: map[*shm.Export]*file{},
		came: make(chan struct{}, 1), late: make(chan struct{}, 1)}
	for _, in := range from {
		l := &lane{all: b.lanes, in: in}
		dataflow, p := b.n.r.dataflow, in.producer
		var err error
		if l.pub, err = b.session.Publisher(outputKey(dataflow, p.id, in.spec.Output)); err != nil {
			return err
		}
		b.lanes.byInput[in] = l
		if l.sub, err = b.session.Subscribe(ackKey(dataflow, p.id, in.spec.Output), l.take); err != nil {
			return err
		}
	}
	return nil
}

func (ls *lanes) close() {
	for _, l := range ls.byInput {
		if l.sub != nil {
			l.sub.Close()
		}
	}
	n := ls.b.n
	n.mu.Lock()
	ls.shut()
	n.mu.Unlock()
	ls.use.Lock()
	defer ls.use.Unlock()
	ls.closed = true
	for _, l := range ls.byInput {
		l.pub.Close()
	}
	if ls.pool != nil {
		ls.pool.Close()
		ls.pool = nil
	}
	ls.leases.end()
}

// shut ends the use of the lanes; n.mu is held.
func (ls *lanes) shut() {
	ls.open, ls.due, ls.unasked = false, nil, false
	ls.unproven, ls.proving = nil, nil
	if ls.timer != nil {
		ls.timer.Stop()
	}
	select {
	case ls.came <- struct{}{}:
	default:
	}
}

// take gets what the node answers, on a thread of the engine.
func (l *lane) take(s *zenoh.Sample) {
	md, err := nodewire.DecodeMetadata(s.Attachment)
	s.Release()
	p := md.Parameters
	if err != nil || !p[nodewire.ParamStartupAck].Bool || p[nodewire.ParamStartupAckConsumer].Str != l.in.node.id ||
		p[nodewire.ParamStartupAckInput].Str != l.in.id {
		return
	}
	select {
	case l.all.b.answers <- l:
	case <-l.all.b.closed:
	}
}

// acknowledged: the node answered.
func (l *lane) acknowledged() {
	ls, n := l.all, l.in.node
	n.mu.Lock()
	ls.answers++
	if ls.due == l {
		ls.due = nil
		if ls.proving != nil {
			ls.proving.proven, ls.proving = true, nil
		}
	}
	select {
	case ls.came <- struct{}{}:
	default:
	}
	n.flush()
	ls.look()
}

// sendDirectly sends a message to the node by its lane, if it has one that may be used
// now, and then releases it, or keeps it until the node is done with it. Its error says that
// the message cannot be read. It runs on the node's relay.
func (n *node) sendDirectly(in *input, m *shm.Message) (bool, error) {
	if max(len(m.Payload), m.Length) < laneMin {
		return false, nil
	}
	ls := n.lanes()
	if ls == nil {
		return false, nil
	}
	l := ls.byInput[in]
	if l == nil || !ls.settle() || !l.enter() {
		return false, nil
	}
	sent, err := l.send(m)
	var unreadable error
	if errors.Is(err, shm.ErrCutOff) {
		unreadable, err = err, nil
	}
	n.mu.Lock()
	switch {
	case !sent:
		ls.due = nil
	case ls.due == l:
		ls.unasked = true
		ls.after(laneAsk, ls.ask)
	}
	first := sent && len(ls.marks) == 1 && ls.first == 0
	if err != nil {
		ls.fail(err)
	} else {
		n.flush()
	}
	if first {
		ls.b.mapped() // the engine has made room for what it notes of messages
	}
	return sent, unreadable
}

// lanes of the node's current process, which begin to open with the first call.
func (n *node) lanes() *lanes {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sess
	if s == nil || s.bridge == nil || s.bridge.lanes == nil || n.phase != phaseSubscribed || !s.asked {
		return nil
	}
	ls := s.bridge.lanes
	if !ls.open {
		ls.begin.Do(func() {
			ls.b.done.Add(1)
			go func() {
				defer ls.b.done.Done()
				ls.run()
			}()
		})
		return nil
	}
	return ls
}

// settle waits until the message before is read. It is false if the lanes are shut.
func (ls *lanes) settle() bool {
	n := ls.b.n
	for {
		n.mu.Lock()
		due, open, unasked := ls.due, ls.open, ls.unasked
		n.mu.Unlock()
		if !open || due == nil {
			return open
		}
		if unasked {
			ls.ask()
		}
		select {
		case <-ls.came:
		case <-ls.b.closed:
			return false
		}
	}
}

// enter begins a direct message, if it would not overtake anything and fits for sure.
func (l *lane) enter() bool {
	ls, n := l.all, l.in.node
	ls.use.Lock()
	if ls.pool == nil {
		ls.use.Unlock()
		return false
	}
	held, back := ls.collect()
	ls.use.Unlock()
	n.mu.Lock()
	for ; ls.first < back && len(ls.marks) > 0; ls.first++ {
		ls.gone, ls.marks = ls.marks[0], ls.marks[1:]
	}
	s := n.sess
	ok := s != nil && s.bridge == ls.b && ls.open && ls.due == nil && s.asked && n.q.count == 0 && n.listens() &&
		!l.in.closed && held < laneHeld && ls.hasRoom()
	if ok {
		ls.due = l
		l.in.touch()
	}
	n.flush()
	return ok
}

// hasRoom says whether one more message fits into the node's channel; n.mu is held.
func (ls *lanes) hasRoom() bool {
	if ls.passed-ls.gone <= laneRoom {
		return true
	}
	if len(ls.marks) > 0 || time.Since(ls.scouted) < laneScout {
		return false
	}
	ls.scouted = time.Now()
	return true
}

func (l *lane) send(m *shm.Message) (bool, error) {
	ls := l.all
	ls.use.Lock()
	defer ls.use.Unlock()
	if ls.pool == nil {
		return false, nil
	}
	f := ls.file(m.Export)
	inPlace := f != nil
	if inPlace {
		if !m.Export.Holds(m) {
			return false, shm.ErrCutOff
		}
		number, err := l.pub.PutPlace(ls.pool, f.place(m), m.Meta)
		if err != nil {
			return false, err
		}
		ls.leases.keep(number, m.Lease(), ls.look)
	} else {
		sent, err := l.copy(m)
		if !sent {
			return false, err
		}
		m.Release()
	}
	n := ls.b.n
	n.mu.Lock()
	ls.marks = append(ls.marks, ls.passed)
	l.direct++
	if inPlace {
		l.inPlace++
	}
	n.mu.Unlock()
	return true, nil
}

// copy sends a message from memory of this process.
func (l *lane) copy(m *shm.Message) (bool, error) {
	if m.Export != nil {
		return l.pub.PutFilled(l.all.pool, laneHeld, m.Length, m.ReadExport, m.Meta)
	}
	return l.pub.PutShared(l.all.pool, laneHeld, m.Payload, m.Meta)
}

// after has f called, instead of what was to be called before; n.mu is held.
func (ls *lanes) after(d time.Duration, f func()) {
	if ls.timer != nil {
		ls.timer.Stop()
	}
	ls.timer = time.AfterFunc(d, f)
}

// ask sends the probe of the latest message, once.
func (ls *lanes) ask() {
	n := ls.b.n
	n.mu.Lock()
	l := ls.due
	if l == nil || !ls.unasked {
		n.mu.Unlock()
		return
	}
	ls.unasked = false
	ls.watch()
	x := ls.unproven
	ls.unproven = nil
	n.mu.Unlock()
	ls.use.Lock()
	var err error
	if !ls.closed {
		err = l.probe(x)
	}
	ls.use.Unlock()
	if err != nil {
		n.mu.Lock()
		ls.fail(err)
	}
}

// fail ends the use of the lanes and says why; n.mu is held, and given up.
func (ls *lanes) fail(err error) {
	n := ls.b.n
	ls.shut()
	n.flush()
	n.r.warn(n.id, fmt.Sprintf("large messages of Go nodes take the slower path to this node from now on: %v", err))
}

// watch shuts the lanes if the node does not answer in time; n.mu is held.
func (ls *lanes) watch() {
	n, due := ls.b.n, ls.due
	sent := due.direct
	ls.after(laneWait, func() {
		n.mu.Lock()
		late := ls.due == due && due.direct == sent
		if late {
			ls.shut()
			select {
			case ls.late <- struct{}{}:
			default:
			}
		}
		n.flush()
		if late {
			n.r.warn(n.id, fmt.Sprintf("it did not answer within %v on the direct path: large messages of Go nodes take the slower one for a while", laneWait))
		}
	})
}

// blocked: what goes over the connection now could overtake a direct message; n.mu is
// held.
func (s *session) blocked() bool {
	return s.bridge != nil && s.bridge.lanes != nil && s.bridge.lanes.due != nil
}

// askBlocked has the probe sent for which something waits now; n.mu is held.
func (s *session) askBlocked() {
	if s.blocked() && s.bridge.lanes.unasked {
		select {
		case s.bridge.asks <- struct{}{}:
		default:
		}
	}
}

// passed counts events that go over the connection; n.mu is held.
func (s *session) passed(events int) {
	if s.bridge != nil && s.bridge.lanes != nil {
		s.bridge.lanes.passed += uint64(events)
	}
}
