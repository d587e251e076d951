package contain

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("CONTAIN_TEST_ROLE") == "maps" { // maps the file it is told, says so, waits
		f, err := os.Open(os.Getenv("CONTAIN_TEST_FILE"))
		if err != nil {
			os.Exit(1)
		}
		syscall.Flock(int(f.Fd()), syscall.LOCK_SH)
		if _, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("mapped\n")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

// TestSegments: a segment is swept only when nobody holds its lock, and only if it is one.
func TestSegments(t *testing.T) {
	f, err := os.CreateTemp(shmDir, "test-*.zenoh")
	if err != nil {
		t.Skip(err)
	}
	defer os.Remove(f.Name())
	f.Truncate(4096)
	f.Close()
	name := filepath.Base(f.Name())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONTAIN_TEST_ROLE=maps", "CONTAIN_TEST_FILE="+f.Name())
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	if got := MappedSegments(cmd.Process.Pid); !slices.Equal(got, []string{name}) {
		t.Errorf("mapped: %q", got)
	}
	if n := SweepSegments([]string{name}); n != 0 {
		t.Error("a segment in use was removed")
	}
	cmd.Process.Kill()
	cmd.Wait()
	other, err := os.CreateTemp(shmDir, "test-*.other")
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	defer os.Remove(other.Name())
	list := filepath.Join(t.TempDir(), "segments")
	os.WriteFile(list, []byte(strings.Join([]string{name, filepath.Base(other.Name()), "../etc/x.zenoh", "none.zenoh", ""}, "\n")), 0o600)
	if n := SweepSegmentFile(list); n != 1 {
		t.Errorf("%d files were removed", n)
	}
	if _, err := os.Stat(f.Name()); !os.IsNotExist(err) {
		t.Error("the segment is still there")
	}
	if _, err := os.Stat(other.Name()); err != nil {
		t.Error("another file was removed")
	}
}

func TestKillProcess(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := KillProcess(cmd.Process.Pid, start+1); err != syscall.ESRCH {
		t.Error("a process of another time:", err)
	}
	if cmd.ProcessState != nil {
		t.Fatal("it was killed")
	}
	if err := KillProcess(cmd.Process.Pid, start); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Error(err)
	}
}

// TestKillMarked finds what carries the mark, in whatever session.
func TestKillMarked(t *testing.T) {
	run := func(mark string) *exec.Cmd {
		cmd := exec.Command("sleep", "100")
		cmd.Env = append(os.Environ(), Mark+"="+mark)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	a, b, c := run("mark-1"), run("mark-1"), run("mark-11")
	if got := Environ(a.Process.Pid, Mark); got != "mark-1" {
		t.Errorf("environment: %q", got)
	}
	if n := KillMarked("mark-1", time.Second); n != 2 {
		t.Errorf("%d were killed", n)
	}
	a.Wait()
	b.Wait()
	if st, err := ReadStat(c.Process.Pid); err != nil || st.State == 'Z' {
		t.Error("one with another mark was killed")
	}
	c.Process.Kill()
	c.Wait()
	if n := KillMarked("", time.Second); n != 0 {
		t.Error("without a mark nothing is to be killed")
	}
}

func TestReadStat(t *testing.T) {
	// A name that looks like the rest of the line.
	bin := filepath.Join(t.TempDir(), "a) Z 1 1")
	src, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Skip(err)
	}
	os.WriteFile(bin, src, 0o755)
	cmd := exec.Command(bin, "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	st, err := ReadStat(cmd.Process.Pid)
	if err != nil || st.PPID != os.Getpid() || st.PGID != cmd.Process.Pid || st.State == 'Z' || st.StartTime == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := ReadStat(1 << 30); err == nil {
		t.Error("a process that is not there")
	}
}

// TestStrayCgroups: what dead shims left goes when it is old enough; what is in use, is new,
// or is not ours stays.
func TestStrayCgroups(t *testing.T) {
	own, err := OwnCgroup()
	if err != nil {
		t.Log("there are no cgroups of version 2 here:", err)
		return
	}
	base, err := os.MkdirTemp(own, "test-")
	if err != nil {
		t.Log("nothing is delegated to this user:", err)
		return
	}
	t.Cleanup(func() {
		if err := removeTree(base); err != nil {
			t.Error(err)
		}
	})
	at := func(name string) string { return filepath.Join(base, name) }
	for _, name := range []string{"dora-1", "dora-1/of a node", "dora-2", "dora-daemon.service", "dora-", "other"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(at("dora-2"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "100")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	err = cmd.Start()
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	left := func() (names []string) {
		entries, _ := os.ReadDir(base)
		for _, e := range entries {
			if e.IsDir() {
				names = append(names, e.Name())
			}
		}
		return names
	}
	if sweepCgroups(base, time.Hour); len(left()) != 5 {
		t.Errorf("new ones were removed: %v", left())
	}
	if sweepCgroups(base, 0); !slices.Equal(left(), []string{"dora-", "dora-2", "dora-daemon.service", "other"}) {
		t.Errorf("left are %v", left())
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := RemoveCgroup(at("dora-2"), time.Second); err != nil {
		t.Error(err)
	}
}

func TestCgroup(t *testing.T) {
	dir, err := CreateCgroup()
	if err != nil {
		t.Log("nothing is delegated to this user, which is an ordinary answer:", err)
		if dir != "" {
			t.Error("an error, and yet a folder", dir)
		}
		return
	}
	sub := filepath.Join(dir, "of a node")
	os.Mkdir(sub, 0o755)
	var cmds []*exec.Cmd
	for _, d := range []string{dir, sub} {
		f, err := os.Open(d)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "100")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		cmds = append(cmds, cmd)
	}
	if err := RemoveCgroup(dir, 10*time.Millisecond); err == nil {
		t.Error("a cgroup with processes was removed")
	}
	done := make(chan error)
	go func() { done <- KillCgroup(dir, 3*time.Second) }()
	for _, cmd := range cmds {
		cmd.Wait()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
	if err := KillCgroup(dir, 0); err != nil {
		t.Error("killing it again:", err)
	}
	if err := KillCgroup("/sys/fs/cgroup", 0); err != nil {
		t.Error("one that is not ours must be left alone:", err)
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("%q", got)
	}
}

func TestHasChildren(t *testing.T) {
	// Other tests of this package may have some, so this is asked in a process of its own.
	if os.Getenv("CONTAIN_TEST_CHILDREN") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHasChildren$")
		cmd.Env = append(os.Environ(), "CONTAIN_TEST_CHILDREN=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if HasChildren() {
		t.Error("a process without children")
	}
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !HasChildren() {
		t.Error("a live child")
	}
	cmd.Process.Kill()
	for st, _ := ReadStat(cmd.Process.Pid); st.State != 'Z'; st, _ = ReadStat(cmd.Process.Pid) {
		time.Sleep(time.Millisecond)
	}
	if !HasChildren() {
		t.Error("a zombie")
	}
	cmd.Wait()
	if HasChildren() {
		t.Error("a child that was reaped")
	}
}
