package production

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// anonymous is the RssAnon of the process of a role in MiB: what is its own.
func (s *Site) anonymous(role string) (mib float64) {
	s.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.w.Find(roles[role]...)[0]))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	fmt.Sscan(rest, &mib)
	return mib / 1024
}

// TestIdleCosts: what coordinator, daemon and a shim with ten nodes need when nothing happens.
func TestIdleCosts(t *testing.T) {
	s := newSite(t)
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range 10 {
		fmt.Fprintf(&b, "  - {id: n%d, path: testnode, args: init hang}\n", i)
	}
	s.write("idle.yml", b.String())
	s.dora("up")
	s.await(s.start("idle.yml"), "Running")
	time.Sleep(3 * time.Second)
	const watch = 5 * time.Second
	ticks := func(role string) (n float64) {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.w.Find(roles[role]...)[0]))
		f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
		for _, field := range f[11:13] { // user and system time, 100 a second
			var v float64
			fmt.Sscan(field, &v)
			n += v
		}
		return n
	}
	cpu := map[string]float64{}
	for _, role := range []string{"coordinator", "daemon", "shim"} {
		cpu[role] = -ticks(role)
	}
	time.Sleep(watch)
	for role := range cpu {
		cpu[role] = (cpu[role] + ticks(role)) / watch.Seconds()
	}
	coordinator, daemon, shim := s.anonymous("coordinator"), s.anonymous("daemon"), s.anonymous("shim")
	t.Logf("RssAnon: coordinator %.1f MiB, daemon %.1f MiB, shim with 10 nodes %.1f MiB; CPU %.2f, %.2f, %.2f %%",
		coordinator, daemon, shim, cpu["coordinator"], cpu["daemon"], cpu["shim"])
	// The limits are 40, 8 and 0.5; a test that runs beside others asserts generous ones.
	if coordinator+daemon > 80 || shim > 24 || cpu["coordinator"]+cpu["daemon"]+cpu["shim"] > 4.5 {
		t.Error("that is too much")
	}
}

// The two ends of large messages: both are official nodes, and a Go node is between them.
const (
	largeSender = `
import os
import numpy
import pyarrow as pa
from dora import Node

node = Node()
data = pa.array(numpy.zeros(16 << 20, dtype=numpy.uint8))
for event in node:
    if event["type"] == "INPUT" and not os.path.exists("enough"):
        node.send_output("out", data)
`
	largeReceiver = `
from dora import Node

n = 0
for event in Node():
    if event["type"] == "INPUT":
        assert len(event["value"]) == 16 << 20
        n += 1
        print(f"got [{n}]", flush=True)
`
)

// TestLargeMessagesLeaveNothing: messages of 16 MiB go from an official node to a Go node and
// on to an official one, all through the shim; afterwards it is as small as it was. A soak
// does it for a minute, with the limit of a quiet shim.
func TestLargeMessagesLeaveNothing(t *testing.T) {
	traffic, limit := 8*time.Second, 24.0
	if os.Getenv("DORA_SOAK") != "" {
		traffic = time.Minute
	}
	s := newSite(t)
	s.withPython()
	s.write("send.py", largeSender)
	s.write("receive.py", largeReceiver)
	s.write("large.yml", `
nodes:
  - {id: source, path: send.py, inputs: {tick: dora/timer/millis/50}, outputs: [out]}
  - {id: go, path: testnode, args: init forward=out, inputs: {in: source/out}, outputs: [out]}
  - {id: sink, path: receive.py, inputs: {in: go/out}}
`)
	s.dora("up")
	id := s.start("large.yml", "--name", "large")
	s.await(id, "Running")
	before := s.anonymous("shim")
	most := before
	s.eventually(20*time.Second, func() bool { return len(s.numbers(id, "sink")) > 0 }, func() string { return "nothing arrives" })
	for end := time.Now().Add(traffic); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		most = max(most, s.anonymous("shim"))
	}
	during := s.anonymous("shim")
	messages := len(s.numbers(id, "sink"))
	s.write("enough", "")
	least := during
	s.eventually(30*time.Second, func() bool { least = min(least, s.anonymous("shim")); return least <= limit }, func() string {
		return fmt.Sprintf("the shim still has %.1f MiB, limit %.0f", least, limit)
	})
	t.Logf("%d messages of 16 MiB in %v: the shim had %.1f MiB before, %.1f at most, %.1f at their end, %.1f afterwards", messages, traffic, before, most, during, least)
	if messages < 10 {
		t.Errorf("only %d messages arrived", messages)
	}
	s.dora("stop", "large", "--grace-duration", "5s")
}
