//go:build linux

package shm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// playground runs child processes under a supervisor in this process.
type playground struct {
	*rig
	exe    string
	socket string
	board  *board
	file   *os.File

	mu    sync.Mutex
	nodes []*process
}

// process is one node; it is started again and again.
type process struct {
	slot   int
	node   string
	role   string
	member *Member
	cmd    *exec.Cmd
	errors *strings.Builder
	count  int // processes so far
	pid    atomic.Int64
}

func newPlayground(t *testing.T, exe string, o SupervisorOptions) *playground {
	t.Helper()
	g := &playground{rig: newRig(t, o), exe: exe}
	dir, err := os.MkdirTemp("", "shm") // short: a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g.socket = filepath.Join(dir, "s")
	if err := g.sup.Listen(g.socket); err != nil {
		t.Fatal(err)
	}
	fd, err := newMemfd(pageSize)
	if err != nil {
		t.Fatal(err)
	}
	g.file = os.NewFile(uintptr(fd), "board")
	if g.board, err = openBoard(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.file.Close()
		unmap(g.board.mem)
	})
	return g
}

func (g *playground) node(node, role string) *process {
	p := &process{slot: len(g.nodes), node: node, role: role}
	g.nodes = append(g.nodes, p)
	return p
}

// spawn starts the next process of a node. Its edges must exist already.
func (g *playground) spawn(p *process, faultSpec string) error {
	p.count++
	p.errors = new(strings.Builder)
	cmd := exec.Command(g.exe)
	cmd.Env = append(os.Environ(),
		"DORA_SHM_TEST_ROLE="+p.role, "DORA_SHM_TEST_SOCKET="+g.socket, "DORA_SHM_TEST_TOKEN="+p.member.Token(),
		fmt.Sprint("DORA_SHM_TEST_SLOT=", p.slot), fmt.Sprint("DORA_SHM_TEST_SEED=", p.slot*1000+p.count),
		"DORA_SHM_FAULT="+faultSpec, "GOMAXPROCS=2")
	cmd.ExtraFiles = []*os.File{g.file}
	cmd.Stderr = p.errors
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd = cmd
	if err := cmd.Start(); err != nil {
		return err
	}
	p.pid.Store(int64(cmd.Process.Pid))
	return nil
}

// join makes the next incarnation of a node and connects it to all live others of the
// opposite role: one backpressure and one drop_oldest edge each.
func (g *playground) join(p *process) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, err := g.sup.Join(p.node)
	if err != nil {
		return err
	}
	p.member = m
	for _, other := range g.nodes {
		if other.member == nil || other.role == p.role {
			continue
		}
		from, to := p.member, other.member
		if p.role == "consumer" {
			from, to = to, from
		}
		for _, r := range []Route{{Output: "all", Queue: 4, Policy: Backpressure}, {Output: "latest", Queue: 2, Policy: DropOldest}} {
			r.From, r.To, r.Input = from, to, from.Node()+"-"+r.Output
			if _, err := g.sup.Connect(r); err != nil && !strings.Contains(err.Error(), "has ended") {
				return err
			}
		}
	}
	return nil
}

// leave is what the supervisor does when a process has ended.
func (g *playground) leave(p *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.member.Leave()
	p.member = nil
}

// killed says whether the process ended by SIGKILL, or regularly; all else is an error.
func (p *process) killed(err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
		return true, nil
	}
	return false, fmt.Errorf("%s (process %d): %w: %s", p.node, p.count, err, p.errors)
}

// watch fails if a live process makes no progress for limit. It ends with done.
func (g *playground) watch(limit time.Duration, done <-chan struct{}) error {
	last := make([]uint64, len(g.nodes))
	at := make([]time.Time, len(g.nodes))
	for i := range at {
		at[i] = time.Now()
	}
	for {
		select {
		case <-done:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		for i, p := range g.nodes {
			if n := atomic.LoadUint64(g.board.count(i)); n != last[i] {
				last[i], at[i] = n, time.Now()
			} else if time.Since(at[i]) > limit {
				return fmt.Errorf("%s is wedged: no progress for %v after %d messages", p.node, limit, n)
			}
		}
	}
}

// The steps at which processes kill themselves, and how often a step must be reached
// before, at most.
var producerSteps = map[string]int{
	"edge.attached": 3, "slot.taken": 40, "payload.written": 40, "entry.written": 100, "head.stored": 100,
	"ring.cleared": 30, "evict.claimed": 30, "want.set": 20, "room.armed": 20, "token.read": 40,
	"segment.made": 4, "segment.announced": 4, "retire.unmapped": 3, "end.published": 4,
}

var consumerSteps = map[string]int{
	"edge.attached": 3, "bell.armed": 30, "entry.copied": 100, "entry.claimed": 100, "segment.asked": 4,
	"segment.mapped": 4, "token.written": 40, "token.published": 40, "ring.cleared": 20,
}

// plan lists what the processes of one node are to die of.
func plan(steps map[string]int, times int, seed uint64) []string {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var out []string
	for step, most := range steps {
		for range times {
			out = append(out, fmt.Sprintf("%s:%d", step, 1+rnd.IntN(most)))
		}
	}
	rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// live runs one node until it has died of everything in its plan, calls planned, and
// goes on restarting it until stop: the others need it.
func (g *playground) live(p *process, deaths []string, planned func(), stop <-chan struct{}) error {
	for tries := 0; ; {
		spec := ""
		if len(deaths) > 0 {
			spec = deaths[0]
		} else if planned != nil {
			planned()
			planned = nil
		}
		if err := g.spawn(p, spec); err != nil {
			return err
		}
		waited := make(chan error, 1)
		cmd := p.cmd
		go func() { waited <- cmd.Wait() }()
		if spec == "kill" {
			time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		var err error
		select {
		case err = <-waited:
		case <-stop:
			_ = p.cmd.Process.Kill()
			<-waited
			return nil
		}
		dead, err := p.killed(err)
		if err != nil {
			return err
		}
		if dead && spec != "" {
			deaths, tries = deaths[1:], 0
		} else if tries++; spec != "" && tries > 5 {
			return fmt.Errorf("%s never came to %s", p.node, spec)
		}
		g.leave(p)
		if err := g.join(p); err != nil {
			return err
		}
	}
}

// run lets two producers and two consumers die of their plans, then checks that what is
// left is as it should be. limit is how long a process may be without progress.
func (g *playground) run(plans map[string][]string, limit time.Duration) error {
	for _, p := range []*process{g.node("p1", "producer"), g.node("p2", "producer"), g.node("c1", "consumer"), g.node("c2", "consumer")} {
		if err := g.join(p); err != nil {
			return err
		}
	}
	var planned, lives sync.WaitGroup
	results := make(chan error, len(g.nodes)+1)
	stop, done := make(chan struct{}), make(chan struct{})
	for _, p := range g.nodes {
		planned.Add(1)
		lives.Add(1)
		go func() {
			defer lives.Done()
			if err := g.live(p, plans[p.node], planned.Done, stop); err != nil {
				results <- err
			}
		}()
	}
	go func() {
		planned.Wait()
		close(done)
	}()
	watched := make(chan struct{})
	lives.Add(1)
	go func() {
		defer lives.Done()
		if err := g.watch(limit, watched); err != nil {
			results <- err
		}
	}()
	var err error
	select {
	case <-done:
	case err = <-results:
	}
	close(watched)
	if err == nil {
		err = g.settle(results)
	}
	close(stop)
	lives.Wait()
	return err
}

// settle has the producers end and looks at what all four still have open.
func (g *playground) settle(failed <-chan error) error {
	atomic.StoreUint64(g.board.order(), 1)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-failed:
			return err
		default:
		}
		settled := atomic.LoadUint64(g.board.settled(0)) != 0 && atomic.LoadUint64(g.board.settled(1)) != 0
		left := error(nil)
		if settled {
			if left = g.leftovers(); left == nil {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("20 s after the end: slots of both producers are back: %v; %v", settled, left)
		}
	}
}

// leftovers names shared memory that a child has open and that belongs to no live edge,
// bell or segment.
func (g *playground) leftovers() error {
	alive := map[uint64]bool{inode(int(g.file.Fd())): true}
	g.sup.mu.Lock()
	for _, e := range g.sup.edges {
		alive[inode(e.fd)] = true
	}
	for _, m := range g.sup.members {
		alive[inode(m.bellFD)] = true
		for _, seg := range m.segments {
			alive[inode(seg.fd)] = true
		}
	}
	g.sup.mu.Unlock()
	for _, p := range g.nodes {
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid.Load()))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(maps)) {
			if f := strings.Fields(line); strings.Contains(line, "/memfd:") {
				if ino, _ := strconv.ParseUint(f[4], 10, 64); !alive[ino] {
					return fmt.Errorf("%s has mapped what nobody needs any more: %s", p.node, line)
				}
			}
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid.Load()))
		if err != nil {
			return err
		}
		for _, fd := range fds {
			to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.pid.Load(), fd.Name()))
			if strings.Contains(to, "/memfd:") && fd.Name() != "3" {
				return fmt.Errorf("%s has descriptor %s open: %s", p.node, fd.Name(), to)
			}
		}
	}
	return nil
}

func inode(fd int) uint64 {
	var st syscall.Stat_t
	_ = syscall.Fstat(fd, &st)
	return st.Ino
}

// faultyDir holds the test binary with fault injection, built by the first test that
// needs it.
var faultyDir string

var faulty = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "shmfault")
	if err != nil {
		return "", err
	}
	faultyDir = dir
	exe := filepath.Join(dir, "shm.test")
	out, err := exec.Command("go", "test", "-c", "-tags", "shmfault", "-o", exe, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the test binary with fault injection: %w\n%s", err, out)
	}
	return exe, nil
})
