package journaltest

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
)

// model is the plainest thing that behaves like a store.
type model struct {
	all       []events.Envelope // by position; removed ones are zero
	versions  map[string]uint64
	snapshots map[string]modelSnapshot
	epoch     uint64
}

type modelSnapshot struct {
	seq   uint64
	state string
}

// testModel lets a store and a model of it do the same random things.
func testModel(t *testing.T, s Stores) {
	run := 0
	if s.Checks > 0 {
		checks := flag.Lookup("rapid.checks")
		before := checks.Value.String()
		if before == checks.DefValue { // an explicit flag wins
			if err := checks.Value.Set(strconv.Itoa(s.Checks)); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = checks.Value.Set(before) }()
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		run++
		name := fmt.Sprintf("model-%d", run)
		st, err := s.Open(t, name)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { st.Close() }()
		m := &model{versions: map[string]uint64{}, snapshots: map[string]modelSnapshot{}}
		actions := map[string]func(*rapid.T){
			"":         func(rt *rapid.T) { m.compare(rt, t, st) },
			"append":   func(rt *rapid.T) { m.append(rt, t, st) },
			"truncate": func(rt *rapid.T) { m.truncate(rt, t, st) },
			"snapshot": func(rt *rapid.T) { m.snapshot(rt, st) },
			"epoch": func(rt *rapid.T) {
				m.epoch++
				if got, err := st.RaiseEpoch(); err != nil || got != m.epoch {
					rt.Fatalf("epoch %d, %v, want %d", got, err, m.epoch)
				}
			},
		}
		if !s.Volatile {
			actions["reopen"] = func(rt *rapid.T) {
				if err := st.Close(); err != nil {
					rt.Fatal(err)
				}
				if st, err = s.Open(t, name); err != nil {
					rt.Fatal(err)
				}
			}
		}
		rt.Repeat(actions)
	})
}

var modelStreams = []string{"a", "a/b", "b"}

func (m *model) append(rt *rapid.T, t testing.TB, st journal.Store) {
	var appends []journal.Append
	versions := map[string]uint64{}
	conflict := false
	for range rapid.IntRange(1, 3).Draw(rt, "parts") {
		stream := rapid.SampledFrom(modelStreams).Draw(rt, "stream")
		v, ok := versions[stream]
		if !ok {
			v = m.versions[stream]
		}
		a := journal.Append{Stream: stream, Expected: v, Events: Events(len(m.all), rapid.IntRange(0, 3).Draw(rt, "events"))}
		switch rapid.IntRange(0, 9).Draw(rt, "expected") {
		case 0:
			a.Expected, conflict = v+1, true
		case 1:
			a.Expected = journal.Any
		}
		versions[stream] = v + uint64(len(a.Events))
		appends = append(appends, a)
	}
	err := st.Append(t.Context(), appends...)
	if conflict {
		if !errors.Is(err, journal.ErrConflict) {
			rt.Fatalf("want a conflict, got %v", err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	for _, a := range appends {
		for _, env := range a.Events {
			m.add(a.Stream, env)
		}
	}
}

func (m *model) add(stream string, env events.Envelope) {
	m.versions[stream]++
	env.Pos, env.Stream, env.Seq, env.At = uint64(len(m.all)+1), stream, m.versions[stream], env.At.UTC()
	m.all = append(m.all, env)
}

func (m *model) truncate(rt *rapid.T, t testing.TB, st journal.Store) {
	stream := rapid.SampledFrom(modelStreams).Draw(rt, "stream")
	before := rapid.Uint64Range(0, m.versions[stream]+2).Draw(rt, "before")
	if err := st.Truncate(t.Context(), stream, before, "old", At); err != nil {
		rt.Fatal(err)
	}
	before = min(before, m.versions[stream]+1)
	removed := false
	for i, env := range m.all {
		if env.Stream == stream && env.Seq < before {
			m.all[i], removed = events.Envelope{}, true
		}
	}
	if !removed {
		return
	}
	sum, err := events.Seal(events.HistorySummarized{FirstSeq: 1, LastSeq: before - 1, Text: "old"},
		events.Meta{At: At, Epoch: m.epoch, Cause: "retention"})
	if err != nil {
		rt.Fatal(err)
	}
	m.add(stream, sum)
}

func (m *model) snapshot(rt *rapid.T, st journal.Store) {
	stream := rapid.SampledFrom(modelStreams).Draw(rt, "stream")
	seq := rapid.Uint64Range(0, m.versions[stream]+1).Draw(rt, "seq")
	state := rapid.StringN(0, 20, -1).Draw(rt, "state")
	err := st.SaveSnapshot(stream, seq, []byte(state))
	if seq == 0 || seq > m.versions[stream] || seq < m.snapshots[stream].seq {
		if !errors.Is(err, journal.ErrInvalid) {
			rt.Fatalf("a snapshot at %d: %v", seq, err)
		}
		return
	}
	if err != nil {
		rt.Fatal(err)
	}
	m.snapshots[stream] = modelSnapshot{seq, state}
}

func (m *model) compare(rt *rapid.T, t testing.TB, st journal.Store) {
	same := func(what string, got, want []events.Envelope) {
		if !slices.EqualFunc(got, want, func(a, b events.Envelope) bool {
			return line(a) == line(b) && a.Type == b.Type && a.At.Equal(b.At) && a.Epoch == b.Epoch && string(a.Data) == string(b.Data)
		}) {
			rt.Fatalf("%s\n got %v\nwant %v", what, lines(got), lines(want))
		}
	}
	kept := func(keep func(events.Envelope) bool) []events.Envelope {
		var list []events.Envelope
		for _, env := range m.all {
			if env.Pos != 0 && keep(env) {
				list = append(list, env)
			}
		}
		return list
	}
	if st.Head() != uint64(len(m.all)) || st.Epoch() != m.epoch {
		rt.Fatalf("head %d, epoch %d; want %d, %d", st.Head(), st.Epoch(), len(m.all), m.epoch)
	}
	from := rapid.Uint64Range(0, uint64(len(m.all)+2)).Draw(rt, "from")
	same("all", readAll(t, st, from), kept(func(env events.Envelope) bool { return env.Pos >= from }))
	for _, stream := range modelStreams {
		same(stream, readStream(t, st, stream, from/3), kept(func(env events.Envelope) bool { return env.Stream == stream && env.Seq >= from/3 }))
		if v := version(t, st, stream); v != m.versions[stream] {
			rt.Fatalf("%s is at %d, want %d", stream, v, m.versions[stream])
		}
		want, ok := m.snapshots[stream]
		seq, state, err := st.LoadSnapshot(stream)
		if !ok {
			if !errors.Is(err, journal.ErrNoSnapshot) {
				rt.Fatalf("want ErrNoSnapshot, got %v", err)
			}
		} else if err != nil || seq != want.seq || string(state) != want.state {
			rt.Fatalf("snapshot of %s: %d %q %v, want %v", stream, seq, state, err, want)
		}
	}
	if err := st.Verify(t.Context()); err != nil {
		rt.Fatal(err)
	}
}
