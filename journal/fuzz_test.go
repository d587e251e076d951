package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
)

func sampleEnvelopes() []events.Envelope {
	return []events.Envelope{
		{Pos: 1, Seq: 1, Stream: "a", Type: "T", Version: 1, At: time.Unix(0, 0).UTC(), Data: json.RawMessage("{}")},
		{
			Pos: 1<<64 - 1, Seq: 7, Stream: "node/x/\u00fc", Type: "NodeExited", Version: 9, At: time.Unix(-5, 999999999).UTC(),
			HLC: 1<<64 - 1, Epoch: 3, Command: "c", Cause: "why", Trace: "t", SourceSeq: 300, Data: json.RawMessage(`{"a":[1]}`),
		},
	}
}

// TestRecordGolden pins the bytes: stores of every release hold them.
func TestRecordGolden(t *testing.T) {
	want := "\x01\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + // layout, Pos, Seq
		"\x01\x03\xc8\x01\x05\x07\x09" + // Version, Epoch, 100 s, 5 ns, HLC, SourceSeq
		"\x01s\x01T\x01c\x02ca\x01t" + "{}"
	env := events.Envelope{
		Pos: 2, Seq: 1, Stream: "s", Type: "T", Version: 1, At: time.Unix(100, 5).UTC(), HLC: 7, Epoch: 3,
		Command: "c", Cause: "ca", Trace: "t", SourceSeq: 9, Data: json.RawMessage("{}"),
	}
	if got := string(appendRecord(nil, &env)); got != want {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
	back, err := decodeRecord([]byte(want), nil)
	if err != nil || !reflect.DeepEqual(back, env) {
		t.Errorf("got %+v, %v", back, err)
	}
}

func TestRecordSizeIsABound(t *testing.T) {
	for _, env := range sampleEnvelopes() {
		if n, bound := len(appendRecord(nil, &env)), recordSize(env.Stream, &env); n > bound {
			t.Errorf("%d bytes, the bound is %d", n, bound)
		}
	}
}

// FuzzRecord: no bytes make the decoder panic, and what it accepts it writes and reads
// again as the same.
func FuzzRecord(f *testing.F) {
	for _, env := range sampleEnvelopes() {
		b := appendRecord(nil, &env)
		f.Add(b)
		f.Add(b[:len(b)/2])
		b[0] = 2
		f.Add(b)
	}
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		env, err := decodeRecord(b, interner{})
		if err != nil {
			return
		}
		again, err := decodeRecord(appendRecord(nil, &env), nil)
		if err != nil {
			t.Fatalf("%+v is not read again: %v", env, err)
		}
		if len(env.Data) == 0 && len(again.Data) == 0 {
			env.Data, again.Data = nil, nil
		}
		if !reflect.DeepEqual(env, again) {
			t.Errorf("\n got %+v\nwant %+v", again, env)
		}
	})
}

// FuzzFile opens any bytes as a file: as its owner and as a reader. Whatever happens is
// an error with a sentinel, or a journal that verifies.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "seed")
	st, err := OpenFile(path, OpenOptions{NoSync: true, Reserve: -1})
	if err != nil {
		f.Fatal(err)
	}
	for i, env := range sampleEnvelopes() {
		list := []events.Envelope{env, env}
		if err := st.Append(f.Context(), Append{Stream: env.Stream, Expected: Any, Events: list}); err != nil {
			f.Fatal(err)
		}
		if err := st.SaveSnapshot(env.Stream, uint64(i+1), []byte("state")); err != nil {
			f.Fatal(err)
		}
	}
	if _, err := st.RaiseEpoch(); err != nil {
		f.Fatal(err)
	}
	if err := st.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[markSize:], true)
	f.Add(whole[markSize:], false)
	f.Add(whole[markSize:len(whole)-7], false)
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f, 0x81, 0, 0, 0, 0}, false)
	h, m, _, err := readMark(bytes.NewReader(whole), "seed", magicFile)
	if err != nil {
		f.Fatal(err)
	}
	// The fuzzer supplies the frames; the mark before them says that they were
	// acknowledged, or that nothing was. Checksums are put right, so that it gets
	// behind them.
	f.Fuzz(func(t *testing.T, frames []byte, acknowledged bool) {
		frames = rightChecksums(bytes.Clone(frames))
		claim := mark{end: markSize}
		if acknowledged {
			claim = m
			claim.end = markSize + uint64(len(frames))
		}
		path := filepath.Join(t.TempDir(), "j")
		if err := os.WriteFile(path, append(encodeMark(h, claim), frames...), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := OpenFileReadOnly(path); err == nil {
			for _, err := range r.Events(t.Context()) {
				wantSentinel(t, err)
			}
			r.Close()
		}
		st, err := OpenFile(path, OpenOptions{NoSync: true, Reserve: -1})
		if wantSentinel(t, err); err != nil {
			return
		}
		defer st.Close()
		if err := st.Verify(t.Context()); err != nil {
			t.Errorf("opened, but: %v", err)
		}
		for _, err := range st.ReadAll(t.Context(), 0) {
			if err != nil {
				t.Errorf("opened, but: %v", err)
			}
		}
	})
}

func wantSentinel(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) && !errors.Is(err, events.ErrMalformed) && !errors.Is(err, events.ErrNewer) {
		t.Errorf("an error without a sentinel: %v", err)
	}
}

// rightChecksums walks over frames and sets the checksum of each.
func rightChecksums(b []byte) []byte {
	for off := 0; off+frameHeader <= len(b); {
		n := int(uint32(b[off]) | uint32(b[off+1])<<8 | uint32(b[off+2])<<16 | uint32(b[off+3])<<24)
		if n > len(b)-off-frameHeader {
			break
		}
		fixed := appendFrame(nil, b[off+4], b[off+frameHeader:off+frameHeader+n])
		copy(b[off:], fixed)
		off += len(fixed)
	}
	return b
}

// FuzzMark: no blocks make the reader of the mark panic.
func FuzzMark(f *testing.F) {
	whole := encodeMark(header{magic: magicFile}, mark{counter: 1, end: markSize})
	f.Add(whole)
	f.Add(whole[:100])
	f.Add([]byte(magicFile))
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := 0; i+blockSize <= min(len(b), markSize); i += blockSize {
			b = bytes.Clone(b)
			sealBlock(b[i : i+blockSize])
		}
		_, _, _, err := readMark(bytes.NewReader(b), "fuzz", magicFile)
		wantSentinel(t, err)
	})
}

// FuzzSnapshotKey: keys of Badger are read back as they were written, others refused.
func FuzzSnapshotKey(f *testing.F) {
	f.Add("a", uint64(1), []byte("s/a\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add("node/x", uint64(1<<63), []byte("s/"))
	f.Fuzz(func(t *testing.T, stream string, seq uint64, any []byte) {
		gotStream, gotSeq, ok := parseSnapshotKey(snapshotKey(stream, seq))
		if !ok || gotStream != stream || gotSeq != seq {
			t.Errorf("%q %d became %q %d %v", stream, seq, gotStream, gotSeq, ok)
		}
		if stream, seq, ok := parseSnapshotKey(any); ok && !bytes.Equal(snapshotKey(stream, seq)[2:], any[2:]) {
			t.Errorf("%q was accepted as %q %d", any, stream, seq)
		}
	})
}
