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
