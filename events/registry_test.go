package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Arm is a type of this test only, at its third version. Version 1 had a "pos" in
// degrees, version 2 renamed it to "angle", version 3 has radians and a unit.
type Arm struct {
	Angle float64 `json:"angle"`
	Unit  string  `json:"unit"`
}

func (Arm) EventType() string { return "Arm" }
func (Arm) EventVersion() int { return 3 }

func armRename(old json.RawMessage) (json.RawMessage, error) {
	var v struct {
		Pos *float64 `json:"pos"`
	}
	if err := json.Unmarshal(old, &v); err != nil {
		return nil, err
	}
	if v.Pos == nil {
		return nil, errors.New("no pos")
	}
	return json.Marshal(map[string]any{"angle": *v.Pos})
}

func armRadians(old json.RawMessage) (json.RawMessage, error) {
	var v struct {
		Angle float64 `json:"angle"`
	}
	if err := json.Unmarshal(old, &v); err != nil {
		return nil, err
	}
	return json.Marshal(Arm{Angle: v.Angle / 180, Unit: "pi"})
}

func TestUpcastersChain(t *testing.T) {
	r, err := NewRegistry(KindOf[Arm](armRename, armRadians))
	if err != nil {
		t.Fatal(err)
	}
	want := Arm{Angle: 0.5, Unit: "pi"}
	for version, data := range map[int]string{1: `{"pos":90}`, 2: `{"angle":90}`, 3: `{"angle":0.5,"unit":"pi"}`} {
		got, err := r.Open(Envelope{Type: "Arm", Version: version, Data: json.RawMessage(data)})
		if err != nil {
			t.Errorf("version %d: %v", version, err)
		} else if got != want {
			t.Errorf("version %d: got %v, want %v", version, got, want)
		}
	}
	_, err = r.Open(Envelope{Type: "Arm", Version: 1, Data: json.RawMessage(`{}`), Stream: "robot/1", Seq: 4, Pos: 9})
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), `from version 1 to 2: no pos`) || !strings.Contains(err.Error(), `"robot/1" seq 4, pos 9`) {
		t.Errorf("a failing upcaster: %v", err)
	}
}

func TestRegistryRefusesContradictions(t *testing.T) {
	for what, kinds := range map[string][]Kind{
		"registered twice":       {KindOf[DaemonStopped](), KindOf[DaemonStopped]()},
		"needs 2 upcasters":      {KindOf[Arm](armRename)},
		"needs 0 upcasters":      {KindOf[DaemonStopped](armRename)},
		"versions start at 1":    {KindOf[unversioned]()},
		"has no name":            {KindOf[nameless]()},
		"needs 2 upcasters, has": {KindOf[Arm]()},
	} {
		if _, err := NewRegistry(kinds...); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q, got %v", what, err)
		}
	}
}

type unversioned struct{}

func (unversioned) EventType() string { return "unversioned" }
func (unversioned) EventVersion() int { return 0 }

type nameless struct{}

func (nameless) EventType() string { return "" }
func (nameless) EventVersion() int { return 1 }

func TestSealFillsIn(t *testing.T) {
	meta := Meta{
		At: time.Now(), HLC: 7, Epoch: 3, Command: "c-1", Cause: "restart policy",
		Trace: "abc", SourceSeq: 12,
	}
	env, err := Seal(NodeGaveUp{Reason: "max restarts"}, meta)
	if err != nil {
		t.Fatal(err)
	}
	want := Envelope{
		Type: "NodeGaveUp", Version: 1, Data: json.RawMessage(`{"reason":"max restarts"}`),
		At: meta.At.Round(0), HLC: 7, Epoch: 3, Command: "c-1", Cause: "restart policy",
		Trace: "abc", SourceSeq: 12,
	}
	if !reflect.DeepEqual(env, want) {
		t.Errorf("got  %+v\nwant %+v", env, want)
	}
}

func TestSealRefuses(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name string
		e    Event
		meta Meta
		want error
	}{
		{"nil", nil, Meta{At: now}, ErrMalformed},
		{"not in the catalogue", Arm{}, Meta{At: now}, ErrUnknown},
		{"a nested type", NodeFailure{}, Meta{At: now}, ErrUnknown},
		{"no time", DaemonStopped{}, Meta{}, ErrMalformed},
		{"a time that JSON cannot hold", WarningRaised{At: time.Date(10001, 1, 1, 0, 0, 0, 0, time.UTC)}, Meta{At: now}, ErrMalformed},
	} {
		if _, err := Seal(tc.e, tc.meta); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  Envelope
		want error
		text string
	}{
		{"unknown type", Envelope{Type: "NodeTeleported", Version: 1}, ErrUnknown, `"NodeTeleported"`},
		{"newer version", Envelope{Type: "NodeExited", Version: 2}, ErrNewer, "NodeExited version 2"},
		{"version 0", Envelope{Type: "NodeExited"}, ErrMalformed, "version 0"},
		{"no data", Envelope{Type: "NodeExited", Version: 1}, ErrMalformed, "no data"},
		{"null", Envelope{Type: "NodeExited", Version: 1, Data: json.RawMessage(" null\n")}, ErrMalformed, "null"},
		{"cut", Envelope{Type: "NodeGaveUp", Version: 1, Data: json.RawMessage(`{"reason":"x`)}, ErrMalformed, "NodeGaveUp version 1"},
		{"wrong type", Envelope{Type: "NodeGaveUp", Version: 1, Data: json.RawMessage(`{"reason":3}`)}, ErrMalformed, "reason"},
		{"a field too many", Envelope{Type: "NodeGaveUp", Version: 1, Data: json.RawMessage(`{"reason":"x","by":1}`)}, ErrMalformed, `"by"`},
		{"two values", Envelope{Type: "DaemonStopped", Version: 1, Data: json.RawMessage(`{}{}`)}, ErrMalformed, "DaemonStopped version 1"},
	} {
		_, err := Open(tc.env)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want %v with %q", tc.name, err, tc.want, tc.text)
		}
	}
}

// TestStrictness: what means one thing only is read, all else is refused.
func TestStrictness(t *testing.T) {
	at := time.Date(2026, 3, 14, 15, 9, 26, 0, time.FixedZone("", 7200))
	for data, want := range map[string]*NodeExited{
		`{}`:                                  {},
		` {"code":1}` + "\n":                  {Code: 1},
		`{"code":1,"stderr":["a","b"]}`:       {Code: 1, Stderr: []string{"a", "b"}},
		`{"c\u006fde":1}`:                     {Code: 1},
		`{"reason":"\",\"extra\":","code":2}`: {Reason: `","extra":`, Code: 2},
		`{"stderr":null,"uptime":3}`:          {Uptime: 3},
		`{"at":"2026-03-14T15:09:26+02:00"}`:  {At: at},

		``:                                 nil,
		`null`:                             nil,
		` null`:                            nil,
		`[{"code":1}]`:                     nil,
		`"code"`:                           nil,
		`{"code":1,"extra":2}`:             nil,
		`{"reason":"x\\","extra":2}`:       nil,
		`{"":1}`:                           nil,
		`{"Code":1}`:                       nil, // no name of ours
		`{"code":1,"code":2}`:              nil, // which one?
		`{"code":1} {"code":1}`:            nil,
		`{"code":1}x`:                      nil,
		`{"code":1,`:                       nil,
		`{"code":1,}`:                      nil,
		`{"code":1.5}`:                     nil,
		`{"uptime":1e30}`:                  nil,
		`{"generation":-1}`:                nil,
		`{"reason":{"extra":1}}`:           nil,
		`{"stderr":[{"extra":1}]}`:         nil,
		`{"reason":"\u0000"`:               nil,
		`{"reason":"`:                      nil,
		"{\"reason\":\"\xff\"}":            nil, // not UTF-8
		`{"reason":"\ud800"}`:              nil, // half a character
		`{"at":"yesterday"}`:               nil,
		`{"at":"2026-02-30T00:00:00Z"}`:    nil,
		`{"stderr":["a","b"],"code":1]`:    nil,
		strings.Repeat(`{"code":`, 20_000): nil,
	} {
		got, err := unmarshal[NodeExited]([]byte(data))
		switch {
		case (err == nil) != (want != nil):
			t.Errorf("%.60s: %v, want accepted %v", data, err, want != nil)
		case want != nil && (!got.At.Equal(want.At) || got.Code != want.Code || got.Reason != want.Reason ||
			got.Uptime != want.Uptime || !slices.Equal(got.Stderr, want.Stderr)):
			t.Errorf("%s: got %+v, want %+v", data, got, *want)
		}
	}
	// Within an event, too.
	if _, err := unmarshal[DataflowFinished]([]byte(`{"status":"failed","failures":[{"node":"a","error":"b","extra":1}]}`)); err == nil {
		t.Error("an unknown member of a nested object was accepted")
	}
}

// FuzzStrictness: encoding/json accepts whatever is accepted here, and reads it as the
// same.
func FuzzStrictness(f *testing.F) {
	f.Add([]byte(`{"code":1,"stderr":["a","b"],"extra":{"a":[1,",{"]}}`))
	f.Add([]byte(`{"reason":"\",\"extra\":","uptime":2,"at":"2026-03-14T15:09:26Z"}`))
	f.Add([]byte(`{"status":"failed","failures":[{"node":"a","error":"b","stderr":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sameAsStandard[NodeExited](t, data)
		sameAsStandard[DataflowFinished](t, data)
	})
}

func sameAsStandard[E Event](t *testing.T, data []byte) {
	got, err := unmarshal[E](data)
	if err != nil {
		return
	}
	var want E
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&want); err != nil {
		t.Errorf("%q is read as %+v, encoding/json says %v", data, got, err)
	} else if !reflect.DeepEqual(got, want) {
		t.Errorf("%q is read as %+v, by encoding/json as %+v", data, got, want)
	}
}

func BenchmarkOpen(b *testing.B) {
	env, err := Seal(sample(b, Catalogue.kinds["NodeSpawned"]), Meta{At: sampleTime})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(env); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzOpen: no data makes Open panic, and whatever it accepts means the same after
// another round.
func FuzzOpen(f *testing.F) {
	for _, name := range Catalogue.Types() {
		env, err := Seal(sample(f, Catalogue.kinds[name]), Meta{At: sampleTime})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(env.Type, env.Version, []byte(env.Data))
		f.Add(env.Type, env.Version+1, []byte(env.Data))
		f.Add(env.Type, env.Version, []byte(env.Data[:len(env.Data)/2]))
	}
	f.Add("NodeExited", 1, []byte(`{"uptime":1e30}`))
	f.Add("NodeExited", -1, []byte(`{}`))
	f.Add("", 0, []byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, eventType string, version int, data []byte) {
		env := Envelope{Type: eventType, Version: version, Data: data, Cause: string(data)}
		if line := Describe(env); len(line) == 0 || !printableLine(line) {
			t.Errorf("not one printable line: %q", line)
		}
		e, err := Open(env)
		if err != nil {
			if !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrMalformed) {
				t.Errorf("an error without a sentinel: %v", err)
			}
			return
		}
		again, err := Seal(e, Meta{At: sampleTime})
		if err != nil {
			t.Fatalf("opened but not sealed again: %v", err)
		}
		back, err := Open(again)
		if err != nil {
			t.Fatal(err)
		}
		third, err := Seal(back, Meta{At: sampleTime})
		if err != nil || string(third.Data) != string(again.Data) {
			t.Errorf("not stable: %s and %s (%v)", again.Data, third.Data, err)
		}
	})
}
