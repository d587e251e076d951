package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/guard"
	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/shim/spawn"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// Main is the entry of the shim. It looks at the arguments of the process (without its
// name) and says whether they were for it: shim serve. (The guard, shim guard, takes its
// process over before any main is reached; see package guard.)
func Main(args []string) (handled bool, code int) {
	if len(args) < 2 || args[0] != "shim" || args[1] != "serve" {
		return false, 0
	}
	contain.SetName("dora-shim")
	// The guard starts its shim before it is known what for. Nothing is touched until then.
	cfg, err := guard.ReadConfig(guard.ShimGuardFD)
	switch {
	case errors.Is(err, guard.ErrUnwanted):
		return true, 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "[ERROR]", err)
		return true, 2
	}
	contain.SetOutput(filepath.Join(cfg.Dir, folder.StderrName))
	return true, run(cfg)
}

// lockPatience: others look at the lock for an instant, and a shim that found another
// token in `want` needs a moment to go.
const lockPatience = 500 * time.Millisecond

// startTime is when a shim is not starting any more, for memory's sake.
const startTime = time.Second

// run is the shim's life.
func run(cfg guard.Config) int {
	// Messages pass through; what lives long is small. Not while starting: the limit would be
	// so low that a collection comes in between.
	time.AfterFunc(startTime, func() { debug.SetGCPercent(50) })
	nodewire.OnHuge(new(tidy).soon)
	ready := os.NewFile(guard.ReadyFD, "ready")
	files := inherit(cfg)
	s, listener, err := open(cfg)
	if err != nil {
		json.NewEncoder(ready).Encode(folder.Ready{Error: err.Error()})
		return 1
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // swallowed but for SIGTERM
	go s.serve(listener)
	err = json.NewEncoder(ready).Encode(folder.Ready{Owner: s.owner})
	ready.Close()
	if err != nil {
		return s.vanish() // the starter is gone already
	}
	go s.watchFolder()
	go s.watchGuard(files.guard)
	if files.parent != nil {
		go s.watchParent(files.parent)
	}
	s.mu.Lock()
	s.considerIdle() // if no daemon ever comes
	s.mu.Unlock()
	for {
		select {
		case code := <-s.exit:
			return code
		case sig := <-signals:
			if sig == syscall.SIGTERM {
				go s.wind("it was told to by SIGTERM")
			}
		}
	}
}

type inherited struct{ guard, parent *os.File }

// inherit takes over the files that the guard handed down; none of them may reach a node.
func inherit(cfg guard.Config) inherited {
	for fd := guard.ReadyFD; fd <= guard.ShimParentFD; fd++ {
		syscall.CloseOnExec(fd)
	}
	in := inherited{guard: ownPipe(guard.ShimGuardFD, "guard")}
	if cfg.ParentPipe {
		in.parent = ownPipe(guard.ShimParentFD, "parent")
	} else {
		syscall.Close(guard.ShimParentFD)
	}
	return in
}

// ownPipe opens an inherited pipe anew, non-blocking, so that waiting for it costs no
// thread. The inherited open file is shared with the guard, which blocks on it, and so it
// is left as it is.
func ownPipe(fd uintptr, name string) *os.File {
	if f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
		syscall.Close(int(fd))
		return f
	}
	return os.NewFile(fd, name)
}

// open takes the lock first, then looks whether it is wanted, then opens everything else.
func open(cfg guard.Config) (*Shim, net.Listener, error) {
	lock, err := folder.Acquire(cfg.Dir, lockPatience)
	if err != nil {
		return nil, nil, err
	}
	want, err := folder.ReadWant(cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	if want.Token != cfg.Token {
		return nil, nil, fmt.Errorf("the folder %s wants the shim with token %s, and this is %s", cfg.Dir, want.Token, cfg.Token)
	}
	facts, err := openFacts(cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	table, err := spawn.NewTable(cfg.Mark)
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("unix", cfg.Socket)
	if err != nil {
		return nil, nil, fmt.Errorf("the shim's socket: %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	start, _ := contain.StartTime(os.Getpid())
	s := &Shim{cfg: cfg, lock: lock, facts: facts, drops: drops{facts: facts}, table: table, epoch: want.Epoch, exit: make(chan int, 1),
		marks:    newSegments(filepath.Join(cfg.Dir, folder.SegmentsName)),
		logClock: nodelog.NewClock(time.Now),
		owner: folder.Owner{
			PID: os.Getpid(), StartTime: start, GuardPID: cfg.GuardPID, BootID: folder.BootID(),
			Token: cfg.Token, Dataflow: cfg.Dataflow, Version: cfg.Version, Socket: cfg.Socket, Mark: cfg.Mark,
			Cgroup: cfg.Cgroup, Run: cfg.ParentPipe, Started: time.Now(),
		}}
	if err := lock.Publish(s.owner); err != nil {
		os.Remove(cfg.Socket)
		return nil, nil, err
	}
	if facts.log.Older && facts.log.Last() > 0 {
		facts.report(link.Fact{Restarted: &link.ShimRestarted{PID: os.Getpid()}})
	}
	return s, listener, nil
}

// watchParent: the starter is gone, and with it everything goes, now.
func (s *Shim) watchParent(pipe *os.File) {
	awaitEOF(pipe)
	s.alone.Store(true) // the guard may have been killed with it
	contain.RemoveSocket(s.cfg.StarterSocket)
	s.end("its parent is gone", true)
}

// watchGuard: without a guard the nodes work on; whoever looks is told.
func (s *Shim) watchGuard(pipe *os.File) {
	awaitEOF(pipe)
	s.alone.Store(true)
	s.facts.warn("", 0, "the shim's guard was killed; should the shim be killed, too, only the daemon can end what it leaves behind")
}

func awaitEOF(pipe *os.File) {
	var b [16]byte
	for {
		n, err := pipe.Read(b[:])
		if n == 0 && err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// end kills everything that still runs and ends the process. With remove, the folder goes
// too: nothing in it is wanted any more. Without, it stays for unacknowledged facts.
func (s *Shim) end(why string, remove bool) {
	s.ended.Do(func() {
		s.mu.Lock()
		s.closing = true
		for _, n := range s.order {
			if n.proc != nil {
				s.marks.note(n.proc.PID)
			}
		}
		s.mu.Unlock()
		ended := s.table.KillAll(2 * time.Second)
		if !ended {
			fmt.Fprintf(os.Stderr, "shim: %s: some processes do not end (they may wait for a device)\n", why)
		}
		if !remove {
			s.drops.daemon(true) // whatever waits is a fact now
			s.flush()
		}
		s.finishLogs()
		s.mu.Lock()
		router := s.router
		s.mu.Unlock()
		if router != nil {
			router.CloseBridges()
		}
		if !ended { // they keep their shared memory locked
			s.table.KillAll(3 * time.Second)
		}
		s.marks.sweepAll()
		contain.RemoveSocket(s.owner.Socket)
		if first, _ := s.facts.bounds(); remove || first == 0 {
			os.RemoveAll(s.cfg.Dir)
		}
		if s.alone.Load() || os.Getppid() != s.cfg.GuardPID {
			contain.LeaveCgroup(s.cfg.Cgroup) // else the guard removes it
		}
		s.exit <- 0
	})
}

// flush tells the daemon, if there is one, what it has not been told yet.
func (s *Shim) flush() {
	s.mu.Lock()
	ss := s.session
	s.mu.Unlock()
	if ss != nil {
		ss.flush(time.Second)
	}
}

// finishLogs writes what is queued for the log files.
func (s *Shim) finishLogs() {
	s.mu.Lock()
	nodes := s.order
	s.mu.Unlock()
	for _, n := range nodes {
		if n.logs != nil {
			n.logs.Close(time.Second)
		}
	}
}

// vanish ends a shim that nobody waits for.
func (s *Shim) vanish() int {
	s.end("its starter is gone", true)
	return <-s.exit
}

// localListenPort is where dynamic nodes knock.
func localListenPort(env []string) int {
	const standard = 53291
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "DORA_DAEMON_LOCAL_LISTEN_PORT="); ok {
			if port, err := strconv.Atoi(v); err == nil && port > 0 && port < 65536 {
				return port
			}
		}
	}
	return standard
}
