// Package journaltest is the conformance suite of journal.Store: what every store
// promises, as tests. Start reading at [Run].
package journaltest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// Stores opens the stores under test.
type Stores struct {
	// Open opens a store at a place of the suite's choosing: the same name is the
	// same store. The suite closes what it opens.
	Open func(t testing.TB, name string) (journal.Store, error)
	// Volatile stores forget everything when they are closed.
	Volatile bool
	// Checks is the number of random histories (0: 100, the default of rapid); a store
	// that is slow to open takes fewer.
	Checks int
}

// Run runs the whole suite.
func Run(t *testing.T, s Stores) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
	if s.Volatile {
		return
	}
	for _, c := range durableCases {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
}

type testCase struct {
	name string
	run  func(*testing.T, Stores)
}

// open opens a store of its own for a test and closes it at the end.
func (s Stores) open(t testing.TB) journal.Store { return s.at(t, "store") }

func (s Stores) at(t testing.TB, name string) journal.Store {
	t.Helper()
	st, err := s.Open(t, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return st
}

// At is the time of the events of the suite; the zone must not survive.
var At = time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.FixedZone("here", 3600))

// Event makes an envelope with a payload that can be told from others.
func Event(n int) events.Envelope {
	env, err := events.Seal(events.WarningRaised{Text: fmt.Sprintf("event %d", n), At: At.UTC()}, events.Meta{At: At})
	if err != nil {
		panic(err) // the catalogue has it
	}
	return env
}

// Events makes n of them, beginning with the number from.
func Events(from, n int) []events.Envelope {
	list := make([]events.Envelope, n)
	for i := range list {
		list[i] = Event(from + i)
	}
	return list
}

// Text is the payload of an envelope made by Event.
func Text(env events.Envelope) string {
	var w events.WarningRaised
	if err := json.Unmarshal(env.Data, &w); err != nil {
		return err.Error()
	}
	return w.Text
}

func appendN(t testing.TB, st journal.Store, stream string, from, n int) {
	t.Helper()
	if err := st.Append(t.Context(), journal.Append{Stream: stream, Expected: journal.Any, Events: Events(from, n)}); err != nil {
		t.Fatal(err)
	}
}

func readStream(t testing.TB, st journal.Store, stream string, from uint64) []events.Envelope {
	t.Helper()
	var list []events.Envelope
	for env, err := range st.Read(t.Context(), stream, from) {
		if err != nil {
			t.Fatalf("read %s: %v", stream, err)
		}
		list = append(list, env)
	}
	return list
}

func readAll(t testing.TB, st journal.Store, from uint64) []events.Envelope {
	t.Helper()
	var list []events.Envelope
	for env, err := range st.ReadAll(t.Context(), from) {
		if err != nil {
			t.Fatalf("read all: %v", err)
		}
		list = append(list, env)
	}
	return list
}

func version(t testing.TB, st journal.Store, stream string) uint64 {
	t.Helper()
	v, err := st.Version(stream)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func verify(t testing.TB, st journal.Store) {
	t.Helper()
	if err := st.Verify(t.Context()); err != nil {
		t.Errorf("verify: %v", err)
	}
}

// line is a short form of an envelope for comparing lists.
func line(env events.Envelope) string {
	return fmt.Sprintf("%d %s/%d %s", env.Pos, env.Stream, env.Seq, Text(env))
}

func lines(list []events.Envelope) []string {
	out := make([]string, len(list))
	for i, env := range list {
		out[i] = line(env)
	}
	return out
}
