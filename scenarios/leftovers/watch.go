package leftovers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Patience is how long after a test's end things may take to disappear.
const Patience = 3 * time.Second

// markVariable is in the environment of everything a test starts.
const markVariable = "DORA_TEST_MARK"

// Watch looks after everything that one test starts.
type Watch struct {
	t      testing.TB
	mark   string
	base   string // private folder with home, run and tmp
	ports  map[string]bool
	fds    map[string]bool
	before map[int]bool // processes below the test process when the watch began
	cgroup *cgroup
	shm    *shm
	zenoh  int // files of Zenoh that may stay in the private /dev/shm
	wait   time.Duration
}

// Variables are those of the environment that a watch makes private.
var Variables = []string{"HOME", "DORA_HOME", "XDG_RUNTIME_DIR", "TMPDIR", markVariable}

var serial atomic.Int64

// New begins to watch. It fails the test when it ends, if something is left.
func New(t testing.TB) *Watch {
	t.Helper()
	if err := adoptOrphans(); err != nil {
		t.Fatalf("leftovers: %v", err)
	}
	// Not t.TempDir: its name may be too long for Unix sockets (107 bytes).
	base, err := os.MkdirTemp("", "left")
	if err != nil {
		t.Fatal(err)
	}
	w := &Watch{
		t: t, base: base, wait: Patience,
		mark:   fmt.Sprintf("left-%d-%d-%d", os.Getpid(), serial.Add(1), time.Now().UnixNano()),
		ports:  listening(),
		fds:    memoryFiles(os.Getpid()),
		before: map[int]bool{}, cgroup: newCgroup(),
	}
	for _, dir := range []string{"home", "run", "tmp"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range descendants(processes(), os.Getpid()) {
		w.before[p.pid] = true
	}
	t.Cleanup(w.finish)
	return w
}

// Home is the private home folder of the test's programs.
func (w *Watch) Home() string { return filepath.Join(w.base, "home") }

// Mark is in the environment of everything the test starts, as DORA_TEST_MARK.
func (w *Watch) Mark() string { return w.mark }

// Env is the environment for the test's programs: that of the test, with private
// folders for home, state, sockets and temporary files, and the mark.
func (w *Watch) Env() []string {
	private := map[string]string{
		"HOME":            w.Home(),
		"DORA_HOME":       filepath.Join(w.Home(), ".dora"),
		"XDG_RUNTIME_DIR": filepath.Join(w.base, "run"),
		"TMPDIR":          filepath.Join(w.base, "tmp"),
		markVariable:      w.mark,
	}
	var env []string
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if _, ok := private[key]; !ok {
			env = append(env, kv)
		}
	}
	for k, v := range private {
		env = append(env, k+"="+v)
	}
	return env
}

// Command is exec.Command in the folder dir, with the environment of the watch, in its
// cgroup and, after PrivateShm, in its namespace. Signals to its process reach the program
// itself.
func (w *Watch) Command(dir, program string, args ...string) *exec.Cmd {
	argv := append([]string{program}, args...)
	if w.shm != nil {
		argv = append(w.shm.enter(dir), argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = w.Env()
	cmd.SysProcAttr = w.cgroup.attributes()
	return cmd
}

// Find lists the living processes of the test whose arguments, behind the program's name,
// begin with these words: "run", or "shim", "serve".
func (w *Watch) Find(words ...string) []int {
	var pids []int
	for _, p := range processes() {
		if p.zombie || p.mark() != w.mark {
			continue
		}
		if args := p.args(); len(args) > len(words) && slices.Equal(args[1:1+len(words)], words) {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

// Check reports what is there now, without waiting: empty if nothing is.
func (w *Watch) Check() []string {
	var found []string
	all := processes()
	own := w.own(all)
	for _, p := range own {
		found = append(found, "process "+p.String())
		for name := range memoryFiles(p.pid) {
			found = append(found, fmt.Sprintf("memory file %s in process %d", name, p.pid))
		}
	}
	for name := range memoryFiles(os.Getpid()) {
		if !w.fds[name] {
			found = append(found, "memory file "+name+" in the test process")
		}
	}
	found = append(found, w.openPorts(own)...)
	for _, dir := range []string{"run", "tmp"} {
		found = append(found, files(filepath.Join(w.base, dir))...)
	}
	found = append(found, sockets(w.base)...)
	found = append(found, w.cgroup.check()...)
	if w.shm != nil {
		found = append(found, w.shm.check(w.zenoh)...)
	}
	return found
}

// own are the processes that the test started and that are not its own children of
// before, the shell that holds the private /dev/shm, or zombies.
func (w *Watch) own(all []process) []process {
	var own []process
	seen := map[int]bool{os.Getpid(): true}
	add := func(list []process) {
		for _, p := range list {
			if !seen[p.pid] && !w.before[p.pid] && !p.zombie && !(w.shm != nil && p.pid == w.shm.pid) {
				seen[p.pid] = true
				own = append(own, p)
			}
		}
	}
	for _, p := range all {
		if p.mark() == w.mark {
			add([]process{p})
			add(descendants(all, p.pid))
		}
	}
	for _, p := range descendants(all, os.Getpid()) {
		// Marked by nobody: it threw its environment away. Marked by another test: its.
		if p.mark() == "" {
			add([]process{p})
		}
	}
	return own
}

// openPorts are ports of the test's processes, and new ones that nobody holds.
func (w *Watch) openPorts(own []process) []string {
	var found []string
	holders := map[string]int{}
	for _, p := range own {
		for inode := range socketInodes(p.pid) {
			holders[inode] = p.pid
		}
	}
	var unclaimed []string
	for port := range listening() {
		addr, inode, _ := strings.Cut(port, " ")
		if pid, ok := holders[inode]; ok {
			found = append(found, fmt.Sprintf("port %s listening in process %d", addr, pid))
		} else if !w.ports[port] {
			unclaimed = append(unclaimed, port)
		}
	}
	if len(unclaimed) == 0 {
		return found
	}
	held := map[string]bool{}
	for _, p := range processes() {
		for inode := range socketInodes(p.pid) {
			held[inode] = true
		}
	}
	now := listening()
	for _, port := range unclaimed {
		addr, inode, _ := strings.Cut(port, " ")
		if !held[inode] && now[port] {
			found = append(found, "port "+addr+" listening, held by no process")
		}
	}
	return found
}

// finish waits for everything to disappear, reports what does not, and clears it.
func (w *Watch) finish() {
	deadline := time.Now().Add(w.wait)
	found := w.Check()
	for len(found) > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		found = w.Check()
	}
	if len(found) > 0 {
		w.t.Errorf("left behind %v after the end:\n  %s", w.wait, strings.Join(found, "\n  "))
		for _, p := range w.own(processes()) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
	if w.shm != nil {
		w.shm.close()
	}
	if err := w.cgroup.close(); err != nil {
		w.t.Errorf("leftovers: %v", err)
	}
	if err := os.RemoveAll(w.base); err != nil {
		w.t.Errorf("leftovers: %v", err)
	}
}

// files lists everything that is not a folder below dir.
func files(dir string) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, fmt.Sprintf("%s %s", kind(d.Type()), path))
		}
		return nil
	})
	return found
}

// sockets lists the Unix sockets that are bound below dir, whether their file is still
// there or not.
func sockets(dir string) []string {
	data, _ := os.ReadFile("/proc/net/unix")
	var found []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 8 && strings.HasPrefix(fields[7], dir+"/") {
			found = append(found, "bound Unix socket "+fields[7])
		}
	}
	return found
}

func kind(mode os.FileMode) string {
	switch {
	case mode&os.ModeSocket != 0:
		return "socket"
	case mode&os.ModeNamedPipe != 0:
		return "pipe"
	}
	return "file"
}
