package actors

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/ws"
)

// noCrash fails a test when an actor crashed: its supervisor says so in the log.
func noCrash(t *testing.T) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(crashHook{t})
	return log
}

type crashHook struct{ t *testing.T }

func (crashHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h crashHook) Fire(e *logrus.Entry) error {
	if strings.Contains(e.Message, "crashed") || strings.Contains(e.Message, "internal error") {
		h.t.Error(e.Message)
	}
	return nil
}

// deaf is a daemon that answers no call.
type deaf struct{}

func (deaf) Call(context.Context, string, any, any) error { return ws.ErrLost }
func (deaf) Close()                                       {}

// recordsOf is the history of a dataflow as a daemon ships it: one JSON document a line.
func recordsOf(t testing.TB, evs ...events.Event) []byte {
	t.Helper()
	var out []byte
	seqs := map[string]uint64{}
	for i, e := range evs {
		env, err := events.Seal(e, events.Meta{At: time.Unix(1, 0).UTC(), Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		env.Stream = events.NodeStream("u", "a")
		if strings.HasPrefix(env.Type, "Dataflow") {
			env.Stream = events.DataflowStream("u")
		}
		seqs[env.Stream]++
		env.Pos, env.Seq = uint64(i+1), seqs[env.Stream]
		raw, err := json.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, raw...), '\n')
	}
	return out
}

// FuzzFacts gives a coordinator what no daemon should say: it refuses it or keeps it, no
// actor crashes, and what it shows afterwards is what a replay of its journal shows.
func FuzzFacts(f *testing.F) {
	created := events.DataflowCreated{UUID: "u", Path: "/x.yml", Descriptor: "nodes: [{id: a, path: a}]", Nodes: []string{"a"}, Command: "start"}
	at := time.Unix(1, 0).UTC()
	f.Add(recordsOf(f, created, events.NodeSpawnIntended{Generation: 1, Token: "t"}, events.NodeSpawned{Generation: 1, PID: 2, At: at},
		events.DataflowStarted{}, events.NodeExited{Generation: 1, Code: 3, At: at}, events.NodeFinished{Status: "failed"}, events.DataflowFinished{Status: "failed"}),
		[]byte(`{"dataflows":{"u":{"flow":{"created":{"uuid":"u","nodes":["a"]}},"nodes":{"a":{"generation":1}}}},"seqs":{"dataflow/u":4}}`))
	f.Add(recordsOf(f, created), []byte(`{"dataflows":{"u":{"flow":{},"nodes":null},"v":{"nodes":{"a":null}}},"seqs":{}}`))
	f.Add([]byte("17\n{\n"), []byte(`{"dataflows":{"x":"nonsense","":{}}}`))
	f.Fuzz(func(t *testing.T, lines, state []byte) {
		store := journal.NewMemory()
		defer store.Close()
		open := func() *Coordinator {
			c, err := OpenCoordinator(CoordinatorOptions{Store: store, Log: noCrash(t), Vault: &memVault{envs: map[string][]string{}}, NewUUID: func() string { return "new" }})
			if err != nil {
				t.Fatalf("what was stored cannot be opened: %v", err)
			}
			return c
		}
		c := open()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := c.Register(ctx, deaf{}, ws.Register{Machine: "m", Journal: "j"}, "", ""); err != nil {
			t.Fatal(err)
		}
		cursor := uint64(0)
		for line := range bytes.Lines(lines) {
			ok, err := c.TakeFacts(ctx, deaf{}, "m", &ws.Facts{Journal: "j", Records: []json.RawMessage{line}})
			if ok.Cursor < cursor || ctx.Err() != nil {
				t.Fatalf("cursor %d after %d: %v", ok.Cursor, cursor, err)
			}
			cursor = max(cursor, ok.Cursor)
		}
		s := ws.State{}
		if json.Unmarshal(state, &s) == nil {
			s.Journal, s.Through = "j", cursor+1
			if _, err := c.TakeState(ctx, deaf{}, "m", &s); err == nil {
				cursor++
			}
		}
		// And on top of that, as if nothing had been.
		for i, e := range []events.Event{events.NodeSpawnIntended{Generation: 9, Token: "t"}, events.NodeExited{Generation: 9, At: at}} {
			env, err := events.Seal(e, events.Meta{At: at, Epoch: 1})
			if err != nil {
				t.Fatal(err)
			}
			env.Stream, env.Pos, env.Seq = events.NodeStream("u", "a"), cursor+1, uint64(1000+i)
			raw, _ := json.Marshal(env)
			if ok, err := c.TakeFacts(ctx, deaf{}, "m", &ws.Facts{Journal: "j", Records: []json.RawMessage{raw}}); err != nil {
				t.Fatalf("an honest fact is refused: %v", err)
			} else {
				cursor = ok.Cursor
			}
		}
		shown := c.List(ctx, false)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = open()
		defer c.Close()
		if again := c.List(ctx, false); !reflect.DeepEqual(plain(again), plain(shown)) {
			t.Errorf("a replay shows\n%+v, it was\n%+v", again, shown)
		}
	})
}

// plain leaves out of rows what tells of the connection.
func plain(rows []ws.Dataflow) []ws.Dataflow {
	for i := range rows {
		rows[i].Note = ""
	}
	return rows
}

// FuzzOrder gives a daemon what no coordinator should say.
func FuzzOrder(f *testing.F) {
	for _, o := range []string{
		`{"number":1,"dataflow":"u","start":{"path":"/x.yml","descriptor":"nodes: [{id: a, path: a}]","env":["A=b"],"params":{"a":{"k":1}}}}`,
		`{"number":2,"dataflow":"flow","stop":{"grace":-1,"force":true}}`, `{"number":2,"dataflow":"flow","node_stop":{"node":"b","restart":true}}`,
		`{"number":3,"dataflow":"flow","set_param":{"node":"a","key":"k","value":{"x":[1]}}}`, `{"dataflow":"flow","delete_param":{"node":"zz","key":""}}`,
		`{"dataflow":"../..","start":{"descriptor":"nodes: {}"}}`, `{}`, `[`,
	} {
		f.Add([]byte(o))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := newWorld(t, 1)
		w.flow, w.instant, w.plays = "flow", true, map[string]play{"a": {}, "b": {}}
		opts := w.options()
		opts.Log = noCrash(t)
		d := open(t, opts)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Start(ctx, startRequest(t, "flow", pair)); err != nil {
			t.Fatal(err)
		}
		if err := d.acceptCoordinator("c", 1); err != nil {
			t.Fatal(err)
		}
		u := &Uplink{d: d, accepted: ws.Registered{Coordinator: "c", Epoch: 1}}
		var o ws.Order
		if json.Unmarshal(raw, &o) == nil { // most would be refused for the epoch
			o.Coordinator, o.Epoch = "c", 1
			raw, _ = json.Marshal(o)
		}
		if _, err := u.order(ctx, raw); ctx.Err() != nil {
			t.Errorf("%s: no answer: %v", raw, err)
		}
		if _, err := d.Dataflows(ctx); err != nil {
			t.Error(err)
		}
		if err := d.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}
