package shim_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
)

// family is a node with every kind of descendant: in its group, in a session of its own,
// twice orphaned, and one without any environment. Each has the tag in its command line.
func family(tag string) string {
	return fmt.Sprintf(`
		sleep 1%[1]s &
		setsid sleep 2%[1]s &
		(setsid sh -c 'sleep 3%[1]s & sleep 4%[1]s' &)
		(setsid env -i sleep 5%[1]s &)
		exec sleep 6%[1]s`, tag)
}

func newTag() string {
	return fmt.Sprintf("%06d.%06d", 100000+rand.IntN(900000), 100000+rand.IntN(900000))
}

// tagged lists live processes that have the tag in their command line.
func tagged(tag string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cmd, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.HasPrefix(cmd, []byte("sleep\x00")) && bytes.Contains(cmd, []byte(tag)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Errorf("not within %v: %s", limit, what)
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// starter is a `dora run` in small, in a process of its own.
type starter struct {
	cmd   *exec.Cmd
	state string
	dir   string
	tag   string
}

func startStarter(t *testing.T, role string, noCgroup bool) *starter {
	t.Helper()
	s := &starter{state: t.TempDir(), tag: newTag()}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), "SHIM_TEST_ROLE="+role, "SHIM_TEST_STATE="+s.state,
		"SHIM_TEST_DATAFLOW="+dataflowID, "SHIM_TEST_SCRIPT="+family(s.tag), fmt.Sprintf("SHIM_TEST_NO_CGROUP=%v", noCgroup))
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.sweep(t)
		kill(tagged(s.tag)...)
	})
	s.dir, _ = folder.Dir(s.state, dataflowID)
	return s
}

// sweep is what the next daemon does with what it finds.
func (s *starter) sweep(t *testing.T) {
	t.Helper()
	found, err := launch.Find(s.state)
	if err != nil {
		t.Error(err)
	}
	for _, f := range found {
		if f.Alive {
			eventually(t, 3*time.Second, "lock free after SIGKILL", func() bool {
				owner, _ := folder.ReadOwner(f.Dir) // it may be about to publish itself
				kill(owner.PID)
				held, _ := folder.Held(f.Dir)
				return !held
			})
			f.Owner, _ = folder.ReadOwner(f.Dir)
		}
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
	}
}

func (s *starter) running(t *testing.T) folder.Owner {
	t.Helper()
	eventually(t, 5*time.Second, "the family runs", func() bool { return len(tagged(s.tag)) == 6 })
	owner, err := folder.ReadOwner(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	return owner
}

// gone checks that nothing is left within the promised three seconds.
func (s *starter) gone(t *testing.T, owner folder.Owner) {
	t.Helper()
	eventually(t, 3*time.Second, "every process is gone", func() bool {
		return len(tagged(s.tag)) == 0 && !alive(owner.PID, "dora-shim") && !alive(owner.GuardPID, "dora-guard")
	})
	eventually(t, time.Second, "the socket is gone", func() bool { return missing(owner.Socket) })
	if owner.Cgroup != "" {
		eventually(t, time.Second, "the cgroup is gone", func() bool { return missing(owner.Cgroup) })
	}
}

func missing(path string) bool { _, err := os.Lstat(path); return os.IsNotExist(err) }

func alive(pid int, name string) bool {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	st, serr := contain.ReadStat(pid)
	return err == nil && serr == nil && st.State != 'Z' && strings.TrimSpace(string(comm)) == name
}

func kill(pids ...int) {
	for _, pid := range pids {
		if pid > 0 { // 0 would be the test's own process group
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// TestKillMatrix: whoever of starter, guard and shim is killed, nothing is left.
func TestKillMatrix(t *testing.T) {
	for _, noCgroup := range []bool{false, true} {
		for _, victims := range []string{"shim", "parent", "shim+parent", "parent+shim", "guard+parent", "parent+guard"} {
			t.Run(fmt.Sprintf("%s/nocgroup=%v", victims, noCgroup), func(t *testing.T) {
				t.Parallel()
				s := startStarter(t, "parent", noCgroup)
				owner := s.running(t)
				if (owner.Cgroup == "") != noCgroup {
					t.Logf("cgroup %q", owner.Cgroup)
				}
				pid := map[string]int{"shim": owner.PID, "guard": owner.GuardPID, "parent": s.cmd.Process.Pid}
				for v := range strings.SplitSeq(victims, "+") {
					kill(pid[v])
				}
				s.gone(t, owner)
				if strings.Contains(victims, "parent") {
					eventually(t, time.Second, "the folder is gone", func() bool { return missing(s.dir) })
				}
			})
		}
	}
}

// TestHungShim: a shim that does nothing any more does not keep its nodes alive.
func TestHungShim(t *testing.T) {
	t.Parallel()
	s := startStarter(t, "parent", false)
	owner := s.running(t)
	syscall.Kill(owner.PID, syscall.SIGSTOP)
	s.cmd.Process.Kill()
	s.gone(t, owner)
	eventually(t, time.Second, "the folder is gone", func() bool { return missing(s.dir) })
}

// TestKillGuard: without its guard a shim works on, and says so; it still ends everything.
func TestKillGuard(t *testing.T) {
	d := startShim(t, launch.Options{})
	tag := newTag()
	d.must(link.Command{Load: d.load(sh("n", family(tag)))})
	d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
	eventually(t, 5*time.Second, "the family runs", func() bool { return len(tagged(tag)) == 6 })
	kill(d.h.Owner().GuardPID)
	w := d.fact(func(f link.Fact) bool { return f.Warning != nil })
	if !strings.Contains(w.Warning.Text, "guard") {
		t.Errorf("warning %q", w.Warning.Text)
	}
	if n := len(tagged(tag)); n != 6 {
		t.Errorf("%d of 6 processes live on", n)
	}
	d.must(link.Command{End: &link.End{}})
	eventually(t, 3*time.Second, "every process is gone", func() bool { return len(tagged(tag)) == 0 })
	<-d.h.Lost()
	if cg := d.h.Owner().Cgroup; cg != "" {
		eventually(t, time.Second, "the cgroup is gone", func() bool { return missing(cg) })
	}
}

// TestKillShimAndGuard: the daemon ends what both left behind.
func TestKillShimAndGuard(t *testing.T) {
	for _, noCgroup := range []bool{false, true} {
		t.Run(fmt.Sprintf("nocgroup=%v", noCgroup), func(t *testing.T) {
			d := startShim(t, launch.Options{NoCgroup: noCgroup})
			tag := newTag()
			d.must(link.Command{Load: d.load(sh("n", family(tag)))})
			d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
			eventually(t, 5*time.Second, "the family runs", func() bool { return len(tagged(tag)) == 6 })
			owner := d.h.Owner()
			kill(owner.GuardPID, owner.PID)
			<-d.h.Lost()
			want := 0
			if owner.Cgroup == "" {
				want = 1 // the one without an environment cannot be told from a stranger
			}
			eventually(t, time.Second, "every process is gone", func() bool { return len(tagged(tag)) == want })
			kill(tagged(tag)...)
			if !missing(owner.Socket) {
				t.Error("the socket is still there")
			}
		})
	}
}

// TestKillAllThree: nobody is left to clean up; the direct child dies with its thread, the
// next daemon does the rest.
func TestKillAllThree(t *testing.T) {
	s := startStarter(t, "parent", false)
	owner := s.running(t)
	kill(s.cmd.Process.Pid, owner.GuardPID, owner.PID)
	eventually(t, time.Second, "the node itself is gone", func() bool {
		for _, pid := range tagged(s.tag) {
			cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if bytes.Contains(cmd, []byte("6"+s.tag)) {
				return false
			}
		}
		return true
	})
	eventually(t, 3*time.Second, "the lock is free", func() bool { held, _ := folder.Held(s.dir); return !held })
	// A new shim in the same folder does not start beside the old one's processes.
	h, err := launch.Launch(context.Background(), launch.Options{StateDir: s.state, Dataflow: dataflowID})
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	if owner.Cgroup == "" {
		want = 1 // the one without an environment
	}
	eventually(t, time.Second, "the old family is gone", func() bool { return len(tagged(s.tag)) == want })
	h.Conn.Send(&link.Command{ID: 1, End: &link.End{}})
	<-h.Lost()
	h.Close()
	<-h.GuardDone()
	// The kernel counts the killed to their cgroup until it has buried them.
	eventually(t, time.Second, "folder, socket and cgroup are gone", func() bool {
		return missing(s.dir) && missing(owner.Socket) && (owner.Cgroup == "" || missing(owner.Cgroup))
	})
}

// TestKillAtRandomMoments kills shim, starter or both while everything is just starting.
func TestKillAtRandomMoments(t *testing.T) {
	for i := range 20 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			s := startStarter(t, "parent", i%4 == 3)
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
			owner, err := folder.ReadOwner(s.dir)
			if i%3 != 0 && err == nil {
				kill(owner.PID)
			}
			if i%3 != 1 || err != nil {
				s.cmd.Process.Kill()
			}
			eventually(t, 3*time.Second, "the lock is free", func() bool { held, _ := folder.Held(s.dir); return !held })
			if again, err := folder.ReadOwner(s.dir); err == nil {
				owner = again // it published itself after we looked
			}
			if owner.PID != 0 {
				s.gone(t, owner)
			}
			eventually(t, 3*time.Second, "no process is left", func() bool { return len(tagged(s.tag)) == 0 })
		})
	}
}

// TestShimOutlivesItsDaemon: without a parent pipe the starter's death changes nothing, and
// another process adopts the shim with its facts.
func TestShimOutlivesItsDaemon(t *testing.T) {
	s := startStarter(t, "daemon", false)
	owner := s.running(t)
	kill(s.cmd.Process.Pid)
	s.cmd.Wait()
	time.Sleep(50 * time.Millisecond)
	if n := len(tagged(s.tag)); n != 6 {
		t.Fatalf("%d of 6 processes live on", n)
	}
	found, err := launch.Find(s.state)
	if err != nil || len(found) != 1 || !found[0].Alive || found[0].Rebooted {
		t.Fatalf("found %+v, %v", found, err)
	}
	h, err := launch.Adopt(context.Background(), found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if !h.Hello.Loaded || h.Hello.FirstUnacked != 1 || h.Hello.PID != owner.PID {
		t.Errorf("hello %+v", h.Hello)
	}
	m, err := h.Conn.ReadMessage()
	if err != nil || m.Fact == nil || m.Fact.Spawned == nil || m.Fact.Seq != 1 {
		t.Fatalf("first message %+v, %v", m, err)
	}
	kill(owner.PID)
	<-h.Lost()
	s.gone(t, owner)
	// What was not acknowledged is still to be read.
	found, _ = launch.Find(s.state)
	facts, err := found[0].Facts()
	if err != nil || len(facts) != 1 || facts[0].Spawned == nil {
		t.Errorf("facts %+v, %v", facts, err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, folder.FactsName)); err != nil {
		t.Error(err)
	}
}
