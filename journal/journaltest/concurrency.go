package journaltest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

func testContext(t *testing.T, s Stores) {
	st := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := st.Append(ctx, journal.Append{Stream: "a", Events: Events(1, 1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	if st.Head() != 0 {
		t.Errorf("head %d", st.Head())
	}
	appendN(t, st, "a", 1, 1)
	for _, err := range st.Read(ctx, "a", 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read: %v", err)
		}
	}
	for _, err := range st.ReadAll(ctx, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("read all: %v", err)
		}
	}
}

func testBreak(t *testing.T, s Stores) {
	st := s.open(t)
	appendN(t, st, "a", 1, 10)
	for range st.Read(t.Context(), "a", 0) {
		break
	}
	for range st.ReadAll(t.Context(), 0) {
		break
	}
	// An iteration that was left must not keep the writer from working.
	appendN(t, st, "a", 11, 1)
	// Nor one that is under way, even if it writes itself.
	n := 0
	for env, err := range st.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n < 5 {
			appendN(t, st, "b", int(env.Pos), 1)
		}
	}
}

func testConcurrent(t *testing.T, s Stores) {
	st := s.open(t)
	const writers, each = 16, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			stream := fmt.Sprintf("writer/%02d", w)
			for i := range each {
				err := st.Append(t.Context(),
					journal.Append{Stream: stream, Expected: uint64(i), Events: Events(i, 1)},
					journal.Append{Stream: "shared", Expected: journal.Any, Events: Events(w*each+i, 1)})
				if err != nil {
					t.Errorf("%s: %v", stream, err)
					return
				}
				if i%10 == 9 {
					if err := st.SaveSnapshot(stream, uint64(i+1), []byte(stream)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 10 {
				last := uint64(0)
				for env, err := range st.ReadAll(t.Context(), 0) {
					if err != nil {
						t.Error(err)
						return
					}
					if env.Pos != last+1 {
						t.Errorf("position %d after %d", env.Pos, last)
					}
					last = env.Pos
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, env := range readStream(t, st, "shared", 0) {
		seen[Text(env)] = true
	}
	if len(seen) != writers*each || st.Head() != 2*writers*each {
		t.Errorf("%d different events, head %d", len(seen), st.Head())
	}
	verify(t, st)
}

func testRace(t *testing.T, s Stores) {
	st := s.open(t)
	for round := range uint64(20) {
		var wg sync.WaitGroup
		var won sync.Map
		for w := range 8 {
			wg.Go(func() {
				switch err := st.Append(t.Context(), journal.Append{Stream: "a", Expected: round, Events: Events(w, 1)}); {
				case err == nil:
					won.Store(w, true)
				case !errors.Is(err, journal.ErrConflict):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		won.Range(func(any, any) bool { n++; return true })
		if n != 1 || version(t, st, "a") != round+1 {
			t.Fatalf("round %d: %d winners, version %d", round, n, version(t, st, "a"))
		}
	}
}

func testLarge(t *testing.T, s Stores) {
	st := s.open(t)
	list := []events.Envelope{}
	for i, size := range []int{10, 60 << 10, 64 << 10, 70 << 10, 3 << 20, 10} {
		env := Event(i)
		env.Data = json.RawMessage(`"` + strings.Repeat(string(rune('a'+i)), size) + `"`)
		list = append(list, env)
	}
	want := slices.Clone(list)
	if err := st.Append(t.Context(), journal.Append{Stream: "a", Events: list}); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, st, 0)
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range want {
		if string(got[i].Data) != string(want[i].Data) {
			t.Errorf("event %d: %d bytes, want %d", i, len(got[i].Data), len(want[i].Data))
		}
	}
	verify(t, st)
}

func testClosed(t *testing.T, s Stores) {
	st, err := s.Open(t, "store")
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, st, "a", 1, 3)
	reading := st.ReadAll(t.Context(), 0)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, journal.ErrClosed) {
			t.Errorf("%s: want ErrClosed, got %v", what, err)
		}
	}
	check("Append", st.Append(t.Context(), journal.Append{Stream: "a", Expected: journal.Any, Events: Events(1, 1)}))
	for _, err := range reading {
		check("ReadAll", err)
	}
	for _, err := range st.Read(t.Context(), "a", 0) {
		check("Read", err)
	}
	_, err = st.Version("a")
	check("Version", err)
	_, err = st.Streams("")
	check("Streams", err)
	check("SaveSnapshot", st.SaveSnapshot("a", 1, nil))
	_, _, err = st.LoadSnapshot("a")
	check("LoadSnapshot", err)
	_, err = st.RaiseEpoch()
	check("RaiseEpoch", err)
	check("Verify", st.Verify(t.Context()))
	check("Truncate", st.Truncate(t.Context(), "a", 2, "x", At))
}

func testCloseWhileWriting(t *testing.T, s Stores) {
	st, err := s.Open(t, "store")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	acked := make([]uint64, 8)
	for w := range acked {
		wg.Go(func() {
			for i := uint64(0); ; i++ {
				err := st.Append(t.Context(), journal.Append{Stream: fmt.Sprint(w), Expected: i, Events: Events(0, 1)})
				if errors.Is(err, journal.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				acked[w] = i + 1
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if s.Volatile {
		return
	}
	st = s.open(t)
	for w, n := range acked {
		// ErrClosed says nothing was written, so it is exact.
		if v := version(t, st, fmt.Sprint(w)); v != n {
			t.Errorf("stream %d has %d events, %d were acknowledged", w, v, n)
		}
	}
}
