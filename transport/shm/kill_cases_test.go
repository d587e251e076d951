//go:build linux

package shm

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// deathsHandled: who has ended is left, or succeeded, by the playground.
var deathsHandled = SupervisorOptions{ArenaLimit: 4 << 20, Grace: time.Minute}

func soaking() bool { return os.Getenv("DORA_SOAK") != "" }

// thisBinary is for children without fault injection.
func thisBinary(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func faultyBinary(t *testing.T) string {
	t.Helper()
	exe, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// TestKilledAtEveryStep kills producers and consumers at every step of the protocol, ten
// times each: nobody hangs, nothing is corrupt, every slot comes back, and nothing of
// the dead stays mapped.
func TestKilledAtEveryStep(t *testing.T) {
	g := newPlayground(t, faultyBinary(t), deathsHandled)
	plans := map[string][]string{
		"p1": plan(producerSteps, 5, 1), "p2": plan(producerSteps, 5, 2),
		"c1": plan(consumerSteps, 5, 3), "c2": plan(consumerSteps, 5, 4),
	}
	if err := g.run(plans, 10*time.Second); err != nil {
		t.Error(err)
	}
}

// TestKilledBetweenReceivers kills producers while they change over from a receiver that
// was killed to the one that succeeds it.
func TestKilledBetweenReceivers(t *testing.T) {
	g := newPlayground(t, faultyBinary(t), deathsHandled)
	g.restless.Store(true)
	plans := map[string][]string{"p1": plan(soleSteps, 5, 5), "p2": plan(soleSteps, 5, 6), "c1": nil}
	if err := g.run(plans, 10*time.Second); err != nil {
		t.Error(err)
	}
}

// TestKilledAnytime kills at random moments.
func TestKilledAnytime(t *testing.T) {
	kills := 20
	if soaking() {
		kills = 500
	}
	g := newPlayground(t, thisBinary(t), deathsHandled)
	plans := make(map[string][]string)
	for _, n := range []string{"p1", "p2", "c1", "c2"} {
		plans[n] = make([]string, kills/4)
		for i := range plans[n] {
			plans[n][i] = "kill"
		}
	}
	if err := g.run(plans, 10*time.Second); err != nil {
		t.Error(err)
	}
}

// lastWord kills a producer between publishing and waking, and a consumer that holds
// everything while its producer waits, and says whether the survivors go on.
func lastWord(t *testing.T, o SupervisorOptions) error {
	t.Helper()
	o.ArenaLimit = 4 << 20
	for _, c := range []struct{ node, spec string }{{"p", "ring.cleared:3"}, {"p", "head.stored:3"}, {"c", "entry.claimed:5"}, {"c", "token.written:5"}} {
		g := newPlayground(t, faultyBinary(t), o)
		p, q := g.node("p", "producer"), g.node("c", "consumer")
		for _, x := range []*process{p, q} {
			if err := g.join(x); err != nil {
				return err
			}
		}
		faults := map[string]string{c.node: c.spec}
		for _, x := range []*process{q, p} {
			if err := g.spawn(x, faults[x.node]); err != nil {
				return err
			}
		}
		dies, lives := p, q
		if c.node == "c" {
			dies, lives = q, p
		}
		_ = dies.cmd.Wait()
		g.leave(dies)
		before := atomic.LoadUint64(g.board.count(lives.slot))
		err := errors.New(lives.node + " is wedged after " + c.spec)
		for end := time.Now().Add(2 * time.Second); err != nil && time.Now().Before(end); time.Sleep(time.Millisecond) {
			g.sup.mu.Lock()
			edges := len(g.sup.edges)
			g.sup.mu.Unlock()
			// A producer runs on; a consumer reads its edges to the end.
			if lives == p && atomic.LoadUint64(g.board.count(p.slot)) > before+2 || lives == q && edges == 0 {
				err = nil
			}
		}
		_ = lives.cmd.Process.Kill()
		_ = lives.cmd.Wait()
		g.leave(lives)
		if err != nil {
			return err
		}
	}
	return nil
}

func TestSurvivorsAreWoken(t *testing.T) {
	if err := lastWord(t, SupervisorOptions{}); err != nil {
		t.Error(err)
	}
}

// TestWithoutRepairSurvivorsHang is the negative control: the kill tests can fail.
func TestWithoutRepairSurvivorsHang(t *testing.T) {
	err := lastWord(t, SupervisorOptions{noRepair: true})
	if err == nil || !strings.Contains(err.Error(), "wedged") {
		t.Errorf("without the forced ring and the sweep, somebody must hang; got %v", err)
	}
}
