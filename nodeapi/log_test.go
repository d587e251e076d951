package nodeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// logged runs f with a logger and returns its lines, decoded.
func logged(t *testing.T, f func(*slog.Logger)) []map[string]any {
	t.Helper()
	var b bytes.Buffer
	f(slog.New(NewLogHandler(&b, "worker")))
	var out []map[string]any
	for _, line := range strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n") {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if len(line) > 64<<10 {
			t.Errorf("a line of %d bytes is not read as structured", len(line))
		}
		out = append(out, m)
	}
	return out
}

func TestLogLineHasTheShapeThatDoraReads(t *testing.T) {
	at := time.Now()
	lines := logged(t, func(l *slog.Logger) {
		l.With("robot", "r2").WithGroup("motor").Info("moved <fast>", "speed", 1.5, "on", true,
			slog.Group("pos", "x", 1, "y", nil), "took", 3*time.Millisecond, "err", errors.New("slip"))
	})
	m := lines[0]
	stamp, err := time.Parse(time.RFC3339Nano, m["timestamp"].(string))
	if err != nil || stamp.Sub(at).Abs() > time.Minute || !strings.HasSuffix(m["timestamp"].(string), "Z") {
		t.Errorf("timestamp %v (%v)", m["timestamp"], err)
	}
	if m["level"] != "info" || m["message"] != "moved <fast>" || m["node_id"] != "worker" {
		t.Errorf("got %v", m)
	}
	if m["target"] != "github.com/dora-go/dora/nodeapi" || !strings.HasSuffix(m["file"].(string), "log_test.go") || m["line"].(float64) < 1 {
		t.Errorf("source: %v %v %v", m["target"], m["file"], m["line"])
	}
	want := map[string]string{
		"robot": "r2", "motor.speed": "1.5", "motor.on": "true", "motor.pos.x": "1", "motor.pos.y": "<nil>",
		"motor.took": "3ms", "motor.err": "slip",
	}
	fields := m["fields"].(map[string]any)
	for k, v := range want {
		// dora 1.1.0 takes a line for text if any field is not a string.
		if fields[k] != v {
			t.Errorf("field %s is %v, want %q", k, fields[k], v)
		}
	}
	if len(fields) != len(want) {
		t.Errorf("fields %v", fields)
	}
}

func TestLogLevels(t *testing.T) {
	lines := logged(t, func(l *slog.Logger) {
		for _, level := range []slog.Level{LevelTrace, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelError + 4} {
			l.Log(context.Background(), level, "x")
		}
	})
	for i, want := range []string{"trace", "debug", "info", "warn", "error", "error"} {
		if lines[i]["level"] != want {
			t.Errorf("line %d has level %v, want %s", i, lines[i]["level"], want)
		}
		if _, ok := lines[i]["fields"]; ok {
			t.Errorf("line %d has empty fields", i)
		}
	}
}

func TestLongLogLinesStayStructured(t *testing.T) {
	long := strings.Repeat("ü", 1<<20)
	lines := logged(t, func(l *slog.Logger) {
		l.Info("fields", "a", long)
		l.Info(long)
		l.Info("bad \xff text\nin two lines", "k\xff", "v\xff")
	})
	if lines[0]["message"] != "fields" || lines[0]["fields_dropped"] != true {
		t.Errorf("got %.200v", lines[0])
	}
	if s := lines[1]["message"].(string); !strings.Contains(s, "bytes cut") || strings.ContainsRune(s, '\uFFFD') {
		t.Errorf("got %.50s ... %s", s, s[len(s)-50:])
	}
	if lines[2]["message"] != "bad \uFFFD text\nin two lines" {
		t.Errorf("got %v", lines[2])
	}
}
