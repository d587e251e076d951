package production

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// These are the ways in which containers were lost under other shims (containerd 12600, 2078,
// 8285, 6031, 7394, 11416, 768, 13849; moby 43491), with the real programs. What needs the
// inside of a shim is in shim: TestDaemonGoneDuringStop, TestEndsWhenNobodyNeedsIt,
// TestSilentDaemon, TestHungShim, TestUnwantedShim, TestFind. That a shim is older than its
// daemon: TestOlderShim.

// TestDaemonKilledDuringAStop: the ladder goes on without it, and the next one knows how it
// ended; the command that asked for it returns.
func TestDaemonKilledDuringAStop(t *testing.T) {
	s := newSite(t)
	s.write("deaf.yml", "nodes:\n  - {id: d, path: testnode, args: deaf init hang}\n")
	s.dora("up")
	id := s.start("deaf.yml", "--name", "deaf")
	s.await(id, "Running")
	s.awaitNodes(1)
	cmd := s.cmd("stop", "deaf", "--grace-duration", "1500ms")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.eventually(10*time.Second, func() bool {
		return strings.Contains(s.dora("events", "-d", id, "--format", "json"), "NodeStopStepped")
	},
		func() string { return "the stop does not begin" })
	s.kill("daemon")
	s.awaitNodes(0)
	s.dora("up")
	if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), "killed, because") {
		t.Errorf("stop: %v\n%s", err, said.String())
	}
	s.await(id, "Finished")
	steps := s.dora("events", "-d", id, "--format", "json")
	for _, step := range []string{`"step":"stop"`, `"step":"sigterm"`, `"step":"sigkill"`, `"signal":9`} {
		if n := strings.Count(steps, step); n != 1 {
			t.Errorf("%s is recorded %d times", step, n)
		}
	}
}

// TestAdoptedShimIsKilled: its daemon is not its parent and is sent no signal, and yet knows
// at once.
func TestAdoptedShimIsKilled(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	id := s.start("stream.yml")
	s.await(id, "Running")
	s.kill("daemon")
	s.dora("up")
	s.await(id, "Running")
	s.kill("shim")
	if r := s.await(id, "Failed"); !strings.Contains(r.Reason, "ended together with its shim") {
		t.Errorf("it is %+v", r)
	}
	s.awaitNodes(0)
}

// TestFoldersOfDeadShims: whatever state the folder of a dead shim is in, the next daemon
// neither waits for it nor trips over it, and it is gone in the end.
func TestFoldersOfDeadShims(t *testing.T) {
	s := newSite(t)
	s.write("hang.yml", "nodes:\n  - {id: n, path: testnode, args: init hang}\n")
	edit := func(path string, change func([]byte) []byte) {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, change(raw), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(dir string)
	}{
		{"as it was left, with its socket", func(string) {}},
		{"made, and nothing in it yet", func(dir string) {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				_ = os.Remove(filepath.Join(dir, e.Name()))
			}
		}},
		{"of another boot", func(dir string) {
			edit(filepath.Join(dir, "lock"), func(raw []byte) []byte {
				boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
				if !bytes.Contains(raw, bytes.TrimSpace(boot)) {
					t.Fatalf("the lock file has no boot id: %s", raw)
				}
				return bytes.ReplaceAll(raw, bytes.TrimSpace(boot), []byte("00000000-0000-4000-8000-000000000000"))
			})
		}},
		{"half written", func(dir string) {
			edit(filepath.Join(dir, "lock"), func(raw []byte) []byte { return raw[:len(raw)/2] })
		}},
	} {
		s.dora("up")
		id := s.start("hang.yml")
		s.await(id, "Running")
		s.kill("daemon", "guard", "shim")
		s.awaitNodes(0) // it watches its parent
		c.change(filepath.Join(s.home(), "shims", id))
		begin := time.Now()
		s.dora("up")
		if r := s.await(id, "Failed"); !strings.Contains(r.Reason, "ended together with its shim") {
			t.Errorf("%s: it is %+v", c.name, r)
		}
		t.Logf("%s: known after %v", c.name, time.Since(begin).Round(time.Millisecond))
		s.eventually(10*time.Second, func() bool { left, _ := os.ReadDir(filepath.Join(s.home(), "shims")); return len(left) == 0 },
			func() string { return c.name + ": the folder is left" })
	}
	// Where no file named them any more, sockets and cgroups are recognised by their age.
	s.dora("down")
	old := time.Now().Add(-time.Hour)
	for _, found := range s.w.Check() {
		if path := found[strings.LastIndexByte(found, ' ')+1:]; strings.HasPrefix(found, "socket ") || strings.HasPrefix(found, "cgroup ") {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Error(err)
			}
		}
	}
	s.dora("up")
	s.eventually(5*time.Second, func() bool {
		return !slices.ContainsFunc(s.w.Check(), func(found string) bool {
			return strings.HasPrefix(found, "socket ") || strings.HasPrefix(found, "cgroup ")
		})
	}, func() string { return "sockets or cgroups are left:\n" + strings.Join(s.w.Check(), "\n") })
}

// TestHungShimHoldsNobodyUp: shims are adopted side by side. One that does not answer is
// waited for on its own, and is adopted when it answers again.
func TestHungShimHoldsNobodyUp(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	hung := s.start("stream.yml", "--name", "hung")
	s.await(hung, "Running")
	shim := s.w.Find(roles["shim"]...)[0]
	var others []string
	for range 3 {
		others = append(others, s.start("stream.yml"))
	}
	for _, id := range others {
		s.await(id, "Running")
	}
	nodes := s.awaitNodes(8)
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(shim, syscall.SIGCONT) })
	s.kill("daemon")
	begin := time.Now()
	s.dora("up")
	for _, id := range others {
		s.await(id, "Running")
	}
	t.Logf("the others are adopted after %v", time.Since(begin).Round(time.Millisecond))
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a shim that hangs held the others up: %v", took)
	}
	if err := syscall.Kill(shim, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.await(hung, "Running")
	if now := s.nodes(); len(now) != len(nodes) {
		t.Errorf("the nodes are %v, they were %v", now, nodes)
	}
	for name := range nodes {
		if _, ok := s.nodes()[name]; !ok {
			t.Errorf("node %s is gone", name)
		}
	}
}

// TestShimThatHangsForGood: a daemon that cannot reach a shim ends it, so that its nodes are not
// left without anybody; their restart policy decides. It waits ten seconds, and is part of the
// soak.
func TestShimThatHangsForGood(t *testing.T) {
	if os.Getenv("DORA_SOAK") == "" {
		return // part of the soak
	}
	s := newSite(t)
	s.write("stream.yml", restarting)
	s.dora("up")
	id := s.start("stream.yml", "--name", "hung")
	s.await(id, "Running")
	before := s.awaitNodes(2)
	shim := s.w.Find(roles["shim"]...)[0]
	if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(shim, syscall.SIGCONT) })
	s.kill("daemon")
	s.dora("up")
	s.eventually(40*time.Second, func() bool {
		for name := range s.nodes() {
			if _, old := before[name]; old {
				return false
			}
		}
		return len(s.nodes()) == 2
	}, func() string { return "the nodes are still those of the shim that hangs" })
	s.await(id, "Running")
	s.flows(id, "sink", len(s.numbers(id, "sink")))
	s.counts(map[string]int{"shim": 1, "guard": 1, "daemon": 1})
}
