//go:build zenoh && cgo && linux

package route

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/zenoh"
)

// twin is the Zenoh side of an official node, which dials its bridge.
type twin struct {
	t       *testing.T
	session *zenoh.Session
	pool    *zenoh.Pool
}

func (g *rig) twin(t *testing.T, id string, gen uint64) *twin {
	t.Helper()
	env, err := g.Environment(id, gen, uint32(gen-1))
	if err != nil {
		t.Fatal(err)
	}
	var dial []string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "DORA_ZENOH_CONNECT="); ok {
			dial = strings.Split(v, ",")
		}
	}
	if len(dial) == 0 {
		t.Fatalf("node %s is not told whom to dial: %v", id, env)
	}
	s, err := zenoh.Open(zenoh.Options{Connect: dial[:1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	pool, err := zenoh.NewPool(8 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &twin{t: t, session: s, pool: pool}
}

func (w *twin) publisher(key string) *zenoh.Publisher {
	w.t.Helper()
	p, err := w.session.Publisher(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return p
}

func (w *twin) subscribe(key string, take func(*zenoh.Sample)) {
	w.t.Helper()
	s, err := w.session.Subscribe(key, take)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
}

func metaAt(at nodewire.Timestamp, kv ...any) []byte {
	return nodewire.AppendMetadata(nil, nodewire.Metadata{Time: at, Parameters: params(kv...)})
}

// sender is an official node that sends its output "data" directly.
type sender struct {
	*twin
	p   *peer
	pub *zenoh.Publisher
}

// directSender brings up "py", which sends to the Go node "go" and to "other".
func directSender(t *testing.T, g *rig) *sender {
	t.Helper()
	w := g.twin(t, "py", 1)
	s := &sender{twin: w}
	key := outputKey(g.dataflow, "py", "data")
	acked := make(chan string, 1024)
	w.subscribe(key+"/@ack", func(s *zenoh.Sample) {
		md, err := nodewire.DecodeMetadata(s.Attachment)
		if err == nil {
			acked <- md.Parameters[nodewire.ParamStartupAckConsumer].Str + "/" + md.Parameters[nodewire.ParamStartupAckInput].Str
		}
		s.Release()
	})
	s.pub = w.publisher(key)
	clock := nodewire.NewClock()
	eventually(t, "the bridge answers for the Go node", func() bool {
		if err := s.pub.Put(nil, metaAt(clock.Now(), nodewire.ParamStartupMarker, true)); err != nil {
			t.Fatal(err)
		}
		select {
		case who := <-acked:
			if who != "go/in" {
				t.Fatalf("the bridge answers for %s", who)
			}
			return true
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
	return s
}

// word says over the connection that a message was sent directly.
func (s *sender) word(meta []byte) {
	s.t.Helper()
	if err := s.p.ctl.Send(&nodewire.Request{Kind: nodewire.OutputSent, Output: []byte("data"),
		Message: nodewire.Message{Raw: meta}, Time: s.p.clock.Now()}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sender) put(payload []byte, attachment []byte) {
	s.t.Helper()
	var err error
	if len(payload) >= 4096 {
		var sent bool
		if sent, err = s.pub.PutShared(s.pool, 64, payload, attachment); err == nil && !sent {
			err = fmt.Errorf("no room")
		}
	} else {
		err = s.pub.Put(payload, attachment)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func directFlow(t *testing.T) *link.Load {
	load := flow(t, "py: -> data", "go: in=py/data")
	load.Env = []string{poolVariable + "=8388608"}
	return load
}

// Whichever way messages of an official node go, a Go node gets them in the order in which
// they were sent, and what is lost is counted.
func TestOfficialNodeSendsDirectlyToGo(t *testing.T) {
	g := startWithGo(t, directFlow(t), "go")
	ep := g.endpoint("go", 1)
	if r := g.configOf("py").Routing["data"]; r.DaemonOnly || fmt.Sprint(r.Ackers) != "[{go in}]" {
		t.Fatalf("routing is %+v", r)
	}
	s := directSender(t, g)
	s.p = g.running("py", "go")[0]
	big := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1<<20) }
	expect := func(payload []byte, meta ...[]byte) {
		t.Helper()
		m := recvShared(t, ep)
		defer m.Release()
		if len(meta) > 0 && !bytes.Equal(m.Meta, meta[0]) {
			t.Fatalf("the metadata %x is that of another message, not %x", m.Meta, meta[0])
		}
		if !bytes.Equal(m.Payload, payload) {
			t.Fatalf("got %d bytes, %.20q, instead of %d, %.20q", len(m.Payload), m.Payload, len(payload), payload)
		}
	}
	// The message first, and the word first.
	m1, m2 := metaAt(s.p.clock.Now()), metaAt(s.p.clock.Now())
	s.put(big(1), m1)
	s.word(m1)
	expect(big(1), m1)
	s.word(m2)
	time.Sleep(quiet)
	s.put(big(2), m2)
	expect(big(2), m2)
	// One over the connection, while the later one is here already.
	m3 := metaAt(s.p.clock.Now())
	s.put(big(3), m3)
	time.Sleep(quiet)
	head := append([]byte(nil), nodewire.AppendSendHead(nil, "data", nodewire.Metadata{Time: s.p.clock.Now()}, 5)...)
	if err := s.p.ctl.Write(head, []byte("small"), nodewire.AppendTimestamp(nil, s.p.clock.Now())); err != nil {
		t.Fatal(err)
	}
	s.word(m3)
	expect([]byte("small"))
	expect(big(3), m3)
	// One that the engine loses.
	lost, m4 := metaAt(s.p.clock.Now()), metaAt(s.p.clock.Now())
	s.put(big(4), m4)
	s.word(lost)
	s.word(m4)
	expect(big(4), m4)
	g.fact("the loss", func(f link.Fact) bool {
		return f.Dropped != nil && f.Dropped.Cause == causeLost && f.Dropped.Count == 1
	})
	b := g.nodes["py"].sess.bridge
	if n := b.inlets[g.nodes["py"].outputs["data"]].shared.Load(); n != 4 {
		t.Errorf("%d messages of 4 came through shared memory", n)
	}
}

// A schema that is sent once completes the messages that follow.
func TestSchemaIsSentOnce(t *testing.T) {
	g := startWithGo(t, directFlow(t), "go")
	ep := g.endpoint("go", 1)
	s := directSender(t, g)
	s.p = g.running("py", "go")[0]
	full := textPayload("grüß")
	n := schemaLength(full)
	var memory schemaMemory
	if _, ok := memory.complete(full, metaAt(s.p.clock.Now())); !ok || n == 0 {
		t.Fatal("the stream has no schema")
	}
	for i := range 3 {
		at := s.p.clock.Now()
		plain, attachment, payload := metaAt(at), metaAt(at), full
		if i > 0 {
			payload = full[n:]
			attachment = nodewire.AppendMetadata(nil, nodewire.Metadata{Time: at,
				Parameters: map[string]nodewire.Parameter{paramSchemaHash: {Kind: nodewire.Integer, Int: int64(memory.hash)}}})
		}
		s.put(payload, attachment)
		s.word(plain)
		m := recvShared(t, ep)
		if !bytes.Equal(m.Payload, full) || !bytes.Equal(m.Meta, plain) {
			t.Fatalf("message %d: %d bytes instead of %d; metadata %x instead of %x", i, len(m.Payload), len(full), m.Meta, plain)
		}
		m.Release()
	}
}
