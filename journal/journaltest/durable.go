package journaltest

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/dora-go/dora/journal"
)

var durableCases = []testCase{
	{"everything survives a new open", testReopen},
	{"a second opener is refused", testLocked},
	{"truncation survives a new open", testReopenTruncated},
}

func testReopen(t *testing.T, s Stores) {
	st, err := s.Open(t, "store")
	if err != nil {
		t.Fatal(err)
	}
	id := st.ID()
	for round := range 3 {
		for i := range 20 {
			appendN(t, st, fmt.Sprintf("stream/%d", i%4), round*20+i, 1)
		}
		if _, err := st.RaiseEpoch(); err != nil {
			t.Fatal(err)
		}
		if err := st.SaveSnapshot("stream/1", uint64(5*(round+1)), fmt.Appendf(nil, "state %d", round)); err != nil {
			t.Fatal(err)
		}
		before := readAll(t, st, 0)
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		if st, err = s.Open(t, "store"); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, st, 0); !reflect.DeepEqual(got, before) {
			t.Fatalf("after opening again\n got %v\nwant %v", lines(got), lines(before))
		}
		if st.ID() != id || st.Epoch() != uint64(round+1) || st.Head() != uint64(20*(round+1)) {
			t.Errorf("id %s, epoch %d, head %d", st.ID(), st.Epoch(), st.Head())
		}
		if seq, state, err := st.LoadSnapshot("stream/1"); err != nil || seq != uint64(5*(round+1)) || string(state) != fmt.Sprintf("state %d", round) {
			t.Errorf("snapshot %d %q %v", seq, state, err)
		}
		err = st.Append(t.Context(), journal.Append{Stream: "stream/0", Expected: uint64(5*(round+1)) - 1, Events: Events(0, 1)})
		if !errors.Is(err, journal.ErrConflict) {
			t.Errorf("versions were forgotten: %v", err)
		}
		verify(t, st)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

func testLocked(t *testing.T, s Stores) {
	st := s.open(t)
	appendN(t, st, "a", 1, 1)
	if other, err := s.Open(t, "store"); !errors.Is(err, journal.ErrLocked) {
		if err == nil {
			other.Close()
		}
		t.Errorf("want ErrLocked, got %v", err)
	}
	// The refused opener changed nothing.
	appendN(t, st, "a", 2, 1)
	verify(t, st)
}

func testReopenTruncated(t *testing.T, s Stores) {
	st, err := s.Open(t, "store")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		appendN(t, st, "a", i, 1)
		appendN(t, st, "b", i, 1)
	}
	for _, seq := range []uint64{10, 20, 30} {
		if err := st.SaveSnapshot("a", seq, fmt.Appendf(nil, "%d", seq)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.RaiseEpoch(); err != nil {
		t.Fatal(err)
	}
	if err := st.Truncate(t.Context(), "a", 26, "old", At); err != nil {
		t.Fatal(err)
	}
	if err := st.Truncate(t.Context(), "b", 31, "older", At); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, st, 0)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = s.open(t)
	if got := readAll(t, st, 0); !reflect.DeepEqual(got, before) {
		t.Errorf("after opening again\n got %v\nwant %v", lines(got), lines(before))
	}
	checkSummary(t, st, "a", 26, 31, 25, "old")
	checkSummary(t, st, "b", 31, 31, 30, "older")
	if seq, state, err := st.LoadSnapshot("a"); err != nil || seq != 30 || string(state) != "30" || st.Epoch() != 1 {
		t.Errorf("snapshot %d %q %v, epoch %d", seq, state, err, st.Epoch())
	}
	appendN(t, st, "a", 31, 1)
	verify(t, st)
}
