package nodewire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MaxFrame bounds the body of a frame in bytes (64 MiB, as in dora 1.1.0).
	MaxFrame = 64 << 20
	// MaxStall is how long a body may stand still before the connection is given up.
	MaxStall = 30 * time.Second

	headerSize = 8
	// freeSize is what an announced length may claim before any byte of it arrived.
	freeSize = 1 << 20
	// gatherCopy: shorter pieces of an outgoing frame are joined, longer ones are
	// handed to the kernel where they are.
	gatherCopy = 8 << 10
	// readAhead is the read buffer of a connection. Longer bodies are read straight
	// into their own buffer.
	readAhead = 16 << 10
)

var (
	// ErrFrameTooLarge is returned for a frame above MaxFrame (or what SetLimit allows), in
	// either direction.
	ErrFrameTooLarge = errors.New("frame too large")
	// ErrStalled is returned when a body stands still for longer than MaxStall.
	ErrStalled = errors.New("frame stalled")
)

// Buffer is the body of one received frame. It is counted: who keeps a slice of it past
// its own Release retains it first. After the last Release its memory is used again.
type Buffer struct {
	b     []byte
	refs  atomic.Int32
	class int
}

// Bytes of the frame. Valid until Release.
func (b *Buffer) Bytes() []byte { return b.b }

// Retain adds a holder.
func (b *Buffer) Retain() { b.refs.Add(1) }

// Release drops a holder.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n == 0:
		if b.class >= 0 {
			b.b = b.b[:cap(b.b)]
			if !warm.put(b) {
				pools[b.class].Put(b)
			}
		}
	case n < 0:
		// Returning memory twice would mix up messages of different nodes.
		panic("nodewire: buffer released twice")
	}
}

// Sizes of pooled buffers: four steps per power of two from 512 bytes to above MaxFrame.
const (
	minClassBits = 9
	classCount   = 4*(26-minClassBits) + 1
)

var pools [classCount]sync.Pool

func classSize(c int) int { return (4 + c%4) << (minClassBits - 2 + c/4) }

func classOf(n int) int {
	c := 0
	for c < classCount && classSize(c) < n {
		c++
	}
	if c == classCount {
		return -1
	}
	return c
}

// NewBuffer returns a buffer of n bytes of arbitrary content with one holder.
func NewBuffer(n int) *Buffer {
	if n > warmBytes {
		if f := onHuge.Load(); f != nil {
			(*f)()
		}
	}
	c := classOf(n)
	if c < 0 {
		b := &Buffer{b: make([]byte, n), class: -1}
		b.refs.Store(1)
		return b
	}
	b := warm.get(c)
	if b == nil {
		b, _ = pools[c].Get().(*Buffer)
	}
	if b == nil {
		b = &Buffer{b: make([]byte, classSize(c)), class: c}
	}
	b.b = b.b[:n]
	b.refs.Store(1)
	return b
}

// Conn carries frames over one connection. One goroutine may read and one may write at
// the same time.
type Conn struct {
	nc net.Conn
	r  *bufio.Reader
	// trusted is the longest body that may be given memory before it arrives: a peer
	// earns it by having sent as much.
	trusted int
	limit   int
	stall   time.Duration
	raw     syscall.RawConn // nil if nc is no socket
	g       Gather
	closed  sync.Once
}

// NewConn wraps an established connection and switches off Nagle's algorithm.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{nc: nc, r: bufio.NewReaderSize(nc, readAhead), trusted: freeSize, limit: MaxFrame, stall: MaxStall}
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetNoDelay(true)
		c.raw, _ = tc.SyscallConn()
	}
	return c
}

// Dial connects to the listener of a node protocol server, for example
// "127.0.0.1:53291".
func Dial(addr string, timeout time.Duration) (*Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, fmt.Errorf("connect to dora at %s: %w", addr, err)
	}
	return NewConn(nc), nil
}

// Close ends the connection; blocked reads and writes return.
func (c *Conn) Close() error {
	err := net.ErrClosed
	c.closed.Do(func() { err = c.nc.Close() })
	return err
}

// SetDeadline bounds reads and writes that follow. A deadline in force may be lifted by
// ReadFrame once a long body has arrived.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// SetStall replaces MaxStall, for tests and impatient clients.
func (c *Conn) SetStall(d time.Duration) { c.stall = d }

// SetLimit bounds the frames that follow to n bytes, at most MaxFrame: who has not said
// who they are has nothing long to say.
func (c *Conn) SetLimit(n int) { c.limit = min(n, MaxFrame) }

// Buffered says how many bytes have been read ahead of the last frame.
func (c *Conn) Buffered() int { return c.r.Buffered() }

// ReadFrame waits for the next frame, for ever if need be; only a body that has begun to
// arrive must not stand still. The caller owns the buffer and releases it. The error is
// io.EOF when the peer closed the connection between two frames.
func (c *Conn) ReadFrame() (*Buffer, error) {
	head, err := c.r.Peek(headerSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	length := binary.LittleEndian.Uint64(head)
	if length > uint64(c.limit) {
		return nil, fmt.Errorf("%w: %d bytes announced, at most %d allowed", ErrFrameTooLarge, length, c.limit)
	}
	_, _ = c.r.Discard(headerSize)
	n := int(length)
	if n <= c.r.Buffered() {
		b := NewBuffer(n)
		_, err := io.ReadFull(c.r, b.b)
		return b, err
	}
	return c.readLong(n)
}

// readLong reads a body of which part is still under way. Memory grows with what has
// arrived, and a deadline moves with it.
func (c *Conn) readLong(n int) (*Buffer, error) {
	b := NewBuffer(min(n, c.trusted))
	var armed time.Time
	for have := 0; ; {
		// Moving a deadline costs more than reading the clock; an eighth of
		// imprecision is fine.
		if now := time.Now(); now.Sub(armed) > c.stall/8 {
			armed = now
			if err := c.nc.SetReadDeadline(now.Add(c.stall)); err != nil {
				b.Release()
				return nil, err
			}
		}
		got, err := c.r.Read(b.b[have:])
		have += got
		if err != nil {
			b.Release()
			return nil, c.cutOff(err, have, n)
		}
		if have == n {
			break
		}
		if have == len(b.b) {
			bigger := NewBuffer(min(n, 2*have))
			copy(bigger.b, b.b)
			b.Release()
			b = bigger
		}
	}
	c.trusted = max(c.trusted, n)
	return b, c.nc.SetReadDeadline(time.Time{})
}

func (c *Conn) cutOff(err error, have, n int) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return fmt.Errorf("%w: %d of %d bytes came, then nothing for %v", ErrStalled, have, n, c.stall)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("frame cut after %d of %d bytes: %w", have, n, err)
}

// Gather collects the pieces of one outgoing frame. Short pieces are copied, long ones
// referred to until the frame is written. The zero value is ready.
type Gather struct {
	small []byte
	segs  []segment
	total int
	sent  int // bytes of small that TryWrite sent
	bufs  net.Buffers
}

// segment is a stretch of Gather.small, or a foreign slice.
type segment struct {
	start, end int
	ref        []byte
}

// Reset forgets everything collected.
func (g *Gather) Reset() {
	g.small = append(g.small[:0], make([]byte, headerSize)...)
	clear(g.segs)
	g.segs = append(g.segs[:0], segment{end: headerSize})
	g.total, g.sent = 0, 0
}

// Len is the length of the frame's body so far, in bytes.
func (g *Gather) Len() int { return g.total }

// Add appends b, which must not change until the frame is written.
func (g *Gather) Add(b []byte) {
	g.total += len(b)
	if len(b) >= gatherCopy {
		g.segs = append(g.segs, segment{ref: b})
		return
	}
	g.small = append(g.small, b...)
	g.extend()
}

// Scratch returns a slice to append a short piece to; hand the result to Commit.
func (g *Gather) Scratch() []byte { return g.small }

// Commit takes back what Scratch gave out, with bytes appended.
func (g *Gather) Commit(b []byte) {
	g.total += len(b) - len(g.small)
	g.small = b
	g.extend()
}

// extend lets the last segment cover all of small.
func (g *Gather) extend() {
	last := &g.segs[len(g.segs)-1]
	if last.ref == nil {
		last.end = len(g.small)
		return
	}
	start := 0
	for i := len(g.segs) - 1; i >= 0; i-- {
		if g.segs[i].ref == nil {
			start = g.segs[i].end
			break
		}
	}
	g.segs = append(g.segs, segment{start: start, end: len(g.small)})
}

// TryWrite sends what g collected as far as that is possible without blocking. If done
// is false, WriteGather sends the rest. Nothing is sent if g refers to long pieces.
func (c *Conn) TryWrite(g *Gather) (done bool, err error) {
	if c.raw == nil || len(g.segs) != 1 {
		return false, nil
	}
	if g.total > MaxFrame {
		return false, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrFrameTooLarge, g.total, MaxFrame)
	}
	binary.LittleEndian.PutUint64(g.small, uint64(g.total))
	var n int
	var werr error
	err = c.raw.Write(func(fd uintptr) bool {
		n, werr = syscall.Write(int(fd), g.small[g.sent:])
		return true
	})
	if err != nil {
		return false, err
	}
	if werr == syscall.EAGAIN || werr == syscall.EINTR {
		return false, nil
	}
	if werr != nil {
		return false, fmt.Errorf("write: %w", werr)
	}
	g.sent += n
	return g.sent == len(g.small), nil
}

// WriteGather sends what g collected since Reset as one frame.
func (c *Conn) WriteGather(g *Gather) error {
	if g.total > MaxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d allowed", ErrFrameTooLarge, g.total, MaxFrame)
	}
	if g.sent == 0 {
		binary.LittleEndian.PutUint64(g.small, uint64(g.total))
	}
	if len(g.segs) == 1 {
		_, err := c.nc.Write(g.small[g.sent:])
		return err
	}
	bufs := g.bufs[:0]
	for _, s := range g.segs {
		if s.ref != nil {
			bufs = append(bufs, s.ref)
		} else {
			bufs = append(bufs, g.small[s.start:s.end])
		}
	}
	g.bufs = bufs
	_, err := bufs.WriteTo(c.nc) // one writev on a TCP connection
	clear(g.bufs)
	return err
}

// Write sends one frame whose body is the parts in order.
func (c *Conn) Write(parts ...[]byte) error {
	c.g.Reset()
	for _, p := range parts {
		c.g.Add(p)
	}
	return c.WriteGather(&c.g)
}

// Send sends one request (the node's side).
func (c *Conn) Send(r *Request) error {
	c.g.Reset()
	c.g.Commit(AppendRequest(c.g.Scratch(), r))
	return c.WriteGather(&c.g)
}

// Call sends a request and waits for its reply. The slices of the reply alias the
// buffer, which the caller releases. A Result that says "failed" is a reply, not an
// error.
func (c *Conn) Call(r *Request) (Reply, *Buffer, error) {
	if err := c.Send(r); err != nil {
		return Reply{}, nil, fmt.Errorf("send %v: %w", r.Kind, err)
	}
	return c.ReadReply()
}

// ReadReply waits for the next reply. The caller releases the buffer.
func (c *Conn) ReadReply() (Reply, *Buffer, error) {
	b, err := c.ReadFrame()
	if err != nil {
		return Reply{}, nil, err
	}
	reply, err := DecodeReply(b.Bytes())
	if err != nil {
		b.Release()
		return Reply{}, nil, err
	}
	return reply, b, nil
}
