package shm

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	helloTimeout       = 5 * time.Second
	defaultSendTimeout = 60 * time.Second
	maxNodeName        = 256
	maxTaps            = 4 // per producer
)

// SupervisorOptions of one dataflow on one machine.
type SupervisorOptions struct {
	// ArenaLimit is how many bytes of messages one node may have outside; 0 is
	// DefaultArenaLimit.
	ArenaLimit int64
	// SendTimeout is how long a send may wait for room; 0 is 60 s.
	SendTimeout time.Duration
	// Trouble, if not nil, is told when somebody does not keep the rules. It must not
	// block or call the supervisor.
	Trouble func(Trouble)
	// Grace is how long a member may be without its connection before that counts as its
	// end, so that who runs the process can say first what is to follow (Leave, Succeed).
	Grace time.Duration

	noRepair bool // for the negative control of the kill tests
}

// Trouble names who does not keep the rules of shared memory.
type Trouble struct {
	Node        string // at fault
	Incarnation uint32
	Edge        EdgeID // 0 if it concerns the node's control connection
	Text        string
}

// Supervisor makes the edges between the processes of one dataflow on one machine,
// hands them out, and repairs what killed processes leave behind. Its methods may be
// used from many goroutines and do not block.
type Supervisor struct {
	o SupervisorOptions

	mu          sync.Mutex
	members     map[MemberID]*Member
	tokens      map[string]*Member
	edges       map[EdgeID]*Edge
	exports     map[uint32]*Export  // by segment
	lent        map[uint32]*Foreign // by segment, what may be passed on
	incarnation map[string]uint32
	lastMember  MemberID
	lastEdge    EdgeID
	lastSegment uint32
	closed      bool
	listeners   []net.Listener
	greeting    map[*net.UnixConn]struct{} // connections that have not said hello
	wg          sync.WaitGroup
}

// NewSupervisor returns a supervisor without members.
func NewSupervisor(o SupervisorOptions) (*Supervisor, error) {
	if !supported {
		return nil, ErrUnsupported
	}
	if o.ArenaLimit <= 0 {
		o.ArenaLimit = DefaultArenaLimit()
	}
	if o.SendTimeout <= 0 {
		o.SendTimeout = defaultSendTimeout
	}
	return &Supervisor{
		o:       o,
		members: make(map[MemberID]*Member), tokens: make(map[string]*Member), edges: make(map[EdgeID]*Edge),
		exports:     make(map[uint32]*Export),
		lent:        make(map[uint32]*Foreign),
		incarnation: make(map[string]uint32), greeting: make(map[*net.UnixConn]struct{}),
	}, nil
}

// Join adds one process to come: the next incarnation of a node. It is known by its
// Token until Leave.
func (s *Supervisor) Join(node string) (*Member, error) {
	if node == "" || len(node) > maxNodeName {
		return nil, fmt.Errorf("shared memory: a node name of %d bytes; use 1 to %d", len(node), maxNodeName)
	}
	var secret [16]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("shared memory: make a token: %w", err)
	}
	b, fd, err := newBell()
	if err != nil {
		return nil, fmt.Errorf("shared memory of node %s: %w", node, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		b.close()
		closeFD(fd)
		return nil, ErrClosed
	}
	s.lastMember++
	s.incarnation[node]++
	m := &Member{
		s: s, id: s.lastMember, node: node, incarnation: s.incarnation[node], token: hex.EncodeToString(secret[:]),
		bell: b, bellFD: fd, out: make(map[EdgeID]*Edge), in: make(map[EdgeID]*Edge),
		segments: make(map[uint32]*heldSegment),
	}
	s.members[m.id] = m
	s.tokens[m.token] = m
	return m, nil
}

// Route says what an edge connects.
type Route struct {
	From   *Member
	Output string
	To     *Member
	Input  string
	Queue  int // messages
	Policy Policy
	// Export, if not 0, says that the consumer, which is an endpoint of the supervisor's own
	// process (Supervisor.Local), hands payloads on to other processes by the name of a file:
	// the producer may make so many bytes of such memory. See Message.Export.
	Export int64
}

// Connect makes an edge between two incarnations. Both may be connected already or come
// later; messages wait in the edge meanwhile. An input that gets a second edge reads
// the first one to its end before.
func (s *Supervisor) Connect(r Route) (*Edge, error) { return s.connect(r, false) }

// Tap is Connect for onlookers: a drop_oldest edge that may be added to a running
// producer and does not slow it. A producer has at most 4, and together they hold at
// most a quarter of its arena.
func (s *Supervisor) Tap(from *Member, output string, to *Member, input string, queue int) (*Edge, error) {
	return s.connect(Route{From: from, Output: output, To: to, Input: input, Queue: queue, Policy: DropOldest}, true)
}

func (s *Supervisor) connect(r Route, tap bool) (*Edge, error) {
	fail := func(err error) (*Edge, error) {
		return nil, fmt.Errorf("connect %s/%s to %s/%s by shared memory: %w", r.From.node, r.Output, r.To.node, r.Input, err)
	}
	if max(len(r.Output), len(r.Input)) > maxNodeName {
		return fail(fmt.Errorf("a name of more than %d bytes", maxNodeName))
	}
	if r.Export < 0 || r.Export > maxExport {
		return fail(fmt.Errorf("%d bytes of memory that can be handed on; at most %d", r.Export, maxExport))
	}
	if r.Policy > Backpressure {
		return fail(fmt.Errorf("unknown %v", r.Policy))
	}
	geo, err := geometryFor(r.Queue)
	if err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return fail(ErrClosed)
	case r.From.left:
		return fail(fmt.Errorf("the process of %s has ended", r.From.node))
	case r.To.left:
		return fail(fmt.Errorf("the process of %s has ended", r.To.node))
	case tap && r.From.taps() >= maxTaps:
		return fail(fmt.Errorf("%s has %d taps already", r.From.node, maxTaps))
	}
	e := &Edge{s: s, id: s.lastEdge + 1, route: r, tap: tap, geo: geo, attached: make(chan struct{})}
	if e.mem, e.fd, err = newEdge(e.id, geo, r.Policy); err != nil {
		return fail(err)
	}
	s.lastEdge = e.id
	s.edges[e.id] = e
	r.From.out[e.id] = e
	r.From.mayExport = r.From.mayExport || r.Export > 0
	r.To.in[e.id] = e
	r.From.offer(e)
	if r.To != r.From {
		r.To.offer(e)
	}
	return e, nil
}

// trouble reports; mu is held.
func (s *Supervisor) trouble(m *Member, edge EdgeID, text string) {
	if s.o.Trouble != nil {
		s.o.Trouble(Trouble{Node: m.node, Incarnation: m.incarnation, Edge: edge, Text: text})
	}
}

// Listen accepts nodes on a Unix socket at path, until Close, which removes it.
func (s *Supervisor) Listen(path string) error {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listen for nodes that use shared memory: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return ErrClosed
	}
	s.listeners = append(s.listeners, l)
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for {
			sock, err := l.AcceptUnix()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil { // out of file descriptors, most likely: others may close some
				time.Sleep(50 * time.Millisecond)
				continue
			}
			s.Serve(sock)
		}
	}()
	return nil
}

// Serve takes over a connected SOCK_SEQPACKET socket whose other end is a node that is
// going to say hello.
func (s *Supervisor) Serve(sock *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.greeting) >= maxBacklog {
		sock.Close()
		return
	}
	s.greeting[sock] = struct{}{}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.serve(sock)
	}()
}

// Local returns an endpoint in this process, for a supervisor that itself sends to or
// receives from nodes. It is a connection like any other.
func (s *Supervisor) Local(m *Member, o Options) (*Endpoint, error) {
	here, there, err := socketPair()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	m.local = true
	s.mu.Unlock()
	s.Serve(there)
	o.sup = s
	return open(here, m.token, o)
}

// Close ends all connections and frees everything the supervisor holds. Nodes see
// ErrDisconnected.
func (s *Supervisor) Close() {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.listeners {
		l.Close()
	}
	for sock := range s.greeting {
		sock.Close()
	}
	var conns []*conn
	for _, m := range s.members {
		if m.conn != nil {
			conns = append(conns, m.conn)
		}
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.fail(ErrClosed)
	}
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		m.leave()
	}
	for _, e := range s.edges {
		e.remove()
	}
}
