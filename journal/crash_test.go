package journal_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/journal/failpoint"
	"github.com/dora-go/dora/journal/journaltest"
)

func init() { children["crash"] = crashChild }

const (
	crashWriters = 3
	crashEvents  = 60 // appends of each writer, if nothing kills the child
)

// crashChild writes to a store, prints what was acknowledged, and is killed: at the n-th
// passing of a place, or by its parent.
func crashChild() error {
	endWithParent()
	nth, _ := strconv.ParseInt(os.Getenv("CRASH_NTH"), 10, 64)
	if place := os.Getenv("CRASH_PLACE"); place != "" {
		var passed atomic.Int64
		failpoint.Set(func(at string) {
			if at == place && passed.Add(1) == nth {
				// Whoever was told too early has time to say so.
				time.Sleep(10 * time.Millisecond)
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		})
	}
	st, err := kinds[os.Getenv("CRASH_KIND")](os.Getenv("CRASH_DIR"))
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	var wg sync.WaitGroup
	errs := make([]error, crashWriters+1)
	for w := range crashWriters {
		wg.Go(func() { errs[w] = crashWriter(st, fmt.Sprintf("writer/%d", w), say) })
	}
	wg.Go(func() { errs[crashWriters] = crashKeeper(st, say) })
	wg.Wait()
	return errors.Join(append(errs, st.Close())...)
}

// crashWriter appends pairs: an event of its own stream and the same in a shared one.
func crashWriter(st *journal.Journal, stream string, say func(string, ...any)) error {
	v, err := st.Version(stream)
	if err != nil {
		return err
	}
	ctx := testContext
	for range crashEvents {
		n := rand.IntN(1 << 30)
		own, shared := []events.Envelope{journaltest.Event(n)}, []events.Envelope{journaltest.Event(n)}
		err := st.Append(ctx, journal.Append{Stream: stream, Expected: v, Events: own},
			journal.Append{Stream: "shared", Expected: journal.Any, Events: shared})
		if err != nil {
			return err
		}
		v++
		say("ack %d %s %d %d", own[0].Pos, stream, v, n)
		say("ack %d shared %d %d", shared[0].Pos, shared[0].Seq, n)
	}
	return nil
}

// crashKeeper does the rest: epochs, snapshots and retention, on a stream of its own.
func crashKeeper(st *journal.Journal, say func(string, ...any)) error {
	v, err := st.Version("kept")
	if err != nil {
		return err
	}
	for i := range crashEvents {
		n := rand.IntN(1 << 30)
		list := []events.Envelope{journaltest.Event(n), journaltest.Event(n + 1)}
		if err := st.Append(testContext, journal.Append{Stream: "kept", Expected: v, Events: list}); err != nil {
			return err
		}
		v += 2
		say("ack %d kept %d %d", list[1].Pos, v, n+1)
		if i%3 == 0 {
			if err := st.SaveSnapshot("kept", v, fmt.Appendf(nil, "state at %d", v)); err != nil {
				return err
			}
			say("snapshot %d", v)
		}
		if i%7 == 3 {
			epoch, err := st.RaiseEpoch()
			if err != nil {
				return err
			}
			say("epoch %d", epoch)
		}
		if i%10 == 4 {
			if err := st.Truncate(testContext, "kept", v-3, "old", journaltest.At); err != nil {
				return err
			}
			v++
			say("removed %d", v-5)
		}
	}
	return nil
}

// acked is what the children of one store said.
type acked struct {
	events          map[string]string // "stream/seq" -> "pos text"
	epoch           uint64
	snapshot, first uint64
	n               int
}

func (a *acked) note(t *testing.T, line string) {
	t.Helper()
	f := strings.Fields(line)
	num := func(i int) uint64 {
		v, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			t.Fatalf("the child said %q", line)
		}
		return v
	}
	a.n++
	switch f[0] {
	case "ack":
		a.events[f[2]+"/"+f[3]] = fmt.Sprintf("%d event %d", num(1), num(4))
	case "epoch":
		a.epoch = num(1)
	case "snapshot":
		a.snapshot = num(1)
	case "removed":
		a.first = num(1)
	default:
		t.Fatalf("the child said %q", line)
	}
}

// check opens the store as its next owner would and compares.
func (a *acked) check(t *testing.T, kind, dir string) {
	t.Helper()
	st, err := kinds[kind](dir)
	if err != nil {
		t.Fatalf("a kill made the store unusable: %v", err)
	}
	defer st.Close()
	if err := st.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if st.Epoch() < a.epoch || st.Epoch() > a.epoch+1 {
		t.Errorf("epoch %d, acknowledged was %d", st.Epoch(), a.epoch)
	}
	a.epoch = st.Epoch()
	found := map[string]string{}
	texts := map[bool][]string{}
	first := uint64(0)
	for env, err := range st.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		found[fmt.Sprintf("%s/%d", env.Stream, env.Seq)] = fmt.Sprintf("%d %s", env.Pos, journaltest.Text(env))
		if env.Stream == "kept" && first == 0 {
			first = env.Seq
		}
		if e, err := events.Open(env); err != nil {
			t.Error(err)
		} else if sum, ok := e.(events.HistorySummarized); ok && first <= sum.LastSeq {
			t.Errorf("events %d to %d are summarized, but %d is still there", sum.FirstSeq, sum.LastSeq, first)
		}
		if env.Stream != "kept" {
			shared := env.Stream == "shared"
			texts[shared] = append(texts[shared], journaltest.Text(env))
		}
	}
	for key, want := range a.events {
		var seq uint64
		if _, err := fmt.Sscanf(key, "kept/%d", &seq); err == nil && seq < first {
			delete(a.events, key)
			continue
		}
		if found[key] != want {
			t.Errorf("%s was acknowledged as %q, the store has %q", key, want, found[key])
		}
	}
	slices.Sort(texts[true])
	slices.Sort(texts[false])
	if !slices.Equal(texts[true], texts[false]) {
		t.Errorf("half of a pair was written: %d in streams of writers, %d in the shared one", len(texts[false]), len(texts[true]))
	}
	if a.first > first {
		t.Errorf("events before %d were removed, %d is there", a.first, first)
	}
	if seq, state, err := st.LoadSnapshot("kept"); a.snapshot > 0 && (err != nil || seq < a.snapshot || string(state) != fmt.Sprintf("state at %d", seq)) {
		t.Errorf("snapshot %d was acknowledged, the store has %d %q %v", a.snapshot, seq, state, err)
	}
}

// TestKilledAtFailpoints kills a writing process at every place, early and late, again
// and again on the same store.
func TestKilledAtFailpoints(t *testing.T) {
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a, dir := &acked{events: map[string]string{}}, t.TempDir()
			for _, place := range failpoint.All() {
				for _, nth := range []string{"1", "4"} {
					cmd, lines := child(t, "crash", "CRASH_KIND="+kind, "CRASH_DIR="+dir, "CRASH_PLACE="+place, "CRASH_NTH="+nth)
					for lines.Scan() {
						a.note(t, lines.Text())
					}
					if !killed(cmd.Wait()) {
						t.Fatalf("%s was not passed %s times", place, nth)
					}
					a.check(t, kind, dir)
					if t.Failed() {
						t.Fatalf("after a kill at %s, time %s", place, nth)
					}
				}
			}
			if a.n < 20 {
				t.Errorf("only %d acknowledgements altogether: the test tests nothing", a.n)
			}
		})
	}
}

// TestKilledAtRandom kills it after a random number of acknowledgements and a random time.
func TestKilledAtRandom(t *testing.T) {
	rounds := 20
	if os.Getenv("DORA_SOAK") != "" {
		rounds = 300
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a, dir := &acked{events: map[string]string{}}, t.TempDir()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			for round := range rounds {
				cmd, lines := child(t, "crash", "CRASH_KIND="+kind, "CRASH_DIR="+dir)
				after, wait := rng.IntN(150), time.Duration(rng.IntN(2000))*time.Microsecond
				if rng.IntN(5) == 0 {
					after, wait = -1, time.Duration(rng.IntN(40))*time.Millisecond // also while it opens
					time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
				}
				for n := 0; lines.Scan(); n++ {
					a.note(t, lines.Text())
					if n == after {
						time.AfterFunc(wait, func() { _ = cmd.Process.Kill() })
					}
				}
				_ = cmd.Wait()
				a.check(t, kind, dir)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
			t.Logf("%d acknowledgements in %d rounds", a.n, rounds)
		})
	}
}

func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
