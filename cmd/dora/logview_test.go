package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/link"
)

func TestLogFilterLevels(t *testing.T) {
	// From the least to the most severe: stdout < trace < debug < info < warn < error;
	// the filter stdout passes all, a raw line passes only that filter.
	for _, c := range []struct{ filter, level, want string }{
		{"", "stdout", "yes"}, {"stdout", "stdout", "yes"}, {"stdout", "trace", "yes"}, {"trace", "stdout", "no"},
		{"info", "debug", "no"}, {"info", "info", "yes"}, {"info", "error", "yes"}, {"error", "warn", "no"},
	} {
		f := logFilter{level: c.filter}
		if got := f.pass("n", c.level); got != (c.want == "yes") {
			t.Errorf("filter %q passes level %q: %v", c.filter, c.level, got)
		}
	}
	f := logFilter{level: "warn"}
	if err := (filterFlag{&f}).Set("sensor=debug, plan=ERROR"); err != nil {
		t.Fatal(err)
	}
	if !f.pass("sensor", "debug") || f.pass("plan", "warn") || f.pass("other", "info") {
		t.Error("per-node levels do not override")
	}
	for _, bad := range []string{"x", "x=loud", "=info", "a=info;b=warn"} {
		if err := (filterFlag{&logFilter{}}).Set(bad); err == nil {
			t.Errorf("filter %q was accepted", bad)
		}
	}
}

func TestFormats(t *testing.T) {
	at := time.Date(2026, 3, 1, 20, 12, 30, 0, time.Local)
	l := &link.LogLine{At: at, Node: "sender", Level: "info", Stream: "stdout", Message: "tick 1160\n", Fields: map[string]string{"i": "7"}}
	show := func(format string, l *link.LogLine) string {
		var b bytes.Buffer
		p := newLogPrinter(&b, format, false, "uuid")
		p.print(l)
		_ = p.flush()
		return b.String()
	}
	if got := show("pretty", l); got != "20:12:30 INFO   sender: tick 1160 i=7\n" {
		t.Errorf("pretty: %q", got)
	}
	if got := show("compact", l); got != "20:12:30 INFO sender: tick 1160 i=7\n" {
		t.Errorf("compact: %q", got)
	}
	if got := show("pretty", &link.LogLine{At: at, Level: "warn", Message: "x"}); got != "20:12:30 WARN   [dora]: x\n" {
		t.Errorf("of dora itself: %q", got)
	}
	var j map[string]any
	out := show("json", l)
	if err := json.Unmarshal([]byte(out), &j); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("json: %v: %q", err, out)
	}
	for _, key := range []string{"build_id", "dataflow_id", "node_id", "daemon_id", "level", "target", "module_path", "file", "line", "message", "timestamp", "fields"} {
		if _, ok := j[key]; !ok {
			t.Errorf("json line lacks %q", key)
		}
	}
	if j["level"] != "INFO" || j["dataflow_id"] != "uuid" {
		t.Errorf("json: %s", out)
	}
}

func TestControlCharactersAreShownNotObeyed(t *testing.T) {
	for in, want := range map[string]string{
		"plain ä €\t.":     "plain ä €\t.",
		"\x1b[2Jgone":      `\x1b[2Jgone`,
		"a\rb":             `a\x0db`,
		"a\nb":             "a\n    b",
		"bad \xff utf8":    `bad \xff utf8`,
		"bidi \u202e back": `bidi \u202e back`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
