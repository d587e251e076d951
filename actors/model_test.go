package actors

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// nodeModel says in a few lines what a user expects of one node.
type nodeModel struct {
	running, waiting, over bool
	generation             uint64
	restarts               uint32      // since the start
	recent                 []time.Time // counted restarts of the present window
	flowStop, inputs       bool        // the dataflow is stopping; all inputs are closed
	nodeStop, restart      bool        // orders of this life
	due                    time.Time
	ended                  string
}

// exited is what should become of a node.
func (m *nodeModel) exited(cfg *nodeConfig, now time.Time, clean, stopping bool) {
	m.running = false
	end := func(how string) { m.over, m.ended = true, how }
	bad := statusFailed
	if clean {
		bad = statusFinished
	}
	if (m.flowStop || m.nodeStop) && clean {
		bad = statusStopped
	}
	wants := cfg.Policy == dataflow.RestartAlways || cfg.Policy == dataflow.RestartOnFailure && !clean
	switch {
	case m.restart && !m.flowStop && !m.inputs:
		m.restarts++
		m.waiting, m.due = true, now
		return
	case m.nodeStop, m.restart, !wants:
		if m.restart && clean {
			bad = statusStopped
		}
		end(bad)
		return
	case m.flowStop:
		if !stopping && (cfg.MaxRestarts == 0 || uint32(len(m.recent)) < cfg.MaxRestarts || cfg.Window > 0) {
			bad = statusStopped
		}
		end(bad)
		return
	case m.inputs:
		end(bad)
		return
	}
	if cfg.Window > 0 && len(m.recent) > 0 && now.Sub(m.recent[0]) > cfg.Window {
		m.recent = nil
	}
	if cfg.MaxRestarts > 0 && uint32(len(m.recent)) == cfg.MaxRestarts {
		end(bad)
		return
	}
	m.recent = append(m.recent, now)
	m.restarts++
	wait := cfg.Delay
	for range len(m.recent) - 1 {
		if wait < time.Hour {
			wait *= 2
		}
	}
	if cfg.MaxDelay > 0 && wait > cfg.MaxDelay {
		wait = cfg.MaxDelay
	}
	m.waiting, m.due = true, now.Add(wait)
}

// TestNodeAgainstModel drives the core of a node and the model with the same things,
// and crashes in between: the state is read back from what was recorded.
func TestNodeAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := nodeConfig{
			ID:          "n",
			Policy:      rapid.SampledFrom([]dataflow.RestartPolicy{dataflow.RestartNever, dataflow.RestartOnFailure, dataflow.RestartAlways}).Draw(rt, "policy"),
			MaxRestarts: rapid.Uint32Range(0, 4).Draw(rt, "max restarts"),
			Delay:       time.Duration(rapid.IntRange(0, 3).Draw(rt, "delay")) * 100 * time.Millisecond,
			MaxDelay:    time.Duration(rapid.IntRange(0, 2).Draw(rt, "max delay")) * 250 * time.Millisecond,
			Window:      time.Duration(rapid.IntRange(0, 2).Draw(rt, "window")) * time.Second,
		}
		l := newLife(t, cfg).start()
		m := &nodeModel{running: true, generation: 1}
		respawned := func() {
			if l.respawn() {
				l.up()
			}
			if m.waiting && !m.over {
				m.waiting, m.running, m.restart, m.nodeStop = false, true, false, false
				m.generation++
			}
		}
		exit := func(x link.Exited, clean bool) {
			if !m.running {
				return
			}
			x.Stopping = m.flowStop || m.nodeStop || m.restart
			l.exit(x)
			m.exited(l.cfg, l.now, clean, x.Stopping)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"ends with 0": func(*rapid.T) { exit(link.Exited{}, true) },
			"ends with 3": func(*rapid.T) { exit(link.Exited{Code: 3}, false) },
			"is killed":   func(*rapid.T) { exit(link.Exited{Code: -1, Signal: int(unix.SIGSEGV)}, false) },
			"time passes": func(rt *rapid.T) {
				l.now = l.now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(rt, "ms")) * time.Millisecond)
			},
			"comes back": func(*rapid.T) { respawned() },
			"inputs close": func(*rapid.T) {
				if m.running && !m.inputs {
					l.fact(link.Fact{AllInputsClosed: &link.AllInputsClosed{}})
					m.inputs = true
				}
			},
			"stop": func(*rapid.T) {
				if l.order(events.NodeStopRequested{Grace: time.Second}) == nil {
					m.restart = false // a stop wins
					if m.nodeStop = true; m.waiting {
						m.waiting, m.over, m.ended = false, true, statusStopped
					}
				}
			},
			"restart": func(*rapid.T) {
				err := l.order(events.NodeStopRequested{Grace: time.Second, Restart: true})
				if refused := m.over || m.flowStop || m.inputs || m.nodeStop; refused != (err != nil) {
					rt.Fatalf("restart: %v, the model refuses: %v", err, refused)
				}
				if err == nil {
					m.restart = true
					m.due = minTime(m.due, l.now, m.waiting)
				}
			},
			"dataflow stops": func(*rapid.T) {
				l.o.Stop = &events.DataflowStopRequested{Cause: "stop", Grace: time.Second}
				l.take(l.cfg.reconsider(l.s, &l.o))
				if m.flowStop = true; m.waiting {
					m.waiting, m.over, m.ended = false, true, statusStopped
				}
			},
			"daemon dies": func(*rapid.T) { l.s = replayed(t, l.log) },
			"": func(rt *rapid.T) {
				if alive := l.s.Phase.alive(); alive != m.running {
					rt.Fatalf("alive %v, the model says %v (%+v)", alive, m.running, l.s)
				}
				if over := l.s.Phase == phaseEnded; over != m.over || over && l.s.Status != m.ended {
					rt.Fatalf("%s %q, the model says over %v %q", l.s.Phase, l.s.Status, m.over, m.ended)
				}
				if l.s.Generation != m.generation || l.s.Total != m.restarts {
					rt.Fatalf("generation %d restarts %d, the model says %d %d", l.s.Generation, l.s.Total, m.generation, m.restarts)
				}
				if m.waiting && !later(l.s.Due, l.now).Equal(later(m.due, l.now)) {
					rt.Fatalf("due %s, the model says %s", l.s.Due, m.due)
				}
				if l.s.Phase.alive() {
					plan := l.cfg.plan(l.s, &l.o)
					if (m.flowStop || m.nodeStop || m.inputs) && plan != closedPlan {
						rt.Fatalf("plan %+v of a node that does not come back", plan)
					}
				}
			},
		})
	})
}

func minTime(a, b time.Time, waiting bool) time.Time {
	if waiting {
		return b
	}
	return a
}
