package shm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a node's end. The zero value is right for most.
type Options struct {
	// Spin is how long Recv looks for messages before it sleeps. While it does, a core is
	// busy; in return, a message that comes within that time arrives without a wake-up.
	Spin time.Duration
	// ArenaLimit in bytes and SendTimeout; 0 takes what the supervisor says.
	ArenaLimit  int64
	SendTimeout time.Duration
	// Trim is how often memory that is idle since the last time is given back; 0: only
	// when Writer.Trim is called. It is rounded to seconds.
	Trim time.Duration

	noRecheck bool
	sup       *Supervisor // of this process, if the endpoint is local
}

// recheckEvery bounds the harm of a neighbour that scribbles over the bell: a sleeper
// looks again by itself. It costs about 5 us of CPU each time, and then the monitor of Go's
// runtime some hundred until it is quiet again; so where nothing comes, it looks less often,
// up to recheckIdle. A timer does it for Recv: a futex wait with a time limit costs more, and
// each time.
const (
	recheckEvery = time.Second
	recheckIdle  = 4 * time.Second
)

func (o *Options) recheck() time.Duration {
	if o.noRecheck {
		return 0
	}
	return recheckEvery
}

// Endpoint is a node's place in the shared memory of its dataflow: what it sends and
// what it receives. The supervisor hands it edges while it runs.
type Endpoint struct {
	Writer *Writer
	Reader *Reader

	conn        *conn
	own         *bell
	node        string
	incarnation uint32
	heart       *time.Timer
	pause       time.Duration // to its next beat
	trim, kept  time.Duration // how often it trims, 0: never; since the last time
	ready       chan struct{}
	ended       chan struct{} // the reading goroutine

	mu      sync.Mutex
	nextReq uint64
	waiting map[uint64]chan answer
	lost    error
	closing sync.Once
	left    atomic.Bool // Close was called
}

type answer struct {
	p   *packet
	fds []int
	err error
}

// Dial connects to the supervisor's control socket at path. The token says who the
// caller is; the supervisor gave it to the process that started this node.
func Dial(path, token string, o Options) (*Endpoint, error) {
	if !supported {
		return nil, ErrUnsupported
	}
	sock, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("connect to the shared-memory supervisor: %w", err)
	}
	return open(sock, token, o)
}

// Open uses a control socket that this process inherited. It takes over f.
func Open(f *os.File, token string, o Options) (*Endpoint, error) {
	defer f.Close()
	if !supported {
		return nil, ErrUnsupported
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("use the inherited control socket: %w", err)
	}
	sock, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("use the inherited control socket: it is not a Unix socket")
	}
	return open(sock, token, o)
}

func open(sock *net.UnixConn, token string, o Options) (*Endpoint, error) {
	ep := &Endpoint{
		conn:  newConn(sock, false),
		ready: make(chan struct{}), ended: make(chan struct{}),
		waiting: make(map[uint64]chan answer),
	}
	if err := ep.greet(token, o); err != nil {
		ep.conn.close(false)
		return nil, fmt.Errorf("join the dataflow's shared memory: %w", err)
	}
	go ep.run()
	return ep, nil
}

// greet says hello and takes the welcome.
func (ep *Endpoint) greet(token string, o Options) error {
	if err := ep.conn.send(&packet{Kind: kindHello, Version: protocolVersion, Token: token}); err != nil {
		return err
	}
	_ = ep.conn.sock.SetReadDeadline(time.Now().Add(helloTimeout))
	p, fds, err := ep.conn.receive(packetBuffers())
	if err != nil {
		return err
	}
	_ = ep.conn.sock.SetReadDeadline(time.Time{})
	defer func() {
		for _, fd := range fds {
			closeFD(fd)
		}
	}()
	switch {
	case p.Kind == kindRefused:
		return errors.New(p.Error)
	case p.Kind != kindWelcome:
		return fmt.Errorf("the supervisor answered hello with %s", p.Kind)
	case p.Version != protocolVersion:
		return fmt.Errorf("the supervisor speaks version %d of the protocol, this node version %d", p.Version, protocolVersion)
	}
	if ep.own, err = openBell(fds[0]); err != nil {
		return err
	}
	if o.ArenaLimit == 0 {
		o.ArenaLimit = p.ArenaLimit
	}
	if o.SendTimeout == 0 {
		o.SendTimeout = time.Duration(p.SendTimeoutMS) * time.Millisecond
	}
	ep.node, ep.incarnation = p.Node, p.Incarnation
	ep.Writer = newWriter(p.Node, ep, ep.own, o)
	ep.Reader = newReader(ep, ep.own, o)
	if o.Trim > 0 {
		ep.trim = max(recheckEvery, o.Trim.Truncate(recheckEvery))
	}
	if !o.noRecheck {
		ep.mu.Lock()
		ep.pause = recheckEvery
		ep.heart = time.AfterFunc(ep.pause, ep.beat)
		ep.mu.Unlock()
	}
	return nil
}

func (ep *Endpoint) beat() {
	served := ep.Reader.beat()
	if ep.kept += ep.pause; ep.trim > 0 && ep.kept >= ep.trim {
		ep.Writer.Trim()
		ep.kept = 0
	}
	ep.pause = min(2*ep.pause, recheckIdle)
	if served || ep.Writer.using() {
		ep.pause = recheckEvery
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.lost == nil {
		ep.heart.Reset(ep.pause)
	}
}

// Node is the node's id, as the supervisor knows it.
func (ep *Endpoint) Node() string { return ep.node }

// Incarnation of the node, as the supervisor counts them.
func (ep *Endpoint) Incarnation() uint32 { return ep.incarnation }

// Ready is closed when all edges that existed at the time of the connection are in use.
func (ep *Endpoint) Ready() <-chan struct{} { return ep.ready }

// Done is closed when the connection to the supervisor has ended.
func (ep *Endpoint) Done() <-chan struct{} { return ep.ended }

// run reads the control socket until it ends.
func (ep *Endpoint) run() {
	defer close(ep.ended)
	buf, oob := packetBuffers()
	for {
		p, fds, err := ep.conn.receive(buf, oob)
		if err == nil {
			err = ep.handle(p, fds)
		}
		if err != nil {
			ep.lose(err)
			return
		}
	}
}

// handle takes over fds.
func (ep *Endpoint) handle(p *packet, fds []int) error {
	if p.Req != 0 && (p.Kind == kindSegment || p.Kind == kindRefused) {
		ep.answer(p, fds)
		return nil
	}
	defer func() {
		for _, fd := range fds {
			closeFD(fd)
		}
	}()
	switch p.Kind {
	case kindEdge:
		return ep.attach(p, fds[0], fds[1])
	case kindHeir:
		peer, err := openBell(fds[0])
		if err != nil {
			return err
		}
		ep.Writer.heir(p.Edge, peer)
		fault("heir.known")
		return ep.conn.send(&packet{Kind: kindHanded, Edge: p.Edge})
	case kindNotice:
		ep.Reader.addNotice(newNotice(p))
	case kindGone:
		ep.Writer.removeEdge(p.Edge, p.Held)
	case kindRetired:
		ep.Reader.forgetSegment(p.Member, p.Segment)
	case kindReady:
		select {
		case <-ep.ready:
		default:
			close(ep.ready)
		}
	default:
		return fmt.Errorf("the supervisor sent %s at the wrong time", p.Kind)
	}
	return nil
}

func (ep *Endpoint) attach(p *packet, edgeFD, bellFD int) error {
	spec := p.spec()
	if err := spec.Geometry.check(); err != nil {
		return err
	}
	// The other end may have scribbled over it already: this edge is lost, not all.
	e, ruined := openEdge(edgeFD, spec.ID, spec.Geometry)
	if ruined != nil {
		if p.Role == roleOut {
			ep.broken(spec.ID, fmt.Sprintf("the edge %s/%s of %s cannot be used: %v", spec.Peer, spec.Output, spec.Input, ruined))
			return nil
		}
		var err error
		if e, err = standIn(spec); err != nil {
			return err
		}
	}
	peer, err := openBell(bellFD)
	if err != nil {
		e.close()
		return err
	}
	if p.Role == roleOut {
		ep.Writer.addEdge(spec, e, peer)
	} else {
		ep.Reader.addEdge(spec, e, peer, ruined)
	}
	fault("edge.attached")
	return ep.conn.send(&packet{Kind: kindAttached, Edge: spec.ID})
}

// lose ends everything that needs the supervisor.
func (ep *Endpoint) lose(err error) {
	lost := fmt.Errorf("%w: %w", ErrDisconnected, err)
	if ep.left.Load() {
		lost = ErrClosed
	}
	ep.mu.Lock()
	ep.lost = lost
	waiting := ep.waiting
	ep.waiting = nil
	ep.mu.Unlock()
	for _, c := range waiting {
		c <- answer{err: lost}
	}
	ep.conn.fail(lost)
	ep.Writer.fail(lost)
	ep.Reader.fail(lost)
}

// ask sends a request and waits for its answer. It cannot be given up half-way: the
// answer may carry a file descriptor.
func (ep *Endpoint) ask(p *packet, fds ...int) (*packet, []int, error) {
	c := make(chan answer, 1)
	ep.mu.Lock()
	if ep.lost != nil {
		ep.mu.Unlock()
		return nil, nil, ep.lost
	}
	ep.nextReq++
	p.Req = ep.nextReq
	ep.waiting[p.Req] = c
	ep.mu.Unlock()
	if err := ep.conn.send(p, fds...); err != nil {
		ep.mu.Lock()
		delete(ep.waiting, p.Req)
		ep.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	a := <-c
	if a.err == nil && a.p.Kind == kindRefused {
		a.err = errors.New(a.p.Error)
	}
	return a.p, a.fds, a.err
}

func (ep *Endpoint) answer(p *packet, fds []int) {
	ep.mu.Lock()
	c := ep.waiting[p.Req]
	delete(ep.waiting, p.Req)
	ep.mu.Unlock()
	if c == nil {
		for _, fd := range fds {
			closeFD(fd)
		}
		return
	}
	c <- answer{p: p, fds: fds}
}

func (ep *Endpoint) announce(fd int, size int64, as memory) (uint32, error) {
	p, fds, err := ep.ask(&packet{Kind: kindAnnounce, Size: size, Foreign: as == foreign, Exportable: as == exportable}, fd)
	if err != nil {
		return 0, err
	}
	for _, fd := range fds {
		closeFD(fd)
	}
	return p.Segment, nil
}

func (ep *Endpoint) resolve(edge EdgeID, segment uint32) (fd int, size int64, as memory, err error) {
	p, fds, err := ep.ask(&packet{Kind: kindResolve, Edge: edge, Segment: segment})
	if err != nil {
		return -1, 0, 0, err
	}
	if len(fds) != 1 {
		return -1, 0, 0, errors.New("the supervisor sent no file descriptor for it")
	}
	return fds[0], p.Size, p.memory(), nil
}

// What follows are statements, not questions: if the connection is gone, the supervisor
// has already drawn the conclusions.

func (ep *Endpoint) retire(segment uint32) {
	_ = ep.conn.send(&packet{Kind: kindRetire, Segment: segment})
}

func (ep *Endpoint) drained(edge EdgeID, why string, held bool) {
	_ = ep.conn.send(&packet{Kind: kindDrained, Edge: edge, Reason: why, Held: held})
}

func (ep *Endpoint) broken(edge EdgeID, reason string) {
	_ = ep.conn.send(&packet{Kind: kindBroken, Edge: edge, Error: reason})
}

// Close leaves the dataflow's shared memory. Messages on loan can be read until they are
// released, but their senders take them for released and may write the next ones there.
// Messages already sent are still delivered; use CloseOutput first to let receivers see a
// regular end instead of a lost node.
func (ep *Endpoint) Close() {
	ep.closing.Do(func() {
		ep.left.Store(true)
		ep.conn.close(true)
		<-ep.ended
		if ep.heart != nil {
			ep.heart.Stop()
		}
		ep.Writer.close()
		ep.Reader.close()
		ep.own.close()
	})
}
