package nodeapi

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

func TestStatsAddUp(t *testing.T) {
	const sent = 40
	d := newDaemon(t)
	n, c := d.clientNode(t.Context())
	call, _ := c.Start(ints(1))
	// Some are dropped in the queue, some while a call waits, some are received.
	for i := range sent / 2 {
		d.give(inputEvent("data", bytesPayload(t, []byte{byte(i)}), nil))
	}
	d.give(d.answerTo(call.ID(), 1))
	if _, err := call.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range sent / 2 {
		d.give(inputEvent("data", bytesPayload(t, []byte{byte(i)}), nil))
	}
	d.waitFor("all to be queued", func() bool { return len(d.events) == 0 })
	time.Sleep(20 * time.Millisecond)
	var last *Input
	for range 7 {
		ev, err := n.Recv(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		last = ev.(*Input)
	}
	all := n.Stats()
	if ids := slices.Sorted(maps.Keys(all)); !slices.Equal(ids, []string{"data", "hold", "response"}) {
		t.Errorf("inputs %q", ids)
	}
	s := all["data"]
	if s.Received != 7 || s.Dropped == 0 || s.Queued == 0 || s.Received+s.Dropped+uint64(s.Queued) != sent {
		t.Errorf("%+v do not add up to %d", s, sent)
	}
	if s.Bytes < 7 || s.Bytes > 7*1024 || s.Last != last.Metadata.Timestamp {
		t.Errorf("%+v, the last message was %+v", s, last.Metadata)
	}
	if r := all["response"]; r.Received != 1 || r.Last == (Timestamp{}) {
		t.Errorf("answers are received too: %+v", r)
	}
	if all["hold"] != (InputStats{}) {
		t.Errorf("nothing came on it: %+v", all["hold"])
	}
	if got := n.Dropped(); got["data"] != s.Dropped || len(got) != 1 {
		t.Errorf("Dropped: %v, want %d", got, s.Dropped)
	}
	if got := n.Dropped(); len(got) != 0 || n.Stats()["data"].Dropped != s.Dropped {
		t.Errorf("Dropped again: %v, %+v", got, n.Stats()["data"])
	}
}

func TestParamsFollowTheEvents(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	set := func(key, value string) nodewire.Event {
		return nodewire.Event{Kind: nodewire.ParamUpdate, Key: key, Value: []byte(value)}
	}
	d.give(set("speed", "1.5"), set("pose", `{"x": 3, "name": "home"}`), set("speed", "2.5"), set("mode", `"fast"`), set("bad", `{`),
		nodewire.Event{Kind: nodewire.ParamDeleted, Key: "mode"}, nodewire.Event{Kind: nodewire.ParamDeleted, Key: "none"})
	for range 7 {
		if _, err := n.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p := n.Params()
	if keys := p.Keys(); !slices.Equal(keys, []string{"pose", "speed"}) {
		t.Errorf("keys %q", keys)
	}
	if v, ok, err := Param[float64](p, "speed"); v != 2.5 || !ok || err != nil {
		t.Errorf("speed %v, %v, %v", v, ok, err)
	}
	type pose struct {
		X    int
		Name string
	}
	if v, ok, err := Param[pose](p, "pose"); v != (pose{3, "home"}) || !ok || err != nil {
		t.Errorf("pose %v, %v, %v", v, ok, err)
	}
	if _, ok, err := Param[int](p, "mode"); ok || err != nil {
		t.Errorf("deleted: %v, %v", ok, err)
	}
	if _, ok, err := Param[int](p, "speed"); !ok || err == nil || !strings.Contains(err.Error(), "speed = 2.5 is no int") {
		t.Errorf("wrong type: %v, %v", ok, err)
	}
	if ParamOr(p, "speed", 1.0) != 2.5 || ParamOr(p, "speed", "slow") != "slow" || ParamOr(p, "none", 7) != 7 {
		t.Error("ParamOr")
	}
	if raw, ok := p.Raw("speed"); !ok || string(raw) != "2.5" {
		t.Errorf("raw %s", raw)
	}
}

func TestShutdownEndsTheEventsInOrder(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	cancel := n.ShutdownOn(syscall.SIGUSR1)
	d.give(inputEvent("data", nil, nil), inputEvent("data", nil, nil))
	d.waitFor("both to be queued", func() bool { return len(d.events) == 0 })
	time.Sleep(20 * time.Millisecond)
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	var got []string
	queued := func() bool {
		n.queue.mu.Lock()
		defer n.queue.mu.Unlock()
		return len(n.queue.urgent) > 0
	}
	for deadline := time.Now().Add(5 * time.Second); !queued() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for ev := range n.Events() {
		got = append(got, ev.String())
	}
	if want := []string{"stop: manual", "input data: 0 x null", "input data: 0 x null"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := n.SendBytes("result", []byte{1}); err != nil {
		t.Errorf("the node still works: %v", err)
	}
	cancel()
	cancel()
	n.Shutdown() // again, and after Close, does nothing
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	n.Shutdown()
}

// A node that shuts down when its program's context is done.
func TestShutdownByAContext(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	defer context.AfterFunc(ctx, n.Shutdown)()
	cancel()
	if ev, err := n.Recv(t.Context()); err != nil || ev.String() != "stop: manual" {
		t.Errorf("got %v, %v", ev, err)
	}
}
