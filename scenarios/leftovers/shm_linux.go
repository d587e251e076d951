package leftovers

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

var orphans = sync.OnceValue(func() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
})

// adoptOrphans makes the test process the parent of every process below it whose own
// parent ends, so that nothing can escape from sight.
func adoptOrphans() error { return orphans() }

// shm is a mount namespace with a /dev/shm of its own, kept by a process that waits.
type shm struct {
	pid  int
	cmd  *exec.Cmd
	end  io.Closer
	root string
}

// PrivateShm gives the programs started by Command from now on an empty /dev/shm of
// the given size in bytes, in which nothing may be left at the end but up to zenohFiles
// files of Zenoh: official nodes leave some even after clean runs of the original dora.
//
// It needs the programs unshare, nsenter and mount, and root or unprivileged user
// namespaces.
func (w *Watch) PrivateShm(size int64, zenohFiles int) {
	w.t.Helper()
	s, err := newShm(size, w.Env())
	if err != nil {
		w.t.Fatalf("leftovers: a private /dev/shm needs unshare, nsenter and mount (package util-linux), and root or "+
			"unprivileged user namespaces: %v", err)
	}
	w.shm, w.zenoh = s, zenohFiles
}

func newShm(size int64, env []string) (*shm, error) {
	args := []string{"--mount", "--propagation", "private"}
	if os.Geteuid() != 0 {
		args = append(args, "--user", "--map-root-user")
	}
	script := fmt.Sprintf("mount -t tmpfs -o size=%d,mode=1777 none /dev/shm && echo ready && read _", size)
	cmd := exec.Command("unshare", append(args, "sh", "-c", script)...)
	cmd.Env = env // with the mark: another test must not take it for its own
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		_ = in.Close()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%v: %s", err, strings.TrimSpace(stderr.String()))
	}
	return &shm{pid: cmd.Process.Pid, cmd: cmd, end: in, root: fmt.Sprintf("/proc/%d/root/dev/shm", cmd.Process.Pid)}, nil
}

// enter is the command line that runs the rest of it in the namespace and in dir, an
// absolute path.
func (s *shm) enter(dir string) []string {
	argv := []string{"nsenter", "--mount=" + fmt.Sprintf("/proc/%d/ns/mnt", s.pid)}
	if os.Geteuid() != 0 {
		argv = append(argv, "--user="+fmt.Sprintf("/proc/%d/ns/user", s.pid), "--preserve-credentials")
	}
	return append(argv, "--wdns="+dir, "--")
}

func (s *shm) check(zenohFiles int) []string {
	var found []string
	for _, line := range files(s.root) {
		if strings.HasSuffix(line, ".zenoh") && zenohFiles > 0 {
			zenohFiles--
			continue
		}
		_, path, _ := strings.Cut(line, " ")
		found = append(found, "shared memory "+filepath.Base(path))
	}
	return found
}

func (s *shm) close() {
	_ = s.end.Close() // its read ends
	_ = s.cmd.Wait()
}
