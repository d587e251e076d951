package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Target says where a server listens: Socket (a Unix socket path) or Addr (host:port).
type Target struct {
	Socket string
	Addr   string
	Token  string
}

// Client is one connection. Call may be used from many goroutines.
type Client struct {
	Server HelloResult

	c       *websocket.Conn
	wmu     sync.Mutex
	mu      sync.Mutex
	next    int
	pending map[string]chan Frame
	err     error
	closing chan struct{}
	done    chan struct{}
	pushes  chan Frame
}

// ErrLost is returned by calls that were open when the connection ended.
var ErrLost = errors.New("connection to the control socket was lost")

// Dial connects and says hello.
func Dial(ctx context.Context, t Target, hello HelloParams) (*Client, error) {
	d := websocket.Dialer{HandshakeTimeout: 5 * time.Second}
	url := "ws://" + t.Addr + Path
	if t.Socket != "" {
		url = "ws://localhost" + Path
		d.NetDialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var nd net.Dialer
			return nd.DialContext(ctx, "unix", t.Socket)
		}
	}
	h := http.Header{}
	if t.Token != "" {
		h.Set("Authorization", "Bearer "+t.Token)
	}
	c, resp, err := d.DialContext(ctx, url, h)
	if err != nil {
		if resp != nil && resp.StatusCode == http.StatusUnauthorized {
			return nil, &Error{Code: CodeUnauthorized, Message: "the control port refused the token", Hint: "set DORA_AUTH_TOKEN or DORA_HOME to those of the coordinator"}
		}
		return nil, err
	}
	c.SetReadLimit(MaxMessage)
	cl := &Client{c: c, pending: map[string]chan Frame{}, closing: make(chan struct{}), done: make(chan struct{}), pushes: make(chan Frame, 1024)}
	go cl.read()
	hello.Protocol = Protocol
	if err := cl.Call(ctx, "hello", hello, &cl.Server); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

// Close ends the connection and its reader. Call it once.
func (c *Client) Close() {
	close(c.closing)
	_ = c.c.Close()
	<-c.done
}

// Pushes delivers events of the server; it is closed with the connection.
func (c *Client) Pushes() <-chan Frame { return c.pushes }

func (c *Client) read() {
	defer close(c.done)
	defer close(c.pushes)
	for {
		var f Frame
		if err := c.c.ReadJSON(&f); err != nil {
			c.fail(fmt.Errorf("%w: %w", ErrLost, err))
			return
		}
		if f.Event != "" {
			select {
			case c.pushes <- f:
				continue
			case <-c.closing:
				return
			}
		}
		c.mu.Lock()
		ch := c.pending[f.ID]
		delete(c.pending, f.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- f
		} else if f.ID == "" && f.Error != nil {
			c.fail(f.Error)
		}
	}
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, ch := range c.pending {
		delete(c.pending, id)
		close(ch)
	}
}

// Call sends a request and decodes its result into out (nil: ignored).
func (c *Client) Call(ctx context.Context, method string, params, out any) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	ch := make(chan Frame, 1)
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.next++
	id := strconv.Itoa(c.next)
	c.pending[id] = ch
	c.mu.Unlock()

	c.wmu.Lock()
	_ = c.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	err = c.c.WriteJSON(Request{ID: id, Method: method, Params: raw})
	c.wmu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	select {
	case f, ok := <-ch:
		switch {
		case !ok:
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.err
		case f.Error != nil:
			return f.Error
		case out == nil:
			return nil
		}
		if err := json.Unmarshal(f.Result, out); err != nil {
			return fmt.Errorf("result of %s: %w", method, err)
		}
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return ctx.Err()
	}
}
