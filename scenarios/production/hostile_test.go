package production

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestHostileClients: whatever comes in at the control port, the coordinator and what runs
// run on.
func TestHostileClients(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	id := s.start("stream.yml")
	s.await(id, "Running")
	raw, err := os.ReadFile(filepath.Join(s.home(), "token"))
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("ws://127.0.0.1:%d/api/control", s.port)
	auth := http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(raw))}}
	dial := func(h http.Header) (*websocket.Conn, int) {
		c, resp, err := websocket.DefaultDialer.Dial(url, h)
		if err != nil {
			if resp == nil {
				return nil, 0
			}
			return nil, resp.StatusCode
		}
		return c, 200
	}
	if _, code := dial(http.Header{"Authorization": {"Bearer wrong"}}); code != 401 {
		t.Errorf("a wrong token: %d", code)
	}
	if _, code := dial(nil); code != 401 {
		t.Errorf("no token: %d", code)
	}
	foreign := auth.Clone()
	foreign.Set("Origin", "http://evil.example")
	if _, code := dial(foreign); code != 403 {
		t.Errorf("a foreign page: %d", code)
	}
	if resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/health", s.port)); err != nil || resp.StatusCode != 200 {
		t.Errorf("health: %v", err)
	} else {
		resp.Body.Close()
	}
	hello := `{"id":"0","method":"hello","params":{"protocol":1,"role":"daemon"}}`
	for name, frames := range map[string][]string{
		"garbage":        {"\x00\xff{"},
		"no hello":       {`{"id":"1","method":"list"}`},
		"other protocol": {`{"id":"1","method":"hello","params":{"protocol":99}}`},
		"oversized":      {hello, `{"id":"1","method":"` + strings.Repeat("x", 9<<20) + `"}`},
		"wrong types":    {hello, `{"id":"1","method":"stop","params":[1,2]}`, `{"id":"2","method":"start","params":{"descriptor":7}}`},
		"bad order":      {hello, `{"id":"1","method":"start","params":{"descriptor":"nodes: [","path":"/x"}}`},
		"not a daemon":   {hello, `{"id":"1","method":"facts","params":{}}`, `{"id":"2","method":"heartbeat"}`},
		"bad machine":    {hello, `{"id":"1","method":"register","params":{"machine":"../x","journal":"j"}}`},
		"taken machine":  {hello, `{"id":"1","method":"register","params":{"machine":"local","journal":"j"}}`},
		"bad facts": {hello, `{"id":"1","method":"register","params":{"machine":"M","journal":"j","head":9}}`,
			`{"id":"2","method":"facts","params":{"journal":"j","records":[{"pos":5,"stream":"x","seq":1}]}}`,
			`{"id":"3","method":"facts","params":{"journal":"j","records":[17]}}`,
			`{"id":"4","method":"facts","params":{"journal":"j","records":[{"pos":1,"stream":"node/x/y","seq":1,"type":"NodeSpawned","version":99,"at":"2026-01-01T00:00:00Z","data":{}}]}}`,
			`{"id":"5","method":"state","params":{"journal":"j","through":3,"dataflows":{"x":"nonsense"}}}`},
	} {
		c, code := dial(auth)
		if c == nil {
			t.Fatalf("%s: %d", name, code)
		}
		for _, f := range frames {
			if err := c.WriteMessage(websocket.TextMessage, []byte(f)); err != nil {
				break
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		answers := 0
		for answers < len(frames) {
			_, msg, err := c.ReadMessage()
			if err != nil {
				break
			}
			answers++
			if bytes.Contains(msg, []byte("panic")) || bytes.Contains(msg, []byte("runtime error")) {
				t.Errorf("%s: %s", name, msg)
			}
		}
		if answers < len(frames) && name != "oversized" {
			t.Errorf("%s: %d answers to %d frames", name, answers, len(frames))
		}
		c.Close()
	}
	s.crowd(auth, url)
	s.await(id, "Running")
	s.flows(id, "sink", 0)
}

// crowd opens 300 connections, and half as many that say nothing.
func (s *Site) crowd(auth http.Header, url string) {
	s.t.Helper()
	refused := 0
	var conns []io.Closer
	for range 300 {
		c, resp, err := websocket.DefaultDialer.Dial(url, auth)
		if err == nil {
			conns = append(conns, c)
		} else if resp != nil && resp.StatusCode == 503 {
			refused++
		} else {
			s.t.Errorf("a connection: %v", err)
		}
	}
	for range 150 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			conns = append(conns, c)
		}
	}
	if refused < 300-256 {
		s.t.Errorf("only %d of 300 connections were refused", refused)
	}
	for _, c := range conns {
		c.Close()
	}
	s.eventually(5*time.Second, func() bool { _, err := s.try("list"); return err == nil }, func() string { return "the coordinator does not answer any more" })
	var rows []json.RawMessage
	if err := s.call("list", struct{}{}, &rows); err != nil || len(rows) == 0 {
		s.t.Errorf("list: %v, %d rows", err, len(rows))
	}
}

// TestDamagedStoreIsRefused: a store that cannot be trusted is not opened, and named.
func TestDamagedStoreIsRefused(t *testing.T) {
	s := newSite(t)
	s.dora("up")
	s.dora("down")
	mark := filepath.Join(s.home(), "coordinator.badger", "mark")
	raw, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	for i := range min(len(raw), 64) {
		raw[i] ^= 0x55
	}
	if err := os.WriteFile(mark, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	out := s.fails(1, "journal", "up")
	if !strings.Contains(out, "fix:") {
		t.Errorf("no fix is told:\n%s", out)
	}
	// The daemon has started and waits for a coordinator; it ends with the test.
	for _, pid := range s.w.Find("daemon") {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Signal(os.Interrupt)
		}
	}
}
