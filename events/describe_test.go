package events

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// TestDescribe compares the line of every event with a transcript that a person can read.
func TestDescribe(t *testing.T) {
	var b strings.Builder
	for _, name := range Catalogue.Types() {
		env, err := Seal(sample(t, Catalogue.kinds[name]), Meta{At: sampleTime})
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(name + ": " + Describe(env) + "\n")
	}
	path := filepath.Join("testdata", "describe.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("differs from %s (run with -update to accept):\n%s", path, b.String())
	}
}

func TestDescribeHasACaseForEveryEvent(t *testing.T) {
	for _, name := range Catalogue.Types() {
		if text := describe(sample(t, Catalogue.kinds[name])); text == "" {
			t.Errorf("describe.go has no case for %s", name)
		}
	}
}

func TestDescribeVariants(t *testing.T) {
	for _, tc := range []struct {
		e    Event
		want string
	}{
		{NodeExited{Generation: 2, Code: 3, Uptime: 1234567 * time.Microsecond}, "generation 2 exited with code 3 after 1.235s"},
		{NodeExited{Generation: 1, Signal: 9, Stopping: true, Uptime: time.Second}, "generation 1 was ended by signal 9 while stopping after 1s"},
		{DataflowFinished{Status: "finished"}, "dataflow finished"},
		{NodeMessagesDropped{Input: "image", Count: 1}, "input image dropped 1 message"},
		{DataflowStopRequested{Cause: "ctrl-c", Grace: 15 * time.Second}, "stop requested by ctrl-c, grace 15s"},
		{NodeStopRequested{Restart: true, Force: true}, "restart requested, by force"},
		{NodeFinished{Status: "finished"}, "node finished"},
	} {
		env, err := Seal(tc.e, Meta{At: sampleTime})
		if err != nil {
			t.Fatal(err)
		}
		if got := Describe(env); got != tc.want {
			t.Errorf("%T\n got %q\nwant %q", tc.e, got, tc.want)
		}
	}
}

// TestDescribeIsSafe: texts come from nodes, and a terminal obeys what it is sent.
func TestDescribeIsSafe(t *testing.T) {
	hostile := "a\x1b[2J\r\nb\u202e\u200b" + strings.Repeat("x", 1000) + "\xff"
	env, err := Seal(WarningRaised{Text: hostile, At: sampleTime}, Meta{At: sampleTime, Cause: "\x07"})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Envelope{
		env,
		{Type: "\x1b]0;title\x07", Version: 1},
		{Type: "NodeExited", Version: 9},
		{Type: "NodeExited", Version: 1, Data: json.RawMessage("\x1b{")},
	} {
		line := Describe(e)
		if !printableLine(line) || line == "" {
			t.Errorf("not one printable line: %q", line)
		}
		if n := utf8.RuneCountInString(line); n > describeWidth+10 {
			t.Errorf("%d characters", n)
		}
	}
	if got := Describe(Envelope{Type: "NodeExited", Version: 9}); got != "NodeExited version 9, written by a newer dora" {
		t.Errorf("got %q", got)
	}
	if got := Describe(Envelope{Type: "Other", Version: 1}); got != "Other, an event that this dora does not know" {
		t.Errorf("got %q", got)
	}
}

func printableLine(line string) bool {
	return utf8.ValidString(line) && strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
