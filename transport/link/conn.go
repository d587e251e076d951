package link

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// MaxFrame bounds the JSON document of one frame, in bytes. A Load of 10,000 nodes
// needs about 8 MiB.
const MaxFrame = 32 << 20

// ErrFrameTooLarge is returned for a frame above MaxFrame, in either direction.
var ErrFrameTooLarge = errors.New("link: frame larger than 32 MiB")

// Conn carries frames over one socket. Reads belong to one goroutine; writes may
// come from many.
type Conn struct {
	nc net.Conn
	r  *bufio.Reader

	mu sync.Mutex
	w  *bufio.Writer
}

// NewConn wraps an established connection.
func NewConn(nc net.Conn) *Conn {
	return &Conn{nc: nc, r: bufio.NewReaderSize(nc, 16<<10), w: bufio.NewWriterSize(nc, 16<<10)}
}

// Dial connects to a shim's socket. A missing socket or a refused connection is an
// answer (nobody listens), not a reason to wait.
func Dial(path string, timeout time.Duration) (*Conn, error) {
	nc, err := net.DialTimeout("unix", path, timeout)
	if err != nil {
		return nil, fmt.Errorf("link: connect to shim at %s: %w", path, err)
	}
	return NewConn(nc), nil
}

// Close ends the connection; a blocked read returns.
func (c *Conn) Close() error { return c.nc.Close() }

// SetDeadline bounds reads and writes that follow.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// SetWriteDeadline bounds the writes that follow.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.nc.SetWriteDeadline(t) }

// Send writes v (a Command or a Message) as one frame.
func (c *Conn) Send(v any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := writeFrame(c.w, v); err != nil {
		return err
	}
	return c.w.Flush()
}

// SendAll writes several messages with one flush.
func (c *Conn) SendAll(vs []Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range vs {
		if err := writeFrame(c.w, &vs[i]); err != nil {
			return err
		}
	}
	return c.w.Flush()
}

// ReadCommand reads the next command (the shim's side).
func (c *Conn) ReadCommand() (*Command, error) {
	var cmd Command
	if err := readFrame(c.r, &cmd); err != nil {
		return nil, err
	}
	return &cmd, nil
}

// ReadMessage reads the next message (the daemon's side).
func (c *Conn) ReadMessage() (*Message, error) {
	var m Message
	if err := readFrame(c.r, &m); err != nil {
		return nil, err
	}
	return &m, nil
}

func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("link: encode %T: %w", v, err)
	}
	if len(body) > MaxFrame {
		return ErrFrameTooLarge
	}
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(body)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// readFrame grows its buffer as bytes arrive, so that a hostile length costs no
// memory.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint32(head[:]))
	if n > MaxFrame {
		return ErrFrameTooLarge
	}
	const step = 64 << 10
	body := make([]byte, 0, min(n, step))
	for len(body) < n {
		chunk := min(n-len(body), step)
		start := len(body)
		body = append(body, make([]byte, chunk)...)
		if _, err := io.ReadFull(r, body[start:]); err != nil {
			return fmt.Errorf("link: frame cut after %d of %d bytes: %w", start, n, io.ErrUnexpectedEOF)
		}
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("link: frame is not a %T: %w", v, err)
	}
	return nil
}
