package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// mounts is a mount namespace with a /dev/shm of its own. A process in it holds it open.
type mounts struct {
	holder int
	enter  []string
}

// privateShm makes a namespace whose /dev/shm is an empty tmpfs of so many MiB. It fails
// the test where that is not possible: without it nothing would be tested.
func privateShm(t *testing.T, mebibytes int) *mounts {
	t.Helper()
	argv := []string{"unshare", "--mount", "--propagation", "private"}
	m := &mounts{}
	if os.Geteuid() != 0 {
		argv = append(argv, "--map-root-user")
		m.enter = []string{"--user", "--preserve-credentials"}
	}
	script := fmt.Sprintf("mount -t tmpfs -o size=%dm,mode=1777 tmpfs /dev/shm && echo ready && exec cat", mebibytes)
	cmd := exec.Command(argv[0], append(argv[1:], "sh", "-c", script)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	const needs = "a private /dev/shm needs the programs unshare, nsenter and mount, and root (or unprivileged user namespaces)"
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v\n  %s", err, needs)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends cat
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("the process that held the namespace: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the namespace was not made: %q, %v\n  %s", line, err, needs)
	}
	m.holder = cmd.Process.Pid
	return m
}

// wrap runs a command of a run inside. nsenter becomes the command: its pid is the
// command's pid. Entering a mount namespace leaves the working directory at the root.
func (m *mounts) wrap(dir string, argv []string) []string {
	out := append([]string{"nsenter", "--target", strconv.Itoa(m.holder), "--mount"}, m.enter...)
	return append(append(out, "sh", "-c", `cd "$0" && exec "$@"`, dir), argv...)
}

// inside is d, run in the namespace.
func (m *mounts) inside(d dora) dora {
	d.inside = m.wrap
	return d
}

// segments lists the files in the namespace's /dev/shm that match the pattern.
func (m *mounts) segments(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(m.holder), "root/dev/shm", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPrivateShmIsPrivateAndBounded(t *testing.T) {
	m := privateShm(t, 1)
	argv := m.wrap(t.TempDir(), []string{"sh", "-c", "head -c 600000 /dev/zero >/dev/shm/a && ! head -c 600000 /dev/zero >/dev/shm/b 2>/dev/null"})
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := m.segments(t, "?"); len(got) != 2 {
		t.Errorf("segments %v, want a and b", got)
	}
	if _, err := os.Stat("/dev/shm/a"); err == nil {
		t.Error("the file is visible outside")
	}
}
