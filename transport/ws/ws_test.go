package ws

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t *testing.T, configure func(*Server)) Target {
	t.Helper()
	s := NewServer(HelloResult{Version: "1.2.3", Role: "run", PID: 42})
	if configure != nil {
		configure(s)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return Target{Socket: path}
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return c
}

func TestCallReturnsResultAndError(t *testing.T) {
	target := serve(t, func(s *Server) {
		s.Handle("double", func(_ context.Context, _ *Session, p json.RawMessage) (any, error) {
			var n int
			if err := json.Unmarshal(p, &n); err != nil {
				return nil, Errorf(CodeBadRequest, "not a number: %s", p)
			}
			return 2 * n, nil
		})
		s.Handle("refuse", func(context.Context, *Session, json.RawMessage) (any, error) {
			return nil, &Error{Code: "gone", Message: "no dataflow x", Hint: "dora list"}
		})
		s.Handle("panic", func(context.Context, *Session, json.RawMessage) (any, error) { panic("boom") })
	})
	c, err := Dial(ctx(t), target, HelloParams{Version: "1", Role: "cli"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Server.PID != 42 || c.Server.Protocol != Protocol {
		t.Errorf("hello = %+v", c.Server)
	}
	var n int
	if err := c.Call(ctx(t), "double", 21, &n); err != nil || n != 42 {
		t.Errorf("double 21 = %d, %v", n, err)
	}
	for method, code := range map[string]string{"refuse": "gone", "panic": CodeInternal, "nothing": CodeUnknownMethod} {
		var e *Error
		if err := c.Call(ctx(t), method, nil, nil); !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: %v, want code %s", method, err, code)
		}
	}
	if err := c.Call(ctx(t), "double", 1, &n); err != nil || n != 2 {
		t.Errorf("after errors: %d, %v", n, err)
	}
}

func TestPushes(t *testing.T) {
	target := serve(t, func(s *Server) {
		s.Handle("watch", func(_ context.Context, sess *Session, _ json.RawMessage) (any, error) {
			for i := range 3 {
				if err := sess.Push("tick", i); err != nil {
					return nil, err
				}
			}
			return "ok", nil
		})
	})
	c, err := Dial(ctx(t), target, HelloParams{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Call(ctx(t), "watch", nil, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		f := <-c.Pushes()
		if f.Event != "tick" || string(f.Payload) != string(rune('0'+i)) {
			t.Errorf("push %d = %+v", i, f)
		}
	}
}

func TestServerCallsClient(t *testing.T) {
	sessions, ended := make(chan *Session, 1), make(chan struct{})
	target := serve(t, func(s *Server) {
		s.Handle("register", func(_ context.Context, sess *Session, _ json.RawMessage) (any, error) {
			sess.OnClose(func() { close(ended) })
			sessions <- sess
			return nil, nil
		})
	})
	hang := make(chan struct{})
	c, err := DialServing(ctx(t), target, HelloParams{Role: "daemon"}, map[string]ClientHandler{
		"add": func(_ context.Context, p json.RawMessage) (any, error) {
			var n []int
			if err := json.Unmarshal(p, &n); err != nil || len(n) != 2 {
				return nil, Errorf(CodeBadRequest, "want two numbers")
			}
			return n[0] + n[1], nil
		},
		"hang": func(ctx context.Context, _ json.RawMessage) (any, error) {
			close(hang)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(ctx(t), "register", nil, nil); err != nil {
		t.Fatal(err)
	}
	s := <-sessions
	if s.Client.Role != "daemon" {
		t.Errorf("client is %+v", s.Client)
	}
	var sum int
	if err := s.Call(ctx(t), "add", []int{2, 3}, &sum); err != nil || sum != 5 {
		t.Errorf("2 + 3 = %d, %v", sum, err)
	}
	for method, code := range map[string]string{"add": CodeBadRequest, "nothing": CodeUnknownMethod} {
		var e *Error
		if err := s.Call(ctx(t), method, nil, nil); !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: %v, want code %s", method, err, code)
		}
	}
	lost := make(chan error, 1)
	go func() { lost <- s.Call(ctx(t), "hang", nil, nil) }()
	<-hang
	c.Close()
	if err := <-lost; !errors.Is(err, ErrLost) {
		t.Errorf("a call over a lost connection: %v", err)
	}
	<-ended
	if err := s.Call(ctx(t), "add", nil, nil); !errors.Is(err, ErrLost) {
		t.Errorf("a call after the end: %v", err)
	}
}

func TestOtherProtocolVersionIsRefused(t *testing.T) {
	target := serve(t, nil)
	c := raw(t, target, nil)
	defer c.Close()
	_ = c.WriteJSON(Request{ID: "1", Method: "hello", Params: json.RawMessage(`{"protocol":99,"version":"9.9.9"}`)})
	var f Frame
	if err := c.ReadJSON(&f); err != nil || f.Error == nil || f.Error.Code != CodeVersion {
		t.Fatalf("got %+v, %v", f, err)
	}
	for _, want := range []string{"9.9.9", "1.2.3"} {
		if !strings.Contains(f.Error.Message, want) {
			t.Errorf("message %q does not name %s", f.Error.Message, want)
		}
	}
}

func TestTokenAndOrigin(t *testing.T) {
	target := serve(t, func(s *Server) { s.Token = "secret" })
	var e *Error
	if _, err := Dial(ctx(t), target, HelloParams{}); !errors.As(err, &e) || e.Code != CodeUnauthorized {
		t.Errorf("without token: %v", err)
	}
	target.Token = "secret"
	c, err := Dial(ctx(t), target, HelloParams{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	_, resp, err := dialer(target).Dial("ws://localhost"+Path+"?token=secret", http.Header{"Origin": {"http://evil.example"}})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("foreign origin: %v, %v", resp, err)
	}
}

func TestHostileFramesEndOneConnectionOnly(t *testing.T) {
	target := serve(t, nil)
	for name, frame := range map[string][]byte{
		"garbage":    []byte("\x00\xff{{{"),
		"no id":      []byte(`{"method":"hello"}`),
		"wrong type": []byte(`{"id":7,"method":[]}`),
		"too large":  []byte(`{"id":"` + strings.Repeat("x", MaxMessage) + `"}`),
		"not hello":  []byte(`{"id":"1","method":"list"}`),
	} {
		c := raw(t, target, nil)
		_ = c.WriteMessage(websocket.TextMessage, frame)
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			if _, _, err := c.ReadMessage(); err != nil {
				if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
					t.Errorf("%s: the connection stayed open", name)
				}
				break
			}
		}
		_ = c.Close()
	}
	c, err := Dial(ctx(t), target, HelloParams{})
	if err != nil {
		t.Fatalf("after hostile frames: %v", err)
	}
	c.Close()
}

func TestLostConnectionFailsOpenCalls(t *testing.T) {
	entered := make(chan struct{})
	target := serve(t, func(s *Server) {
		s.Handle("hang", func(ctx context.Context, _ *Session, _ json.RawMessage) (any, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	c, err := Dial(ctx(t), target, HelloParams{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { <-entered; _ = c.c.Close() }()
	if err := c.Call(ctx(t), "hang", nil, nil); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
}

func FuzzServe(f *testing.F) {
	f.Add([]byte(`{"id":"1","method":"hello","params":{"protocol":1}}`))
	f.Add([]byte(`{"id":"1","method":"x","params":null}`))
	f.Add([]byte("\x00"))
	s := NewServer(HelloResult{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req Request
		if json.Unmarshal(raw, &req) != nil {
			return
		}
		_ = s.greet(&Session{}, req)
		_ = s.answer(context.Background(), nil, req)
	})
}

func dialer(t Target) *websocket.Dialer {
	return &websocket.Dialer{NetDialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", t.Socket)
	}}
}

func raw(t *testing.T, target Target, h http.Header) *websocket.Conn {
	t.Helper()
	c, _, err := dialer(target).Dial("ws://localhost"+Path, h)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTooManyRequestsAreRefused(t *testing.T) {
	target := serve(t, func(s *Server) {
		s.Handle("nothing", func(context.Context, *Session, json.RawMessage) (any, error) { return nil, nil })
	})
	c, err := Dial(ctx(t), target, HelloParams{Role: "cli"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	refused := 0
	for range 3 * MaxBurst {
		var e *Error
		if err := c.Call(ctx(t), "nothing", nil, nil); errors.As(err, &e) && e.Code == CodeRate {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	time.Sleep(20 * time.Millisecond)
	if err := c.Call(ctx(t), "nothing", nil, nil); err != nil {
		t.Errorf("a little later: %v", err)
	}
}

func TestOpenRequestsHoldTheClientBack(t *testing.T) {
	hold := make(chan struct{})
	var running, most atomic.Int64
	target := serve(t, func(s *Server) {
		s.Handle("wait", func(ctx context.Context, _ *Session, _ json.RawMessage) (any, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return nil, nil
		})
	})
	c, err := Dial(ctx(t), target, HelloParams{Role: "cli"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for range 2 * MaxOpen {
		wg.Go(func() {
			if err := c.Call(ctx(t), "wait", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for running.Load() < MaxOpen {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	close(hold)
	wg.Wait()
	if most.Load() > MaxOpen {
		t.Errorf("%d requests were open at once", most.Load())
	}
}

func TestSilentClientsAreDropped(t *testing.T) {
	target := serve(t, nil)
	c := raw(t, target, nil)
	defer c.Close()
	begin := time.Now()
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("a frame without a hello")
	}
	if took := time.Since(begin); took > helloTimeout+3*time.Second {
		t.Errorf("it was held for %v", took)
	}
}
