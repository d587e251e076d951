package factlog

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dora-go/dora/transport/link"
	"pgregory.net/rapid"
)

func warning(text string) *link.Fact { return &link.Fact{Warning: &link.Warning{Text: text}} }

func open(t testing.TB, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func texts(facts []link.Fact) (out []string) {
	for _, f := range facts {
		out = append(out, f.Warning.Text)
	}
	return out
}

func add(t testing.TB, l *Log, words ...string) {
	t.Helper()
	for _, w := range words {
		if err := l.Append(warning(w)); err != nil {
			t.Fatal(err)
		}
	}
}

func equal(a, b []string) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func TestSurvivesReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "facts.log")
	l := open(t, path)
	if l.Older {
		t.Error("a new file is not an older one")
	}
	add(t, l, "a", "b", "c")
	if err := l.Ack(1); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l = open(t, path)
	if got := texts(l.Unacked(0)); !equal(got, []string{"b", "c"}) || !l.Older {
		t.Errorf("unacked %q, older %v", got, l.Older)
	}
	if first, last := l.Bounds(); first != 2 || last != 3 {
		t.Errorf("bounds %d, %d", first, last)
	}
	add(t, l, "d")
	if f := l.Unacked(4); len(f) != 1 || f[0].Seq != 4 {
		t.Errorf("fact 4: %+v", f)
	}
}

// TestNumbersGoOn: an empty log still knows the last number.
func TestNumbersGoOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "facts.log")
	l := open(t, path)
	add(t, l, "a", "b")
	l.Ack(2)
	if first, last := l.Bounds(); first != 0 || last != 0 {
		t.Errorf("bounds %d, %d", first, last)
	}
	l.Close()
	l = open(t, path)
	f := warning("c")
	l.Append(f)
	if f.Seq != 3 {
		t.Errorf("number %d, want 3", f.Seq)
	}
	l.Ack(99) // an acknowledgement of the future is one of all
	if len(l.Unacked(0)) != 0 || l.Last() != 3 {
		t.Error("acknowledgement beyond the end")
	}
}

// TestEveryCut: wherever the file is cut off, what is whole before counts, and the log
// goes on with the next number.
func TestEveryCut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "facts.log")
	l := open(t, path)
	sizes := []int64{l.size}
	for _, w := range []string{"a", "b", "c"} {
		add(t, l, w)
		sizes = append(sizes, l.size)
	}
	data, _ := os.ReadFile(path)
	for cut := range len(data) + 1 {
		whole := -1
		for i, s := range sizes {
			if int64(cut) >= s {
				whole = i
			}
		}
		p := filepath.Join(dir, "cut")
		os.WriteFile(p, data[:cut], 0o600)
		l := open(t, p)
		if got := len(l.Unacked(0)); got != max(whole, 0) {
			t.Fatalf("cut at %d: %d facts, want %d", cut, got, whole)
		}
		f := warning("next")
		if err := l.Append(f); err != nil || f.Seq != uint64(max(whole, 0)+1) {
			t.Fatalf("cut at %d: next is %d, %v", cut, f.Seq, err)
		}
		l.Close()
		if again, err := Read(p); err != nil || len(again) != max(whole, 0)+1 {
			t.Fatalf("cut at %d: %d facts after appending, %v", cut, len(again), err)
		}
	}
}

// TestEveryFlippedByte: damage is recognised, never taken for a fact.
func TestEveryFlippedByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "facts.log")
	l := open(t, path)
	add(t, l, "a", "b", "c")
	data, _ := os.ReadFile(path)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		c := decode(bad)
		for n, f := range c.unacked {
			if want := []string{"a", "b", "c"}[n]; f.Warning == nil || f.Warning.Text != want || f.Seq != uint64(n+1) {
				t.Fatalf("byte %d flipped: fact %d is %+v", i, n, f)
			}
		}
		if c.good >= int64(len(data)) {
			t.Fatalf("byte %d flipped: not noticed", i)
		}
	}
}

// TestFullDisk: facts that cannot be written are kept, and written once there is room.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "facts.log")
	l := open(t, path)
	add(t, l, "a")
	good := l.f
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	l.f = full
	if err := l.Append(warning("b")); err == nil {
		t.Fatal("a full disk was not noticed")
	}
	if got := texts(l.Unacked(0)); !equal(got, []string{"a", "b"}) {
		t.Errorf("in memory: %q", got)
	}
	good.Close()
	if err := l.Append(warning("c")); err != nil {
		t.Fatal(err)
	}
	facts, err := Read(path)
	if err != nil || !equal(texts(facts), []string{"a", "b", "c"}) {
		t.Errorf("in the file: %q, %v", texts(facts), err)
	}
}

func TestFileStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "facts.log")
	l := open(t, path)
	for i := range 5000 {
		f := warning("some text that is as long as a usual fact may be, with a few names in it")
		l.Append(f)
		if i%10 == 9 {
			l.Ack(f.Seq - 3)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > 2*compactAfter {
		t.Errorf("%d bytes, %v", fi.Size(), err)
	}
	l.Close()
	l = open(t, path)
	if first, last := l.Bounds(); first != 4998 || last != 5000 {
		t.Errorf("bounds %d, %d", first, last)
	}
}

// TestAgainstModel runs appends, acknowledgements and reopenings against a plain slice.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "m")
		if err != nil {
			rt.Fatal(err)
		}
		path := filepath.Join(dir, "facts.log")
		l := open(t, path)
		var acked, last uint64
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				f := warning(rapid.StringN(0, 50, 200).Draw(rt, "text"))
				l.Append(f)
				if last++; f.Seq != last {
					rt.Fatalf("number %d, want %d", f.Seq, last)
				}
			case 2:
				acked = rapid.Uint64Range(acked, last).Draw(rt, "ack")
				l.Ack(acked)
			case 3:
				l.Close()
				l = open(t, path)
			}
			if got := l.Unacked(0); uint64(len(got)) != last-acked || (len(got) > 0 && got[0].Seq != acked+1) {
				rt.Fatalf("%d unacknowledged, want %d", len(got), last-acked)
			}
		}
		l.Close()
	})
}

func FuzzDecode(f *testing.F) {
	seed, _ := appendFact(appendAck(nil, 0), &link.Fact{Seq: 1, Warning: &link.Warning{Text: "x"}})
	f.Add(seed)
	f.Add(appendAck(seed, 1))
	f.Add(appendAck(nil, 1<<63))
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0, 'F'})
	f.Fuzz(func(t *testing.T, data []byte) {
		c := decode(data)
		if c.good < 0 || c.good > int64(len(data)) || c.last < c.acked {
			t.Fatalf("%+v of %d bytes", c, len(data))
		}
		for i, fact := range c.unacked {
			if fact.Seq != c.last-uint64(len(c.unacked))+uint64(i)+1 {
				t.Fatalf("fact %d has number %d of %d", i, fact.Seq, c.last)
			}
		}
		if again := decode(data[:c.good]); again.good != c.good || len(again.unacked) != len(c.unacked) {
			t.Fatal("the good part reads differently")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, filepath.Join(b.TempDir(), "facts.log"))
	f := warning("some text that is as long as a usual fact may be")
	for b.Loop() {
		l.Append(f)
		l.Ack(f.Seq)
	}
}
