package dataflow

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// one is the only finding of a text, which must be refused.
func one(t *testing.T, src string) Diagnostic {
	t.Helper()
	d, diags := Parse("f.yml", []byte(src))
	if len(diags) != 1 || d != nil {
		t.Fatalf("%d findings and descriptor %v, want 1 finding and none:\n%v", len(diags), d != nil, diags)
	}
	return diags[0]
}

// TestHostileText: every text that is no descriptor gives one clear finding at its
// place.
func TestHostileText(t *testing.T) {
	deep := func(n int, open, end string) string {
		return "nodes: " + strings.Repeat(open, n) + strings.Repeat(end, n) + "\n"
	}
	var indented strings.Builder
	for i := range 500 {
		indented.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for name, c := range map[string]struct {
		src, code, message string
		line, column       int
	}{
		"empty":           {"", CodeFileEmpty, "empty", 0, 0},
		"comments only":   {"# nothing\n\n", CodeFileEmpty, "empty", 0, 0},
		"separator only":  {"---\n", CodeFileEmpty, "empty", 0, 0},
		"binary":          {"\x7fELF\x02\x01\x00", CodeFileNotText, "control character 0x7F", 1, 1},
		"zip":             {"nodes:\nPK\x03\x04", CodeFileNotText, "control character 0x03", 2, 3},
		"latin-1":         {"nodes: \xe9\n", CodeFileNotText, "byte 0xE9 is not UTF-8", 1, 8},
		"UTF-16":          {"\xff\xfen\x00o\x00", CodeFileNotText, "UTF-16", 0, 0},
		"tab":             {"nodes:\n\t- id: a\n", CodeTab, "tab", 2, 1},
		"tab deeper":      {"nodes:\n  - id: a\n\t  path: x\n", CodeTab, "tab", 3, 1},
		"documents":       {"nodes: []\n---\nnodes: []\n", CodeMultipleDocuments, "second YAML document", 2, 1},
		"document after":  {"nodes: []\n...\nnodes: []\n", CodeMultipleDocuments, "second YAML document", 3, 1},
		"open quote":      {"nodes: \"abc\n", CodeSyntax, "double-quoted", 1, 8},
		"open list":       {"nodes: [a, b\n", CodeSyntax, "`[` is never closed", 1, 8},
		"open mapping":    {"nodes: {a: b\n", CodeSyntax, "`{` is never closed", 1, 8},
		"stray bracket":   {"nodes: a\n]\n", CodeSyntax, "`]`", 2, 1},
		"no colon":        {"nodes:\n  - id: a\n    path x\n    args: y\n", CodeSyntax, "`path x` needs a colon", 3, 5},
		"no colon at end": {"nodes:\n  - id: a\n    path x\n", CodeSyntax, "`path x` needs a colon", 3, 5},
		"colon in text":   {"nodes:\n  - id: a\n    args: --x: y\n", CodeSyntax, "a second `:`", 3, 14},
		"indentation":     {"nodes:\n  - id: a\n   path: x\n", CodeSyntax, "unexpected `path`", 3, 4},
		"dedent":          {"nodes:\n    - id: a\n  - id: b\n", CodeSyntax, "`-`", 3, 3},
		"folded key":      {"nodes:\n  - id: a\n    args: b\n     path: x\n", CodeSyntax, "line 4 is indented as part of the text `b", 4, 1},
		"tab in quotes":   {"nodes: []\nenv: {A: \"x\ty\"}\n", CodeTab, "double-quoted text holds a tab", 2, 10},
		"two anchors":     {"nodes: &a &b []\n", CodeSyntax, "one anchor", 1, 11},
		"two tags":        {"nodes: !!seq !!seq []\n", CodeSyntax, "one tag", 1, 14},
		"reserved":        {"nodes: @here\n", CodeSyntax, "reserved", 1, 8},
		"tag":             {"nodes: !Tcp [a]\n", CodeSyntax, "`!Tcp`", 1, 8},
		"complex key":     {"? nodes\n: []\n", CodeSyntax, "`?`", 1, 1},
		"unknown alias":   {"nodes: *all\n", CodeAlias, "no anchor `&all`", 1, 8},
		"own alias":       {"nodes: &all [*all]\n", CodeAlias, "no anchor `&all`", 1, 14},
		"merge of text":   {"a: &x y\n<<: *x\n", CodeSyntax, "`<<` merges mappings, not a text", 2, 1},
		"deep lists":      {deep(70_000, "[", "]"), CodeTooDeep, "64 levels", 1, 71},
		"deep mappings":   {deep(70_000, "{a: ", "}"), CodeTooDeep, "64 levels", 1, 260},
		"deep dashes":     {"nodes:\n" + strings.Repeat("- ", 70_000) + "a\n", CodeTooDeep, "64 levels", 2, 127},
		"deep indent":     {indented.String(), CodeTooDeep, "64 levels", 65, 65},
		"open and deep":   {"nodes: " + strings.Repeat("[", 500_000), CodeTooDeep, "64 levels", 1, 71},
		"many commas":     {"nodes: [" + strings.Repeat(",", 2_000_000) + "]\n", CodeTooManyValues, "part of the file", 1, 1},
		"very many":       {"nodes: [" + strings.Repeat(",", 4_000_000) + "]\n", CodeTooManyValues, "the file holds", 0, 0},
		"many words":      {strings.Repeat("- ", 2_000_000), CodeTooManyValues, "words and marks", 0, 0},
		"too large":       {strings.Repeat("#", MaxFileSize+1), CodeFileTooLarge, "8 MiB", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := one(t, c.src)
			if got.Code != c.code || !strings.Contains(got.Message, c.message) || got.Line != c.line || got.Column != c.column {
				t.Errorf("got %s %v, want %s at %d:%d with %q", got.Code, got, c.code, c.line, c.column, c.message)
			}
		})
	}
}

// TestRootOfWrongShape: the document is YAML, but no dataflow.
func TestRootOfWrongShape(t *testing.T) {
	for src, message := range map[string]string{
		"just text\n":     "the dataflow must be a mapping",
		"- id: a\n":       "the dataflow must be a mapping",
		"{}\n":            "missing field `nodes`",
		"nodes:\n":        "missing field `nodes`",
		"nodes: text\n":   "`nodes` must be a list of nodes",
		"nodes: {a: b}\n": "`nodes` must be a list of nodes",
		"nodes: [[]]\n":   "node number 1 must be a mapping",
	} {
		_, diags := Parse("f.yml", []byte(src))
		if len(diags) != 1 || !strings.Contains(diags[0].Message, message) {
			t.Errorf("%q: %v, want %q", src, diags, message)
		}
	}
	if _, diags := Parse("f.yml", []byte("nodes: []\n")); len(diags) != 0 {
		t.Errorf("an empty list of nodes is valid, got %v", diags)
	}
}

// TestAliasBomb: expanding aliases is bounded by what they stand for, not by their
// number.
func TestAliasBomb(t *testing.T) {
	var wide strings.Builder
	wide.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		ref := fmt.Sprintf("*a%d", i-1)
		fmt.Fprintf(&wide, "a%d: &a%d [%s]\n", i, i, strings.Repeat(ref+", ", 9)+ref)
	}
	if got := one(t, wide.String()+"nodes: []\n"); got.Code != CodeAlias {
		t.Errorf("list bomb: %v", got)
	}
	var merges strings.Builder
	merges.WriteString("m0: &m0 {a0: x, b0: x, c0: x}\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&merges, "m%d: &m%d {<<: [*m%d, *m%d], k%d: x}\n", i, i, i-1, i-1, i)
	}
	if got := one(t, merges.String()+"nodes: []\n"); got.Code != CodeAlias {
		t.Errorf("merge bomb: %v", got)
	}
	long := "t: &t " + strings.Repeat("x", 1<<20) + "\nnodes: [" + strings.Repeat("*t, ", 1000) + "*t]\n"
	if got := one(t, long); got.Code != CodeAlias {
		t.Errorf("text bomb: %v", got)
	}
	var chain strings.Builder
	chain.WriteString("c0: &c0 [x]\n")
	for i := 1; i < 100; i++ {
		fmt.Fprintf(&chain, "c%d: &c%d [*c%d]\n", i, i, i-1)
	}
	if got := one(t, chain.String()+"nodes: []\n"); got.Code != CodeTooDeep {
		t.Errorf("chain of aliases: %v", got)
	}
}

// TestLineEndsAndMarks: CRLF, CR, a byte order mark and a missing last line end change
// neither the meaning nor the places.
func TestLineEndsAndMarks(t *testing.T) {
	src := "# é\nnodes:\n  - id: a\n    path: ü.py\n    build: |\n      one\n      two\n    bad: 1\n"
	want := ""
	for i, text := range []string{
		src,
		strings.ReplaceAll(src, "\n", "\r\n"),
		strings.ReplaceAll(src, "\n", "\r"),
		"\xEF\xBB\xBF" + src,
		strings.TrimSuffix(src, "\n"),
		"---\r\n" + strings.TrimPrefix(src, "# é\n"),
	} {
		d, diags := Parse("f.yml", []byte(text))
		got := fmt.Sprint(diags)
		if d != nil {
			got += fmt.Sprint(d.Node("a").Build, d.Node("a").Path)
		}
		if i == 0 {
			want = got
		}
		if got != want || len(diags) != 1 || diags[0].Line != 8 || diags[0].Column != 5 {
			t.Errorf("text %d: got %s, want %s", i, got, want)
		}
	}
}

func TestLoadRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(size)); err != nil { // sparse: costs no disk
			t.Fatal(err)
		}
		return path
	}
	socket := filepath.Join(dir, "socket")
	if err := syscall.Mknod(socket, syscall.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	unreadable := write("unreadable.yml", 10)
	if err := os.Chmod(unreadable, 0); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct{ path, code, message string }{
		"missing": {filepath.Join(dir, "no.yml"), CodeFileUnreadable, "no such file"},
		"folder":  {dir, CodeFileUnreadable, "folder"},
		"below":   {filepath.Join(unreadable, "x.yml"), CodeFileUnreadable, "not a directory"},
		"socket":  {socket, CodeFileUnreadable, "not a regular file"},
		"50 MB":   {write("large.yml", 50<<20), CodeFileTooLarge, "52428800 bytes"},
		"zeros":   {write("zeros.yml", 100), CodeFileNotText, "0x00"},
	}
	if os.Getuid() != 0 { // root reads everything
		cases["unreadable"] = struct{ path, code, message string }{unreadable, CodeFileUnreadable, "permission denied"}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, _, diags := Load(c.path)
			if d != nil || len(diags) != 1 || diags[0].Code != c.code || !strings.Contains(diags[0].Message, c.message) || diags[0].File != c.path {
				t.Errorf("got %v, want one %s with %q", diags, c.code, c.message)
			}
		})
	}
}

// TestWhatADataflowNamesIsBounded: pipes that nobody writes to, and a folder of types that
// is something else, hold nobody up.
func TestWhatADataflowNamesIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir string) error
		want    string
	}{
		"module": {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "m.yml"), 0o600) }, "module path `m.yml` is not a file"},
		"types": {func(dir string) error {
			if err := os.Mkdir(filepath.Join(dir, "types"), 0o700); err != nil {
				return err
			}
			return syscall.Mkfifo(filepath.Join(dir, "types", "v1.yml"), 0o600)
		}, "it is not a regular file"},
		"many": {func(dir string) error {
			for i := range maxTypeEntries + 1 {
				if err := os.MkdirAll(filepath.Join(dir, "types", strconv.Itoa(i%100), strconv.Itoa(i)), 0o700); err != nil {
					return err
				}
			}
			return nil
		}, "there are more than 10000 files and folders in `types`"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.prepare(dir); err != nil {
				t.Fatal(err)
			}
			file, source := filepath.Join(dir, "dataflow.yml"), "path: x"
			if name == "module" {
				source = "module: m.yml"
			}
			if err := os.WriteFile(file, []byte("nodes: [{id: a, "+source+"}]\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			done := make(chan Diagnostics, 1)
			go func() { _, _, diags := Load(file); done <- diags }()
			select {
			case diags := <-done:
				if len(diags) != 1 || !strings.Contains(diags[0].Message, c.want) {
					t.Errorf("got %v, want %q", diags, c.want)
				}
			case <-time.After(time.Minute):
				t.Fatal("it hangs")
			}
		})
	}
}

func TestLoadGivesText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.yml")
	src := "nodes: []\r\n"
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	d, text, diags := Load(path)
	if d == nil || string(text) != src || len(diags) != 0 || d.File != path || d.Dir() != filepath.Dir(path) {
		t.Errorf("Load = %v, %q, %v", d, text, diags)
	}
}

// large is a dataflow of so many nodes with so many inputs each, written at length.
func large(nodes, inputs int, wrong string) string {
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range nodes {
		fmt.Fprintf(&b, "  - id: node-%d\n    name: \"Node %d\"\n    path: ./node\n    args: --number %d \"a b\"\n    restart_policy: on-failure\n    max_restarts: 5\n    restart_delay: 1.0\n    env:\n      A: b\n    outputs:\n      - out\n    inputs:\n", i, i, i)
		for j := range inputs {
			fmt.Fprintf(&b, "      in%d:\n        source: node%s-%d/out\n        queue_size: 10\n        queue_policy: backpressure\n", j, wrong, (i*7+j)%nodes)
		}
	}
	return b.String()
}

// TestLargeDataflow: 10,000 nodes and 50,000 edges are checked fast and in less than
// 300 MB, whether they are right, all wrong, or all inputs of one node.
func TestLargeDataflow(t *testing.T) {
	var fan strings.Builder
	fan.WriteString("nodes:\n  - id: node-0\n    path: x\n    outputs: [out]\n  - id: sink\n    path: x\n    inputs:\n")
	for i := range 50_000 {
		fmt.Fprintf(&fan, "      in%d: node-0/out\n", i)
	}
	for _, c := range []struct {
		name, src string
		errors    int
	}{
		{"right", large(10_000, 5, ""), 0},
		{"wrong", large(10_000, 5, "s"), maxFindings + 1},
		{"fan-in", fan.String(), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(100))
			runtime.GC()
			peak, done := watchHeap()
			start := cpuTime(t)
			_, diags := Parse("large.yml", []byte(c.src))
			took := cpuTime(t) - start
			done()
			if n := len(diags.Errors()); n != c.errors {
				t.Errorf("%d errors, want %d; first: %v", n, c.errors, diags[:min(1, len(diags))])
			}
			if took > 20*time.Second { // 1 to 2 s without the race detector
				t.Errorf("took %v of processor time", took)
			}
			if mb := *peak >> 20; mb > 300 {
				t.Errorf("the heap grew to %d MB", mb)
			}
		})
	}
}

// cpuTime is the processor time used so far: unlike the clock, it does not depend on
// what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchHeap samples the memory that the Go heap holds until done is called.
func watchHeap() (peak *uint64, done func()) {
	peak = new(uint64)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			*peak = max(*peak, m.HeapInuse)
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return peak, func() { close(stop); <-stopped }
}

// TestTimeIsLinear: shapes that make other readers slow take seconds here at most.
func TestTimeIsLinear(t *testing.T) {
	const n = 40_000
	var keys strings.Builder
	for i := range n {
		fmt.Fprintf(&keys, "k%d: 1\n", i)
	}
	for name, src := range map[string]string{
		"keys":           keys.String(),
		"colons":         strings.Repeat("a: ", n),
		"tags":           "a: " + strings.Repeat("!a ", n),
		"anchors":        "a: " + strings.Repeat("&a ", n),
		"quotes":         strings.Repeat("\"", n),
		"duplicate keys": strings.Repeat("a: 1\n", n),
		"long line":      "a: " + strings.Repeat("x", MaxFileSize-10),
		"continuation":   "a: b\n" + strings.Repeat("  x\n", n),
		"block text":     "a: |\n" + strings.Repeat("  x\n", n),
		"escapes":        "a: \"" + strings.Repeat(`\x41`, n) + "\"",
		"documents":      strings.Repeat("---\na: b\n", n),
		"merges":         "a: &a {b: c}\n" + strings.Repeat("<<: *a\n", n/2),
		"args":           "nodes: [{id: a, path: b, args: '" + strings.Repeat(`\" `, n) + "\"'}]",
		"comments":       strings.Repeat("# x\n", n) + "a: b\n",
	} {
		t.Run(name, func(t *testing.T) {
			start := cpuTime(t)
			_, diags := Parse("f.yml", []byte(src))
			if took := cpuTime(t) - start; took > 15*time.Second {
				t.Errorf("took %v of processor time", took)
			}
			if !diags.HasErrors() {
				t.Error("this is no dataflow")
			}
		})
	}
}

// TestLongTextsStayOutOfMessages: a finding is readable whatever the file holds.
func TestLongTextsStayOutOfMessages(t *testing.T) {
	long := strings.Repeat("é", 5000)
	src := "nodes:\n  - id: " + long + "\n    path: x\n    " + long + ": 1\n    restart_policy: " + long + "\n    inputs:\n      x: " + long + "/" + long + "\n      " + long + ": dora/timer/" + long + "/1\n"
	_, diags := Parse("f.yml", []byte(src))
	if len(diags) < 4 {
		t.Errorf("too few findings: %v", diags)
	}
	for _, d := range diags {
		if len(d.Message) > 1000 || len(d.Fix) > 2000 {
			t.Errorf("%d bytes: %.200s", len(d.Message)+len(d.Fix), d.Message)
		}
	}
}
