package actors

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
)

// fault is one thing that goes wrong, or one order.
type fault struct {
	at   time.Duration
	kind string
}

func drawFaults(rng *rand.Rand) []fault {
	kinds := []string{"cut", "cut", "shim", "daemon", "kill-before", "kill-after", "full", "glitch", "lie", "panic", "panic", "stop-node", "restart-node", "restart-node", "query"}
	var out []fault
	at := time.Duration(0)
	for range rng.IntN(8) {
		at += time.Duration(rng.IntN(3000)) * time.Millisecond
		if rng.IntN(3) == 0 {
			at -= at % (10 * time.Millisecond)
			at = at / 10 // during the start
		}
		out = append(out, fault{at: at, kind: kinds[rng.IntN(len(kinds))]})
	}
	return out
}

func (w *world) inflict(t *testing.T, d *simDaemon, f fault, rng *rand.Rand, accepted *[]string, total *simStats) *simDaemon {
	w.mu.Lock()
	w.note("fault %s", f.kind)
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	st := d.store
	switch f.kind {
	case "cut", "shim":
		w.mu.Lock()
		for _, s := range w.shims {
			if s.gone {
				continue
			}
			if f.kind == "cut" {
				total.cuts++
				s.cut(w.betweenLocked(time.Millisecond, 300*time.Millisecond))
			} else {
				total.shims++
				s.crash("killed")
			}
		}
		w.mu.Unlock()
	case "daemon":
		st.kill()
	case "kill-before", "kill-after", "glitch", "lie", "panic":
		w.mu.Lock()
		w.full = w.full || f.kind == "glitch" || f.kind == "lie"
		w.mu.Unlock()
		st.mu.Lock()
		at := st.count + 1 + rng.IntN(6)
		switch f.kind {
		case "kill-before":
			st.killBefore = at
		case "kill-after":
			st.killAfter = at
		case "lie":
			st.lieAt[at] = true
		case "panic":
			st.panicAt[at] = true
		default:
			st.glitchAt[at] = true
		}
		st.mu.Unlock()
	case "full":
		w.mu.Lock()
		w.full = true
		w.mu.Unlock()
		st.mu.Lock()
		st.fullUntil = time.Now().Add(time.Duration(rng.IntN(4000)) * time.Millisecond)
		st.mu.Unlock()
	case "stop-node", "restart-node":
		id := string(rune('a' + rng.IntN(len(w.plays))))
		st.mu.Lock()
		full := time.Now().Before(st.fullUntil) || len(st.glitchAt)+len(st.lieAt) > 0
		st.mu.Unlock()
		var err error
		if f.kind == "stop-node" {
			err = d.StopNode(ctx, w.flow, id, time.Second, rng.IntN(3) == 0)
		} else {
			err = d.RestartNode(ctx, w.flow, id, time.Second)
		}
		w.mu.Lock()
		w.note("%s %s: %v", f.kind, id, err)
		w.mu.Unlock()
		if err == nil && !full && !st.isDead() {
			*accepted = append(*accepted, events.NodeStream(w.flow, id)+" NodeStopRequested")
		}
		if errors.Is(err, context.DeadlineExceeded) && !st.isDead() {
			t.Errorf("%s %s was never answered", f.kind, id)
		}
	case "query":
		if _, err := d.Nodes(ctx, w.flow); err != nil {
			t.Errorf("nodes: %v", err)
		}
		if _, err := d.Dataflows(ctx); err != nil {
			t.Errorf("dataflows: %v", err)
		}
	}
	return d
}

// reboot starts a new daemon after the old one was killed; sometimes it is killed
// during its own start.
func (w *world) reboot(t *testing.T, d *simDaemon, rng *rand.Rand, total *simStats) *simDaemon {
	for {
		d.bury()
		total.daemons++
		w.mu.Lock()
		w.note("daemon was killed")
		w.mu.Unlock()
		if rng != nil {
			time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		}
		d = w.boot(t, func(s *simStore) {
			if rng != nil && rng.IntN(3) == 0 {
				s.killAfter = 1 + rng.IntN(4)
			}
		})
		if d.Daemon != nil && !d.store.isDead() {
			return d
		}
	}
}
