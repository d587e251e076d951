package shim_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
)

// again connects to the daemon's shim as another daemon would.
func (d *daemon) again(epoch uint64) *daemon {
	d.t.Helper()
	found := findOne(d.t, d)
	h, err := launch.Adopt(context.Background(), found)
	if err != nil {
		d.t.Fatal(err)
	}
	next := &daemon{t: d.t, h: h, epoch: epoch, facts: make(chan link.Fact, 1000), replies: make(chan *link.Reply, 100), logs: d.logs}
	go next.read()
	d.t.Cleanup(func() { h.Close() })
	return next
}

func findOne(t *testing.T, d *daemon) launch.Found {
	t.Helper()
	found, err := launch.Find(filepath.Dir(filepath.Dir(d.h.Dir())))
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	return found[0]
}

// collect returns the facts up to and with the first that satisfies ok.
func (d *daemon) collect(ok func(link.Fact) bool) (facts []link.Fact) {
	d.t.Helper()
	d.fact(func(f link.Fact) bool {
		facts = append(facts, f)
		return ok(f)
	})
	return facts
}

func names(facts []link.Fact) string {
	var out []string
	for _, f := range facts {
		switch {
		case f.Spawned != nil:
			out = append(out, "spawned")
		case f.SpawnFailed != nil:
			out = append(out, "failed")
		case f.StopStep != nil:
			out = append(out, f.StopStep.Step)
		case f.Exited != nil:
			out = append(out, "exited")
		case f.Warning != nil:
			out = append(out, "warning")
		case f.Restarted != nil:
			out = append(out, "restarted")
		default:
			out = append(out, "other")
		}
	}
	return strings.Join(out, " ")
}

const stubborn = `trap '' TERM; echo ready; while :; do sleep 0.05; done`

// stubbornNode runs a node that ignores SIGTERM, until it does.
func stubbornNode(t *testing.T, o launch.Options, edit func(*link.Load)) *daemon {
	t.Helper()
	d := startShim(t, o)
	d.logs = make(chan link.LogLine, 10000)
	l := d.load(sh("n", stubborn))
	if edit != nil {
		edit(l)
	}
	d.must(link.Command{Load: l})
	d.must(link.Command{Logs: &link.Logs{On: true}})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	if f := d.fact(spawned); f.Seq != 1 || f.Spawned.StartTime == 0 || f.Spawned.Program != "sh -c" {
		t.Errorf("first fact %+v", f)
	}
	<-d.logs
	return d
}

func TestStopLadder(t *testing.T) {
	t.Parallel()
	d := stubbornNode(t, launch.Options{}, nil)
	begin := time.Now()
	d.must(link.Command{Stop: &link.Stop{Grace: time.Hour}})
	// A second stop only shortens.
	d.must(link.Command{Stop: &link.Stop{Grace: 200 * time.Millisecond, Kill: 100 * time.Millisecond}})
	d.must(link.Command{Stop: &link.Stop{Grace: time.Hour}})
	facts := d.collect(exited)
	if got := names(facts); got != "stop sigterm sigkill exited" {
		t.Errorf("facts: %s", got)
	}
	last := facts[len(facts)-1]
	if e := last.Exited; e.Code != -1 || e.Signal != int(syscall.SIGKILL) || !e.Stopping || e.Disposition != link.Close || e.Phase != "spawned" {
		t.Errorf("%+v", e)
	}
	if took := time.Since(begin); took < 300*time.Millisecond || took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	for i, f := range facts[1:] {
		if f.Seq != facts[i].Seq+1 || f.At.Before(facts[i].At) {
			t.Errorf("fact %d follows %d", f.Seq, facts[i].Seq)
		}
	}
}

func TestForcedStop(t *testing.T) {
	t.Parallel()
	d := stubbornNode(t, launch.Options{}, nil)
	d.must(link.Command{Stop: &link.Stop{Nodes: []string{"n"}, Force: true,
		Plan: &link.ExitPlan{OnSuccess: link.Hold, OnFailure: link.Hold}}})
	facts := d.collect(exited)
	if got := names(facts); got != "sigkill exited" {
		t.Errorf("facts: %s", got)
	}
	if e := facts[1].Exited; e.Disposition != link.Hold {
		t.Errorf("%+v", e)
	}
}

// TestDaemonGoneDuringStop: the ladder completes without it, the next one is told.
func TestDaemonGoneDuringStop(t *testing.T) {
	t.Parallel()
	d := stubbornNode(t, launch.Options{}, nil)
	d.must(link.Command{Stop: &link.Stop{Grace: 100 * time.Millisecond, Kill: 100 * time.Millisecond}})
	d.h.Conn.Close()
	eventually(t, 3*time.Second, "the ladder completes", func() bool {
		facts, err := findOne(t, d).Facts()
		return err == nil && len(facts) > 0 && facts[len(facts)-1].Exited != nil
	})
	next := d.again(2)
	if got := names(next.collect(exited)); got != "spawned stop sigterm sigkill exited" {
		t.Errorf("facts: %s", got)
	}
	// Acknowledged facts are not told again, and the shim still serves.
	next.must(link.Command{Ack: &link.Ack{Seq: 4}})
	third := d.again(3)
	if f := third.fact(func(link.Fact) bool { return true }); f.Seq != 5 || f.Exited == nil {
		t.Errorf("first unacknowledged fact %+v", f)
	}
	third.must(link.Command{Ack: &link.Ack{Seq: 5}})
	if h := d.again(3).h.Hello; h.FirstUnacked != 0 || h.LastFact != 0 || !h.Loaded {
		t.Errorf("hello %+v", h)
	}
}

func TestEpochsAndReplacement(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{Epoch: 5})
	d.epoch = 4
	if r := d.do(link.Command{State: &link.StateQuery{}}); !strings.Contains(r.Error, "epoch 4") {
		t.Errorf("an epoch below the wanted one: %q", r.Error)
	}
	d.epoch = 6
	d.must(link.Command{Load: d.load(sh("n", "true"))})
	next := d.again(6)
	next.must(link.Command{State: &link.StateQuery{}})
	select {
	case _, open := <-d.facts:
		if open {
			t.Error("a fact on the older connection")
		}
	case <-time.After(3 * time.Second):
		t.Error("the older connection still works")
	}
	next.epoch = 5
	if r := next.do(link.Command{Release: &link.Release{}}); !strings.Contains(r.Error, "epoch 5") {
		t.Errorf("a lower epoch: %q", r.Error)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	if r := d.do(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}}); !strings.Contains(r.Error, "no dataflow") {
		t.Errorf("before Load: %q", r.Error)
	}
	l := d.load(sh("n", "sleep 100"), link.Node{ID: "dyn", Kind: link.KindDynamic})
	other := *l
	other.Dataflow = "01a20a11-3c39-71d3-be12-eafecfe06ccf"
	if r := d.do(link.Command{Load: &other}); !strings.Contains(r.Error, "was started for dataflow") {
		t.Errorf("another dataflow: %q", r.Error)
	}
	d.must(link.Command{Load: l})
	d.must(link.Command{Load: l}) // accepted and ignored
	if r := d.do(link.Command{Load: &other}); !strings.Contains(r.Error, "runs dataflow") {
		t.Errorf("another dataflow: %q", r.Error)
	}
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 2}})
	first := d.fact(spawned)
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 2}}) // the same again
	for want, c := range map[string]link.Command{
		"generation 1 is over":      {Spawn: &link.Spawn{Node: "n", Generation: 1}},
		"generation 2 still runs":   {Spawn: &link.Spawn{Node: "n", Generation: 3}},
		"count from 1":              {Spawn: &link.Spawn{Node: "n"}},
		"is not part of":            {Spawn: &link.Spawn{Node: "x", Generation: 1}},
		"is dynamic":                {Spawn: &link.Spawn{Node: "dyn", Generation: 1}},
		"`y` is not part of":        {Stop: &link.Stop{Nodes: []string{"n", "y"}}},
		"`z` is not part of":        {Plan: &link.SetPlan{Node: "z"}},
		"`w` is not part of":        {Close: &link.CloseOutputs{Node: "w"}},
		"does not know the command": {},
	} {
		if r := d.do(c); !strings.Contains(r.Error, want) {
			t.Errorf("%q: %q", want, r.Error)
		}
	}
	st := d.must(link.Command{State: &link.StateQuery{}}).State
	if len(st.Nodes) != 2 || st.Nodes[0].Spawned == nil || *st.Nodes[0].Spawned != *first.Spawned || st.Nodes[0].Generation != 2 || st.Released {
		t.Errorf("state %+v", st)
	}
}

func TestSpawnFails(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	l := d.load(link.Node{ID: "n", Kind: link.KindExecutable, Path: "./missing"}, sh("s", "true"))
	l.AllowShell = false
	d.must(link.Command{Load: l})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	f := d.fact(func(f link.Fact) bool { return f.SpawnFailed != nil })
	if f.Node != "n" || f.Generation != 1 || !strings.Contains(f.SpawnFailed.Error, "/missing") {
		t.Errorf("%+v %+v", f, f.SpawnFailed)
	}
	d.must(link.Command{Spawn: &link.Spawn{Node: "s", Generation: 1}})
	f = d.fact(func(f link.Fact) bool { return f.SpawnFailed != nil })
	if !strings.Contains(f.SpawnFailed.Error, "Shell nodes are disabled by default") {
		t.Errorf("%+v", f.SpawnFailed)
	}
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 2}}) // another try is another generation
	d.fact(func(f link.Fact) bool { return f.SpawnFailed != nil && f.Generation == 2 })
}

func TestLeftoversOfAFinishedNode(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	tag := newTag()
	script := fmt.Sprintf("sleep 1%[1]s & setsid sleep 2%[1]s & (setsid sh -c 'sleep 3%[1]s & sleep 4%[1]s' &) ; sleep 0.1", tag)
	d.must(link.Command{Load: d.load(sh("n", script), sh("m", "sleep 100"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "m", Generation: 1, Token: "tm"}})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1, Token: "tn"}})
	begin := time.Now()
	if f := d.fact(exited); f.Node != "n" || f.Exited.Code != 0 {
		t.Errorf("%+v", f)
	}
	if n := tagged(tag); len(n) != 0 {
		t.Errorf("left behind: %v", n)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestOrphanTimeout(t *testing.T) {
	t.Parallel()
	d := stubbornNode(t, launch.Options{}, func(l *link.Load) { l.OrphanTimeout = 100 * time.Millisecond })
	pid := d.h.Owner().PID
	d.h.Conn.Close()
	// The ladder of an orphan has the usual times, so only its beginning is waited for.
	eventually(t, 3*time.Second, "the nodes are told to stop", func() bool {
		facts, _ := findOne(t, d).Facts()
		return strings.Contains(names(facts), "warning stop")
	})
	if !alive(pid, "dora-shim") {
		t.Error("the shim did not wait for its nodes")
	}
	next := d.again(1) // too late: what was begun is carried out
	next.must(link.Command{Stop: &link.Stop{Force: true}})
	<-d.h.Lost()
	facts, err := findOne(t, d).Facts()
	if got := names(facts); err != nil || !strings.HasSuffix(got, "exited") {
		t.Errorf("unread facts: %s, %v", got, err)
	}
}

// TestFolderVanishes: the nodes run on while a daemon is connected, and not after it.
func TestFolderVanishes(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	tag := newTag()
	d.must(link.Command{Load: d.load(sh("n", "exec sleep 1"+tag))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	d.fact(spawned)
	os.RemoveAll(d.h.Dir())
	if f := d.fact(func(f link.Fact) bool { return f.Warning != nil }); !strings.Contains(f.Warning.Text, "was removed") {
		t.Errorf("%+v", f.Warning)
	}
	time.Sleep(5 * time.Second) // two more looks
	if len(tagged(tag)) == 0 {
		t.Error("the node was stopped under its daemon")
	}
	pid := d.h.Owner().PID
	d.h.Conn.Close()
	eventually(t, 40*time.Second, "node and shim are gone", func() bool { return len(tagged(tag)) == 0 && !alive(pid, "dora-shim") })
}

func TestSigtermToTheGuard(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	d.must(link.Command{Load: d.load(sh("n", "exec sleep 100"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	d.fact(spawned)
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} { // of a terminal: nothing happens
		syscall.Kill(d.h.Owner().GuardPID, s)
		syscall.Kill(d.h.Owner().PID, s)
	}
	syscall.Kill(d.h.Owner().GuardPID, syscall.SIGTERM)
	if got := names(d.collect(func(f link.Fact) bool { return f.StopStep != nil })); got != "warning stop" {
		t.Errorf("facts: %s", got)
	}
	d.must(link.Command{Stop: &link.Stop{Force: true}})
	<-d.h.Lost()
}

// TestEndsWhenNobodyNeedsIt: no daemon, no nodes, every fact acknowledged.
func TestEndsWhenNobodyNeedsIt(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{IdleTimeout: 100 * time.Millisecond})
	d.must(link.Command{Load: d.load(sh("n", "true"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	f := d.fact(exited)
	d.h.Conn.Close()
	time.Sleep(300 * time.Millisecond)
	if !alive(d.h.Owner().PID, "dora-shim") {
		t.Fatal("the shim ended with a fact that nobody has")
	}
	next := d.again(0)
	next.must(link.Command{Ack: &link.Ack{Seq: f.Seq}})
	time.Sleep(300 * time.Millisecond)
	if !alive(d.h.Owner().PID, "dora-shim") {
		t.Fatal("the shim ended under its daemon")
	}
	next.h.Conn.Close()
	select {
	case <-d.h.Lost():
	case <-time.After(3 * time.Second):
		t.Fatal("the shim stays for nobody")
	}
	if !missing(d.h.Dir()) {
		t.Error("its folder is still there")
	}
}

func TestHeldOutputsWithoutADaemon(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	d.must(link.Command{Load: d.load(sh("n", "exit 1"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1,
		Plan: link.ExitPlan{OnSuccess: link.Close, OnFailure: link.Hold, HoldFor: 100 * time.Millisecond}}})
	f := d.fact(exited)
	if f.Exited.Disposition != link.Hold {
		t.Errorf("%+v", f.Exited)
	}
	time.Sleep(250 * time.Millisecond)
	d.must(link.Command{Ack: &link.Ack{Seq: f.Seq}})
	if facts, _ := findOne(t, d).Facts(); len(facts) != 0 {
		t.Errorf("under a daemon the clock stands still: %s", names(facts))
	}
	d.h.Conn.Close()
	eventually(t, 2*time.Second, "the outputs are closed", func() bool {
		facts, _ := findOne(t, d).Facts()
		return names(facts) == "warning" && strings.Contains(facts[0].Warning.Text, "held open")
	})
}

func TestStartupTimeout(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	n := sh("n", "exec sleep 100")
	n.StartupTimeout = 100 * time.Millisecond
	d.must(link.Command{Load: d.load(n)})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	if e := d.fact(exited).Exited; e.Signal != int(syscall.SIGKILL) || e.Reason != "startup timeout" || e.Stopping {
		t.Errorf("%+v", e)
	}
}

// TestShimRestarted: a new shim in an old folder goes on with the facts of the old one.
func TestShimRestarted(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	d := startShim(t, launch.Options{StateDir: state})
	d.must(link.Command{Load: d.load(sh("n", "exit 4"))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	f := d.fact(exited)
	kill(d.h.Owner().PID)
	<-d.h.Lost()
	next := startShim(t, launch.Options{StateDir: state})
	facts := next.collect(func(f link.Fact) bool { return f.Restarted != nil })
	if got := names(facts); got != "spawned exited restarted" || facts[2].Seq != f.Seq+1 || facts[1].Exited.Code != 4 {
		t.Errorf("facts: %s", got)
	}
	if next.h.Hello.Loaded {
		t.Error("a new shim is not loaded")
	}
}

// TestHostileConnections end, and the shim lives.
func TestHostileConnections(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	for _, garbage := range []string{"\xff\xff\xff\xff", "\x05\x00\x00\x00hello", "\x02\x00\x00\x00[]", "", "\x02"} {
		nc, err := net.Dial("unix", d.h.Owner().Socket)
		if err != nil {
			t.Fatal(err)
		}
		nc.Write([]byte(garbage))
		nc.(*net.UnixConn).CloseWrite()
		nc.SetReadDeadline(time.Now().Add(3 * time.Second))
		for b := make([]byte, 1000); err == nil; {
			_, err = nc.Read(b)
		}
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Errorf("%q: the connection stays", garbage)
		}
		nc.Close()
	}
	next := d.again(0)
	next.must(link.Command{Load: next.load(sh("n", "true"))})
}

// TestSilentDaemon: one that does not read costs log lines, never facts and never a node.
func TestSilentDaemon(t *testing.T) {
	t.Parallel()
	d := startShim(t, launch.Options{})
	d.must(link.Command{Load: d.load(sh("n", "i=0; while [ $i -lt 60000 ]; do echo line $i; i=$((i+1)); done; echo last >&2; exit 9"))})
	d.must(link.Command{Logs: &link.Logs{On: true}})
	d.h.Conn.Send(&link.Command{ID: 99, Spawn: &link.Spawn{Node: "n", Generation: 1}})
	// This daemon's reader stops at the first log line, and goes on when the node is gone.
	hold := make(chan struct{})
	d.pause <- hold
	eventually(t, 10*time.Second, "the node ends", func() bool {
		facts, _ := findOne(t, d).Facts()
		return strings.HasSuffix(names(facts), "exited")
	})
	d.logs, d.gaps = make(chan link.LogLine, 70000), make(chan uint64, 1000)
	close(hold)
	if e := d.fact(exited).Exited; e.Code != 9 || len(e.Stderr) != 1 {
		t.Errorf("%+v", e)
	}
	var gaps uint64 // lines may come after the fact
	eventually(t, 20*time.Second, "every line came or is told as lost", func() bool {
		for len(d.gaps) > 0 {
			gaps += <-d.gaps
		}
		return uint64(len(d.logs))+gaps >= 60001
	})
	if got := uint64(len(d.logs)) + gaps; got != 60001 || gaps == 0 {
		t.Errorf("%d lines came, %d are told as lost, of 60001", len(d.logs), gaps)
	}
	// The file has all of them.
	b, err := os.ReadFile(filepath.Join(d.last.LogDir, "log_n.jsonl"))
	if n := strings.Count(string(b), "\n"); err != nil || n != 60001 || strings.Contains(string(b), `"lost"`) {
		t.Errorf("%d lines in the file, %v", n, err)
	}
}
