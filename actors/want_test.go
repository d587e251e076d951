package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// fullStore is a store whose disk may be full to the last byte.
type fullStore struct {
	journal.Store
	full atomic.Bool
}

func (s *fullStore) Append(ctx context.Context, appends ...journal.Append) error {
	if s.full.Load() {
		return fmt.Errorf("%w (a test)", journal.ErrNoSpace)
	}
	return s.Store.Append(ctx, appends...)
}

// TestStopOnADiskWithoutAByte: a dataflow is stopped although its order cannot be recorded;
// other orders are refused; once there is space the order and the end are in the history.
func TestStopOnADiskWithoutAByte(t *testing.T) {
	bubble(t, map[string]play{"a": {obeys: "stop"}, "b": {obeys: "stop"}}, func(t *testing.T, w *world) {
		w.machine, w.vault = "A", &memVault{envs: map[string][]string{}}
		cl := &cluster{t: t, rng: rand.New(rand.NewPCG(1, 10)), disk: journal.NewMemory(), vault: &memVault{envs: map[string][]string{}}}
		store := &fullStore{Store: cl.disk}
		c, err := OpenCoordinator(CoordinatorOptions{Store: store, Log: quietLog(), Vault: cl.vault, NewUUID: func() string { return "new" }})
		if err != nil {
			t.Fatal(err)
		}
		cl.c = c
		m := &simMachine{cl: cl, w: w}
		cl.machines = append(cl.machines, m)
		m.bootDaemon()
		time.Sleep(time.Second)
		if _, err := c.Start(ctx, cl.request(m)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		store.full.Store(true)
		if _, err := c.SetParam(ctx, "flow", "a", "k", []byte("1")); err == nil {
			t.Error("a parameter was set that cannot be recorded")
		}
		// The way to the machine may lose it at first; then it is sent again.
		if _, err := c.Stop(ctx, "flow", StopRequest{Grace: time.Second}); err != nil {
			t.Fatalf("stop: %v", err)
		}
		time.Sleep(30 * time.Second)
		w.mu.Lock()
		if len(w.alive) > 0 {
			t.Errorf("after the stop there live %v", w.alive)
		}
		w.mu.Unlock()
		stops := func() (n int) {
			for env, err := range cl.disk.Read(context.Background(), events.OrderStream("flow"), 1) {
				if err != nil {
					t.Fatal(err)
				}
				if env.Type == (events.StopOrdered{}).EventType() {
					n++
				}
			}
			return n
		}
		if n := stops(); n != 0 {
			t.Errorf("%d stops are recorded on a full disk", n)
		}
		store.full.Store(false)
		res, err := c.Wait(ctx, "flow")
		if err != nil || res.Status != "finished" {
			t.Errorf("its end: %v, %+v", err, res)
		}
		time.Sleep(time.Minute)
		if n := stops(); n != 1 {
			t.Errorf("%d stops are recorded once there is space", n)
		}
		m.killDaemon()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		again, err := OpenCoordinator(CoordinatorOptions{Store: cl.disk, Log: quietLog(), Vault: cl.vault, NewUUID: func() string { return "new" }})
		if err != nil {
			t.Fatal(err)
		}
		if rows := again.List(ctx, false); len(rows) != 1 || rows[0].Status != "Finished" {
			t.Errorf("a replay shows %+v", rows)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
}
