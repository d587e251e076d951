package journaltest

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

var cases = []testCase{
	{"an empty store", testEmpty},
	{"append and read", testAppendAndRead},
	{"every field survives", testFields},
	{"expected versions", testExpected},
	{"several appends are all or nothing", testAtomic},
	{"invalid appends are refused", testInvalid},
	{"envelopes do not alias the store", testAliasing},
	{"streams are listed", testStreams},
	{"snapshots", testSnapshots},
	{"epochs", testEpochs},
	{"truncation", testTruncate},
	{"truncation while reading", testTruncateWhileReading},
	{"an ended context writes nothing", testContext},
	{"reading stops when told", testBreak},
	{"concurrent writers", testConcurrent},
	{"one of many writers wins", testRace},
	{"large events", testLarge},
	{"closed", testClosed},
	{"close while writing", testCloseWhileWriting},
	{"against a model", testModel},
}

func testEmpty(t *testing.T, s Stores) {
	st := s.open(t)
	if st.Head() != 0 || st.Epoch() != 0 || version(t, st, "a") != 0 {
		t.Errorf("head %d, epoch %d, version %d; all should be 0", st.Head(), st.Epoch(), version(t, st, "a"))
	}
	if got := readAll(t, st, 0); len(got) != 0 {
		t.Errorf("events out of nothing: %v", lines(got))
	}
	if got := readStream(t, st, "a", 0); len(got) != 0 {
		t.Errorf("events out of nothing: %v", lines(got))
	}
	if names, err := st.Streams(""); err != nil || len(names) != 0 {
		t.Errorf("streams %v, %v", names, err)
	}
	if len(st.ID()) < 16 {
		t.Errorf("id %q", st.ID())
	}
	other := s.at(t, "other")
	if other.ID() == st.ID() {
		t.Error("two stores have one id")
	}
	if err := st.Append(t.Context()); err != nil {
		t.Errorf("an append of nothing: %v", err)
	}
	verify(t, st)
}

func testAppendAndRead(t *testing.T, s Stores) {
	st := s.open(t)
	appendN(t, st, "a", 1, 2)
	appendN(t, st, "b", 3, 1)
	appendN(t, st, "a", 4, 1)
	list := Events(5, 2)
	if err := st.Append(t.Context(), journal.Append{Stream: "b", Expected: 1, Events: list}); err != nil {
		t.Fatal(err)
	}
	if list[1].Pos != 6 || list[1].Seq != 3 || list[1].Stream != "b" {
		t.Errorf("the place was not filled in: %s", line(list[1]))
	}
	for _, tc := range []struct {
		name string
		got  []events.Envelope
		want string
	}{
		{"all", readAll(t, st, 0), "1 a/1 event 1|2 a/2 event 2|3 b/1 event 3|4 a/3 event 4|5 b/2 event 5|6 b/3 event 6"},
		{"all from 5", readAll(t, st, 5), "5 b/2 event 5|6 b/3 event 6"},
		{"all from 7", readAll(t, st, 7), ""},
		{"a", readStream(t, st, "a", 0), "1 a/1 event 1|2 a/2 event 2|4 a/3 event 4"},
		{"a from 1", readStream(t, st, "a", 1), "1 a/1 event 1|2 a/2 event 2|4 a/3 event 4"},
		{"a from 3", readStream(t, st, "a", 3), "4 a/3 event 4"},
		{"a from 4", readStream(t, st, "a", 4), ""},
		{"none", readStream(t, st, "c", 0), ""},
	} {
		if got := strings.Join(lines(tc.got), "|"); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
	if st.Head() != 6 || version(t, st, "a") != 3 || version(t, st, "b") != 3 {
		t.Errorf("head %d, a %d, b %d", st.Head(), version(t, st, "a"), version(t, st, "b"))
	}
	verify(t, st)
}

func testFields(t *testing.T, s Stores) {
	st := s.open(t)
	list := []events.Envelope{
		{
			Type: "NodeExited", Version: 7, At: At, HLC: 1<<64 - 1, Epoch: 1<<63 + 1, Command: "c-\u00e9",
			Cause: "why\nso", Trace: "0af7", SourceSeq: 12345678901234, Data: json.RawMessage(`{"a": [1, 2.5e3, "\u0000"]}`),
			Pos: 99, Seq: 98, Stream: "ignored",
		},
		{Type: "T", Version: 1, At: time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), Data: json.RawMessage(`null`)},
		{Type: "T", Version: 1, At: time.Date(9999, 1, 2, 3, 4, 5, 0, time.UTC), Data: json.RawMessage(`"x"`)},
	}
	stream := "node/\u00fc/camera left"
	want := slices.Clone(list)
	for i := range want {
		want[i].Pos, want[i].Seq, want[i].Stream, want[i].At = uint64(i+1), uint64(i+1), stream, want[i].At.UTC()
	}
	if err := st.Append(t.Context(), journal.Append{Stream: stream, Events: list}); err != nil {
		t.Fatal(err)
	}
	if got := readStream(t, st, stream, 0); !reflect.DeepEqual(got, want) {
		t.Errorf("stream\n got %+v\nwant %+v", got, want)
	}
	if got := readAll(t, st, 0); !reflect.DeepEqual(got, want) {
		t.Errorf("all\n got %+v\nwant %+v", got, want)
	}
}

func testExpected(t *testing.T, s Stores) {
	st := s.open(t)
	try := func(expected uint64, n int) error {
		return st.Append(t.Context(), journal.Append{Stream: "a", Expected: expected, Events: Events(1, n)})
	}
	for i, step := range []struct {
		expected uint64
		n        int
		conflict bool
	}{
		{1, 1, true}, {0, 2, false}, {0, 1, true}, {1, 1, true}, {3, 1, true}, {2, 1, false},
		{journal.Any, 1, false}, {4, 0, false}, {3, 0, true}, {4, 1, false},
	} {
		err := try(step.expected, step.n)
		if errors.Is(err, journal.ErrConflict) != step.conflict || (err != nil) != step.conflict {
			t.Errorf("step %d: %v", i, err)
		}
	}
	err := try(1, 1)
	if err == nil || !strings.Contains(err.Error(), `"a"`) || !strings.Contains(err.Error(), "5") || !strings.Contains(err.Error(), "1") {
		t.Errorf("the error does not name stream and versions: %v", err)
	}
	if st.Head() != 5 || len(readAll(t, st, 0)) != 5 {
		t.Errorf("head %d, %d events, want 5", st.Head(), len(readAll(t, st, 0)))
	}
}

func testAtomic(t *testing.T, s Stores) {
	st := s.open(t)
	appendN(t, st, "a", 1, 1)
	list := Events(9, 1)
	err := st.Append(t.Context(),
		journal.Append{Stream: "b", Expected: 0, Events: list},
		journal.Append{Stream: "a", Expected: 0, Events: Events(9, 1)},
	)
	if !errors.Is(err, journal.ErrConflict) {
		t.Fatalf("want a conflict, got %v", err)
	}
	if st.Head() != 1 || version(t, st, "b") != 0 || list[0].Pos != 0 {
		t.Errorf("half of it was written: head %d, b %d", st.Head(), version(t, st, "b"))
	}
	// The same stream twice: the second part counts on the first.
	err = st.Append(t.Context(),
		journal.Append{Stream: "b", Expected: 0, Events: Events(2, 2)},
		journal.Append{Stream: "a", Expected: 1, Events: Events(4, 1)},
		journal.Append{Stream: "b", Expected: 2, Events: Events(5, 1)},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := "1 a/1 event 1|2 b/1 event 2|3 b/2 event 3|4 a/2 event 4|5 b/3 event 5"
	if got := strings.Join(lines(readAll(t, st, 0)), "|"); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	verify(t, st)
}

func testInvalid(t *testing.T, s Stores) {
	st := s.open(t)
	change := func(f func(*events.Envelope)) []events.Envelope {
		list := Events(1, 2)
		f(&list[1])
		return list
	}
	for _, tc := range []struct {
		name   string
		append journal.Append
	}{
		{"no stream", journal.Append{Events: Events(1, 1)}},
		{"a zero byte", journal.Append{Stream: "a\x00b", Events: Events(1, 1)}},
		{"not UTF-8", journal.Append{Stream: "a\xff", Events: Events(1, 1)}},
		{"a long name", journal.Append{Stream: strings.Repeat("a", journal.MaxStreamName+1), Events: Events(1, 1)}},
		{"no type", journal.Append{Stream: "a", Events: change(func(e *events.Envelope) { e.Type = "" })}},
		{"no version", journal.Append{Stream: "a", Events: change(func(e *events.Envelope) { e.Version = 0 })}},
		{"no time", journal.Append{Stream: "a", Events: change(func(e *events.Envelope) { e.At = time.Time{} })}},
		{"no data", journal.Append{Stream: "a", Events: change(func(e *events.Envelope) { e.Data = nil })}},
		{"no JSON", journal.Append{Stream: "a", Events: change(func(e *events.Envelope) { e.Data = json.RawMessage("{") })}},
		{"too large", journal.Append{Stream: "a", Events: change(func(e *events.Envelope) {
			e.Data = json.RawMessage(`"` + strings.Repeat("x", journal.MaxEventBytes) + `"`)
		})}},
	} {
		if err := st.Append(t.Context(), tc.append); !errors.Is(err, journal.ErrInvalid) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if err := st.SaveSnapshot("a", 1, []byte("x")); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("a snapshot of nothing: %v", err)
	}
	if err := st.Truncate(t.Context(), "", 1, "", At); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("truncation of no stream: %v", err)
	}
	if st.Head() != 0 {
		t.Errorf("something was written: %v", lines(readAll(t, st, 0)))
	}
}

func testAliasing(t *testing.T, s Stores) {
	st := s.open(t)
	list := Events(1, 1)
	if err := st.Append(t.Context(), journal.Append{Stream: "a", Events: list}); err != nil {
		t.Fatal(err)
	}
	clear(list[0].Data)
	state := []byte("state")
	if err := st.SaveSnapshot("a", 1, state); err != nil {
		t.Fatal(err)
	}
	clear(state)
	for range 2 {
		got := readStream(t, st, "a", 0)
		if Text(got[0]) != "event 1" {
			t.Errorf("the store changed with the envelope: %s", got[0].Data)
		}
		clear(got[0].Data)
		_, state, err := st.LoadSnapshot("a")
		if err != nil || string(state) != "state" {
			t.Errorf("the store changed with the snapshot: %q, %v", state, err)
		}
		clear(state)
	}
}

func testStreams(t *testing.T, s Stores) {
	st := s.open(t)
	for _, name := range []string{"node/b/2", "node/a", "dataflow/x", "node/b/10", "node/\u00fc"} {
		appendN(t, st, name, 1, 1)
	}
	for prefix, want := range map[string][]string{
		"":        {"dataflow/x", "node/a", "node/b/10", "node/b/2", "node/\u00fc"},
		"node/b/": {"node/b/10", "node/b/2"},
		"x":       nil,
	} {
		got, err := st.Streams(prefix)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", prefix, got, err, want)
		}
	}
}

func testSnapshots(t *testing.T, s Stores) {
	st := s.open(t)
	if _, _, err := st.LoadSnapshot("a"); !errors.Is(err, journal.ErrNoSnapshot) {
		t.Errorf("want ErrNoSnapshot, got %v", err)
	}
	appendN(t, st, "a", 1, 9)
	appendN(t, st, "a/b", 1, 9)
	if _, _, err := st.LoadSnapshot("a"); !errors.Is(err, journal.ErrNoSnapshot) {
		t.Errorf("want ErrNoSnapshot, got %v", err)
	}
	save := func(stream string, seq uint64, state string) {
		t.Helper()
		if err := st.SaveSnapshot(stream, seq, []byte(state)); err != nil {
			t.Fatal(err)
		}
		gotSeq, got, err := st.LoadSnapshot(stream)
		if err != nil || gotSeq != seq || string(got) != state {
			t.Errorf("saved %d %q, loaded %d %q, %v", seq, state, gotSeq, got, err)
		}
	}
	save("a", 2, "two")
	save("a/b", 1, "")
	save("a", 5, "five")
	save("a", 5, "five again")
	save("a", 7, strings.Repeat("seven", 50000))
	save("a", 9, "nine\x00\xff")
	for _, seq := range []uint64{0, 8, 10, journal.Any} {
		if err := st.SaveSnapshot("a", seq, nil); !errors.Is(err, journal.ErrInvalid) {
			t.Errorf("a snapshot at %d: %v", seq, err)
		}
	}
	if seq, state, err := st.LoadSnapshot("a"); err != nil || seq != 9 || string(state) != "nine\x00\xff" {
		t.Errorf("loaded %d %q, %v", seq, state, err)
	}
	verify(t, st)
}

func testEpochs(t *testing.T, s Stores) {
	st := s.open(t)
	for want := uint64(1); want <= 3; want++ {
		got, err := st.RaiseEpoch()
		if err != nil || got != want || st.Epoch() != want {
			t.Errorf("raised to %d, %v, want %d; Epoch %d", got, err, want, st.Epoch())
		}
		appendN(t, st, "a", 1, 1)
	}
	verify(t, st)
}

// checkSummary: the stream begins with the kept events and has a summary that stands for
// the removed ones.
func checkSummary(t *testing.T, st journal.Store, stream string, first, last, lastRemoved uint64, text string) {
	t.Helper()
	list := readStream(t, st, stream, 0)
	if len(list) == 0 || list[0].Seq != first || list[len(list)-1].Seq != last {
		t.Fatalf("want events %d to %d, got %v", first, last, lines(list))
	}
	if v := version(t, st, stream); v != last {
		t.Errorf("version %d, want %d", v, last)
	}
	e, err := events.Open(list[len(list)-1])
	if err != nil {
		t.Fatal(err)
	}
	sum, ok := e.(events.HistorySummarized)
	if !ok || sum.LastSeq != lastRemoved || sum.FirstSeq != 1 || sum.Text != text {
		t.Errorf("the last event is %#v", e)
	}
}

func testTruncate(t *testing.T, s Stores) {
	st := s.open(t)
	for i := range 10 {
		appendN(t, st, "a", i, 1)
		appendN(t, st, "b", i, 1)
	}
	if err := st.SaveSnapshot("a", 4, []byte("four")); err != nil {
		t.Fatal(err)
	}
	truncate := func(before uint64, text string) {
		t.Helper()
		if err := st.Truncate(t.Context(), "a", before, text, At); err != nil {
			t.Fatal(err)
		}
		verify(t, st)
	}
	truncate(0, "nothing to remove")
	truncate(1, "nothing to remove")
	if st.Head() != 20 {
		t.Errorf("an empty truncation wrote something: head %d", st.Head())
	}
	truncate(5, "first half")
	checkSummary(t, st, "a", 5, 11, 4, "first half")
	truncate(5, "nothing to remove")
	truncate(3, "nothing to remove")
	if st.Head() != 21 {
		t.Errorf("an empty truncation wrote something: head %d", st.Head())
	}
	appendN(t, st, "a", 11, 1)
	truncate(journal.Any, "all")
	checkSummary(t, st, "a", 13, 13, 12, "all")
	if got := len(readStream(t, st, "b", 0)); got != 10 {
		t.Errorf("%d events of the other stream, want 10", got)
	}
	if got := len(readAll(t, st, 0)); got != 11 {
		t.Errorf("%d events in all, want 11", got)
	}
	if seq, state, err := st.LoadSnapshot("a"); err != nil || seq != 4 || string(state) != "four" {
		t.Errorf("the snapshot is gone: %d %q %v", seq, state, err)
	}
	if err := st.Append(t.Context(), journal.Append{Stream: "a", Expected: 13, Events: Events(13, 1)}); err != nil {
		t.Errorf("the stream does not go on: %v", err)
	}
	if err := st.Truncate(t.Context(), "none", 5, "x", At); err != nil {
		t.Errorf("truncation of a stream that does not exist: %v", err)
	}
	verify(t, st)
}

func testTruncateWhileReading(t *testing.T, s Stores) {
	st := s.open(t)
	const n = 3000 // more than a chunk
	for i := 0; i < n; i += 500 {
		appendN(t, st, "a", i, 500)
	}
	seen, last := 0, uint64(0)
	for env, err := range st.Read(t.Context(), "a", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if seen == 0 {
			if err := st.Truncate(t.Context(), "a", 2500, "old", At); err != nil {
				t.Fatal(err)
			}
		}
		if env.Seq <= last {
			t.Fatalf("event %d after event %d", env.Seq, last)
		}
		last = env.Seq
		seen++
	}
	if last != n+1 || seen < 500 {
		t.Errorf("saw %d events up to %d, want the rest up to %d", seen, last, n+1)
	}
}
