package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/cmd/dora/source"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// defaultMachine is the machine id of a daemon that was given none.
const defaultMachine = "local"

type daemonOptions struct {
	target  target
	machine string
	store   string
	quiet   bool
}

func newDaemonCmd() *cobra.Command {
	o := &daemonOptions{}
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the daemon of this machine in the foreground (`dora up` runs one in the background)",
		Long: `Run the daemon of this machine in the foreground (` + "`dora up`" + ` runs one in the background).

It may be killed, upgraded and started again at any time: the nodes run on, and the next
daemon finds them with everything that happened meanwhile. It also works on while the
coordinator is away.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ready := readyPipe()
			err := o.target.resolve(cmd)
			if err == nil {
				err = o.run(cmd.Context(), ready)
			}
			tellReady(ready, err)
			return err
		},
	}
	o.target.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.machine, "machine-id", defaultMachine, "name of this machine; every daemon of a coordinator has another one")
	f.StringVar(&o.store, "store", "badger", "where the history is kept: badger, badger:DIR, or memory (nothing is adopted after its end)")
	f.BoolVar(&o.quiet, "quiet", false, "log only warnings and errors")
	return cmd
}

// daemonStore is the name of a daemon's journal in the state folder.
func daemonStore(machine string) string { return "daemon-" + machine + ".badger" }

func (o *daemonOptions) run(ctx context.Context, ready *os.File) error {
	ctx, stop := notifyStop(ctx)
	defer stop()
	if err := actors.CheckMachineID(o.machine); err != nil {
		return usagef("--machine-id: %w", err)
	}
	log := serviceLog(o.quiet)
	home, err := doraHome()
	if err != nil {
		return err
	}
	store, where, err := openStore(home, o.store, daemonStore(o.machine), log)
	if err != nil {
		return err
	}
	defer store.Close()
	vault, err := newFileVault(filepath.Join(home, "daemon-"+o.machine+".env"))
	if err != nil {
		return err
	}
	launcher := &daemonLauncher{home: home, log: log}
	sweep := newSweeper(launcher)
	defer sweep.stop()
	d, err := actors.Open(actors.Options{Store: store, Log: log, Machine: o.machine, Version: version, PID: os.Getpid(), BootID: folder.BootID(),
		Launcher: launcher, NewToken: newToken, Vault: vault, Verified: true, Observe: sweep.observe, Place: placeHere})
	if err != nil {
		return err
	}
	sweep.begin(d)
	log.Infof("daemon %s of machine %s (epoch %d, store %s)", version, o.machine, d.Epoch(), where)
	s := &daemonServer{d: d, ended: make(chan struct{})}
	host, _ := os.Hostname()
	var once sync.Once
	up := actors.Connect(d, actors.UplinkOptions{
		Dial: func(ctx context.Context, handlers map[string]ws.ClientHandler) (actors.CoordinatorConn, error) {
			c, err := o.target.dialAs(ctx, "daemon", handlers)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		Register: ws.Register{PID: os.Getpid(), BootID: folder.BootID(), Home: home, Host: host},
		Handlers: s.handlers(),
		Joined:   func(ws.Registered) { once.Do(func() { tellReady(ready, nil) }) },
	})
	select {
	case <-ctx.Done():
	case <-s.ended:
	}
	up.Close()
	closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err = d.Close(closing)
	sweep.once()
	return err
}

// placeHere adds to a descriptor, which came as text, what lies on this machine: the fetched
// sources of its nodes, and the types beside it. Types that cannot be read any more are
// those that nobody checks: the command that started the dataflow has reported them.
func placeHere(d *dataflow.Descriptor) error {
	d.Types, _ = dataflow.LoadTypes(d.Dir())
	return source.Place(d)
}

// daemonServer answers the coordinator's questions about this machine.
type daemonServer struct {
	d       *actors.Daemon
	sampler sampler
	readers logReaders
	ended   chan struct{}
	endOnce sync.Once
}

func (s *daemonServer) handlers() map[string]ws.ClientHandler {
	return map[string]ws.ClientHandler{
		ws.MethodNodes:  s.nodes,
		ws.MethodLogs:   s.logs,
		ws.MethodReload: s.d.ServeReload,
		ws.MethodEnd: func(context.Context, json.RawMessage) (any, error) {
			s.endOnce.Do(func() { time.AfterFunc(20*time.Millisecond, func() { close(s.ended) }) })
			return nil, nil
		},
	}
}

// nodes lists the nodes of one dataflow, or of all that live, with what they use.
func (s *daemonServer) nodes(ctx context.Context, raw json.RawMessage) (any, error) {
	var q ws.NodesQuery
	if err := json.Unmarshal(raw, &q); err != nil {
		return nil, ws.Errorf(ws.CodeBadRequest, "nodes: %v", err)
	}
	flows, err := s.d.Dataflows(ctx)
	if err != nil {
		return nil, err
	}
	out := []ws.Node{}
	for _, f := range flows {
		ended := f.Status == actors.StatusFinished || f.Status == actors.StatusFailed
		if q.Dataflow != "" && q.Dataflow != f.UUID || q.Dataflow == "" && ended {
			continue
		}
		nodes, err := s.d.Nodes(ctx, f.UUID)
		if err != nil {
			return nil, err
		}
		desc, err := s.d.Descriptor(f.UUID)
		if err != nil {
			return nil, err
		}
		out = append(out, s.sampler.wire(desc, f, nodes)...)
	}
	return out, nil
}

// wire are nodes as the control plane shows them, with what their processes use.
func (s *sampler) wire(desc *dataflow.Descriptor, f actors.DataflowInfo, nodes []actors.NodeInfo) []ws.Node {
	usage := s.sample(pids(nodes))
	out := make([]ws.Node, 0, len(nodes))
	for _, n := range nodes {
		w := actors.WireNode(desc, f.UUID, f.Name, n)
		u := usage[n.PID]
		w.Metrics.CPUUsage, w.Metrics.MemoryMB = u.cpu, u.memoryMB
		out = append(out, w)
	}
	return out
}

// sweeper removes the folders of dead shims whose dataflows are over.
type sweeper struct {
	l    *daemonLauncher
	wake chan struct{}
	quit chan struct{}
	done chan struct{}
	d    *actors.Daemon
}

// sweepAfter is how long after the end of a dataflow its shim and guard are gone.
const sweepAfter = 2 * time.Second

func newSweeper(l *daemonLauncher) *sweeper {
	return &sweeper{l: l, wake: make(chan struct{}, 1), quit: make(chan struct{})}
}

func (s *sweeper) observe(_ string, _ time.Time, e events.Event) {
	if _, ok := e.(events.DataflowFinished); ok {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

func (s *sweeper) begin(d *actors.Daemon) {
	s.d, s.done = d, make(chan struct{})
	go func() {
		defer close(s.done)
		s.once()
		for {
			select {
			case <-s.quit:
				return
			case <-s.wake:
			}
			select {
			case <-s.quit:
				return
			case <-time.After(sweepAfter):
				s.once()
			}
		}
	}()
}

func (s *sweeper) once() {
	if s.d == nil {
		return
	}
	flows, err := s.d.Dataflows(context.Background())
	if err != nil && !errors.Is(err, actors.ErrClosed) {
		return
	}
	over := map[string]bool{}
	for _, f := range flows {
		over[f.UUID] = f.Status == actors.StatusFinished || f.Status == actors.StatusFailed
	}
	s.l.sweepShims(func(uuid string) bool { return over[uuid] })
}

func (s *sweeper) stop() {
	close(s.quit)
	if s.done != nil {
		<-s.done
	}
}
