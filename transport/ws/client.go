package ws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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

// ClientHandler answers a request of the server (see Session.Call).
type ClientHandler func(ctx context.Context, params json.RawMessage) (any, error)

// Client is one connection. Call may be used from many goroutines.
type Client struct {
	Server HelloResult

	c        *websocket.Conn
	wmu      sync.Mutex
	calls    calls
	handlers map[string]ClientHandler
	handling sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
	once     sync.Once
	done     chan struct{}
	pushes   chan Frame
}

// ErrLost is returned by calls that were open when the connection ended.
var ErrLost = errors.New("connection to the control socket was lost")

// Dial connects and says hello.
func Dial(ctx context.Context, t Target, hello HelloParams) (*Client, error) {
	return DialServing(ctx, t, hello, nil)
}

// DialServing is Dial for a client that answers requests of the server.
func DialServing(ctx context.Context, t Target, hello HelloParams, handlers map[string]ClientHandler) (*Client, error) {
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
	cl := &Client{c: c, handlers: handlers, done: make(chan struct{}), pushes: make(chan Frame, 1024)}
	cl.ctx, cl.cancel = context.WithCancel(context.Background())
	go cl.read()
	hello.Protocol = Protocol
	if err := cl.Call(ctx, "hello", hello, &cl.Server); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

// Close ends the connection and its reader.
func (c *Client) Close() {
	c.once.Do(func() {
		c.cancel()
		_ = c.c.Close()
	})
	<-c.done
	c.handling.Wait()
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Pushes delivers events of the server; it is closed with the connection.
func (c *Client) Pushes() <-chan Frame { return c.pushes }

func (c *Client) read() {
	defer close(c.done)
	defer close(c.pushes)
	defer c.cancel()
	for {
		var f Frame
		if err := c.c.ReadJSON(&f); err != nil {
			c.calls.fail(fmt.Errorf("%w: %w", ErrLost, err))
			return
		}
		switch {
		case f.Event != "":
			select {
			case c.pushes <- f:
			case <-c.ctx.Done():
				c.calls.fail(ErrLost)
				return
			}
		case f.Method != "":
			c.handling.Go(func() { c.serve(f) })
		case !c.calls.answer(f) && f.ID == "" && f.Error != nil:
			c.calls.fail(f.Error)
		}
	}
}

// serve answers a request of the server.
func (c *Client) serve(f Frame) {
	h, ok := c.handlers[f.Method]
	answer := Frame{ID: f.ID, Error: Errorf(CodeUnknownMethod, "unknown method %q", f.Method)}
	if ok {
		answer = respond(f.ID, f.Method, func() (any, error) { return h(c.ctx, f.Params) })
	}
	_ = c.write(answer)
}

func (c *Client) write(v any) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_ = c.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	return c.c.WriteJSON(v)
}

// Call sends a request and decodes its result into out (nil: ignored).
func (c *Client) Call(ctx context.Context, method string, params, out any) error {
	return c.calls.call(ctx, method, params, out, func(id string, raw json.RawMessage) error {
		return c.write(Request{ID: id, Method: method, Params: raw})
	})
}
