package nodewire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goldenTime is a reading whose encoding by official dora is known byte for byte.
var goldenTime = Timestamp{Time: 0x1122334455667788,
	ID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}

const goldenTimeHex = "88ef99abc5e88c9111 0102030405060708090a0b0c0d0e0f10"

func TestGoldenTimestamp(t *testing.T) {
	want := unhex(t, goldenTimeHex)
	if got := AppendTimestamp(nil, goldenTime); !bytes.Equal(got, want) {
		t.Fatalf("timestamp = %x, want %x", got, want)
	}
	d := decoder{b: want}
	if got := d.timestamp("t"); got != goldenTime || d.end() != nil {
		t.Fatalf("decoded %v, %v", got, d.err)
	}
	meta := append(append([]byte{2}, want...), 0)
	if got := AppendMetadata(nil, Metadata{Time: goldenTime}); !bytes.Equal(got, meta) {
		t.Fatalf("metadata = %x, want %x", got, meta)
	}
}

// TestGoldenRegister is a frame captured from the official Python wheel (its clock
// replaced by the golden one).
func TestGoldenRegister(t *testing.T) {
	body := unhex(t, `00 10 01a20a153a1c708593d0fe055b06994c 06 73656e646572 05 312e312e30 02 `+goldenTimeHex)
	if len(body) != 57 {
		t.Fatalf("the captured body has 57 bytes, not %d", len(body))
	}
	id, err := ParseUUID("01a20a15-3a1c-7085-93d0-fe055b06994c")
	if err != nil {
		t.Fatal(err)
	}
	want := NewRegister(id, "sender", goldenTime)
	if want.Version != GoVersion || CheckVersion(want.Version, want.MetadataVersion) != nil {
		t.Fatalf("a Go node registers with %q", want.Version)
	}
	want.Version = ProtocolVersion
	if got := AppendRequest(nil, want); !bytes.Equal(got, body) {
		t.Fatalf("encoded\n%x, want\n%x", got, body)
	}
	got, err := DecodeRequest(body)
	if err != nil || !reflect.DeepEqual(&got, want) {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	if got.Dataflow.String() != "01a20a15-3a1c-7085-93d0-fe055b06994c" {
		t.Fatalf("uuid renders as %v", got.Dataflow)
	}
}

// Every request, spelled out by hand from the field order of the protocol.
func TestGoldenRequests(t *testing.T) {
	msg := AppendMessage(nil, Metadata{Time: goldenTime}, []byte{0xAA, 0xBB})
	if want := unhex(t, "02"+goldenTimeHex+"00 01 00 02 aabb"); !bytes.Equal(msg, want) {
		t.Fatalf("message = %x, want %x", msg, want)
	}
	none := AppendMessage(nil, Metadata{Time: goldenTime}, nil)
	meta := AppendMetadata(nil, Metadata{Time: goldenTime})
	for _, c := range []struct {
		r    Request
		want string
	}{
		{Request{Kind: Subscribe}, "01"},
		{Request{Kind: SendMessage, Output: []byte("o"), Message: Message{Raw: msg}}, "02 01 6f 02" + goldenTimeHex + "00 01 00 02 aabb"},
		{Request{Kind: SendMessage, Output: []byte("o"), Message: Message{Raw: none}}, "02 01 6f 02" + goldenTimeHex + "00 00"},
		{Request{Kind: OutputSent, Output: []byte("o"), Message: Message{Raw: meta}}, "03 01 6f 02" + goldenTimeHex + "00"},
		{Request{Kind: CloseOutputs, Outputs: []string{"a", "bc"}}, "04 02 01 61 02 6263"},
		{Request{Kind: OutputsDone}, "05"},
		{Request{Kind: NextEvent}, "06"},
		{Request{Kind: EventStreamDropped}, "07"},
		{Request{Kind: GetConfig, Node: "n"}, "08 01 6e"},
		{Request{Kind: ExtensionStore, Namespace: "n", Key: "k", Payload: []byte{9}}, "09 01 6e 01 6b 01 09"},
		{Request{Kind: ExtensionLoad, Namespace: "n", Key: "k", Remove: true}, "0a 01 6e 01 6b 01"},
		{Request{Kind: ExtensionDrop, Namespace: "n", Key: "k"}, "0b 01 6e 01 6b"},
		{Request{Kind: ExtensionRequest, Namespace: "n", Payload: []byte{9, 8}}, "0c 01 6e 02 0908"},
	} {
		c.r.Time = goldenTime
		want := unhex(t, c.want+goldenTimeHex)
		got := AppendRequest(nil, &c.r)
		if !bytes.Equal(got, want) {
			t.Errorf("%v = %x, want %x", c.r.Kind, got, want)
			continue
		}
		back, err := DecodeRequest(got)
		if err != nil {
			t.Errorf("%v: %v", c.r.Kind, err)
			continue
		}
		if again := AppendRequest(nil, &back); !bytes.Equal(again, want) {
			t.Errorf("%v does not survive a round trip: %x", c.r.Kind, again)
		}
		if _, err := DecodeRequest(append(got, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%v with a byte too many: %v", c.r.Kind, err)
		}
		for i := range got {
			if _, err := DecodeRequest(got[:i]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v cut after %d bytes: %v", c.r.Kind, i, err)
			}
		}
	}
	head := AppendSendHead(nil, "o", Metadata{Time: goldenTime}, 2)
	whole := AppendTimestamp(append(head, 0xAA, 0xBB), goldenTime)
	want := AppendRequest(nil, &Request{Kind: SendMessage, Output: []byte("o"), Message: Message{Raw: msg}, Time: goldenTime})
	if !bytes.Equal(whole, want) {
		t.Errorf("sent in parts %x, want %x", whole, want)
	}
	if head := AppendSendHead(nil, "o", Metadata{Time: goldenTime}, -1); !bytes.Equal(head, append([]byte{2, 1, 'o'}, none...)) {
		t.Errorf("head without data = %x", head)
	}
}

func TestGoldenEvents(t *testing.T) {
	msg := AppendMessage(nil, Metadata{Time: goldenTime}, []byte{0xAA})
	events := []struct {
		e    Event
		want string
	}{
		{Event{Kind: Stop}, "00"},
		{Event{Kind: Reload}, "01 00"},
		{Event{Kind: Reload, Operator: "op"}, "01 01 02 6f70"},
		{Event{Kind: Input, ID: "in", Message: Message{Raw: msg}}, "02 02 696e 02" + goldenTimeHex + "00 01 00 01 aa"},
		{Event{Kind: InputClosed, ID: "in"}, "03 02 696e"},
		{Event{Kind: InputRecovered, ID: "in"}, "04 02 696e"},
		{Event{Kind: NodeRestarted, Node: "n"}, "05 01 6e"},
		{Event{Kind: AllInputsClosed}, "06"},
		{Event{Kind: ParamUpdate, Key: "k", Value: []byte("1")}, "07 01 6b 01 31"},
		{Event{Kind: ParamDeleted, Key: "k"}, "08 01 6b"},
		{Event{Kind: NodeFailed, Inputs: []string{"a"}, Error: "e", Node: "n"}, "09 01 01 61 01 65 01 6e"},
		{Event{Kind: ExtensionDropped, Namespace: "n", Key: "k"}, "0a 01 6e 01 6b"},
	}
	frame := AppendEventsHead(nil, len(events))
	for _, c := range events {
		c.e.Time = goldenTime
		want := unhex(t, c.want+goldenTimeHex)
		if got := AppendEvent(nil, &c.e); !bytes.Equal(got, want) {
			t.Errorf("%v = %x, want %x", c.e.Kind, got, want)
		}
		frame = append(frame, want...)
	}
	head := AppendInputHead(nil, "in")
	if parts := AppendTimestamp(append(head, msg...), goldenTime); !bytes.Equal(parts, unhex(t, events[3].want+goldenTimeHex)) {
		t.Errorf("input in parts = %x", parts)
	}
	reply, err := DecodeReply(frame)
	if err != nil || reply.Kind != Events || len(reply.Events) != len(events) {
		t.Fatalf("reply %+v, %v", reply, err)
	}
	for i, e := range reply.Events {
		if again := AppendEvent(nil, &e); !bytes.Equal(again, unhex(t, events[i].want+goldenTimeHex)) {
			t.Errorf("%v does not survive a round trip", e.Kind)
		}
	}
	in := reply.Events[3].Message
	if !in.HasData || !bytes.Equal(in.Payload, []byte{0xAA}) || in.Timestamp() != goldenTime {
		t.Errorf("message = %+v", in)
	}
}

func TestGoldenReplies(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{AppendResult(nil, ""), "00 00"},
		{AppendResult(nil, "no"), "00 01 02 6e6f"},
		{AppendEventsHead(nil, 0), "01 00"},
		{AppendValue(nil, nil, false), "03 00"},
		{AppendValue(nil, []byte{7}, true), "03 01 01 07"},
	} {
		if !bytes.Equal(c.got, unhex(t, c.want)) {
			t.Errorf("got %x, want %s", c.got, c.want)
		}
	}
	r, err := DecodeReply([]byte{0, 1, 2, 'n', 'o'})
	if err != nil || !r.Failed || r.Error != "no" {
		t.Errorf("refusal = %+v, %v", r, err)
	}
	if r, err := DecodeReply([]byte{3, 1, 1, 7}); err != nil || !r.Found || !bytes.Equal(r.Payload, []byte{7}) {
		t.Errorf("value = %+v, %v", r, err)
	}
	if r, err := DecodeReply([]byte{5, 1, 7}); err != nil || r.Kind != Extension || !bytes.Equal(r.Payload, []byte{7}) {
		t.Errorf("extension = %+v, %v", r, err)
	}
	for _, bad := range []string{"", "02", "04", "06", "00 02", "01 01", "03 01 05 07"} {
		if _, err := DecodeReply(unhex(t, bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParameters(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 120_000_000, time.UTC)
	params := map[string]Parameter{
		"flush": {Kind: Bool, Bool: true}, "i": {Kind: Integer, Int: -3}, "s": {Kind: String, Str: "é"},
		"li": {Kind: ListInt, Ints: []int64{math.MinInt64, math.MaxInt64}}, "f": {Kind: Float, Float: 1.5},
		"lf": {Kind: ListFloat, Floats: []float64{-0.5}}, "ls": {Kind: ListString, Strings: []string{"", "x"}},
		"t": {Kind: Time, Time: at}, "goal_id": {Kind: String, Str: "g"},
	}
	raw := AppendMessage(nil, Metadata{Time: goldenTime, Parameters: params}, nil)
	// The order is that of the names.
	want := unhex(t, "02"+goldenTimeHex+`09
		01 66 04 000000000000f83f
		05 666c757368 00 01
		07 676f616c5f6964 02 01 67
		01 69 01 05
		02 6c66 05 01 000000000000e0bf
		02 6c69 03 02 ffffffffffffffffff01 feffffffffffffffff01
		02 6c73 06 02 00 01 78
		01 73 02 02 c3a9
		01 74 07 18 323032362d30332d30345430353a30363a30372e3132305a
		00`)
	if !bytes.Equal(raw, want) {
		t.Fatalf("metadata =\n%x, want\n%x", raw, want)
	}
	d := decoder{b: raw}
	m := d.message(true)
	if d.end() != nil || m.Flags != Correlated|Flush || m.HasData {
		t.Fatalf("message %+v, %v", m, d.err)
	}
	md, err := m.Metadata()
	if err != nil || !reflect.DeepEqual(md.Parameters, params) {
		t.Fatalf("parameters %+v, %v", md.Parameters, err)
	}
	if alone, err := DecodeMetadata(raw[:len(raw)-1]); err != nil || !reflect.DeepEqual(alone, md) {
		t.Fatalf("alone %+v, %v", alone, err)
	}
}

// What a consumer's decoder would choke on must not get past ours.
func TestRejectsWhatNodesReject(t *testing.T) {
	meta := func(params string) string { return "03 01 6f 02" + goldenTimeHex + params + goldenTimeHex }
	for name, in := range map[string]string{
		"unknown request":        "0d" + goldenTimeHex,
		"zero clock id":          "01 01 00000000000000000000000000000000",
		"other metadata version": "03 01 6f 01" + goldenTimeHex + "00" + goldenTimeHex,
		"parameter type 8":       meta("01 01 61 08 00"),
		"bool of 2":              meta("01 01 61 00 02"),
		"text not UTF-8":         meta("01 01 61 02 01 ff"),
		"name not UTF-8":         meta("01 01 ff 00 01"),
		"time that is none":      meta("01 01 61 07 02 6f6b"),
		"list longer than bytes": meta("01 01 61 03 ffffffff0f"),
		"floats longer":          meta("01 01 61 05 ffffffffffffffff1f"),
		"parameters without end": meta("ffffffffffffffffff01"),
		"integer of 11 bytes":    "01 ffffffffffffffffffff01" + "0102030405060708090a0b0c0d0e0f10",
		"data kind 1":            "02 01 6f 02" + goldenTimeHex + "00 01 01 00" + goldenTimeHex,
		"tag above 32 bits":      "8180808080 00" + goldenTimeHex,
		"uuid of 15 bytes":       "00 0f 01a20a153a1c708593d0fe055b0699 01 61 01 31 02" + goldenTimeHex,
	} {
		if _, err := DecodeRequest(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTimeParameter(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-02T03:04:05Z":           "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.120Z":       "2026-01-02T03:04:05.120Z",
		"2026-01-02T03:04:05.000001Z":    "2026-01-02T03:04:05.000001Z",
		"2026-01-02T03:04:05.000000001Z": "2026-01-02T03:04:05.000000001Z",
		"2016-12-31T23:59:60Z":           "2017-01-01T00:00:00Z",
	} {
		got, err := parseTime([]byte(text))
		if err != nil || timeFormat(got) != want {
			t.Errorf("%s = %s, %v; want %s", text, timeFormat(got), err, want)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for _, ok := range []string{"1.1.0", "1.0.0", "1.99.3", "1.0.0-rc.4", "1.1.0+build"} {
		if err := CheckVersion(ok, 2); err != nil {
			t.Errorf("%s refused: %v", ok, err)
		}
	}
	for _, bad := range []string{"0.3.12", "2.0.0", "1.2.0-beta", "1.1", "", "1.1.x", "01.1.0", "+1.1.0", "1.1.0-", strings.Repeat("1", 300)} {
		if err := CheckVersion(bad, 2); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, v := range []uint16{0, 1, 3} {
		if err := CheckVersion("1.1.0", v); err == nil || !strings.Contains(err.Error(), "metadata version") {
			t.Errorf("metadata version %d: %v", v, err)
		}
	}
	order := []string{"1.0.0-1", "1.0.0-2", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.b", "1.0.0-beta", "1.0.0", "1.0.1"}
	for i := 1; i < len(order); i++ {
		a, _ := parseSemver(order[i-1])
		b, _ := parseSemver(order[i])
		if a.compare(b) != -1 || b.compare(a) != 1 || a.compare(a) != 0 {
			t.Errorf("%s is not below %s", order[i-1], order[i])
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Unix(1000, 500_000_000)
	c := NewClockWith(goldenTime.ID, func() time.Time { return now })
	base := uint64(1000)<<32 | 1<<31
	if got := c.Now(); got.Time != base || got.ID != goldenTime.ID {
		t.Fatalf("first reading %x, want %x", got.Time, base)
	}
	if got := c.Now(); got.Time != base+1 {
		t.Fatalf("a standing clock must count: %x", got.Time)
	}
	// A remote reading a little ahead: what follows is later by the msg+1 rule.
	ahead := base + 1<<20 + 3
	if err := c.Update(ahead); err != nil {
		t.Fatal(err)
	}
	if got := c.Now(); got.Time != ahead+2 {
		t.Fatalf("after %x came %x", ahead, got.Time)
	}
	if err := c.Update(base); err != nil || c.Now().Time != ahead+4 {
		t.Fatalf("an old reading must still count")
	}
	if err := c.Update(base + 1<<31 + 16); !errors.Is(err, ErrClockAhead) {
		t.Fatalf("half a second and more ahead: %v", err)
	}
	if err := c.Update(base + 1<<31); err != nil {
		t.Fatalf("exactly half a second ahead: %v", err)
	}
	now = now.Add(time.Second)
	if got := c.Now(); got.Time != base+1<<32 {
		t.Fatalf("physical time wins when it is ahead: %x", got.Time)
	}
	if err := c.Update(base); err != nil || c.Now().Time != base+1<<32+1 {
		t.Fatalf("now is the latest of the three: %v", err)
	}
	if got := goldenTime.At().Unix(); got != 0x11223344 {
		t.Fatalf("seconds = %x", got)
	}
	if x := NewClock().Now(); x.ID == [16]byte{} || time.Since(x.At()).Abs() > time.Minute {
		t.Fatalf("reading %v", x)
	}
	a, b := Timestamp{Time: 1, ID: [16]byte{0: 2}}, Timestamp{Time: 1, ID: [16]byte{15: 1}}
	if !a.Before(b) || b.Before(a) || a.Before(a) || !b.Before(Timestamp{Time: 2}) {
		t.Fatal("order of readings")
	}
}
