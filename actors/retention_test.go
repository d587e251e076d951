package actors

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// TestOldHistoryBecomesASummary: a week after the end, and 10,000 events later, single
// events are gone from the daemon, and after two weeks from the coordinator. What was is
// known still: after a restart of both, and by a coordinator that never had the events.
func TestOldHistoryBecomesASummary(t *testing.T) {
	bubble(t, map[string]play{"a": {run: time.Second}, "b": {run: time.Second}}, func(t *testing.T, w *world) {
		w.machine, w.vault = "A", &memVault{envs: map[string][]string{}}
		cl := &cluster{t: t, rng: rand.New(rand.NewPCG(1, 10)), disk: journal.NewMemory(), vault: &memVault{envs: map[string][]string{}}}
		cl.bootCoordinator()
		m := &simMachine{cl: cl, w: w}
		cl.machines = append(cl.machines, m)
		m.bootDaemon()
		time.Sleep(time.Second)
		if _, err := cl.c.Start(ctx, cl.request(m)); err != nil {
			t.Fatal(err)
		}
		if _, err := cl.c.Wait(ctx, "flow"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		// Another dataflow's worth of events, so that these are not among the last.
		for range keepLast / 100 {
			a := journal.Append{Stream: "filler", Expected: journal.Any}
			for range 100 {
				env, err := events.Seal(events.DaemonStopped{}, events.Meta{At: time.Now()})
				if err != nil {
					t.Fatal(err)
				}
				a.Events = append(a.Events, env)
			}
			if err := w.disk.Append(ctx, a); err != nil {
				t.Fatal(err)
			}
		}
		first := func(disk *journal.Journal, stream string) (string, int) {
			var kind string
			n := 0
			for env, err := range disk.Read(context.Background(), stream, 1) {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == 1 {
					kind = env.Type
				}
			}
			return kind, n
		}
		if spans, err := cl.c.Traces(ctx, ""); err != nil || len(spans) == 0 {
			t.Errorf("there are %d spans (%v)", len(spans), err)
		}
		time.Sleep(keepOwn - time.Hour)
		if kind, _ := first(w.disk, events.DataflowStream("flow")); kind != "DataflowCreated" {
			t.Errorf("before a week the stream begins with %s", kind)
		}
		time.Sleep(3 * time.Hour)
		for _, stream := range []string{events.DataflowStream("flow"), events.NodeStream("flow", "a")} {
			if kind, n := first(w.disk, stream); kind != "HistorySummarized" || n != 1 {
				t.Errorf("after a week %s has %d events, the first is %s", stream, n, kind)
			}
		}
		want := cl.c.List(ctx, false)
		check := func(when string) {
			t.Helper()
			time.Sleep(time.Minute)
			got := cl.c.List(ctx, false)
			if len(got) != 1 || got[0].Status != want[0].Status || got[0].EndedAt != want[0].EndedAt || got[0].Nodes != 2 {
				t.Errorf("%s the list is %+v, it was %+v", when, got, want)
			}
		}
		m.killDaemon()
		m.bootDaemon()
		check("after a restart of the daemon")
		time.Sleep(KeepHistory)
		m.killDaemon()
		m.bootDaemon() // it has something to tell, so that it is looked
		time.Sleep(time.Minute)
		facts := events.FactsStream("A", w.disk.ID())
		if _, n := first(cl.disk, facts); n > 10 {
			t.Errorf("after two weeks %d facts are there", n)
		}
		if spans, err := cl.c.Traces(ctx, ""); err != nil || len(spans) > 0 {
			t.Errorf("after two weeks there are spans: %+v (%v)", spans, err)
		}
		cl.killCoordinator()
		cl.bootCoordinator()
		check("after a restart of the coordinator")
		cl.killCoordinator()
		cl.disk = journal.NewMemory()
		cl.bootCoordinator()
		check("of a coordinator without memory")
		found := false
		for env, err := range cl.disk.Read(context.Background(), facts, 1) {
			found = found || err == nil && env.Type == "StateReceived"
		}
		if !found {
			t.Error("no state was sent in place of the facts that are gone")
		}
		m.up.Close()
		if err := m.d.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := cl.c.Close(); err != nil {
			t.Error(err)
		}
	})
}
