package leftovers

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recorder is a test that notes its failure.
type recorder struct {
	testing.TB
	failed  string
	cleanup []func()
}

func (r *recorder) Helper()                   {}
func (r *recorder) Cleanup(f func())          { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(f string, a ...any) { r.failed += strings.TrimSpace(f) }

// eventually waits for a finding that contains text.
func eventually(t *testing.T, w *Watch, text string) {
	t.Helper()
	var found []string
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		found = w.Check()
		for _, f := range found {
			if strings.Contains(f, text) {
				return
			}
		}
	}
	t.Errorf("%q was not found, only %q", text, found)
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	w := New(t)
	if out, err := w.Command("/", "sh", "-c", "echo $HOME $TMPDIR; exit 0").CombinedOutput(); err != nil || !strings.Contains(string(out), w.Home()) {
		t.Errorf("%s (%v)", out, err)
	}
	if found := w.Check(); len(found) > 0 {
		t.Errorf("found %q", found)
	}
}

func TestProcessesAreFound(t *testing.T) {
	for name, script := range map[string]string{
		"background":              "sleep 61 >/dev/null 2>&1 &",
		"own session":             "setsid sleep 61 >/dev/null 2>&1 &",
		"environment thrown away": "env -i setsid sleep 61 >/dev/null 2>&1 &",
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{TB: t}
			w := New(r)
			w.wait = 200 * time.Millisecond
			if err := w.Command("/", "sh", "-c", script).Run(); err != nil {
				t.Fatal(err)
			}
			eventually(t, w, "sleep 61")
			r.cleanup[0]()
			if !strings.Contains(r.failed, "left behind") {
				t.Errorf("the test did not fail: %q", r.failed)
			}
			for deadline := time.Now().Add(time.Second); len(w.own(processes())) > 0; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("what was left was not ended")
				}
			}
		})
	}
}

func TestTwoTestsAreKeptApart(t *testing.T) {
	one, two := New(t), New(t)
	cmd := one.Command("/", "sleep", "61")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, one, "sleep 61")
	if found := two.Check(); len(found) > 0 {
		t.Errorf("the other test sees %q", found)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func TestFilesAndSocketsAreFound(t *testing.T) {
	w := New(t)
	file := filepath.Join(w.base, "tmp", "x")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, w, "file "+file)
	_ = os.Remove(file)
	ln, err := net.Listen("unix", filepath.Join(w.Home(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	eventually(t, w, "bound Unix socket "+filepath.Join(w.Home(), "s"))
	_ = ln.Close()
}

func TestPortsAreFound(t *testing.T) {
	w := New(t)
	cmd := w.Command("/", "sh", "-c", "sleep 61")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	_ = ln.Close()
	eventually(t, w, "listening in process")
	for _, p := range w.own(processes()) {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
	_ = cmd.Wait()
}

func TestMemoryFilesAreFound(t *testing.T) {
	w := New(t)
	fd, err := unix.MemfdCreate("dora-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, w, "/memfd:dora-test")
	_ = unix.Close(fd)
}

func TestCgroupsAreFound(t *testing.T) {
	w := New(t)
	if w.cgroup == nil {
		t.Log("this user may make no cgroups, and so dora makes none")
		return
	}
	// As a shim does it: below the cgroup that it is in.
	script := `d="$1/dora-1"; mkdir "$d"; grep -q "$(basename "$1")" /proc/self/cgroup && echo $$ >"$d/cgroup.procs"`
	if out, err := w.Command("/", "sh", "-c", script, "sh", w.cgroup.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, w, "cgroup "+w.cgroup.dir+"/dora-1")
	if err := os.Remove(filepath.Join(w.cgroup.dir, "dora-1")); err != nil {
		t.Error(err)
	}
}

func TestPrivateShm(t *testing.T) {
	w := New(t)
	w.PrivateShm(1<<20, 1)
	run := func(script string) {
		t.Helper()
		if out, err := w.Command("/", "sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	run("test -z \"$(ls -A /dev/shm)\" && echo x >/dev/shm/segment-left && echo x >/dev/shm/1.zenoh")
	eventually(t, w, "shared memory segment-left")
	for _, f := range w.Check() {
		if strings.Contains(f, "zenoh") {
			t.Errorf("one file of Zenoh may stay, but: %s", f)
		}
	}
	run("echo x >/dev/shm/2.zenoh")
	eventually(t, w, ".zenoh")
	run("rm /dev/shm/*")
	if _, err := os.Stat("/dev/shm/segment-left"); err == nil {
		t.Error("the file was written into the machine's /dev/shm")
	}
}

func TestWorkingFolderIsKeptInThePrivateShm(t *testing.T) {
	w := New(t)
	w.PrivateShm(1<<20, 0)
	out, err := w.Command(w.Home(), "pwd").Output()
	if err != nil || strings.TrimSpace(string(out)) != w.Home() {
		t.Errorf("%s (%v), want %s", out, err, w.Home())
	}
}
