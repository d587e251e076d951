package nodeapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"go.uber.org/goleak"

	"github.com/dora-go/dora/transport/nodewire"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("NODEAPI_TEST_ROLE"); role != "" {
		os.Exit(helper(role))
	}
	goleak.VerifyTestMain(m)
}

// before checks that the lines appear in the log in this order.
func before(t *testing.T, log []string, lines ...string) {
	t.Helper()
	at := 0
	for _, line := range lines {
		i := slices.Index(log[at:], line)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in %q", line, log)
		}
		at += i + 1
	}
}

func TestConnectionsOpenInTheOrderOfOfficialNodes(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	if n.ID() != "worker" || n.DataflowID() != testFlow.String() || n.RestartCount() != 0 {
		t.Errorf("identity: %s, %s, %d", n.ID(), n.DataflowID(), n.RestartCount())
	}
	if got := n.Outputs(); !slices.Equal(got, []string{"extra", "result"}) {
		t.Errorf("outputs %q", got)
	}
	if got := n.Inputs(); !slices.Equal(got, []string{"data", "tick"}) {
		t.Errorf("inputs %q", got)
	}
	d.waitFor("the first NextEvent", func() bool { return slices.Contains(d.log, "A NextEvent") })
	log := d.requests()
	before(t, log, "A Register", "A Subscribe", "B Register", "C Register")
	before(t, log, "A Subscribe", "A NextEvent")
}

func TestCloseInTheOrderOfOfficialNodes(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	if err := n.SendBytes("result", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	before(t, d.requests(), "C SendMessage result", "C CloseOutputs extra,result", "C OutputsDone")
	before(t, d.requests(), "B EventStreamDropped", "C CloseOutputs extra,result")
	if err := n.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := n.SendBytes("result", []byte{1}); !errors.Is(err, ErrClosed) {
		t.Errorf("send after Close: %v", err)
	}
	if _, err := n.Recv(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Recv after Close: %v", err)
	}
}

func TestInitOutsideOfADataflow(t *testing.T) {
	os.Unsetenv(envConfig)
	_, err := Init(t.Context())
	if !errors.Is(err, ErrNotInDataflow) || !strings.Contains(err.Error(), "dora run") || !strings.Contains(err.Error(), "InitDynamic") {
		t.Errorf("got %v", err)
	}
}

func TestInitWithUnusableConfig(t *testing.T) {
	for _, text := range []string{"", "not: [yaml", "node_id: x", strings.Repeat("a", 10)} {
		t.Setenv(envConfig, text)
		if _, err := Init(t.Context()); err == nil || !strings.Contains(err.Error(), envConfig) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestInitReportsRefusal(t *testing.T) {
	d := newDaemon(t)
	d.refuse = "no such node here"
	text, _ := d.config().YAML()
	t.Setenv(envConfig, text)
	_, err := Init(t.Context())
	if err == nil || !strings.Contains(err.Error(), "worker") || !strings.Contains(err.Error(), "no such node here") {
		t.Errorf("got %v", err)
	}
}

func TestInitReportsAFailedStart(t *testing.T) {
	d := newDaemon(t)
	<-d.barrier
	d.barrier <- "Node camera exited before initializing dora"
	text, _ := d.config().YAML()
	t.Setenv(envConfig, text)
	_, err := Init(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Node camera exited") {
		t.Errorf("got %v", err)
	}
}

func TestInitWithoutADaemon(t *testing.T) {
	d := newDaemon(t)
	d.stop()
	text, _ := d.config().YAML()
	t.Setenv(envConfig, text)
	_, err := Init(t.Context())
	if err == nil || !strings.Contains(err.Error(), d.ln.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestInitEndsWithItsContextWhileTheDataflowStarts(t *testing.T) {
	d := newDaemon(t)
	<-d.barrier // never opens
	text, _ := d.config().YAML()
	t.Setenv(envConfig, text)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		d.waitFor("Subscribe", func() bool { return slices.Contains(d.log, "A Subscribe") })
		cancel()
	}()
	if _, err := Init(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestInitDynamicAsksTheDaemonForItsPlace(t *testing.T) {
	os.Unsetenv(envConfig)
	d := newDaemon(t)
	cfg := d.config()
	cfg.Dynamic = true
	reply, err := cfg.DynamicReply(&nodewire.Peering{Listen: "tcp/127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ reply, want string }{
		"welcome": {string(reply), ""},
		"refused": {string(nodewire.DynamicError("no running dataflow with a dynamic node worker")), "no running dataflow"},
		"garbage": {"hello", "has no place"},
	} {
		t.Run(name, func(t *testing.T) {
			port := listenOnce(t, []byte(c.reply))
			t.Setenv(envListenPort, port)
			n, err := InitDynamic(t.Context(), "worker")
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "worker") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n.ID() != "worker" {
				t.Errorf("id %s", n.ID())
			}
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Setenv(envListenPort, "1")
	if _, err := InitDynamic(t.Context(), "worker"); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1 ") {
		t.Errorf("no daemon: %v", err)
	}
	t.Setenv(envListenPort, "port")
	if _, err := InitDynamic(t.Context(), "worker"); err == nil || !strings.Contains(err.Error(), "not a port") {
		t.Errorf("bad port: %v", err)
	}
}

func TestEveryKindOfEvent(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	for _, c := range []struct {
		give nodewire.Event
		want Event
	}{
		{nodewire.Event{Kind: nodewire.InputClosed, ID: "data"}, &InputClosed{ID: "data"}},
		{nodewire.Event{Kind: nodewire.InputRecovered, ID: "data"}, &InputRecovered{ID: "data"}},
		{nodewire.Event{Kind: nodewire.NodeRestarted, Node: "camera"}, &NodeRestarted{Node: "camera"}},
		{nodewire.Event{Kind: nodewire.NodeFailed, Node: "camera", Inputs: []string{"data"}, Error: "exit 1"},
			&NodeFailed{Node: "camera", Inputs: []string{"data"}, Reason: "exit 1"}},
		{nodewire.Event{Kind: nodewire.ParamUpdate, Key: "speed", Value: []byte(`{"max": 3}`)},
			&ParamUpdate{Key: "speed", Value: []byte(`{"max": 3}`)}},
		{nodewire.Event{Kind: nodewire.ParamDeleted, Key: "speed"}, &ParamDeleted{Key: "speed"}},
		{nodewire.Event{Kind: nodewire.Reload, Operator: "op"}, &Reload{Operator: "op"}},
	} {
		d.give(nodewire.Event{Kind: nodewire.ExtensionDropped, Namespace: "x", Key: "y"}, c.give)
		got, err := n.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %#v, want %#v", got, c.want)
		}
		if got.String() == "" {
			t.Errorf("%T has no text", got)
		}
	}
	d.give(nodewire.Event{Kind: nodewire.ParamUpdate, Key: "speed", Value: []byte(`{`)})
	if got, _ := n.Recv(t.Context()); !strings.Contains(got.String(), "not JSON") {
		t.Errorf("damaged parameter: %v", got)
	}
}

func TestInputWithDataAndMetadata(t *testing.T) {
	golden, err := os.ReadFile("testdata/metadata.bin")
	if err != nil {
		t.Fatal(err)
	}
	data := bytesPayload(t, []byte{1, 2, 3})
	// The golden file is one official message up to its payload, whose length it ends with.
	head := bytes.TrimSuffix(golden, []byte{0x01, 0x00, 0x88, 0x02})
	if len(head) == len(golden) {
		t.Fatalf("unexpected end of the golden file: % x", golden[len(golden)-4:])
	}
	d := newDaemon(t)
	n := d.node(t.Context())
	ev := inputEvent("data", data, nil)
	plain := nodewire.AppendMessage(nil, nodewire.Metadata{Time: ev.Time}, data)
	tail := plain[len(nodewire.AppendMetadata(nil, nodewire.Metadata{Time: ev.Time})):]
	ev.Message.Raw = append(slices.Clone(head), tail...)
	d.give(ev)
	got, err := n.Recv(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in, ok := got.(*Input)
	if !ok {
		t.Fatalf("got %v", got)
	}
	if want := (Parameters{
		"bool": Bool(true), "int": Int(-42), "float": Float(2.5), "text": Text("grüß"), "name": Text("null"),
		"ints": Ints{1, -2, 3}, "floats": Floats{0.5, -1.5}, "texts": Texts{"a", "b"},
		"time": Time(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
	}); !reflect.DeepEqual(in.Metadata.Parameters, want) {
		t.Errorf("parameters %#v, want %#v", in.Metadata.Parameters, want)
	}
	if u := in.Data.(*array.Uint8).Uint8Values(); !slices.Equal(u, []byte{1, 2, 3}) {
		t.Errorf("data %v", u)
	}
	if at := in.Metadata.Timestamp.Wall(); at.Year() != 2026 {
		t.Errorf("timestamp %v", at)
	}
	if v, ok := Lookup[Int](in.Metadata.Parameters, "int"); !ok || v != -42 {
		t.Errorf("Lookup: %v, %v", v, ok)
	}
	if _, ok := Lookup[Text](in.Metadata.Parameters, "int"); ok {
		t.Error("Lookup found an Int as Text")
	}
	in.Release()
}

func TestInputWithoutData(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	d.give(inputEvent("tick", nil, nil))
	got, _ := n.Recv(t.Context())
	in, ok := got.(*Input)
	if !ok || in.ID != "tick" || in.Data == nil || in.Data.DataType() != arrow.Null || in.Data.Len() != 0 || in.Metadata.Parameters != nil {
		t.Errorf("got %#v", got)
	}
}

func TestDamagedInputIsAnErrorEventAndTheNodeGoesOn(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	d.give(inputEvent("data", []byte("this is no arrow"), nil), inputEvent("data", bytesPayload(t, []byte{7}), nil))
	if got, _ := n.Recv(t.Context()); !strings.HasPrefix(got.String(), "error: input data: ") {
		t.Errorf("got %v", got)
	}
	if got, _ := n.Recv(t.Context()); got.(*Input).Data.Len() != 1 {
		t.Errorf("got %v", got)
	}
}

// Frames are used again after Release; before it, data must stay as it was.
func TestInputsKeepTheirDataUntilReleased(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	var held []*Input
	for i := range 50 {
		d.give(inputEvent("data", bytesPayload(t, bytes.Repeat([]byte{byte(i)}, 5000)), nil))
		ev, err := n.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if in := ev.(*Input); i%2 == 0 {
			held = append(held, in)
		} else {
			in.Release()
		}
	}
	for i, in := range held {
		for _, v := range in.Data.(*array.Uint8).Uint8Values() {
			if v != byte(2*i) {
				t.Fatalf("message %d now holds %d", 2*i, v)
			}
		}
		in.Release()
	}
}

func TestEventsEndAfterStopAndWhatWasQueued(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	d.give(inputEvent("data", nil, nil), inputEvent("data", nil, nil), nodewire.Event{Kind: nodewire.Stop})
	var got []string
	for ev := range n.Events() {
		got = append(got, ev.String())
		if len(got) == 1 { // by now all three are queued
			time.Sleep(20 * time.Millisecond)
		}
	}
	if len(got) != 3 || !slices.Contains(got, "stop: manual") {
		t.Errorf("got %q", got)
	}
	if _, err := n.Recv(t.Context()); err != io.EOF {
		t.Errorf("Recv after the end: %v", err)
	}
	if err := n.SendBytes("result", nil); err != nil {
		t.Errorf("outputs still work after the events: %v", err)
	}
}

func TestEventsEndWhenAllInputsAreClosed(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	d.give(inputEvent("data", nil, nil), nodewire.Event{Kind: nodewire.InputClosed, ID: "data"},
		nodewire.Event{Kind: nodewire.AllInputsClosed}, inputEvent("data", nil, nil))
	var got []string
	for ev := range n.Events() {
		got = append(got, ev.String())
	}
	if want := []string{"input data: 0 x null", "input data closed", "stop: all inputs closed"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLossOfTheDaemonIsAnErrorThenTheEnd(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	d.mu.Lock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	var got []Event
	for ev := range n.Events() {
		got = append(got, ev)
	}
	if len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	if e, ok := got[0].(*Error); !ok || !strings.Contains(e.Err.Error(), "lost the connection") {
		t.Errorf("got %v", got[0])
	}
	if err := n.Close(); err == nil {
		t.Error("Close confirmed what no daemon could confirm")
	}
}

func TestEventsEndWithTheContextOfTheNode(t *testing.T) {
	d := newDaemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := d.node(ctx)
	go cancel()
	for ev := range n.Events() {
		t.Errorf("got %v", ev)
	}
	if _, err := n.Recv(t.Context()); !errors.Is(err, context.Canceled) {
		t.Errorf("Recv: %v", err)
	}
}

func TestRecvEndsWithItsOwnContext(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := n.Recv(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	d.give(inputEvent("tick", nil, nil))
	if ev, err := n.Recv(t.Context()); err != nil || ev.(*Input).ID != "tick" {
		t.Errorf("got %v, %v", ev, err)
	}
}
