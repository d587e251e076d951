package shm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// maxBacklog is how many messages may wait for a peer that does not read them, for
// example because it is stopped.
const maxBacklog = 16 << 10

// conn sends and receives packets. Sending never blocks: a goroutine writes.
type conn struct {
	sock     *net.UnixConn
	fromNode bool // the peer is a node

	mu      sync.Mutex
	queue   []queued
	busy    bool // write has taken some out of queue
	err     error
	more    chan struct{}
	done    chan struct{} // closed with err
	writing sync.WaitGroup
}

type queued struct {
	data []byte
	fds  []int // duplicates
}

func newConn(sock *net.UnixConn, fromNode bool) *conn {
	c := &conn{sock: sock, fromNode: fromNode, more: make(chan struct{}, 1), done: make(chan struct{})}
	c.writing.Add(1)
	go c.write()
	return c
}

// send queues a packet. The file descriptors stay the caller's.
func (c *conn) send(p *packet, fds ...int) error {
	data, err := p.encode()
	if err != nil {
		return err
	}
	q := queued{data: data}
	for _, fd := range fds {
		d, err := dupFD(fd)
		if err != nil {
			q.close()
			return err
		}
		q.fds = append(q.fds, d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && len(c.queue) >= maxBacklog {
		c.failLocked(fmt.Errorf("%d control messages wait and the peer reads none: it is stopped or hangs", len(c.queue)))
	}
	if c.err != nil {
		q.close()
		return c.err
	}
	c.queue = append(c.queue, q)
	select {
	case c.more <- struct{}{}:
	default:
	}
	return nil
}

func (q *queued) close() {
	for _, fd := range q.fds {
		closeFD(fd)
	}
	q.fds = nil
}

// write sends what is queued until the connection fails.
func (c *conn) write() {
	defer c.writing.Done()
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		c.busy = len(batch) > 0
		err := c.err
		c.mu.Unlock()
		for i := range batch {
			q := &batch[i]
			if err == nil {
				var rights []byte
				if len(q.fds) > 0 {
					rights = syscall.UnixRights(q.fds...)
				}
				if _, _, werr := c.sock.WriteMsgUnix(q.data, rights, nil); werr != nil {
					err = fmt.Errorf("write to a control socket: %w", werr)
					c.fail(err)
				}
			}
			q.close()
		}
		if err != nil {
			c.mu.Lock()
			for i := range c.queue {
				c.queue[i].close()
			}
			c.queue = nil
			c.mu.Unlock()
			return
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-c.more:
		case <-c.done:
		}
	}
}

// fail ends the connection; the first reason stays.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *conn) failLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	// Wakes a read or write in progress; close also does, but may come later.
	_ = c.sock.SetDeadline(time.Unix(1, 0))
}

// close ends the connection. With flush, what is queued is sent first, within a second.
func (c *conn) close(flush bool) {
	if flush {
		c.flush(time.Second)
	}
	c.fail(ErrClosed)
	c.writing.Wait()
	_ = c.sock.Close()
}

func (c *conn) flush(limit time.Duration) {
	_ = c.sock.SetWriteDeadline(time.Now().Add(limit))
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.mu.Lock()
		empty := len(c.queue) == 0 && !c.busy || c.err != nil
		c.mu.Unlock()
		if empty {
			return
		}
	}
}

// receive reads one packet. The caller owns its file descriptors. io.EOF means that the
// peer closed the connection or died.
func (c *conn) receive(buf, oob []byte) (*packet, []int, error) {
	n, oobn, flags, _, err := c.sock.ReadMsgUnix(buf, oob)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return nil, nil, io.EOF
		}
		return nil, nil, fmt.Errorf("read from a control socket: %w", err)
	}
	fds, err := rightsOf(oob[:oobn])
	drop := func(err error) (*packet, []int, error) {
		for _, fd := range fds {
			closeFD(fd)
		}
		return nil, nil, err
	}
	switch {
	case err != nil:
		return drop(err)
	case n == 0 && oobn == 0:
		return drop(io.EOF)
	case flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0:
		return drop(fmt.Errorf("a control message of more than %d bytes or %d file descriptors", maxPacket, maxPacketFDs))
	}
	p, err := decodePacket(buf[:n], len(fds), c.fromNode)
	if err != nil {
		return drop(err)
	}
	return p, fds, nil
}

// buffers for receive.
func packetBuffers() (buf, oob []byte) {
	return make([]byte, maxPacket), make([]byte, syscall.CmsgSpace(4*maxPacketFDs))
}

// rightsOf takes the file descriptors out of a control buffer. They are returned also
// with an error.
func rightsOf(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("read file descriptors from a control socket: %w", err)
	}
	var fds []int
	for i := range msgs {
		if msgs[i].Header.Level != syscall.SOL_SOCKET || msgs[i].Header.Type != syscall.SCM_RIGHTS {
			continue
		}
		got, perr := syscall.ParseUnixRights(&msgs[i])
		if perr != nil {
			err = fmt.Errorf("read file descriptors from a control socket: %w", perr)
			continue
		}
		fds = append(fds, got...)
	}
	return fds, err
}

// reason returns why the connection ended, given what receive returned; nil is a
// regular end.
func (c *conn) reason(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		err = c.err // receive only says that it was woken
	}
	for _, regular := range []error{io.EOF, ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, regular) {
			return nil
		}
	}
	return err
}
