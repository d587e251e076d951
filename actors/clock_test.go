package actors

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// wallClock is the clock of a machine, which somebody may set. Its timers do not care.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) Now() time.Time {
	return time.Now().Add(time.Duration(c.ahead.Load())).Round(0) // without the monotonic reading
}

func (c *wallClock) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

func (c *wallClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }

// Whatever is done to the clock of the machine: a back-off and a finish grace take as long
// as they should.
func TestClockIsSet(t *testing.T) {
	for name, jump := range map[string]time.Duration{"back an hour": -time.Hour, "on a day": 24 * time.Hour, "not at all": 0} {
		t.Run("back-off, "+name, func(t *testing.T) {
			yaml := "nodes:\n  - {id: a, path: a, restart_policy: on-failure, restart_delay: 20}\n"
			bubble(t, map[string]play{"a": {run: time.Second, exits: []link.Exited{{Code: 3}, {}}}}, func(t *testing.T, w *world) {
				d := open(t, w.options())
				if err := d.Start(ctx, startRequest(t, "flow", yaml)); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				for {
					if infos, _ := d.Nodes(ctx, "flow"); infos[0].Restarts == 1 {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				ended := time.Now()
				time.Sleep(5 * time.Second)
				w.clock.set(jump)
				d.flows["flow"].nudgeAll() // whatever looks meanwhile
				wait(t, d, "flow")
				// 20 s of back-off, a second of work, and a little for the spawn.
				if took := time.Since(ended); took < 20*time.Second || took > 24*time.Second {
					t.Errorf("it took %s after the crash (%s after the start)", took, time.Since(begin))
				}
				closed(t, d)
			})
		})
		t.Run("finish grace, "+name, func(t *testing.T) {
			bubble(t, map[string]play{"a": {run: time.Second}, "b": {obeys: "stop"}}, func(t *testing.T, w *world) {
				req := startRequest(t, "flow", pair)
				req.Env = append(req.Env, finishGraceEnv+"=30")
				d := open(t, w.options())
				w.deaf = true // inputs that close are not noticed by b
				if err := d.Start(ctx, req); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				time.Sleep(10 * time.Second)
				w.clock.set(jump)
				if res := wait(t, d, "flow"); res.StopCause != causeStraggler {
					t.Errorf("%+v", res)
				}
				if took := time.Since(begin); took < 30*time.Second || took > 35*time.Second {
					t.Errorf("it took %s", took)
				}
				closed(t, d)
			})
		})
	}
}

// A window that would reach an hour ahead, because the clock was set back, counts nothing.
func TestWindowAndClock(t *testing.T) {
	l := newLife(t, nodeConfig{Policy: dataflow.RestartOnFailure, MaxRestarts: 2, Window: time.Minute}).start()
	for i := range 6 {
		if i == 1 {
			l.now = l.now.Add(-time.Hour)
		}
		l.now = l.now.Add(10 * time.Minute)
		l.exit(code3)
		if !l.respawn() {
			t.Fatalf("gave up after %d restarts in an hour: %s", i, l.s.GaveUp)
		}
		l.up()
	}
}

// A node that crashes about once a second for a day: the journal stays small, nothing is
// counted wrong, and the memory of the daemon does not grow with it.
func TestDayOfCrashes(t *testing.T) {
	const limit = 5 << 20
	yaml := "nodes:\n  - {id: a, path: a, restart_policy: always, restart_delay: 1, max_restart_delay: 1}\n"
	path := filepath.Join(t.TempDir(), "journal")
	bubble(t, map[string]play{"a": {run: time.Millisecond, exits: []link.Exited{{Code: 3}}}}, func(t *testing.T, w *world) {
		disk, err := journal.OpenFile(path, journal.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w.disk, w.instant = disk, true
		d := open(t, w.options())
		if err := d.Start(ctx, startRequest(t, "flow", yaml)); err != nil {
			t.Fatal(err)
		}
		hour := func(n int) (restarts uint32, size int64, heap uint64) {
			time.Sleep(time.Duration(n) * time.Hour)
			infos, err := d.Nodes(ctx, "flow")
			if err != nil {
				t.Fatal(err)
			}
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			w.trace = nil // of the simulation
			w.mu.Unlock()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return infos[0].Restarts, fi.Size(), m.HeapAlloc
		}
		_, _, early := hour(2)
		restarts, size, late := hour(22)
		w.mu.Lock()
		spawns := w.spawns
		w.mu.Unlock()
		t.Logf("%d restarts, journal of %d bytes, heap %d KiB after 2 h and %d KiB after 24 h", restarts, size, early>>10, late>>10)
		if restarts < 80_000 || int(restarts)+1 < spawns-1 || int(restarts)+1 > spawns+1 {
			t.Errorf("%d restarts, but %d spawns", restarts, spawns)
		}
		if size > limit {
			t.Errorf("the journal has %d bytes, limit %d", size, limit)
		}
		if late > early+4<<20 {
			t.Errorf("the heap grew from %d to %d bytes", early, late)
		}
		if err := d.Stop(ctx, "flow", StopRequest{Grace: time.Second}); err != nil {
			t.Fatal(err)
		}
		wait(t, d, "flow")
		closed(t, d)
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
}
