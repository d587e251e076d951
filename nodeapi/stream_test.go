package nodeapi

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dora-go/dora/transport/nodewire"
)

func TestStreamWriterNumbersChunks(t *testing.T) {
	d := newDaemon(t)
	n := d.nodeWith(t.Context(), nil, "audio")
	w, err := n.NewStreamWriter("audio")
	if err != nil {
		t.Fatal(err)
	}
	for _, send := range []func() error{
		func() error { return w.Send(ints(1)) },
		func() error { return w.Finish(ints(2), With("last", Bool(true)), With(ParamSequence, Int(77))) },
		func() error { return w.Send(ints(3)) },
		func() error { return w.Interrupt(ints(4)) },
		func() error { return w.Finish(ints(5)) },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
	}
	d.waitFor("five chunks", func() bool { return len(d.sent) == 5 })
	for i, want := range []string{"0 0 false false", "0 1 true false", "1 0 false false", "2 0 false true", "2 1 true false"} {
		p := d.sent[i].md.Parameters
		if p[ParamSessionID].Str != w.SessionID() || len(w.SessionID()) != 36 {
			t.Errorf("session %q", p[ParamSessionID].Str)
		}
		if got := fmt.Sprint(p[ParamSegmentID].Int, p[ParamSequence].Int, " ", p[ParamFin].Bool, " ", p[ParamFlush].Bool); got != want {
			t.Errorf("chunk %d is %s, want %s", i, got, want)
		}
	}
	if segment, seq := w.Position(); segment != 3 || seq != 0 {
		t.Errorf("next is %d, %d", segment, seq)
	}
	if _, err := n.NewStreamWriter("video"); !errors.Is(err, ErrWrongNode) {
		t.Errorf("got %v", err)
	}
}

func chunkEvent(session string, segment, seq int64, fin, flush bool) *Input {
	p := Parameters{ParamSessionID: Text(session), ParamSegmentID: Int(segment), ParamSequence: Int(seq), ParamFin: Bool(fin)}
	if flush {
		p[ParamFlush] = Bool(true)
	}
	return &Input{ID: "audio", Metadata: Metadata{Parameters: p}, Data: ints(100*segment + seq)}
}

func streamReader(t *testing.T) *StreamReader {
	d := newDaemon(t)
	n := d.nodeWith(t.Context(), []nodewire.InputConfig{{ID: "audio", Source: "mic/audio"}})
	r, err := n.NewStreamReader("audio")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.NewStreamReader("video"); !errors.Is(err, ErrWrongNode) {
		t.Errorf("got %v", err)
	}
	return r
}

func TestStreamReaderAssemblesSegments(t *testing.T) {
	r := streamReader(t)
	for i, c := range []struct {
		in   *Input
		want string // of the segment
	}{
		{chunkEvent("a", 0, 0, false, false), ""},
		{chunkEvent("b", 5, 2, false, false), ""}, // the reader began in the middle
		{chunkEvent("a", 0, 1, true, false), "a 0 [0 1] missing 0"},
		{chunkEvent("a", 0, 2, true, false), ""}, // over
		{chunkEvent("a", 1, 0, false, false), ""},
		{chunkEvent("a", 1, 0, false, false), ""}, // twice
		{chunkEvent("a", 1, 3, true, false), "a 1 [100 103] missing 2"},
		{chunkEvent("b", 5, 3, true, false), "b 5 [502 503] missing 2"},
		{chunkEvent("a", 2, 0, false, false), ""},
		{chunkEvent("a", 3, 0, true, false), "a 3 [300] missing 0"}, // 2 never ended
		{chunkEvent("a", 2, 1, true, false), ""},
		{chunkEvent("b", 6, 0, false, false), ""},
		{chunkEvent("a", 4, 0, false, true), ""}, // flushes b too
		{chunkEvent("b", 6, 1, true, false), ""},
		{chunkEvent("a", 4, 1, true, false), "a 4 [400 401] missing 0"},
	} {
		seg, ok, err := r.Add(c.in)
		if !ok || err != nil {
			t.Fatalf("chunk %d: %v, %v", i, ok, err)
		}
		got := ""
		if seg != nil {
			data, err := seg.Data()
			if err != nil {
				t.Fatal(err)
			}
			got = fmt.Sprint(seg.Session, " ", seg.ID, " ", data.(*array.Int64).Int64Values(), " missing ", seg.Missing)
			seg.Release()
		}
		if got != c.want {
			t.Errorf("chunk %d: got %q, want %q", i, got, c.want)
		}
	}
	if s := r.Stats(); s != (StreamStats{Chunks: 15, Segments: 5, Interrupted: 2, Missing: 4, Stale: 4}) {
		t.Errorf("stats %+v", s)
	}
	for _, ev := range []Event{&Stop{}, &Input{ID: "video"}, &Input{ID: "audio", Data: ints()}} {
		if _, ok, err := r.Add(ev); ok || err != nil {
			t.Errorf("%v is no chunk: %v, %v", ev, ok, err)
		}
	}
}

func TestStreamReaderIsBounded(t *testing.T) {
	r := streamReader(t)
	for i := range 3 * maxStreamSessions {
		if _, _, err := r.Add(chunkEvent(fmt.Sprint(i), 0, 0, false, false)); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.sessions) != maxStreamSessions || r.Stats().Interrupted != 2*maxStreamSessions {
		t.Errorf("%d sessions, %+v", len(r.sessions), r.Stats())
	}
	var err error
	data := ints(1)
	for seq := range int64(maxSegmentChunks + 1) {
		if err != nil {
			t.Fatalf("chunk %d: %v", seq-1, err)
		}
		in := &Input{ID: "audio", Metadata: Metadata{Parameters: Parameters{
			ParamSessionID: Text("long"), ParamSegmentID: Int(0), ParamSequence: Int(seq)}}, Data: data}
		data.Retain()
		_, _, err = r.Add(in)
	}
	if !errors.Is(err, ErrSegmentTooLong) {
		t.Errorf("got %v", err)
	}
	if seg, ok, err := r.Add(chunkEvent("long", 0, maxSegmentChunks+1, true, false)); seg != nil || !ok || err != nil {
		t.Errorf("the rest of it: %v, %v, %v", seg, ok, err)
	}
	r.Close()
	if r.sessions != nil {
		t.Error("sessions after Close")
	}
}

func TestChunkOfRefuses(t *testing.T) {
	good := func() Parameters { return chunkEvent("s", 1, 2, true, true).Metadata.Parameters }
	if c, err := ChunkOf(good()); err != nil || c != (StreamChunk{"s", 1, 2, true, true}) {
		t.Errorf("got %+v, %v", c, err)
	}
	for name, bad := range map[string][]Parameter{
		ParamSessionID: {nil, Int(1), Text("")}, ParamSegmentID: {nil, Text("1"), Int(-1), Float(1)},
		ParamSequence: {nil, Int(math.MinInt64), Int(math.MaxInt64)}, ParamFin: {Int(1)}, ParamFlush: {Text("true")},
	} {
		for _, v := range bad {
			p := good()
			p[name] = v
			if _, err := ChunkOf(p); !errors.Is(err, ErrNoChunk) {
				t.Errorf("%s = %v: %v", name, v, err)
			}
			if v != nil && name != ParamSessionID {
				r := streamReader(t)
				if _, ok, err := r.Add(&Input{ID: "audio", Metadata: Metadata{Parameters: p}, Data: ints(1)}); !ok || !errors.Is(err, ErrNoChunk) {
					t.Errorf("%s = %v: %v, %v", name, v, ok, err)
				}
			}
		}
	}
}

// Whatever numbers come, the reader neither panics nor returns a segment that lies.
func FuzzStreamReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 1, 1, 0, 2, 3, 0, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		r := &StreamReader{input: "audio"}
		defer r.Close()
		for ; len(script) >= 4; script = script[4:] {
			c := chunkEvent(string('a'+rune(script[0]%3)), int64(script[1]%8), int64(script[2]), script[3]&1 != 0, script[3]&2 != 0)
			if script[3]&4 != 0 {
				c.Metadata.Parameters[ParamSequence] = Int(maxStreamNumber - int64(script[2]))
			}
			seg, ok, err := r.Add(c)
			if !ok || err != nil {
				t.Fatalf("%v, %v", ok, err)
			}
			if seg == nil {
				continue
			}
			last, lerr := ChunkOf(seg.Chunks[len(seg.Chunks)-1].Metadata.Parameters)
			if lerr != nil || !last.Fin || seg.Missing < 0 || int64(len(seg.Chunks))+seg.Missing != last.Seq+1 {
				t.Fatalf("%d chunks and %d missing up to %+v", len(seg.Chunks), seg.Missing, last)
			}
			seg.Release()
		}
	})
}
