package ws

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// Handler answers one method. Params are the raw parameters; the result is encoded as
// JSON. An *Error is sent as it is, any other error with CodeInternal.
type Handler func(ctx context.Context, s *Session, params json.RawMessage) (any, error)

// Server answers the control plane. Register handlers before Serve.
type Server struct {
	Hello HelloResult
	// Token, if set, is required as `Authorization: Bearer` or `?token=`.
	Token string

	handlers map[string]Handler
	conns    atomic.Int64
	http     *http.Server
	wg       sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc
}

// NewServer makes a server that introduces itself by hello.
func NewServer(hello HelloResult) *Server {
	hello.Protocol = Protocol
	s := &Server{Hello: hello, handlers: map[string]Handler{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc(Path, s.upgrade)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	return s
}

// Handle registers the handler of a method.
func (s *Server) Handle(method string, h Handler) { s.handlers[method] = h }

// Serve accepts connections until Close.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close ends the listener and every connection, and waits for their goroutines.
func (s *Server) Close() {
	s.cancel()
	_ = s.http.Close()
	s.wg.Wait()
}

func (s *Server) authorized(r *http.Request) bool {
	if s.Token == "" {
		return true
	}
	got := r.URL.Query().Get("token")
	if h, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		got = h
	}
	return subtle.ConstantTimeCompare([]byte(got), []byte(s.Token)) == 1
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(r) {
		http.Error(w, "token missing or wrong", http.StatusUnauthorized)
		return
	}
	if s.conns.Add(1) > MaxConnections {
		s.conns.Add(-1)
		http.Error(w, "too many connections", http.StatusServiceUnavailable)
		return
	}
	s.wg.Add(1)
	defer s.wg.Done()
	defer s.conns.Add(-1)
	up := websocket.Upgrader{HandshakeTimeout: 5 * time.Second} // its default Origin check: same host or none
	c, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	sess := &Session{c: c, Remote: r.RemoteAddr, done: ctx.Done()}
	sess.serve(ctx, s)
	cancel()
	sess.end()
	_ = c.Close()
}

// Session is one client's connection.
type Session struct {
	// Remote is the client's network address, Client what it said of itself.
	Remote string
	Client HelloParams

	c    *websocket.Conn
	mu   sync.Mutex // held while a frame is written
	done <-chan struct{}

	calls  calls
	closed []func()
}

// OnClose has f called when the connection has ended. Call it from a handler.
func (s *Session) OnClose(f func()) {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	s.closed = append(s.closed, f)
}

// Done is closed when the connection ends.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the connection.
func (s *Session) Close() { _ = s.c.Close() }

// end fails the calls that are open and tells whoever asked for it.
func (s *Session) end() {
	s.calls.fail(ErrLost)
	s.calls.mu.Lock()
	closed := s.closed
	s.calls.mu.Unlock()
	for _, f := range closed {
		f()
	}
}

// Call sends a request to the client and decodes its result into out (nil: ignored).
func (s *Session) Call(ctx context.Context, method string, params, out any) error {
	return s.calls.call(ctx, method, params, out, func(id string, raw json.RawMessage) error {
		return s.write(Frame{ID: id, Method: method, Params: raw})
	})
}

const (
	// writeTimeout bounds one write to a client that does not read.
	writeTimeout = 10 * time.Second
	// helloTimeout bounds the wait for the first frame.
	helloTimeout = 5 * time.Second
	// A client that shows no sign of life, not even an answer to a ping, is gone.
	pingEvery   = 3 * time.Second
	lifeTimeout = 10 * time.Second
)

// bucket admits MaxRate requests a second, and MaxBurst at once.
type bucket struct {
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(MaxBurst, b.tokens+now.Sub(b.last).Seconds()*MaxRate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// keepAlive pings the client until the connection ends.
func (s *Session) keepAlive(ctx context.Context) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if s.c.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Push sends an event to this client.
func (s *Session) Push(event string, payload any) error {
	raw, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	return s.write(Frame{Event: event, Payload: raw})
}

func (s *Session) write(f Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.c.SetWriteDeadline(time.Now().Add(writeTimeout))
	return s.c.WriteJSON(f)
}

func (s *Session) serve(ctx context.Context, srv *Server) {
	s.c.SetReadLimit(MaxMessage)
	greeted := false
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { s.keepAlive(ctx) })
	_ = s.c.SetReadDeadline(time.Now().Add(helloTimeout))
	s.c.SetPongHandler(func(string) error {
		if greeted {
			_ = s.c.SetReadDeadline(time.Now().Add(lifeTimeout))
		}
		return nil
	})
	rate := bucket{tokens: MaxBurst, last: time.Now()}
	open := make(chan struct{}, MaxOpen)
	for {
		_, raw, err := s.c.ReadMessage()
		if err != nil {
			return
		}
		if greeted {
			_ = s.c.SetReadDeadline(time.Now().Add(lifeTimeout))
		}
		var f Frame
		if err := json.Unmarshal(raw, &f); err != nil || f.ID == "" {
			_ = s.write(Frame{Error: Errorf(CodeBadRequest, "frame is not a request with id and method")})
			return
		}
		if greeted && f.Method == "" && (f.Result != nil || f.Error != nil) {
			s.calls.answer(f)
			continue
		}
		req := Request{ID: f.ID, Method: f.Method, Params: f.Params}
		if !greeted {
			if f := srv.greet(s, req); f.Error != nil {
				_ = s.write(f)
				return
			} else if s.write(f) != nil {
				return
			}
			greeted = true
			_ = s.c.SetReadDeadline(time.Now().Add(lifeTimeout))
			continue
		}
		if !rate.take(time.Now()) {
			_ = s.write(Frame{ID: req.ID, Error: &Error{Code: CodeRate, Hint: "wait a little",
				Message: Errorf("", "more than %d requests in a second on one connection", MaxRate).Message}})
			continue
		}
		select {
		case open <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-open }()
			_ = s.write(srv.answer(ctx, s, req))
		})
	}
}

func (s *Server) greet(sess *Session, req Request) Frame {
	var p HelloParams
	if req.Method != "hello" || json.Unmarshal(req.Params, &p) != nil {
		return Frame{ID: req.ID, Error: Errorf(CodeBadRequest, "the first request must be hello")}
	}
	if p.Protocol != Protocol {
		return Frame{ID: req.ID, Error: &Error{Code: CodeVersion,
			Message: Errorf("", "control protocol versions differ: server %d (dora %s), client %d (dora %s)", Protocol, s.Hello.Version, p.Protocol, p.Version).Message,
			Hint:    "use the same dora release on both sides"}}
	}
	sess.Client = p
	return result(req.ID, s.Hello)
}

func (s *Server) answer(ctx context.Context, sess *Session, req Request) Frame {
	h, ok := s.handlers[req.Method]
	if !ok {
		return Frame{ID: req.ID, Error: Errorf(CodeUnknownMethod, "unknown method %q", req.Method)}
	}
	return respond(req.ID, req.Method, func() (any, error) { return h(ctx, sess, req.Params) })
}

// respond makes the response to a request of what its handler gives.
func respond(id, method string, handle func() (any, error)) (f Frame) {
	defer func() {
		if p := recover(); p != nil {
			f = Frame{ID: id, Error: Errorf(CodeInternal, "%s failed: %v", method, p)}
		}
	}()
	v, err := handle()
	if err == nil {
		return result(id, v)
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeInternal, Message: err.Error()}
	}
	return Frame{ID: id, Error: e}
}

func result(id string, v any) Frame {
	raw, err := json.Marshal(v)
	if err != nil {
		return Frame{ID: id, Error: Errorf(CodeInternal, "encode result: %v", err)}
	}
	return Frame{ID: id, Result: raw}
}
