//go:build linux

package shim_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// runningPair starts a source of numbered messages and a sink that checks them, on shared
// memory.
func runningPair(t *testing.T) *daemon {
	t.Helper()
	peer := filepath.Join(t.TempDir(), "peer")
	if out, err := exec.Command("go", "build", "-o", peer, "github.com/dora-go/dora/scenarios/dataplane/peer").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d := startShim(t, launch.Options{})
	d.logs = make(chan link.LogLine, 1000)
	d.must(link.Command{Logs: &link.Logs{On: true}})
	d.must(link.Command{Load: d.load(
		link.Node{ID: "source", Kind: link.KindExecutable, Path: peer, Args: "send 0 500us 8 20000", Outputs: []string{"out"}},
		link.Node{ID: "sink", Kind: link.KindExecutable, Path: peer, Args: "recv", Inputs: []link.Input{{ID: "in", Source: "source/out",
			Kind: link.SourceNode, Node: "source", Output: "out", QueueSize: 100, Backpressure: true}}},
	)})
	for _, id := range []string{"source", "sink"} {
		d.must(link.Command{Spawn: &link.Spawn{Node: id, Generation: 1, Token: "t-" + id}})
	}
	for range 2 {
		d.fact(func(f link.Fact) bool { return f.Subscribed != nil })
	}
	d.must(link.Command{Release: &link.Release{}})
	d.line("FIRST")
	return d
}

// line waits for a log line that contains text.
func (d *daemon) line(text string) string {
	d.t.Helper()
	for limit := time.After(20 * time.Second); ; {
		select {
		case l := <-d.logs:
			if strings.Contains(l.Message, text) {
				return l.Message
			}
		case <-limit:
			d.t.Fatalf("no log line with %q", text)
		}
	}
}

// endPair stops both nodes; the sink has seen every message.
func (d *daemon) endPair() {
	d.t.Helper()
	d.must(link.Command{Stop: &link.Stop{Grace: 20 * time.Second}})
	if line := d.line("FLOW in/0"); !strings.Contains(line, "gaps 0") || !strings.Contains(line, "first 0") {
		d.t.Errorf("the sink: %s", line)
	}
}

func takeTap(t *testing.T, place *link.TapPlace) *shm.Endpoint {
	t.Helper()
	ep, err := shm.Dial(place.Socket, place.Token, shm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ep.Close)
	return ep
}

// An onlooker joins a running dataflow, sees its messages whole, and leaves; neither he nor
// one who never looks slows or loses anything. A fifth is refused.
func TestTapOnARunningDataflow(t *testing.T) {
	d := runningPair(t)
	outputs := []link.TapOutput{{Node: "source", Output: "out"}}
	first := takeTap(t, d.must(link.Command{Tap: &link.Tap{Outputs: outputs}}).Tap)
	idle := takeTap(t, d.must(link.Command{Tap: &link.Tap{Outputs: outputs, Queue: 5}}).Tap)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var last uint64
	for i := range 400 {
		m, err := first.Reader.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m.Input != "source/out" || m.Source != "source" || len(m.Payload) < 300 {
			t.Fatalf("%s from %s with %d bytes", m.Input, m.Source, len(m.Payload))
		}
		if at, ok := nodewire.PlainMetadata(m.Meta); !ok || time.Since(at.At()) > time.Minute {
			t.Fatalf("metadata % x", m.Meta)
		}
		if i > 0 && m.Seq <= last {
			t.Fatalf("message %d after %d", m.Seq, last)
		}
		last = m.Seq
		m.Release()
	}
	for range 2 {
		d.must(link.Command{Tap: &link.Tap{Outputs: outputs}})
	}
	if r := d.do(link.Command{Tap: &link.Tap{Outputs: outputs}}); !strings.Contains(r.Error, "4 taps") {
		t.Errorf("a fifth tap: %q", r.Error)
	}
	if r := d.do(link.Command{Tap: &link.Tap{Outputs: []link.TapOutput{{Node: "source", Output: "nothing"}}}}); !strings.Contains(r.Error, "source/nothing") {
		t.Errorf("a tap of nothing: %q", r.Error)
	}
	first.Close()
	if st := idle.Reader.Stats(); len(st) != 1 || st[0].Dropped == 0 || st[0].Received != 0 {
		t.Errorf("the one who does not look: %+v", st)
	}
	d.endPair()
	for {
		m, err := idle.Reader.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m.End != shm.NotEnded {
			break
		}
		m.Release()
	}
	if _, err := shm.Dial("@nobody", "x", shm.Options{}); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A daemon that comes to a running shim changes nothing for the data.
func TestAdoptionDoesNotTouchTheData(t *testing.T) {
	d := runningPair(t)
	for range 3 {
		d = d.again(d.epoch + 1)
		d.must(link.Command{Logs: &link.Logs{On: true}})
		st := d.must(link.Command{State: &link.StateQuery{}}).State
		for _, n := range st.Nodes {
			if n.Spawned == nil || n.Phase != "subscribed" || n.Note != "" {
				t.Errorf("%+v", n)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.endPair()
}
