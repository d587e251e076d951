//go:build linux

package shm

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	restless atomic.Bool // receivers are killed all the time
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
	heir   bool // it took over the inputs of the process before
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
		fmt.Sprint("DORA_SHM_TEST_HEIR=", p.heir), "DORA_SHM_FAULT="+faultSpec, "GOMAXPROCS=2")
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

// replace makes the next incarnation of a node. Every other process of a consumer takes
// over the inputs of the one before, with what is queued there.
func (g *playground) replace(p *process) error {
	if p.heir = p.role == "consumer" && !p.heir; !p.heir {
		g.leave(p)
		return g.join(p)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	next, err := g.sup.Join(p.node)
	if err != nil {
		return err
	}
	old := p.member
	p.member = next
	return old.Succeed(next)
}

// notify numbers notices for the consumers, until stop.
func (g *playground) notify(stop <-chan struct{}) {
	for n := uint64(1); ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(3 * time.Millisecond):
		}
		g.mu.Lock()
		for _, p := range g.nodes {
			if p.role == "consumer" && p.member != nil {
				_ = p.member.Tell(binary.LittleEndian.AppendUint64(nil, n)) // it may have ended
			}
		}
		g.mu.Unlock()
	}
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

// soleSteps are those of a producer with one receiver, which is woken early, and succeeded
// by its next process.
var soleSteps = map[string]int{"heir.freed": 1, "heir.known": 1, "rouse.rung": 20}

var consumerSteps = map[string]int{
	"edge.attached": 3, "bell.armed": 30, "entry.copied": 100, "entry.claimed": 100, "segment.asked": 4,
	"segment.mapped": 4, "token.written": 40, "token.published": 40, "ring.cleared": 20,
	"notice.taken": 5,
}

// tries is how many processes may end before a step was reached.
func (g *playground) tries() int {
	if g.restless.Load() {
		return 100 // it depends on what happens to others
	}
	return 5
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
		if spec == "" && p.role == "consumer" && g.restless.Load() {
			spec = "kill"
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
		if len(deaths) == 0 {
			// killed without a plan
		} else if dead {
			deaths, tries = deaths[1:], 0
		} else if tries++; tries > g.tries() {
			return fmt.Errorf("%s never came to %s", p.node, spec)
		}
		if err := g.replace(p); err != nil {
			return err
		}
	}
}

// run lets producers and consumers (p... and c..., two of the former) die of their plans,
// then checks that what is left is as it should be. limit is how long a process may be
// without progress.
func (g *playground) run(plans map[string][]string, limit time.Duration) error {
	names := slices.Sorted(maps.Keys(plans))
	slices.Reverse(names) // producers have the first places on the board
	for _, name := range names {
		role := "producer"
		if name[0] == 'c' {
			role = "consumer"
		}
		p := g.node(name, role)
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
		g.notify(watched)
	}()
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
	g.restless.Store(false)
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
