package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/ws"
	"github.com/google/uuid"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// coordinatorOptions are the flags of `dora coordinator`.
type coordinatorOptions struct {
	iface    string
	port     uint16
	store    string
	noAuth   bool
	deadline durationFlag
	otlp     string
	quiet    bool
}

func newCoordinatorCmd() *cobra.Command {
	o := &coordinatorOptions{}
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Run the coordinator in the foreground (`dora up` runs it in the background)",
		Long: `Run the coordinator in the foreground (` + "`dora up`" + ` runs it in the background).

It may be killed, upgraded and started again at any time: dataflows run on, and their
daemons come back to it by themselves.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ready := readyPipe()
			err := fromEnv(cmd, map[string]string{"interface": "DORA_COORDINATOR_INTERFACE", "port": "DORA_COORDINATOR_PORT",
				"otlp-endpoint": "DORA_OTLP_ENDPOINT"})
			if err == nil {
				err = o.run(cmd.Context(), ready)
			}
			tellReady(ready, err)
			return err
		},
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.Uint16VarP(&o.port, "port", "p", defaultPort, "port of the control plane (DORA_COORDINATOR_PORT)")
	f.BoolVar(&o.quiet, "quiet", false, "log only warnings and errors")
	return cmd
}

// addFlags are those that `dora up` has as well.
func (o *coordinatorOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.iface, "interface", defaultAddr, "address to listen on (DORA_COORDINATOR_INTERFACE); 0.0.0.0 for daemons on other machines")
	f.StringVar(&o.store, "store", "badger", "where the history is kept: badger, badger:DIR, or memory (lost at its end)")
	f.BoolVar(&o.noAuth, "no-auth", false, "let everybody who reaches the port in, without a token")
	f.StringVar(&o.otlp, "otlp-endpoint", "", "OpenTelemetry collector to send spans to, http://HOST:4318 (DORA_OTLP_ENDPOINT)")
	o.deadline.d = actors.DefaultDeadline
	f.Var(&o.deadline, "adopt-deadline", "how long a daemon may be away before its dataflows count as failed (default 60s)")
}

// flags are the arguments that hand these options on.
func (o *coordinatorOptions) flags() []string {
	args := []string{"--interface", o.iface, "--store", o.store, "--adopt-deadline", o.deadline.d.String()}
	if o.noAuth {
		args = append(args, "--no-auth")
	}
	if o.otlp != "" {
		args = append(args, "--otlp-endpoint", o.otlp)
	}
	return args
}

// serviceBallast is given up when the disk is full to the last byte: what Badger needs to
// write at all (32 MiB), and room for the stops and exits of that time.
const serviceBallast = 48 << 20

// openStore opens the store that --store names.
func openStore(home, spec, name string, log logrus.FieldLogger) (journal.Store, string, error) {
	kind, path, _ := strings.Cut(spec, ":")
	dir := filepath.Join(home, name)
	switch kind {
	case "memory":
		return journal.NewMemory(), "memory", nil
	case "badger":
		if path != "" {
			abs, err := filepath.Abs(path)
			if err != nil {
				return nil, "", err
			}
			dir = abs
		}
	case "redb":
		if path != "" && isRedb(path) {
			return nil, "", fmt.Errorf("%s is a store of another dora, which this one cannot read\n  fix: leave out the path, or use --store badger", path)
		}
		log.Warn("--store redb: the history is kept in a Badger store")
	default:
		return nil, "", usagef("--store %s: expected badger, badger:DIR or memory", spec)
	}
	store, err := journal.OpenBadger(dir, journal.OpenOptions{Log: log, Ballast: serviceBallast})
	if err != nil {
		return nil, "", storeError(dir, err)
	}
	return store, dir, nil
}

// isRedb looks at the first bytes of a file.
func isRedb(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = f.Read(magic)
	return err == nil && string(magic) == "redb"
}

// storeError adds who holds a store, and what to do about it.
func storeError(dir string, err error) error {
	switch {
	case errors.Is(err, journal.ErrLocked):
		return fmt.Errorf("%w\n  hint: the state folder %s belongs to a process that runs; `dora down` ends it", err, filepath.Dir(dir))
	case errors.Is(err, journal.ErrNewer):
		return fmt.Errorf("%w\n  fix: use the newer dora, or another DORA_HOME", err)
	case errors.Is(err, journal.ErrDamaged):
		return fmt.Errorf("%w\n  fix: put a copy of %s back, or move it away to start without a history", err, dir)
	}
	return err
}

// serviceLog is the log of a coordinator or daemon: text lines on stderr.
func serviceLog(quiet bool) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(os.Stderr)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: time.RFC3339Nano})
	if quiet {
		log.SetLevel(logrus.WarnLevel)
	}
	return log
}

func (o *coordinatorOptions) run(ctx context.Context, ready *os.File) error {
	ctx, stop := notifyStop(ctx)
	defer stop()
	log := serviceLog(o.quiet)
	home, err := doraHome()
	if err != nil {
		return err
	}
	store, where, err := openStore(home, o.store, coordinatorStore, log)
	if err != nil {
		return err
	}
	defer store.Close()
	vault, err := newFileVault(filepath.Join(home, "coordinator.env"))
	if err != nil {
		return err
	}
	token := ""
	if !o.noAuth {
		if token, err = ensureToken(home); err != nil {
			return err
		}
	}
	var observe func(string, time.Time, events.Event)
	if o.otlp != "" {
		export, err := newOTLP(ctx, o.otlp, log)
		if err != nil {
			return err
		}
		defer export.close(log)
		observe = export.observe
	}
	c, err := actors.OpenCoordinator(actors.CoordinatorOptions{Observe: observe, Store: store, Log: log, Version: version, PID: os.Getpid(), BootID: folder.BootID(),
		NewUUID: func() string { return uuid.Must(uuid.NewV7()).String() }, Deadline: o.deadline.d, Vault: vault, Verified: true})
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := listenTCP(o.iface, o.port)
	if err != nil {
		return err
	}
	srv := ws.NewServer(ws.HelloResult{Version: version, Role: "coordinator", PID: os.Getpid()})
	srv.Token = token
	c.Serve(srv)
	info := ws.Info{Home: home, Store: where, Journal: c.ID(), Epoch: c.Epoch(), Version: version, PID: os.Getpid(), StartedAt: time.Now().Format(time.RFC3339Nano)}
	srv.Handle(ws.MethodInfo, func(context.Context, *ws.Session, json.RawMessage) (any, error) { return info, nil })
	down := make(chan struct{}, 1)
	srv.Handle(ws.MethodDown, func(ctx context.Context, _ *ws.Session, _ json.RawMessage) (any, error) {
		err := c.EndDaemons(ctx)
		select {
		case down <- struct{}{}:
		default:
		}
		return nil, err
	})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	log.Infof("coordinator %s listens on %s (epoch %d, store %s)", version, l.Addr(), c.Epoch(), where)
	tellReady(ready, nil)
	select {
	case <-ctx.Done():
	case <-down:
		time.Sleep(50 * time.Millisecond) // the answer is on its way
	case err = <-served:
		return err
	}
	srv.Close()
	return <-served
}

// listenTCP names who has the port.
func listenTCP(iface string, port uint16) (net.Listener, error) {
	addr := net.JoinHostPort(iface, strconv.Itoa(int(port)))
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is in use by %s\n  fix: end that process, or choose another port (DORA_COORDINATOR_PORT)", port, portOwner(port))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}
