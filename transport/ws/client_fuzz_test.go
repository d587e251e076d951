package ws

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// FuzzClient sends a client, which is what a daemon is to its coordinator, a frame that no
// server should send: it ends the connection or goes on, and its calls come to an end.
func FuzzClient(f *testing.F) {
	for _, frame := range []string{
		`{"id":"9","method":"order","params":{"number":1}}`, `{"id":"2","result":[1]}`, `{"id":"2","error":{"code":"x"}}`, `{"error":{}}`,
		`{"event":"log","payload":{}}`, `{"id":"1","result":null}`, `{"method":"nothing"}`, `[]`, `{"id":1}`, "\x00",
	} {
		f.Add([]byte(frame))
	}
	dir, err := os.MkdirTemp("", "ws")
	if err != nil {
		f.Fatal(err)
	}
	defer os.RemoveAll(dir)
	target := Target{Socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", target.Socket)
	if err != nil {
		f.Fatal(err)
	}
	frames := make(chan []byte, 1)
	up := websocket.Upgrader{}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			_, raw, err := c.ReadMessage()
			var req Request
			if err != nil || json.Unmarshal(raw, &req) != nil {
				return
			}
			if req.Method == "call" {
				_ = c.WriteMessage(websocket.TextMessage, <-frames)
			}
			if req.Method != "" { // and not an answer of the client
				_ = c.WriteJSON(Frame{ID: req.ID, Result: json.RawMessage(`{}`)})
			}
		}
	})}
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	f.Fuzz(func(t *testing.T, raw []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c, err := DialServing(ctx, target, HelloParams{Role: "daemon"}, map[string]ClientHandler{
			"order": func(_ context.Context, raw json.RawMessage) (any, error) {
				var o Order
				return nil, json.Unmarshal(raw, &o)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		frames <- raw
		var out any
		if err := c.Call(ctx, "call", nil, &out); ctx.Err() != nil {
			t.Errorf("%q: the call does not end: %v", raw, err)
		}
	})
}
