package nodelog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dora-go/dora/transport/link"
)

// FuzzPlain: plain lines are those that JSON takes as they are.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"", "line 17", "eight  8", "a quote\" here", `back\slash`, "tab\there", "del \x7f", "é", "\xff", "1234567\x1f", "12345678\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		want := string(appendText(nil, string(line))) == string(line) && bytes.IndexFunc(line, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
		if got := plain(line); got != want {
			t.Fatalf("%q: %v", line, got)
		}
	})
}

// TestUnheardLines: the file is the same whether somebody listens to the lines or not.
func TestUnheardLines(t *testing.T) {
	var out []byte
	for _, s := range []string{"", "plain", strings.Repeat("long ", 40_000), "carriage\r", `{"level":"info","message":"x","k":1}`, `  {"level":"warn","msg":"y"}`,
		"{ no json", "quote \" and \\", "ünï", "bad \xff", "nul \x00", "del \x7f", strings.Repeat("x", MaxLine+10)} {
		out = append(append(out, s...), '\n')
	}
	out = append(out, "no end"...)
	for _, minimum := range []string{"", "info"} {
		var files [2][]byte
		for i, heard := range []bool{true, false} {
			c := newCapture(t, Config{MinLevel: minimum, Heard: func() bool { return heard }})
			c.print(t, out, nil)
			c.print(t, nil, out)
			if n := len(c.lines); heard != (n > 0) {
				t.Errorf("heard %v: %d lines were told", heard, n)
			}
			if got := c.Tail(); len(got) != 14 || got[1] != "plain" || got[9] != "bad \uFFFD" || got[13] != "no end" || len(got[2]) != tailBytes {
				t.Errorf("the tail is %.100q", got)
			}
			var err error
			if files[i], err = os.ReadFile(filepath.Join(c.dir, "log_n.jsonl")); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(files[0], files[1]) || len(files[0]) < 100 {
			t.Errorf("minimum %q: %d and %d bytes", minimum, len(files[0]), len(files[1]))
		}
	}
}

// TestLostLinesAreToldWhereTheyAre: what a stalled disk cost is behind what was queued.
func TestLostLinesAreToldWhereTheyAre(t *testing.T) {
	w := newFile("", "n", 0, 0, func(text string) { t.Error(text) })
	r, stalled, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.f, w.looked = stalled, time.Now()
	w.mu.Unlock()
	piece := func(i int) []byte {
		return encode(&link.LogLine{Message: fmt.Sprintf("line %d %s", i, strings.Repeat("x", 128<<10))})
	}
	const pieces = 60
	for i := range pieces {
		w.put(piece(i), 1)
	}
	seen := make(chan []byte)
	go func() { // the disk works again
		raw, _ := io.ReadAll(r)
		seen <- raw
	}()
	w.close(5 * time.Second)
	raw := <-seen
	next, told := 0, 0
	for line := range bytes.Lines(raw) {
		if _, after, ok := bytes.Cut(line, []byte(`"lost":"`)); ok {
			var n int
			if _, err := fmt.Sscanf(string(after), "%d", &n); err != nil {
				t.Fatal(err)
			}
			next, told = next+n, told+n
			continue
		}
		if !bytes.Contains(line, fmt.Appendf(nil, `"line %d x`, next)) {
			t.Fatalf("%.120q where line %d should be", line, next)
		}
		next++
	}
	if told == 0 || next < pieces {
		t.Errorf("%d lines, of which %d lost", next, told)
	}
}

// TestRemovedFile: a file that is removed while it is written, with its folder, or renamed,
// is begun anew; what went into a removed one is counted.
func TestRemovedFile(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(dir string) error{
		"folder removed": os.RemoveAll,
		"file removed":   func(dir string) error { return os.Remove(filepath.Join(dir, "log_n.jsonl")) },
		"file renamed": func(dir string) error {
			return os.Rename(filepath.Join(dir, "log_n.jsonl"), filepath.Join(dir, "old"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCapture(t, Config{Dir: filepath.Join(t.TempDir(), "out")})
			c.dir = c.cfg.Dir
			if err := os.Mkdir(c.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			c.print(t, []byte("a\n"), nil)
			if err := away(c.dir); err != nil {
				t.Fatal(err)
			}
			c.print(t, []byte("b\nc\n"), nil)
			time.Sleep(lookEvery)
			c.print(t, []byte("d\n"), nil)
			got := c.file(t, "log_n.jsonl")
			want := 1
			if name != "file renamed" {
				if want = 2; len(got) != 2 || got[0].Fields["lost"] != "3" {
					t.Fatalf("%+v", got)
				}
			}
			if len(got) != want || got[want-1].Msg != "d" {
				t.Errorf("%+v", got)
			}
			if len(c.warnings) != 1 || !strings.Contains(c.warnings[0], "while it was written") {
				t.Errorf("warnings %q", c.warnings)
			}
		})
	}
}

// BenchmarkFlood: lines of a node that prints as fast as it can, from the pipe to the file.
func BenchmarkFlood(b *testing.B) {
	b.ReportAllocs()
	c := New(Config{Node: "n", Dir: b.TempDir(), Clock: NewClock(time.Now), Warn: func(s string) { b.Error(s) }, Heard: func() bool { return false }})
	stdout, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	stderr, w2, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	w2.Close()
	o := c.Start(1, stdout, stderr)
	var buf []byte
	for i := range 1000 {
		buf = fmt.Appendf(buf, "line %d\n", i+1_000_000)
	}
	b.SetBytes(int64(len(buf)) / 1000)
	b.ResetTimer()
	for i := 0; i < b.N; i += 1000 {
		if _, err := w.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	w.Close()
	o.Wait(time.Minute)
	c.Close(time.Minute)
}

// FuzzMembers: what is read the fast way is what the general reader makes of it.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : 1 , "b":"x" }`, `{"a":{"b":[1,-2.5,null,true,{}]},"c":false}`, `{"a":1,"a":2}`, `{"a":01}`, `{"a":"\n"}`, `{"a":1}}`, `{"a":1,}`,
		`{"a":1e3}`, `{"a":"é"}`, `{"":""}`, `null`, `{"a":nul}`, `{"a":-}`, `{"a":1.}`, `{"a":[}`, `{"a":"` + "\x01" + `"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ToValidUTF8(text, "\uFFFD")
		m, ok := flatMembers(text)
		if !ok {
			return
		}
		var obj map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &obj); err != nil || len(obj) != len(m) {
			t.Fatalf("%q: %q, but %v: %v", text, m, obj, err)
		}
		for _, f := range m {
			if string(obj[f.key]) != f.raw {
				t.Fatalf("%q: %q is %q, want %q", text, f.key, f.raw, obj[f.key])
			}
			var s string
			if json.Unmarshal(obj[f.key], &s) == nil && f.raw != "null" && s != str(f.raw) {
				t.Fatalf("%q: %q is %q", text, s, str(f.raw))
			}
		}
	})
}
