package actors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
)

// simStore is the disk as one daemon sees it: it can be full, it can fail, and the
// daemon can be killed just before or just after an append.
type simStore struct {
	*journal.Journal
	w *world

	mu         sync.Mutex
	dead       bool
	killed     chan struct{}
	count      int
	killBefore int
	killAfter  int
	glitchAt   map[int]bool // the store fails
	lieAt      map[int]bool // it says that it failed, and has written
	panicAt    map[int]bool // the actor crashes
	fullUntil  time.Time
}

func (s *simStore) isDead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

func (s *simStore) panics() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.panicAt[s.count] {
		delete(s.panicAt, s.count)
		return true
	}
	return false
}

func (s *simStore) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
}

func (s *simStore) killLocked() {
	if !s.dead {
		s.dead = true
		close(s.killed)
	}
}

// heal ends all faults.
func (s *simStore) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killBefore, s.killAfter, s.fullUntil = 0, 0, time.Time{}
	clear(s.glitchAt)
	clear(s.lieAt)
	clear(s.panicAt)
}

func (s *simStore) Append(ctx context.Context, appends ...journal.Append) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	switch {
	case s.dead:
		return journal.ErrClosed
	case s.count == s.killBefore:
		s.killLocked()
		return journal.ErrClosed
	case s.glitchAt[s.count]:
		return errors.New("input/output error")
	case time.Now().Before(s.fullUntil):
		return journal.ErrNoSpace
	}
	err := s.Journal.Append(ctx, appends...)
	if s.lieAt[s.count] {
		return errors.New("input/output error")
	}
	if s.count == s.killAfter {
		s.killLocked()
		return journal.ErrClosed
	}
	return err
}

// life of one daemon in the simulation.
type simDaemon struct {
	*Daemon
	store *simStore
}

func (w *world) boot(t *testing.T, prepare func(*simStore)) *simDaemon {
	store := &simStore{Journal: w.disk, w: w, killed: make(chan struct{}), glitchAt: map[int]bool{}, lieAt: map[int]bool{}, panicAt: map[int]bool{}}
	if prepare != nil {
		prepare(store)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	if os.Getenv("SIM_LOG") != "" {
		log.SetOutput(os.Stderr)
		log.SetLevel(logrus.DebugLevel)
	}
	var tokens atomic.Int64
	d, err := Open(Options{
		Store: store, Log: log, Machine: w.machine, Vault: w.vault, Launcher: &simLauncher{w: w, dead: store.isDead},
		NewToken: func() string { return fmt.Sprintf("tok-%d-%d", w.disk.Epoch(), tokens.Add(1)) },
		Observe: func(string, time.Time, events.Event) {
			if store.panics() {
				panic("failpoint: saved, not applied")
			}
		},
	})
	if err != nil {
		if store.isDead() {
			return &simDaemon{store: store}
		}
		t.Fatalf("open: %v", err)
	}
	return &simDaemon{Daemon: d, store: store}
}

// bury waits until nothing of a killed daemon is left: no goroutine, and no actor.
func (d *simDaemon) bury() {
	d.store.kill()
	if d.Daemon == nil {
		return
	}
	d.shutdown()
}

// plan of one simulated run, drawn from a seed.
type plan struct {
	yaml  string
	plays map[string]play
}

// drawPlan makes a random dataflow of 1 to 6 nodes with random policies.
func drawPlan(rng *rand.Rand) plan {
	p := plan{plays: map[string]play{}}
	n := 1 + rng.IntN(6)
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range n {
		id := string(rune('a' + i))
		fmt.Fprintf(&b, "  - id: %s\n    path: %s\n    outputs: [x]\n", id, id)
		pl := play{failSpawn: map[uint64]bool{}, early: map[uint64]bool{}, obeys: []string{"stop", "sigterm", "sigkill"}[rng.IntN(3)]}
		source := i == 0 || rng.IntN(3) == 0
		if !source {
			fmt.Fprintf(&b, "    inputs: {x: %c/x}\n", 'a'+rng.IntN(i))
		}
		policy := []string{"never", "on-failure", "always"}[rng.IntN(3)]
		fmt.Fprintf(&b, "    restart_policy: %s\n", policy)
		if rng.IntN(2) == 0 {
			fmt.Fprintf(&b, "    restart_delay: %g\n", float64(rng.IntN(3000))/1000)
		}
		if rng.IntN(2) == 0 {
			fmt.Fprintf(&b, "    max_restarts: %d\n", 1+rng.IntN(5))
		}
		if rng.IntN(3) == 0 {
			fmt.Fprintf(&b, "    restart_window: %g\n", .1+rng.Float64())
		}
		if source || rng.IntN(2) == 0 {
			pl.run = time.Duration(1+rng.IntN(4000)) * time.Millisecond
		}
		for range rng.IntN(4) {
			pl.exits = append(pl.exits, []link.Exited{{}, {Code: 3}, {Code: 1}, {Code: -1, Signal: 9}, {Code: -1, Signal: 11}}[rng.IntN(5)])
		}
		if rng.IntN(8) == 0 {
			pl.early[uint64(1+rng.IntN(2))] = true
		}
		if rng.IntN(12) == 0 {
			pl.failSpawn[uint64(1+rng.IntN(3))] = true
		}
		p.plays[id] = pl
	}
	p.yaml = b.String()
	return p
}

func startRequest(t *testing.T, uuid, yaml string) StartRequest {
	t.Helper()
	d, diags := dataflow.Parse("/x/dataflow.yml", []byte(yaml))
	if err := diags.Err(); err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	return StartRequest{
		UUID: uuid, Descriptor: d, Text: yaml, Path: "/x/dataflow.yml", WorkingDir: "/x", LogDir: "/x/out/" + uuid,
		Env: []string{"HOME=/h"}, Command: "start",
	}
}

// TestSimulation runs random dataflows under random faults. SIM_SEED runs one seed,
// SIM_ROUNDS that many from there (or from 1), SIM_LOG=1 shows the log.
func TestSimulation(t *testing.T) {
	first, rounds := 1, 300
	if testing.Short() {
		rounds = 50
	}
	if n, err := strconv.Atoi(os.Getenv("SIM_SEED")); err == nil {
		first, rounds = n, 1
	}
	if n, err := strconv.Atoi(os.Getenv("SIM_ROUNDS")); err == nil {
		rounds = n
	}
	total := simStats{}
	for seed := first; seed < first+rounds && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed), &total) })
	}
	t.Logf("%d rounds: %d spawns, %d daemons killed, %d shims killed, %d connections cut", rounds, total.spawns, total.daemons, total.shims, total.cuts)
	if rounds >= 300 && (total.daemons < 30 || total.shims < 30 || total.cuts < 30 || total.spawns < 1000) {
		t.Error("the simulation does not reach what it is for")
	}
}

type simStats struct{ spawns, daemons, shims, cuts int }

func simulate(t *testing.T, seed uint64, total *simStats) {
	rng := rand.New(rand.NewPCG(seed, 4))
	p := drawPlan(rng)
	w := newWorld(t, seed)
	w.flow, w.plays = "flow", p.plays
	defer func() {
		if t.Failed() {
			t.Logf("seed %d\n%s\n%s", seed, p.yaml, strings.Join(w.trace, "\n"))
			w.dump(t)
		}
	}()
	faults := drawFaults(rng)
	d := w.boot(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.Start(ctx, startRequest(t, w.flow, p.yaml)); err != nil {
		t.Fatalf("start: %v", err)
	}
	var accepted []string
	begin := time.Now()
	for _, f := range faults {
		time.Sleep(time.Until(begin.Add(f.at)))
		d = w.inflict(t, d, f, rng, &accepted, total)
		if d.store.isDead() {
			d = w.reboot(t, d, rng, total)
		}
	}
	time.Sleep(time.Until(begin.Add(30 * time.Second)))
	if d.store.isDead() {
		d = w.reboot(t, d, nil, total)
	}
	w.finish(t, d, accepted)
	total.spawns += w.spawns
}

// finish stops what still runs, and checks what must hold in the end.
func (w *world) finish(t *testing.T, d *simDaemon, accepted []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	d.store.heal()
	err := d.Stop(ctx, w.flow, StopRequest{Cause: "stop", Grace: time.Second})
	if err != nil && !errors.Is(err, ErrEnded) {
		t.Errorf("stop: %v", err)
	}
	res, err := d.Wait(ctx, w.flow)
	if err != nil {
		infos, _ := d.Nodes(ctx, w.flow)
		t.Errorf("wait: %v; nodes %+v", err, infos)
		d.bury()
		return
	}
	if _, err := d.Nodes(ctx, w.flow); err != nil {
		t.Errorf("nodes: %v", err)
	}
	if err := d.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	time.Sleep(time.Second) // timers of the simulation
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.broken {
		t.Error(text)
	}
	if len(w.alive) > 0 {
		t.Errorf("processes are left: %v", w.alive)
	}
	for token, s := range w.shims {
		if !s.gone {
			t.Errorf("shim %s is left", token)
		}
	}
	w.checkJournal(t, d.Daemon, res, accepted)
}

// checkJournal looks at the whole history.
func (w *world) checkJournal(t *testing.T, d *Daemon, res Result, accepted []string) {
	f := d.flows[w.flow]
	finished := 0
	flowRecs := w.stream(events.DataflowStream(w.flow))
	for _, r := range flowRecs {
		if _, lost := r.Event.(events.ShimLost); finished > 0 && !lost {
			t.Errorf("%s after DataflowFinished", r.Event.EventType())
		}
		if e, ok := r.Event.(events.DataflowFinished); ok {
			finished++
			if e.Status != res.Status || len(e.Failures) != len(res.Failures) {
				t.Errorf("journal says %+v, Wait says %+v", e, res)
			}
		}
	}
	if finished != 1 {
		t.Errorf("%d DataflowFinished", finished)
	}
	var s flowState
	for _, r := range flowRecs {
		s = s.apply(r)
	}
	if got, want := asJSON(t, f.state), asJSON(t, s); got != want {
		t.Errorf("the dataflow is\n%s\nits journal says\n%s", got, want)
	}
	failed := 0
	for id := range f.nodes {
		recs := w.stream(events.NodeStream(w.flow, id))
		checkNodeStream(t, id, recs)
		if got, want := asJSON(t, f.views[id]), asJSON(t, replayed(t, recs)); got != want {
			t.Errorf("node %s is\n%s\nits journal says\n%s", id, got, want)
		}
		if f.views[id].Status == statusFailed {
			failed++
		}
	}
	if (failed > 0) && res.Status != "failed" {
		t.Errorf("%d nodes failed, the dataflow %s", failed, res.Status)
	}
	have := map[string]bool{}
	for env, err := range w.disk.ReadAll(context.Background(), 1) {
		if err != nil {
			t.Error(err)
			break
		}
		have[env.Stream+" "+env.Type] = true
		if env.Type == "NodeFinished" && have[events.DataflowStream(w.flow)+" DataflowFinished"] {
			t.Errorf("%s: its end was recorded after the end of its dataflow", env.Stream)
		}
	}
	for _, a := range accepted {
		if !have[a] {
			t.Errorf("accepted, and not in the journal: %s", a)
		}
	}
}

// checkNodeStream: one life after the other, no fact twice, one end.
func checkNodeStream(t *testing.T, id string, recs []record) {
	var generation, exited uint64
	ended := 0
	seen := map[uint64]bool{} // facts of this generation that were recorded
	var last uint64
	for _, r := range recs {
		if ended > 0 {
			t.Errorf("node %s: %s after its end", id, r.Event.EventType())
		}
		if r.SourceSeq != 0 && r.SourceSeq != last {
			if seen[r.SourceSeq] {
				t.Errorf("node %s: fact %d was applied twice (%s)", id, r.SourceSeq, r.Event.EventType())
			}
			seen[r.SourceSeq] = true
		}
		last = r.SourceSeq
		switch e := r.Event.(type) {
		case events.NodeSpawnIntended:
			if e.Generation <= generation {
				t.Errorf("node %s: intent of generation %d after %d", id, e.Generation, generation)
			}
			generation = e.Generation
			clear(seen)
		case events.NodeExited:
			if e.Generation <= exited {
				t.Errorf("node %s: generation %d ended twice", id, e.Generation)
			}
			exited = e.Generation
			generation = max(generation, e.Generation) // compacted
		case events.NodeFinished:
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("node %s: %d ends", id, ended)
	}
}

func (w *world) dump(t *testing.T) {
	for env, err := range w.disk.ReadAll(context.Background(), 1) {
		if err != nil {
			t.Log(err)
			return
		}
		t.Logf("%4d %s %s %d src=%d %s %s", env.Pos, time.Since(start(w)), env.Stream, env.Seq, env.SourceSeq, env.Type, env.Data)
	}
}
