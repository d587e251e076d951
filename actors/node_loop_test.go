package actors

import (
	"testing"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// A crash loop is held back, and what is written in its place replays to the same state.
func TestCrashLoopIsCompacted(t *testing.T) {
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways, Delay: 10 * time.Millisecond, MaxDelay: 20 * time.Millisecond}).start()
	var written, held []record
	before := newNodeState()
	settle := func() { // as the actor does after every step
		recs := l.log
		l.log = nil
		was := before
		before = l.s
		if l.cfg.holdable(was, recs) {
			held = append(held, recs...)
			return
		}
		written = append(append(written, compact(held)...), recs...)
		held = nil
	}
	settle()
	crash := func(x link.Exited) {
		l.now = l.now.Add(5 * time.Millisecond)
		l.exit(x)
		settle()
		l.respawn()
		settle()
		for _, f := range []link.Fact{
			{Spawned: &link.Spawned{PID: 9, Program: "/bin/n"}},
			{Registered: &link.Registered{Version: "1.1.0"}},
			{Subscribed: &link.Subscribed{}},
		} {
			l.fact(f)
			settle()
		}
	}
	for range loopAfter {
		crash(code3)
	}
	if len(held) == 0 || l.s.Through == 0 {
		t.Fatalf("after %d equal crashes nothing is held back (intent through %d)", loopAfter, l.s.Through)
	}
	count := len(written)
	for range 500 {
		crash(code3)
	}
	if len(written) != count {
		t.Fatalf("%d records of a crash loop were written", len(written)-count)
	}
	all := append(append([]record{}, written...), compact(held)...)
	if got, want := asJSON(t, replayed(t, all)), asJSON(t, l.s); got != want {
		t.Errorf("the compacted journal gives\n%s\nnot\n%s", got, want)
	}
	if l.s.Total != loopAfter+500 || l.s.Generation != loopAfter+501 {
		t.Errorf("restarts %d, generation %d", l.s.Total, l.s.Generation)
	}
	looped := 0
	for _, r := range all {
		if e, ok := r.Event.(events.NodeCrashLooped); ok {
			looped++
			if e.Error != "exited with code 3" || e.Crashes < 490 || e.Total == 0 {
				t.Errorf("%+v", e)
			}
		}
	}
	if looped != 1 || len(compact(held)) > 10 {
		t.Errorf("%d NodeCrashLooped, %d records for 500 crashes", looped, len(compact(held)))
	}

	crash(sigkill) // another end: the loop is over, and all is written
	if len(held) != 0 {
		t.Errorf("%d records are still held after a different exit", len(held))
	}
	if got, want := asJSON(t, replayed(t, written)), asJSON(t, l.s); got != want {
		t.Errorf("after the loop the journal gives\n%s\nnot\n%s", got, want)
	}
}

func TestWhatIsNoCrashLoop(t *testing.T) {
	run := func(cfg nodeConfig, x link.Exited) *life {
		l := newLife(t, cfg).start()
		for range loopAfter + 5 {
			l.exit(x)
			if !l.respawn() {
				break
			}
			l.up()
		}
		return l
	}
	always := dataflow.RestartAlways
	for name, c := range map[string]struct {
		cfg   nodeConfig
		exit  link.Exited
		loops bool
	}{
		"unlimited":          {nodeConfig{Policy: always}, code3, true},
		"within a window":    {nodeConfig{Policy: always, MaxRestarts: 1000, Window: time.Second}, code3, true},
		"limited":            {nodeConfig{Policy: always, MaxRestarts: 1000}, code3, false},
		"long lives":         {nodeConfig{Policy: always}, link.Exited{Code: 3, Uptime: time.Hour}, false},
		"health check kills": {nodeConfig{Policy: always}, link.Exited{Code: -1, Signal: 9, Reason: reasonHealth}, false},
	} {
		if l := run(c.cfg, c.exit); l.cfg.loops(l.s) != c.loops {
			t.Errorf("%s: crash loop %v, want %v", name, !c.loops, c.loops)
		}
	}
}

// After a restart of the daemon the facts of held records come again, the first of them
// for a generation whose own intent was never written.
func TestHeldFactsComeAgain(t *testing.T) {
	l := newLife(t, nodeConfig{Policy: dataflow.RestartAlways}).start()
	for range loopAfter {
		l.exit(code3)
		l.respawn()
		l.up()
	}
	durable := l.s // everything so far
	type came struct{ f link.Fact }
	var facts []came
	catch := func(f link.Fact) {
		f.Generation = l.s.Generation
		facts = append(facts, came{f})
		l.fact(f)
	}
	for range 3 {
		catch(link.Fact{Exited: &link.Exited{Code: 3, Phase: "subscribed", Disposition: link.Hold}})
		l.respawn()
		catch(link.Fact{Spawned: &link.Spawned{PID: 9, Program: "/bin/n"}})
		catch(link.Fact{Registered: &link.Registered{Version: "1.1.0"}})
		catch(link.Fact{Subscribed: &link.Subscribed{}})
	}
	again := newLife(t, *l.cfg)
	again.s = durable
	for _, c := range facts {
		again.fact(c.f)
	}
	if again.s.Generation != l.s.Generation || again.s.Phase != phaseSubscribed || again.s.Total != l.s.Total {
		t.Errorf("after the facts came again: generation %d phase %s restarts %d, want %d %s %d",
			again.s.Generation, again.s.Phase, again.s.Total, l.s.Generation, l.s.Phase, l.s.Total)
	}
	if again.s.spawnToken() != l.s.spawnToken() {
		t.Errorf("token %q, want %q", again.s.spawnToken(), l.s.spawnToken())
	}
}
