package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
)

// rssLimit is what the daemon and the shim may each have of anonymous memory under a flood.
const rssLimit = 96 << 20

func soak() bool { return os.Getenv("DORA_SOAK") != "" }

// site is a stage with a coordinator, which is taken down at the end of the test.
type site struct {
	*stage
	t *testing.T
	w *leftovers.Watch
}

func newSite(t *testing.T) *site {
	t.Helper()
	s, w := testStage(t)
	h := &site{s, t, w}
	h.dora("up")
	t.Cleanup(func() { h.dora("down") })
	return h
}

func (h *site) dora(args ...string) string {
	h.t.Helper()
	out, err := h.run(context.Background(), args...)
	if err != nil {
		h.t.Error(err)
	}
	return out
}

// start starts a dataflow and gives the folder of its logs.
func (h *site) start(yaml string) string {
	h.t.Helper()
	file := filepath.Join(h.dir, "flow.yml")
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		h.t.Fatal(err)
	}
	out := h.dora("start", file, "--name", "flow", "--detach")
	_, id, _ := strings.Cut(strings.TrimSpace(out), "dataflow started: ")
	return filepath.Join(h.dir, "out", id)
}

func (h *site) status() string {
	f := &flow{stage: h.stage, name: "flow"}
	return f.status(context.Background())
}

// eventually waits for a condition, looking after memory meanwhile if peaks is not nil.
func (h *site) eventually(limit time.Duration, what string, ok func() bool, peaks map[string]int64) {
	h.t.Helper()
	for until := time.Now().Add(limit); !ok(); time.Sleep(200 * time.Millisecond) {
		for role, words := range map[string][]string{"daemon": {"daemon"}, "shim": {"shim", "serve"}} {
			for _, pid := range h.w.Find(words...) {
				if peaks != nil {
					peaks[role] = max(peaks[role], rssAnon(pid))
				}
			}
		}
		if time.Now().After(until) {
			h.t.Fatalf("after %s still not: %s", limit, what)
		}
	}
}

func rssAnon(pid int) int64 {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssAnon:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

func (h *site) checkMemory(peaks map[string]int64) {
	h.t.Helper()
	h.t.Logf("RssAnon at most: daemon %.1f MiB, shim %.1f MiB", float64(peaks["daemon"])/(1<<20), float64(peaks["shim"])/(1<<20))
	for _, role := range []string{"daemon", "shim"} {
		if peaks[role] == 0 || peaks[role] > rssLimit {
			h.t.Errorf("%s had %d MiB, limit %d MiB", role, peaks[role]>>20, rssLimit>>20)
		}
	}
}

// logLine is a line of a log file.
type logLine struct {
	At                       time.Time `json:"ts"`
	Node, Stream, Msg, Level string
	Fields                   map[string]string
}

// fileLines are the lines of a node's log file.
func (h *site) fileLines(dir, node string) []logLine {
	h.t.Helper()
	f, err := os.Open(filepath.Join(dir, "log_"+node+".jsonl"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	var out []logLine
	r := bufio.NewReader(f)
	for {
		raw, err := r.ReadBytes('\n')
		if err != nil {
			return out
		}
		var l logLine
		if err := json.Unmarshal(raw, &l); err != nil {
			h.t.Fatalf("log of %s: %v: %.200q", node, err, raw)
		}
		out = append(out, l)
	}
}

// numbered checks that lines count from 0 without a hole, where those that are told to be
// lost or deleted count too, and gives how many are missing.
func numbered(t *testing.T, what string, lines []logLine, count int) (missing int) {
	t.Helper()
	return numberedLives(t, what, lines, count, count)
}

// numberedLives is the same for a node that counts anew, to each, in each of its lives.
func numberedLives(t *testing.T, what string, lines []logLine, count, each int) (missing int) {
	t.Helper()
	next := 0
	for _, l := range lines {
		if n := l.Fields["lost"] + l.Fields["deleted"]; l.Stream == "dora" && n != "" {
			lost, err := strconv.Atoi(n)
			if err != nil {
				t.Fatalf("%s: a gap without a number: %+v", what, l)
			}
			missing += lost
			next += lost
			continue
		}
		if l.Msg != fmt.Sprintf("line %d", next%each) {
			t.Fatalf("%s: %q where line %d should be", what, l.Msg, next%each)
		}
		next++
	}
	if next != count {
		t.Errorf("%s: %d lines, want %d", what, next, count)
	}
	return missing
}

// catShare is the part of the throughput of cat that a node's lines have on their way into
// the log file, each with its time and its node: twelve times the bytes.
const catShare = 0.2

// TestFloodOfOneNode: 100,000 lines per second from one node, and as many as it can print,
// cost the daemon and the shim little memory, arrive not much slower than by cat into a file,
// and every line is in its file or counted.
func TestFloodOfOneNode(t *testing.T) {
	seconds := 2
	if soak() {
		seconds = 10
	}
	for _, c := range []struct {
		what        string
		count, rate int
	}{{"100,000 lines/s", seconds * 100_000, 100_000}, {"as fast as it goes", seconds * 200_000, 0}} {
		plain := intoFile(t, c.count, c.rate)
		h := newSite(t)
		dir := h.start(fmt.Sprintf("nodes:\n  - {id: n, path: testnode, args: \"init append=%s/begin:x lines=%d:%d\"}\n", h.dir, c.count, c.rate))
		peaks := map[string]int64{}
		h.eventually(5*time.Minute, "the node has ended", func() bool { return h.status() == "Finished" }, peaks)
		took := modified(t, filepath.Join(dir, "log_n.jsonl")).Sub(modified(t, filepath.Join(h.dir, "begin")))
		missing := numbered(t, "file", h.fileLines(dir, "n"), c.count)
		ratio := float64(plain) / float64(took)
		t.Logf("%s: %d lines in %v (%.0f/s), by cat into a file %v: %.2f of its throughput; %d lines lost and counted",
			c.what, c.count, took.Round(time.Millisecond), float64(c.count)/took.Seconds(), plain.Round(time.Millisecond), ratio, missing)
		least := catShare / 3 // others may use the processor meanwhile
		if soak() {
			least = catShare
		}
		if ratio < least {
			t.Errorf("the throughput is %.2f of cat's", ratio)
		}
		h.checkMemory(peaks)
	}
}

// intoFile is how long the same lines take by cat into a file.
func intoFile(t *testing.T, count, rate int) time.Duration {
	t.Helper()
	begin := time.Now()
	cmd := exec.Command("sh", "-c", fmt.Sprintf("%s/testnode lines=%d:%d | cat > %s/lines", bin, count, rate, t.TempDir()))
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.ModTime()
}

// TestManyPrinters: 50 nodes at 1,000 lines per second each, with rotation, and a follower:
// no line is missing from it without being counted, and each node's keep their order.
func TestManyPrinters(t *testing.T) {
	nodes, seconds := 50, 1
	if soak() {
		seconds = 10
	}
	h := newSite(t)
	var yaml strings.Builder
	yaml.WriteString("nodes:\n")
	for i := range nodes {
		fmt.Fprintf(&yaml, "  - {id: n%d, path: testnode, max_log_size: 50KB, args: \"init lines=%d:1000\"}\n", i, seconds*1000)
	}
	h.start(yaml.String())
	follower := exec.Command(h.program, "logs", "flow", "--follow", "--log-format", "json")
	follower.Dir, follower.Env = h.dir, h.env
	var out, stderr bytes.Buffer
	follower.Stdout, follower.Stderr = &out, &stderr
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	peaks := map[string]int64{}
	h.eventually(2*time.Minute, "all have ended", func() bool { return h.status() == "Finished" }, peaks)
	timer := time.AfterFunc(time.Minute, func() { _ = follower.Process.Kill() })
	defer timer.Stop()
	if err := follower.Wait(); err != nil {
		t.Fatalf("logs: %v\n%s", err, stderr.String())
	}
	byNode := map[string][]logLine{}
	for raw := range bytes.Lines(out.Bytes()) {
		var l struct {
			Node    string `json:"node_id"`
			Message string
			Fields  map[string]string
		}
		if err := json.Unmarshal(raw, &l); err != nil {
			t.Fatalf("%v: %q", err, raw)
		}
		line := logLine{Msg: l.Message, Fields: l.Fields}
		if l.Fields != nil {
			line.Stream = "dora"
		}
		byNode[l.Node] = append(byNode[l.Node], line)
	}
	missing, before := 0, 0
	for i := range nodes {
		node := fmt.Sprintf("n%d", i)
		lines := byNode[node]
		// What was deleted before the follower came does not concern it.
		if len(lines) > 0 && lines[0].Stream == "" {
			var first int
			if _, err := fmt.Sscanf(lines[0].Msg, "line %d", &first); err != nil {
				t.Fatal(err)
			}
			before += first
			if first > 0 {
				lines = append([]logLine{{Stream: "dora", Fields: map[string]string{"deleted": strconv.Itoa(first)}}}, lines...)
			}
		}
		missing += numbered(t, node, lines, seconds*1000)
	}
	missing -= before
	t.Logf("%d lines, of which the follower missed %d, counted, and %d were deleted before it came", nodes*seconds*1000, missing, before)
	// In one second nothing is deleted; in ten a follower that gets its share of the machine
	// keeps up with 50,000 lines/s.
	if most := (seconds - 1) * nodes * 1000 / 10; missing > most {
		t.Errorf("the follower missed %d lines", missing)
	}
	h.checkMemory(peaks)
}
