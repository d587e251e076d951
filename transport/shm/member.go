package shm

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Member is one process that takes part: one incarnation of a node.
type Member struct {
	s           *Supervisor
	id          MemberID
	node        string
	incarnation uint32
	token       string

	// guarded by s.mu
	bell     *bell
	bellFD   int
	conn     *conn
	out, in  map[EdgeID]*Edge
	segments map[uint32]*heldSegment
	notices  []*packet // for a process that has not connected yet
	left     bool
	local    bool // its process is the supervisor's
	// mayExport: it has, or had, an edge with Route.Export.
	mayExport bool
	// owing: the process has ended, and what it had received is not taken back yet. bequeathed
	// are those of its inputs that another process takes over.
	owing      bool
	bequeathed []*Edge
}

// Token by which the process is known when it connects. It is a secret.
func (m *Member) Token() string { return m.token }

// Node is the node's id.
func (m *Member) Node() string { return m.node }

// Incarnation counts the processes of this node, from 1.
func (m *Member) Incarnation() uint32 { return m.incarnation }

func (m *Member) taps() int {
	n := 0
	for _, e := range m.out {
		if e.tap {
			n++
		}
	}
	return n
}

// offer sends an edge to the member if it is connected. s.mu is held.
func (m *Member) offer(e *Edge) {
	if m.conn == nil || m.left || e.handing && e.route.To == m {
		return
	}
	p := &packet{
		Kind: kindEdge, Edge: e.id, Output: e.route.Output, Input: e.route.Input,
		Policy: e.route.Policy, Tap: e.tap, Geometry: &e.geo, Role: roleOut, Export: e.route.Export,
	}
	peer := e.route.To
	if e.route.To == m {
		p.Role, peer = roleIn, e.route.From
	}
	p.Node, p.Incarnation, p.Member = peer.node, peer.incarnation, peer.id
	if e.route.From == e.route.To { // a node that listens to itself has both roles
		m.tell(p, e.fd, peer.bellFD)
		q := *p
		q.Role = roleOut
		p = &q
	}
	m.tell(p, e.fd, peer.bellFD)
}

// tell sends a packet. If that fails, the connection fails, and with it the member.
func (m *Member) tell(p *packet, fds ...int) {
	if m.conn == nil {
		return
	}
	if err := m.conn.send(p, fds...); err != nil {
		m.conn.fail(err)
	}
}

// Leave says that the process has ended: its neighbours drain what it has published,
// take back what it held, and forget it. The end of its connection does the same.
func (m *Member) Leave() {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	m.leave()
}

func (m *Member) leave() {
	if m.left {
		return
	}
	m.left = true
	delete(m.s.tokens, m.token)
	if m.conn != nil {
		m.conn.fail(ErrClosed)
	}
	for _, e := range m.out {
		e.producerGone()
	}
	m.returnInputs()
}

// settle frees what nobody needs any more.
func (m *Member) settle() {
	if m.owing && !m.passing() {
		m.takeBack()
		return
	}
	if !m.left || len(m.out)+len(m.in) > 0 {
		return
	}
	for id := range m.segments {
		m.drop(id)
	}
	if m.bellFD >= 0 {
		m.bell.close()
		closeFD(m.bellFD)
		m.bellFD = -1
	}
	delete(m.s.members, m.id)
}

// serve runs one connection until it ends.
func (s *Supervisor) serve(sock *net.UnixConn) {
	c := newConn(sock, true)
	defer c.close(true)
	buf, oob := packetBuffers()
	_ = sock.SetReadDeadline(time.Now().Add(helloTimeout))
	p, fds, err := c.receive(buf, oob)
	closeAll(fds)
	s.mu.Lock()
	delete(s.greeting, sock)
	s.mu.Unlock()
	if err != nil {
		return
	}
	m, err := s.welcome(c, p)
	if err != nil {
		_ = c.send(&packet{Kind: kindRefused, Error: err.Error()})
		return
	}
	for {
		p, fds, err = c.receive(buf, oob)
		if err == nil {
			err = m.handle(p, fds)
			closeAll(fds)
		}
		if err != nil {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !m.left && !s.closed {
		if why := c.reason(err); why != nil {
			s.trouble(m, 0, fmt.Sprintf("control connection of node %s: %v", m.node, why))
		}
	}
	if s.o.Grace <= 0 || m.left || s.closed {
		m.leave()
		return
	}
	time.AfterFunc(s.o.Grace, m.Leave)
}

func closeAll(fds []int) {
	for _, fd := range fds {
		closeFD(fd)
	}
}

// welcome answers a hello. Once the connection is known, new edges go to it; those of
// before go now.
func (s *Supervisor) welcome(c *conn, p *packet) (*Member, error) {
	if p.Kind != kindHello {
		return nil, fmt.Errorf("the first control message was %s, not hello", p.Kind)
	}
	if p.Version != protocolVersion {
		return nil, fmt.Errorf("this node speaks version %d of the shared-memory protocol, the supervisor version %d: build both from one release", p.Version, protocolVersion)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.tokens[p.Token]
	switch {
	case s.closed:
		return nil, ErrClosed
	case m == nil:
		return nil, fmt.Errorf("nobody with this token is expected")
	case m.conn != nil:
		return nil, fmt.Errorf("node %s, incarnation %d, is connected already", m.node, m.incarnation)
	}
	_ = c.sock.SetReadDeadline(time.Time{})
	m.conn = c
	m.tell(&packet{
		Kind: kindWelcome, Version: protocolVersion, Node: m.node, Incarnation: m.incarnation,
		ArenaLimit: s.o.ArenaLimit, SendTimeoutMS: max(1, s.o.SendTimeout.Milliseconds()),
	}, m.bellFD)
	for _, e := range m.ordered() {
		m.offer(e)
	}
	for _, p := range m.notices {
		m.tell(p)
	}
	m.notices = nil
	m.tell(&packet{Kind: kindReady})
	return m, nil
}

// ordered returns all edges of the member, oldest first: an input's edges follow each
// other in this order.
func (m *Member) ordered() []*Edge {
	var out []*Edge
	for id := EdgeID(1); id <= m.s.lastEdge && len(out) < len(m.in)+len(m.out); id++ {
		if e := m.in[id]; e != nil {
			out = append(out, e)
		} else if e := m.out[id]; e != nil {
			out = append(out, e)
		}
	}
	return out
}

// handle acts on one packet of the node. fds stay the caller's. An error ends the
// connection.
func (m *Member) handle(p *packet, fds []int) error {
	s := m.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.left {
		return ErrClosed
	}
	switch p.Kind {
	case kindAttached:
		if e := m.out[p.Edge]; e != nil {
			e.attach()
		}
	case kindHanded:
		if e := m.out[p.Edge]; e != nil {
			e.handOver()
		}
	case kindAnnounce:
		return m.announced(p, fds[0])
	case kindResolve:
		m.resolve(p)
	case kindRetire:
		if m.segments[p.Segment] == nil {
			return fmt.Errorf("it retires the segment %d, which it does not have", p.Segment)
		}
		m.drop(p.Segment)
	case kindDrained:
		if e := m.in[p.Edge]; e != nil {
			if p.Reason == Gone.String() && !e.marked && !e.spent {
				s.trouble(e.route.From, e.id, fmt.Sprintf("%s/%s wrote into its ring that its process has ended", e.route.From.node, e.route.Output))
			}
			if p.Held {
				e.readOut()
			} else {
				e.consumerGone()
			}
		}
	case kindBroken:
		m.accuse(p)
	default:
		return fmt.Errorf("it sent %s at the wrong time", p.Kind)
	}
	return nil
}

// accuse ends an edge whose other end does not keep the rules.
func (m *Member) accuse(p *packet) {
	if e := m.in[p.Edge]; e != nil {
		m.s.trouble(e.route.From, e.id, p.Error)
		e.distrust()
		e.consumerGone()
	} else if e := m.out[p.Edge]; e != nil {
		m.s.trouble(e.route.To, e.id, p.Error)
		e.distrust()
		e.producerGone()
	}
}

// distrust says that the edge's numbers are not to be believed any more.
func (e *Edge) distrust() {
	e.broken = true
	e.lastSeen = EdgeStats{
		ID: e.id, Producer: e.route.From.node, Output: e.route.Output,
		Consumer: e.route.To.node, Input: e.route.Input, Tap: e.tap, Removed: true,
	}
}

// Edge is the supervisor's view of an edge.
type Edge struct {
	s        *Supervisor
	id       EdgeID
	route    Route
	tap      bool
	geo      geometry
	attached chan struct{}

	// guarded by s.mu
	mem      *edge // the header only
	fd       int
	inUse    bool // attached is closed
	handing  bool // its consumer has ended, and the producer does not know the next one yet
	told     bool // with handing: it was told
	marked   bool // the consumer may see the end
	spent    bool // read to its end, or not wanted; messages are held
	removed  bool
	broken   bool // somebody does not keep the rules there
	lastSeen EdgeStats
}

// ID of the edge.
func (e *Edge) ID() EdgeID { return e.id }

// Attached is closed when the producer sends on this edge: from then on nothing it
// publishes is missed. It is also closed when that will never be.
func (e *Edge) Attached() <-chan struct{} {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return e.attached
}

func (e *Edge) attach() {
	if !e.inUse && !e.handing {
		e.inUse = true
		close(e.attached)
	}
}

// producerGone lets the consumer read to the end. s.mu is held.
func (e *Edge) producerGone() {
	if e.removed {
		return
	}
	if e.spent {
		e.consumerGone()
		return
	}
	e.handOver()
	e.attach()
	e.marked = true
	atomic.StoreUint32(e.mem.producerState, stateGone)
	if !e.s.o.noRepair {
		ringAlways(e.route.To.bell.sleep)
	}
}

// readOut: nothing more is read there, and messages are held, for whose sake the producer
// keeps the edge. After its end nobody overwrites them. s.mu is held.
func (e *Edge) readOut() {
	switch from := e.route.From; {
	case from.left:
		e.consumerGone()
	case !e.spent:
		e.spent = true
		from.tell(&packet{Kind: kindGone, Edge: e.id, Held: true})
	}
}

// consumerGone has the producer take back what the edge holds. s.mu is held.
func (e *Edge) consumerGone() {
	if e.removed {
		return
	}
	from := e.route.From
	atomic.StoreUint32(e.mem.consumerState, stateGone)
	if !e.s.o.noRepair {
		ringAlways(from.bell.room)
	}
	if !from.left && !e.s.o.noRepair {
		from.tell(&packet{Kind: kindGone, Edge: e.id})
	}
	e.remove()
}

// remove frees the edge. s.mu is held.
func (e *Edge) remove() {
	if e.removed {
		return
	}
	e.handing = false
	if !e.broken {
		e.lastSeen = e.read()
		e.lastSeen.Removed, e.lastSeen.Waiting, e.lastSeen.Queued = true, false, 0
	}
	e.removed = true
	e.attach()
	e.mem.close()
	closeFD(e.fd)
	delete(e.s.edges, e.id)
	delete(e.route.From.out, e.id)
	delete(e.route.To.in, e.id)
	e.route.From.settle()
	e.route.To.settle()
}

// Close takes the edge away, for example a tap that is not needed any more. The
// consumer sees the end of the edge after what is queued.
func (e *Edge) Close() {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.removed {
		return
	}
	e.producerGone()
	e.route.From.tell(&packet{Kind: kindGone, Edge: e.id})
}

// EdgeStats are the numbers of one edge.
type EdgeStats struct {
	ID        EdgeID
	Producer  string // node
	Output    string
	Consumer  string // node
	Input     string
	Tap       bool
	Published uint64 // messages and the end mark written into the queue
	Received  uint64 // of these, taken out by the receiver
	Queued    uint64 // of these, waiting to be received
	Dropped   uint64 // dropped by drop_oldest or after waiting too long for room
	Withheld  uint64 // not even queued: the receiver holds too many messages
	HeldSlots int    // arena slots that are queued or with the receiver
	HeldBytes int64
	Newest    uint64 // the sender's timestamp of the newest message, 0 before the first
	Waiting   bool   // the sender waits for this edge's receiver
	Removed   bool   // the edge is no more; these were its last numbers, if it was trusted
}

// Stats of the edge as its producer last wrote them. They are claims: a process that
// scribbles over its own edge also falsifies them.
func (e *Edge) Stats() EdgeStats {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	if e.removed || e.broken {
		return e.lastSeen
	}
	return e.read()
}

func (e *Edge) read() EdgeStats {
	tail := atomic.LoadUint64(e.mem.tail)
	head := atomic.LoadUint64(e.mem.head)
	return EdgeStats{
		ID: e.id, Producer: e.route.From.node, Output: e.route.Output,
		Consumer: e.route.To.node, Input: e.route.Input, Tap: e.tap,
		Published: head, Queued: min(head-min(tail, head), uint64(e.geo.Entries)),
		Dropped: atomic.LoadUint64(e.mem.dropped), Withheld: atomic.LoadUint64(e.mem.withheld),
		HeldSlots: int(atomic.LoadUint32(e.mem.heldSlots)), HeldBytes: int64(atomic.LoadUint64(e.mem.heldBytes)),
		Received: atomic.LoadUint64(e.mem.received), Newest: atomic.LoadUint64(e.mem.newest),
		Waiting: atomic.LoadUint32(e.mem.want) != wantNothing,
	}
}
