package production

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// journals are the histories of coordinator and daemon, read after `dora down`.
type journals struct {
	coordinator, daemon []events.Envelope
	daemonID            string
}

func (s *Site) journals() journals {
	s.t.Helper()
	var j journals
	for name, into := range map[string]*[]events.Envelope{"coordinator.badger": &j.coordinator, "daemon-local.badger": &j.daemon} {
		store, err := journal.OpenBadger(filepath.Join(s.home(), name), journal.OpenOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		for env, err := range store.ReadAll(context.Background(), 1) {
			if err != nil {
				s.t.Fatal(err)
			}
			*into = append(*into, env)
		}
		if name != "coordinator.badger" {
			j.daemonID = store.ID()
		}
		store.Close()
	}
	return j
}

// checkHistory takes everything down and compares the two histories: every fact of the
// daemon is in the coordinator exactly once and in the daemon's order; every parameter
// change that was answered is in both histories exactly once.
func (m *matrix) checkHistory() {
	m.dora("down")
	m.compare(m.acked)
}

// compare checks the histories; acked are parameter values that were answered.
func (s *Site) compare(acked []int) {
	s.t.Helper()
	j := s.journals()
	var facts []events.Envelope
	for _, env := range j.coordinator {
		if env.Stream != events.FactsStream("local", j.daemonID) {
			continue
		}
		e, err := events.Open(env)
		if err != nil {
			s.t.Fatal(err)
		}
		if f, ok := e.(events.FactReceived); ok {
			facts = append(facts, f.Envelope)
		}
	}
	// What the daemon recorded as it ended (DaemonStopped) came too late to be shipped.
	if len(facts) == 0 || len(j.daemon)-len(facts) > 2 {
		s.t.Errorf("the daemon recorded %d facts, the coordinator has %d", len(j.daemon), len(facts))
	}
	for i, f := range facts {
		if i >= len(j.daemon) || f.Pos != uint64(i+1) || f.Stream != j.daemon[i].Stream || f.Seq != j.daemon[i].Seq || string(f.Data) != string(j.daemon[i].Data) {
			s.t.Fatalf("fact %d of the coordinator is %+v, the daemon recorded %+v", i+1, f, j.daemon[min(i, len(j.daemon)-1)])
		}
	}
	ordered, set := map[int]int{}, map[string]int{}
	for _, env := range slices.Concat(j.coordinator, j.daemon) {
		var p struct{ Value json.RawMessage }
		if env.Type != "ParamOrdered" && env.Type != "ParamSet" || json.Unmarshal(env.Data, &p) != nil {
			continue
		}
		n, _ := strconv.Atoi(string(p.Value))
		if env.Type == "ParamOrdered" {
			ordered[n]++
		} else {
			set[env.Stream+" "+env.Command]++
		}
	}
	for _, n := range acked {
		if ordered[n] != 1 {
			s.t.Errorf("parameter change %d was answered, and ordered %d times", n, ordered[n])
		}
	}
	for order, times := range set {
		if times > 1 {
			s.t.Errorf("order %s was carried out %d times", order, times)
		}
	}
	s.t.Logf("%d facts, %d parameter changes answered, %d ordered, %d carried out", len(facts), len(acked), len(ordered), len(set))
}
