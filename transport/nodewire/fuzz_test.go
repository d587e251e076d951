package nodewire

import (
	"bytes"
	"net"
	"reflect"
	"runtime"
	"testing"
	"time"
)

// requestSeeds is one frame of every request kind.
func requestSeeds() [][]byte {
	params := map[string]Parameter{"request_id": {Kind: String, Str: "r"}, "l": {Kind: ListString, Strings: []string{"a"}},
		"t": {Kind: Time, Time: time.Unix(1, 2)}, "f": {Kind: ListFloat, Floats: []float64{1}}, "i": {Kind: ListInt, Ints: []int64{1}}}
	m := Metadata{Time: goldenTime, Parameters: params}
	var out [][]byte
	for k := Register; k <= ExtensionRequest; k++ {
		r := &Request{Kind: k, Time: goldenTime, Node: "n", Version: "1.1.0", MetadataVersion: 2, Output: []byte("o"),
			Outputs: []string{"a", "b"}, Namespace: "ns", Key: "k", Payload: []byte("p")}
		r.Message.Raw = AppendMetadata(nil, m)
		if k == SendMessage {
			r.Message.Raw = AppendMessage(nil, m, []byte("payload"))
		}
		out = append(out, AppendRequest(nil, r))
	}
	return out
}

// allocated bounds what decode may allocate in bytes. It is a backstop against lengths
// that buy memory; GC noise of parallel tests is far below its slack.
func allocated(t *testing.T, limit uint64, decode func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	decode()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > limit {
		t.Fatalf("%d bytes allocated, limit %d", n, limit)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	for _, s := range requestSeeds() {
		f.Add(s)
	}
	f.Add(unhex(f, "04 ffffffff7f"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		var err error
		allocated(t, 1<<20+uint64(len(in))*64, func() { r, err = DecodeRequest(in) })
		if err != nil {
			return
		}
		out := AppendRequest(nil, &r)
		back, err := DecodeRequest(out)
		if err != nil {
			t.Fatalf("%x was accepted, its re-encoding %x is not: %v", in, out, err)
		}
		if again := AppendRequest(nil, &back); !bytes.Equal(again, out) {
			t.Fatalf("re-encoding is not stable: %x, %x", out, again)
		}
		if r.Kind != SendMessage && r.Kind != OutputSent {
			return
		}
		// What the scanner lets through, the full decoder must read.
		if _, err := r.Message.Metadata(); err != nil {
			t.Fatalf("scanned but not decodable: %v", err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	f.Add(AppendResult(nil, ""))
	f.Add(AppendResult(nil, "why"))
	f.Add(AppendValue(nil, []byte("v"), true))
	frame := AppendEventsHead(nil, 3)
	frame = AppendEvent(frame, &Event{Kind: NodeFailed, Time: goldenTime, Inputs: []string{"a"}, Error: "e", Node: "n"})
	frame = AppendEvent(frame, &Event{Kind: Input, Time: goldenTime, ID: "i", Message: Message{Raw: AppendMessage(nil, Metadata{Time: goldenTime}, []byte("x"))}})
	frame = AppendEvent(frame, &Event{Kind: Reload, Time: goldenTime, Operator: "op"})
	f.Add(frame)
	f.Add(unhex(f, "01 ffffffffffffffffff01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Reply
		var err error
		allocated(t, 1<<20+uint64(len(in))*64, func() { r, err = DecodeReply(in) })
		if err != nil || r.Kind != Events {
			return
		}
		out := AppendEventsHead(nil, len(r.Events))
		for i := range r.Events {
			out = AppendEvent(out, &r.Events[i])
		}
		back, err := DecodeReply(out)
		if err != nil || len(back.Events) != len(r.Events) {
			t.Fatalf("%x was accepted, its re-encoding %x is not: %v", in, out, err)
		}
	})
}

func FuzzDecodeMetadata(f *testing.F) {
	f.Add(AppendMetadata(nil, Metadata{Time: goldenTime, Parameters: map[string]Parameter{"a": {Kind: Float, Float: 2}}}))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := DecodeMetadata(in)
		if err != nil {
			return
		}
		back, err := DecodeMetadata(AppendMetadata(nil, m))
		if err != nil || len(back.Parameters) != len(m.Parameters) || back.Time != m.Time {
			t.Fatalf("%+v became %+v, %v", m, back, err)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add(officialConfig)
	f.Add("a: &x [*x]")
	f.Add("daemon_communication: !Tcp")
	f.Fuzz(func(t *testing.T, in string) {
		c, err := ParseConfig(in)
		if err != nil {
			return
		}
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseConfig(text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if back.Node != c.Node || len(back.Inputs) != len(c.Inputs) || back.Dataflow != c.Dataflow {
			t.Fatalf("%+v became %+v", c, back)
		}
	})
}

func FuzzParseDynamicReply(f *testing.F) {
	c := &Config{Node: "n", Addr: "127.0.0.1:1", Inputs: []InputConfig{{ID: "i", Source: "a/b", HasQueueSize: true, QueueSize: 3}}}
	seed, err := c.DynamicReply(&Peering{Listen: "l", Connect: []string{"c"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(DynamicError("no"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c, _, err := ParseDynamicReply(in)
		if err != nil {
			return
		}
		out, err := c.DynamicReply(nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, _, err := ParseDynamicReply(out); err != nil || !reflect.DeepEqual(back.Inputs, c.Inputs) {
			t.Fatalf("%+v became %+v, %v", c, back, err)
		}
	})
}

// FuzzReadFrame feeds a connection arbitrary bytes, in two pieces.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 9}, uint8(3))
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 0}, uint8(8))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255}, uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		a, b := net.Pipe()
		c := NewConn(b)
		go func() {
			at := min(int(cut), len(in))
			_, _ = a.Write(in[:at])
			_, _ = a.Write(in[at:])
			_ = a.Close()
		}()
		defer func() { _ = c.Close() }()
		var read int
		for {
			buf, err := c.ReadFrame()
			if err != nil {
				break
			}
			read += headerSize + len(buf.Bytes())
			buf.Release()
		}
		if read > len(in) {
			t.Fatalf("%d bytes read of %d", read, len(in))
		}
	})
}
