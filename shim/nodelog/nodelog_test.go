package nodelog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dora-go/dora/transport/link"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestParse(t *testing.T) {
	at := time.Date(2026, 11, 23, 23, 6, 20, 558651000, time.UTC)
	for name, c := range map[string]struct {
		text string
		want link.LogLine
	}{
		"raw":          {"hello", link.LogLine{At: noon, Level: "stdout", Message: "hello"}},
		"empty":        {"", link.LogLine{At: noon, Level: "stdout"}},
		"other json":   {`{"a":1}`, link.LogLine{At: noon, Level: "stdout", Message: `{"a":1}`}},
		"no message":   {`{"level":"INFO"}`, link.LogLine{At: noon, Level: "stdout", Message: `{"level":"INFO"}`}},
		"odd level":    {`{"level":"loud","message":"x"}`, link.LogLine{At: noon, Level: "stdout", Message: `{"level":"loud","message":"x"}`}},
		"level number": {`{"level":30,"message":"x"}`, link.LogLine{At: noon, Level: "stdout", Message: `{"level":30,"message":"x"}`}},
		"cut json":     {`{"level":"INFO","message":"x"`, link.LogLine{At: noon, Level: "stdout", Message: `{"level":"INFO","message":"x"`}},
		"dora node": {
			`{"timestamp":"2026-11-23T23:06:20.558651Z","level":"info","message":"via node.log","target":"tgt","file":"n.py","line":3,"module_path":"m","fields":{"a":"1","b":"x"}}`,
			link.LogLine{At: at, Level: "info", Message: "via node.log", Target: "tgt", Module: "m", File: "n.py", Line: 3, Fields: map[string]string{"a": "1", "b": "x"}},
		},
		"tracing": {
			`{"timestamp":"2026-11-23T23:06:20.558651Z","level":"WARN","fields":{"message":"hot","celsius":81.5,"ok":false},"target":"my_crate::x","filename":"src/x.rs","line_number":9,"span":{"name":"s"},"spans":[{"name":"s"}]}`,
			link.LogLine{At: at, Level: "warn", Message: "hot", Target: "my_crate::x", File: "src/x.rs", Line: 9, Fields: map[string]string{"celsius": "81.5", "ok": "false"}},
		},
		"python logging": { // as printed by the wheel 1.1.0
			`{"timestamp":"2026-11-23T23:06:20.558651Z","level":"ERROR","fields":{"file":"/x/n.py","line":6,"target":"my.mod","message":"err\nwith newline"},"target":"dora","span":{"file":"/x/n.py","line":6,"message":"err\nwith newline","target":"my.mod","name":"dora.python.log.error"},"spans":[{"file":"/x/n.py","line":6,"message":"err\nwith newline","target":"my.mod","name":"dora.python.log.error"}]}`,
			link.LogLine{At: at, Level: "error", Message: "err\nwith newline", Target: "my.mod", File: "/x/n.py", Line: 6},
		},
		"slog": {
			`{"time":"2026-11-23T23:06:20.558651Z","level":"DEBUG-2","msg":"tick","i":3,"who":"me","none":null}`,
			link.LogLine{At: at, Level: "debug", Message: "tick", Fields: map[string]string{"i": "3", "who": "me"}},
		},
		"slog with source": {
			`{"time":"2026-11-23T23:06:20.558651+00:00","level":"INFO","source":{"function":"main.main","file":"/x/main.go","line":12},"msg":"tick"}`,
			link.LogLine{At: at, Level: "info", Message: "tick", Module: "main.main", File: "/x/main.go", Line: 12},
		},
		"zap": { // zap.NewProduction
			`{"level":"warn","ts":1795475180.558651,"logger":"nav","caller":"nav/main.go:42","msg":"hot","celsius":81.5}`,
			link.LogLine{At: at, Level: "warn", Message: "hot", Target: "nav", File: "nav/main.go", Line: 42, Fields: map[string]string{"celsius": "81.5"}},
		},
		"zap with text time": {
			`{"level":"DPANIC","ts":"2026-11-24T00:06:20.558651+0100","msg":"odd"}`,
			link.LogLine{At: at, Level: "error", Message: "odd"},
		},
	} {
		if got := Parse(c.text, noon); fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
	}
}

func TestFieldsAreBounded(t *testing.T) {
	fields := map[string]string{}
	for i := range 30 {
		fields[fmt.Sprintf("k%02d", i)] = strings.Repeat("v", 2100)
	}
	b, _ := json.Marshal(map[string]any{"level": "info", "message": "m", "fields": fields})
	l := Parse(string(b), noon)
	n := 0
	for k, v := range l.Fields {
		n += len(k) + len(v)
	}
	if n > maxFields || n < maxFields/2 || l.Level != "info" {
		t.Errorf("%d bytes of fields at level %s", n, l.Level)
	}
	b, _ = json.Marshal(map[string]any{"level": "info", "message": strings.Repeat("m", maxStructured)})
	if l := Parse(string(b), noon); l.Level != Raw {
		t.Error("a line over the limit was parsed")
	}
}

func TestPasses(t *testing.T) {
	order := []string{"trace", "debug", "info", "warn", "error"}
	for i, level := range order {
		for j, minimum := range order {
			if Passes(level, minimum) != (i >= j) {
				t.Errorf("%s by %s", level, minimum)
			}
		}
		if !Passes(level, "") || !Passes(level, Raw) || Passes(Raw, level) {
			t.Errorf("%s and raw", level)
		}
	}
	if !Passes(Raw, Raw) || !Passes(Raw, "") {
		t.Error("raw lines")
	}
}

// record is a line of the file as a reader sees it.
type record struct {
	TS     string            `json:"ts"`
	Level  string            `json:"level"`
	Node   string            `json:"node"`
	Stream string            `json:"stream"`
	Msg    string            `json:"msg"`
	Target *string           `json:"target"`
	Fields map[string]string `json:"fields"`
}

// capture is a collector with everything it said.
type capture struct {
	*Collector
	dir string

	mu       sync.Mutex
	lines    []link.LogLine
	raws     []string
	warnings []string
}

func newCapture(t *testing.T, cfg Config) *capture {
	c := &capture{dir: t.TempDir()}
	cfg.Node = "n"
	if cfg.Clock == nil {
		cfg.Clock = NewClock(func() time.Time { return noon })
	}
	if cfg.Dir == "" {
		cfg.Dir = c.dir
	}
	cfg.Line = func(l link.LogLine, raw []byte, kept bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lines = append(c.lines, l)
		c.raws = append(c.raws, string(raw))
	}
	cfg.Warn = func(text string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.warnings = append(c.warnings, text)
	}
	c.Collector = New(cfg)
	t.Cleanup(func() { c.Close(time.Second) })
	return c
}

// print runs a generation that prints these bytes.
func (c *capture) print(t *testing.T, stdout, stderr []byte) {
	t.Helper()
	var ends [2]*os.File
	var wg sync.WaitGroup
	for i, b := range [][]byte{stdout, stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = r
		wg.Add(1)
		go func() {
			defer wg.Done()
			w.Write(b)
			w.Close()
		}()
	}
	o := c.Start(1, ends[0], ends[1])
	wg.Wait()
	o.Wait(5 * time.Second)
	c.Sync(5 * time.Second)
}

func (c *capture) file(t *testing.T, name string) (out []record) {
	t.Helper()
	f, err := os.Open(filepath.Join(c.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 8<<20)
	for sc.Scan() {
		var r record
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("line %q: %v", sc.Text(), err)
		}
		out = append(out, r)
	}
	return out
}

func TestFileAndLines(t *testing.T) {
	c := newCapture(t, Config{})
	c.print(t, []byte("one\r\n\ntwo <&>\nlast"), []byte("oops\n"))
	b, _ := os.ReadFile(filepath.Join(c.dir, "log_n.jsonl"))
	if want := `{"ts":"2026-01-02T12:00:00.000Z","level":"stdout","node":"n","stream":"stdout","msg":"two <&>","target":null,"fields":null}` + "\n"; !strings.Contains(string(b), want) {
		t.Errorf("file:\n%s", b)
	}
	var out []string
	for i, l := range c.lines {
		if l.Stream == "stdout" {
			out = append(out, l.Message, c.raws[i])
		}
	}
	if want := []string{"one", "one\n", "", "\n", "two <&>", "two <&>\n", "last", "last"}; fmt.Sprintf("%q", out) != fmt.Sprintf("%q", want) {
		t.Errorf("lines %q", out)
	}
	if tail := c.Tail(); len(tail) != 1 || tail[0] != "oops" {
		t.Errorf("tail %q", tail)
	}
	// A second generation appends, and has a tail of its own.
	c.print(t, []byte("again\n"), nil)
	if n := len(c.file(t, "log_n.jsonl")); n != 6 || len(c.Tail()) != 0 {
		t.Errorf("%d lines, tail %q", n, c.Tail())
	}
}

func TestMinimumLevel(t *testing.T) {
	c := newCapture(t, Config{MinLevel: "warn"})
	c.print(t, []byte(`{"level":"INFO","message":"no"}`+"\nraw\n"+`{"level":"ERROR","message":"yes"}`+"\n"), nil)
	if got := c.file(t, "log_n.jsonl"); len(got) != 1 || got[0].Msg != "yes" || got[0].Level != "error" {
		t.Errorf("%+v", got)
	}
	if len(c.raws) != 3 {
		t.Error("what is sent as stdout is not filtered")
	}
}

func TestHostileOutput(t *testing.T) {
	c := newCapture(t, Config{})
	long := bytes.Repeat([]byte("é"), 3<<20)
	c.print(t, append(append(long, '\n'), []byte("nul\x00 bad\xff\xfe end\nafter\n")...), nil)
	got := c.file(t, "log_n.jsonl")
	if len(got) != 3 || got[2].Msg != "after" || got[1].Msg != "nul\x00 bad\uFFFD end" {
		t.Fatalf("%d lines, %q", len(got), got[len(got)-1].Msg)
	}
	head, tail, _ := strings.Cut(got[0].Msg, " [")
	if len(head) != MaxLine || !utf8.ValidString(head) || strings.ContainsRune(head, utf8.RuneError) || tail != "cut: the line has 6291456 bytes]" {
		t.Errorf("long line: %d bytes, %q", len(head), tail)
	}
}

func TestTailIsBounded(t *testing.T) {
	c := newCapture(t, Config{})
	var b []byte
	for i := range 50 {
		b = fmt.Appendf(b, "%d %s\n", i, strings.Repeat("ß", 2000))
	}
	c.print(t, nil, b)
	tail := c.Tail()
	if len(tail) != 20 || !strings.HasPrefix(tail[0], "30 ") || !strings.HasPrefix(tail[19], "49 ") {
		t.Fatalf("%d lines, first %.10q", len(tail), tail[0])
	}
	for _, l := range tail {
		if len(l) > 1024 || !utf8.ValidString(l) {
			t.Errorf("%d bytes, valid %v", len(l), utf8.ValidString(l))
		}
	}
}

func TestRotation(t *testing.T) {
	const limit = 2000
	c := newCapture(t, Config{MaxSize: limit, MaxRotatedFiles: 3})
	var b []byte
	for i := range 200 {
		b = fmt.Appendf(b, "line %03d\n", i)
	}
	c.print(t, b, nil)
	names, _ := filepath.Glob(filepath.Join(c.dir, "*"))
	if len(names) != 4 {
		t.Errorf("files %q", names)
	}
	next := 199
	for _, name := range []string{"log_n.jsonl", "log_n.1.jsonl", "log_n.2.jsonl", "log_n.3.jsonl"} {
		fi, err := os.Stat(filepath.Join(c.dir, name))
		if err != nil || fi.Size() > limit {
			t.Fatalf("%s: %v, %v", name, fi, err)
		}
		lines := c.file(t, name)
		for i := len(lines) - 1; i >= 0; i-- {
			if want := fmt.Sprintf("line %03d", next); lines[i].Msg != want {
				t.Fatalf("%s: %q, want %q", name, lines[i].Msg, want)
			}
			next--
		}
	}
	// A line that is larger than a file has one of its own.
	c.print(t, []byte(strings.Repeat("x", 3*limit)+"\n"), nil)
	if got := c.file(t, "log_n.jsonl"); len(got) != 1 {
		t.Errorf("%d lines beside the large one", len(got))
	}
}

// TestLostLines: a file that cannot be written costs lines, never time, and the number is
// told as soon as it can.
func TestLostLines(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	c := newCapture(t, Config{Dir: dir})
	c.dir = dir
	for range 3 {
		c.print(t, []byte("a\nb\n"), nil)
	}
	if len(c.warnings) != 1 || !strings.Contains(c.warnings[0], "log_n.jsonl") {
		t.Errorf("warnings %q", c.warnings)
	}
	os.Mkdir(dir, 0o755)
	c.print(t, []byte("c\n"), nil)
	got := c.file(t, "log_n.jsonl")
	if len(got) != 2 || got[0].Stream != "dora" || got[0].Fields["lost"] != "6" || got[1].Msg != "c" {
		t.Fatalf("%+v", got)
	}
	if len(c.lines) != 7 {
		t.Errorf("%d lines were forwarded", len(c.lines))
	}
}

// TestFullDisk: what did not fit is cut off again, so that every line of the file is whole.
func TestFullDisk(t *testing.T) {
	c := newCapture(t, Config{})
	if err := os.Symlink("/dev/full", filepath.Join(c.dir, "log_n.jsonl")); err != nil {
		t.Fatal(err)
	}
	c.print(t, []byte("a\nb\n"), nil)
	if len(c.warnings) != 1 || !strings.Contains(c.warnings[0], "no space left") {
		t.Errorf("warnings %q", c.warnings)
	}
	os.Remove(filepath.Join(c.dir, "log_n.jsonl"))
	c.print(t, []byte("c\n"), nil)
	if got := c.file(t, "log_n.jsonl"); len(got) != 2 || got[0].Fields["lost"] != "2" {
		t.Errorf("%+v", got)
	}
}

// TestStalledDisk: the file is a pipe that nobody reads. Output goes on after one short
// wait, and memory stays bounded.
func TestStalledDisk(t *testing.T) {
	w := newFile("", "n", 0, 0, func(string) {})
	r, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.f, w.looked = pw, time.Now()
	w.mu.Unlock()
	rec := encode(&link.LogLine{Message: strings.Repeat("x", 64<<10)})
	begin := time.Now()
	for range 400 { // 25 MiB
		w.put(rec, 1)
	}
	if d := time.Since(begin); d > 10*stallPatience {
		t.Errorf("a stalled disk held the output up for %v", d)
	}
	w.mu.Lock()
	queued, lost := len(w.queue), w.lost
	w.mu.Unlock()
	if queued > queueBytes || lost == 0 {
		t.Errorf("%d bytes wait, %d lines lost", queued, lost)
	}
	r.Close() // the write fails, and the writer comes back
	w.close(time.Second)
}

// TestHeldPipe: something unknown keeps a pipe open; the wait is bounded and what was
// printed is there.
func TestHeldPipe(t *testing.T) {
	c := newCapture(t, Config{})
	r1, w1, _ := os.Pipe()
	r2, w2, _ := os.Pipe()
	defer w1.Close()
	w2.Close()
	w1.WriteString("before\nhalf")
	o := c.Start(1, r1, r2)
	begin := time.Now()
	o.Wait(100 * time.Millisecond)
	if d := time.Since(begin); d < 90*time.Millisecond || d > time.Second {
		t.Errorf("waited %v", d)
	}
	if len(c.lines) != 2 || c.lines[1].Message != "half" {
		t.Errorf("%+v", c.lines)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("hello")
	f.Add(`{"level":"INFO","fields":{"message":"x","a":[1]},"span":{"name":"dora.python.log.info"}}`)
	f.Add(`{"time":"2026-11-23T23:06:20Z","level":"WARN+1","msg":"m","a":{"b":null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		text = clean([]byte(text), 0)
		l := Parse(text, noon)
		if _, known := severity[l.Level]; !known && l.Level != Raw {
			t.Fatalf("level %q", l.Level)
		}
		l.Node, l.Stream = "n", "stdout"
		rec := encode(&l)
		var r record
		if err := json.Unmarshal(rec, &r); err != nil || bytes.Count(rec, []byte("\n")) != 1 {
			t.Fatalf("%q: %v", rec, err)
		}
		if r.Msg != l.Message || !maps.Equal(r.Fields, l.Fields) || (r.Target == nil) != (l.Target == "") {
			t.Fatalf("%+v became %+v", l, r)
		}
	})
}

// FuzzSplit: however the bytes arrive, the lines are the same.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"), 1)
	f.Add([]byte("\n\n"), 2)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		if step < 1 {
			step = 1
		}
		split := func(step int) (out []string) {
			s := splitter{emit: func(line []byte, skipped int, ended bool) {
				out = append(out, fmt.Sprintf("%q %d %v", line, skipped, ended))
			}}
			for b := data; len(b) > 0; b = b[min(step, len(b)):] {
				s.feed(b[:min(step, len(b))])
			}
			s.flush(false)
			return out
		}
		one, all := split(step), split(max(len(data), 1))
		if fmt.Sprint(one) != fmt.Sprint(all) {
			t.Fatalf("%q\n%q", one, all)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	for name, text := range map[string]string{
		"raw":        "line 1234567",
		"structured": `{"timestamp":"2026-11-23T23:06:20.558651Z","level":"info","message":"tick 17","target":"tgt","fields":{"a":"1"}}`,
	} {
		b.Run(name, func(b *testing.B) {
			c := New(Config{Node: "n", Dir: b.TempDir(), Line: func(link.LogLine, []byte, bool) {}, Warn: func(string) {}, Clock: NewClock(time.Now)})
			defer c.Close(time.Second)
			b.ReportAllocs()
			for b.Loop() {
				c.begin("stdout")
				c.line(1, "stdout", []byte(text), 0, true)
				c.put()
			}
		})
	}
}

func TestTimeInFiles(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.Unix(0, 0), time.Date(2026, 1, 2, 3, 4, 5, 6_999_999, time.FixedZone("", 3600)), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC), time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
