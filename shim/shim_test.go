package shim_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dora-go/dora/shim"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
)

// TestMain lets the test binary be guard and shim, like the dora binary.
func TestMain(m *testing.M) {
	if handled, code := shim.Main(os.Args[1:]); handled {
		os.Exit(code)
	}
	if role := os.Getenv("SHIM_TEST_ROLE"); role != "" {
		os.Exit(playRole(role))
	}
	os.Exit(m.Run())
}

// playRole: "parent" is a `dora run` in small, which a test can kill.
func playRole(role string) int {
	h, err := launch.Launch(context.Background(), launch.Options{
		StateDir: os.Getenv("SHIM_TEST_STATE"), Dataflow: os.Getenv("SHIM_TEST_DATAFLOW"), ParentPipe: role == "parent", NoCgroup: os.Getenv("SHIM_TEST_NO_CGROUP") == "true",
	})
	if err != nil {
		os.Stderr.WriteString(err.Error())
		return 1
	}
	d := &daemon{h: h, facts: make(chan link.Fact, 1000), replies: make(chan *link.Reply, 100)}
	go d.read()
	d.id++
	dir := os.Getenv("SHIM_TEST_STATE")
	h.Conn.Send(&link.Command{ID: d.id, Load: &link.Load{Dataflow: os.Getenv("SHIM_TEST_DATAFLOW"), WorkingDir: dir,
		LogDir: filepath.Join(dir, "out"), AllowShell: true, Env: os.Environ(),
		Nodes: []link.Node{{ID: "n", Kind: link.KindShell, Args: os.Getenv("SHIM_TEST_SCRIPT"), WorkingDir: dir}}}})
	h.Conn.Send(&link.Command{ID: 2, Spawn: &link.Spawn{Node: "n", Generation: 1, Token: "role"}})
	select {}
}

// daemon is the brain above a shim, as small as a test needs it.
type daemon struct {
	t       *testing.T
	h       *launch.Handle
	id      uint64
	facts   chan link.Fact
	replies chan *link.Reply
	logs    chan link.LogLine
	gaps    chan uint64
	epoch   uint64
	last    *link.Load
	pause   chan chan struct{} // makes read wait at the next message
}

func (d *daemon) read() {
	for {
		m, err := d.h.Conn.ReadMessage()
		if err != nil {
			close(d.facts)
			return
		}
		select {
		case hold := <-d.pause:
			<-hold
		default:
		}
		switch {
		case m.Fact != nil:
			d.facts <- *m.Fact
		case m.Reply != nil:
			d.replies <- m.Reply
		case m.Log != nil && d.logs != nil:
			d.logs <- *m.Log
		case m.LogGap != nil && d.gaps != nil:
			d.gaps <- m.LogGap.Count
		}
	}
}

const dataflowID = "01a20a11-3c39-71d3-be12-eafecfe06cce"

func startShim(t *testing.T, o launch.Options) *daemon {
	t.Helper()
	if o.StateDir == "" {
		o.StateDir = t.TempDir()
	}
	o.Dataflow = dataflowID
	h, err := launch.Launch(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, h: h, epoch: o.Epoch, facts: make(chan link.Fact, 1000), replies: make(chan *link.Reply, 100),
		pause: make(chan chan struct{}, 1)}
	go d.read()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Kill(ctx); err != nil {
			t.Error(err)
		}
		h.Close()
		<-h.GuardDone()
	})
	return d
}

// do sends a command and returns its reply.
func (d *daemon) do(c link.Command) *link.Reply {
	d.t.Helper()
	d.id++
	c.ID, c.Epoch = d.id, d.epoch
	if err := d.h.Conn.Send(&c); err != nil {
		d.t.Fatal(err)
	}
	select {
	case r := <-d.replies:
		if r.ID != c.ID {
			d.t.Fatalf("reply to %d, want %d", r.ID, c.ID)
		}
		return r
	case <-time.After(5 * time.Second):
		d.t.Fatal("no reply within 5 s")
	}
	return nil
}

func (d *daemon) must(c link.Command) *link.Reply {
	d.t.Helper()
	r := d.do(c)
	if r.Error != "" {
		d.t.Fatalf("refused: %s", r.Error)
	}
	return r
}

// fact returns the next fact that satisfies ok.
func (d *daemon) fact(ok func(link.Fact) bool) link.Fact {
	d.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case f, open := <-d.facts:
			if !open {
				d.t.Fatal("the shim closed the connection")
			}
			if ok(f) {
				return f
			}
		case <-deadline:
			d.t.Fatal("the fact did not come within 10 s")
		}
	}
}

func exited(f link.Fact) bool  { return f.Exited != nil }
func spawned(f link.Fact) bool { return f.Spawned != nil }

func (d *daemon) load(nodes ...link.Node) *link.Load {
	dir := d.t.TempDir()
	for i := range nodes {
		if nodes[i].WorkingDir == "" {
			nodes[i].WorkingDir = dir
		}
	}
	d.last = &link.Load{Dataflow: dataflowID, WorkingDir: dir, LogDir: filepath.Join(dir, "out"),
		Nodes: nodes, Env: os.Environ(), AllowShell: true, Descriptor: []byte(`{"nodes":[]}`)}
	return d.last
}

func sh(id, script string) link.Node {
	return link.Node{ID: id, Kind: link.KindShell, Args: script}
}

func TestRunsANodeToItsEnd(t *testing.T) {
	begin := time.Now()
	d := startShim(t, launch.Options{})
	t.Log("launch", time.Since(begin))
	d.must(link.Command{Load: d.load(sh("a", "echo hello; echo oops >&2; exit 3"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "a", Generation: 1, Token: "t1"}})
	f := d.fact(exited)
	if f.Exited.Code != 3 || len(f.Exited.Stderr) != 1 || f.Exited.Stderr[0] != "oops" {
		t.Errorf("exit %+v", f.Exited)
	}
	d.must(link.Command{Ack: &link.Ack{Seq: f.Seq}})
	d.must(link.Command{End: &link.End{}})
	<-d.h.Lost()
	t.Log("all", time.Since(begin))
	if held, _ := folder.Held(d.h.Dir()); held {
		t.Error("the lock is held")
	}
	if _, err := os.Stat(d.h.Dir()); err == nil {
		t.Error("the folder is still there")
	}
}
