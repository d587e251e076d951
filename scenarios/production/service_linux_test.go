package production

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// delegated makes a cgroup as systemd makes one for a service with Delegate=yes; "" where
// this user may not, or the kernel cannot kill cgroups.
func delegated(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		dir, err := os.MkdirTemp(f[1], "dora-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			for until := time.Now().Add(5 * time.Second); os.Remove(dir) != nil && time.Now().Before(until); {
				time.Sleep(10 * time.Millisecond)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("the cgroup %s is left", dir)
			}
		})
		if _, err := os.Stat(filepath.Join(dir, "cgroup.kill")); err != nil {
			return ""
		}
		return dir
	}
	return ""
}

// TestDataflowHasACgroupOfItsOwn: what the units' Delegate=yes and KillMode=process are for.
// In the cgroup of a service each dataflow gets one below it; the death of the service's
// processes leaves it alone; and when shim, guard and daemon are killed in one instant, the
// next daemon ends all that is in it, whatever nodes have started.
func TestDataflowHasACgroupOfItsOwn(t *testing.T) {
	dir := delegated(t)
	if dir == "" {
		t.Log("no cgroup is delegated to this user, or the kernel cannot kill one: nothing to see here")
		return
	}
	s := newSite(t)
	up := func() {
		t.Helper()
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd := s.cmd("up")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("up: %v\n%s", err, out)
		}
	}
	of := func(pid int) string {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
		for line := range strings.Lines(string(raw)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				return filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
			}
		}
		return ""
	}
	s.write("spawns.yml", "nodes:\n  - {id: n, path: testnode, args: \"'init' 'spawn=sleep 1000' 'hang'\"}\n")
	up()
	id := s.start("spawns.yml")
	s.await(id, "Running")
	s.eventually(10*time.Second, func() bool { return len(s.w.Find("1000")) == 1 }, func() string { return "there is no grandchild" })
	name := filepath.Base(dir)
	daemon, node, grandchild := s.w.Find("daemon")[0], s.pids(id)["n"], s.w.Find("1000")[0]
	if got := of(daemon); !strings.HasSuffix(got, "/"+name) {
		t.Errorf("the daemon is in %s, not in %s", got, name)
	}
	if a, b := of(node), of(grandchild); !strings.HasPrefix(a, name+"/dora-") || a != b {
		t.Errorf("the node is in %s, what it started in %s; want one below %s", a, b, name)
	}
	s.kill("daemon", "coordinator")
	up()
	s.await(id, "Running")
	if !alive(node) || !alive(grandchild) {
		t.Error("the death of the service ended the nodes")
	}
	s.kill("shim", "guard", "daemon")
	up()
	s.eventually(10*time.Second, func() bool { return !alive(grandchild) && !alive(node) }, func() string { return "what was in the cgroup lives on" })
}

// limited makes a cgroup whose processes may have this much memory together, of whichever
// version has the memory controller; "" where this user may not.
func limited(t *testing.T, bytes int) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 4 || f[2] != "cgroup2" && (f[2] != "cgroup" || !strings.Contains(","+f[3]+",", ",memory,")) {
			continue
		}
		limit, controller := "memory.max", "0::"
		if f[2] == "cgroup" {
			limit, controller = "memory.limit_in_bytes", ":memory:"
		}
		for entry := range strings.Lines(string(own)) {
			_, below, ok := strings.Cut(strings.TrimSpace(entry), controller)
			if !ok {
				continue
			}
			dir, err := os.MkdirTemp(filepath.Join(f[1], below), "dora-test-")
			if err != nil {
				continue
			}
			t.Cleanup(func() {
				for until := time.Now().Add(5 * time.Second); os.Remove(dir) != nil; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(until) {
						t.Errorf("the cgroup %s is left", dir)
						return
					}
				}
			})
			if os.WriteFile(filepath.Join(dir, limit), fmt.Append(nil, bytes), 0o600) == nil {
				return dir
			}
		}
	}
	return ""
}

// TestNodeOutOfMemory: what the units' OOMPolicy=continue is for. A node takes more memory than
// the service has: the kernel ends that node, the rest of the dataflow runs on, and what
// happened is in the history as any other death of a node; its restart policy holds. While
// the memory of the dead node is not back yet, the kernel may take the coordinator or the
// daemon, too, which are the next largest: their units start them again, as this test does.
func TestNodeOutOfMemory(t *testing.T) {
	dir := limited(t, 256<<20)
	if dir == "" {
		t.Log("this user may limit no memory: nothing to see here")
		return
	}
	s := newSite(t)
	s.write("hungry.yml", `
nodes:
  - {id: modest, path: testnode, args: init hang}
  - {id: hungry, path: testnode, args: init sleep=300ms burn=512, restart_policy: on-failure, max_restarts: 1, restart_delay: 0.05}
`)
	up := func() {
		cmd := s.w.Command(s.dir, "sh", "-c", `echo $$ >"$1" && exec "$2" up`, "sh", filepath.Join(dir, "cgroup.procs"), filepath.Join(bin, "dora"))
		cmd.Env = s.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("up: %v\n%s", err, out) // it may be what the kernel takes
		}
	}
	up()
	id := s.start("hungry.yml", "--name", "hungry")
	s.await(id, "Running")
	stay := []int{s.pids(id)["modest"], s.w.Find("shim", "serve")[0], s.w.Find("shim", "guard")[0]}
	var log string
	s.eventually(30*time.Second, func() bool {
		for _, role := range []string{"coordinator", "daemon"} {
			if len(s.w.Find(role)) == 0 {
				t.Logf("the kernel took the %s, too", role)
				up()
			}
		}
		log, _ = s.try("events", "-d", id)
		return strings.Contains(log, "giving up")
	}, func() string { return log })
	if n := strings.Count(log, "was ended by signal 9"); n != 2 {
		t.Errorf("%d deaths by SIGKILL are recorded, want 2:\n%s", n, log)
	}
	for _, pid := range stay {
		if !alive(pid) {
			t.Errorf("process %d is gone: of the node that is modest, shim and guard there were %v", pid, stay)
		}
	}
	s.await(id, "Running")
	s.fails(1, "Node `hungry` failed: exited because of signal SIGKILL", "stop", "hungry", "--force")
}
