package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// upPatience bounds `dora up`: a store with a long history takes its time to open.
const upPatience = time.Minute

func newUpCmd() *cobra.Command {
	o := &coordinatorOptions{}
	t := &target{}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start coordinator and daemon in the background, if they are not running",
		Long: `Start coordinator and daemon in the background, if they are not running, and wait until
both are ready. Their logs are coordinator.log and daemon-local.log in the state folder
(DORA_HOME, default ~/.dora). ` + "`dora down`" + ` ends them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnv(cmd, map[string]string{"interface": "DORA_COORDINATOR_INTERFACE", "otlp-endpoint": "DORA_OTLP_ENDPOINT"}); err != nil {
				return err
			}
			if err := t.resolve(cmd); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), upPatience)
			defer cancel()
			ctx, stop := notifyStop(ctx)
			defer stop()
			return up(ctx, cmd, o, t)
		},
	}
	t.addFlags(cmd)
	o.addFlags(cmd)
	return cmd
}

func up(ctx context.Context, cmd *cobra.Command, o *coordinatorOptions, t *target) error {
	home, err := doraHome()
	if err != nil {
		return err
	}
	if !o.noAuth {
		if _, err := ensureToken(home); err != nil {
			return err
		}
	}
	// Two at once would start everything twice.
	lock, err := os.OpenFile(filepath.Join(home, "up.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := lockFile(lock); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	daemonDown := !storeHeld(filepath.Join(home, daemonStore(defaultMachine)))
	daemon := make(chan error, 1)
	startDaemon := func() {
		_, err := background(ctx, home, "daemon-"+defaultMachine+".log", "daemon", "--coordinator-addr", dialAddr(o.iface, t.addr), "--coordinator-port", fmt.Sprint(t.port))
		daemon <- err
	}
	info, running, err := runningCoordinator(ctx, t, home)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if daemonDown {
		go startDaemon() // beside the coordinator, for which it waits
	}
	if running {
		fmt.Fprintf(out, "coordinator already running on %s (pid %d)\n", t.hostPort(), info.PID)
	} else {
		args := append([]string{"coordinator", "--port", fmt.Sprint(t.port)}, o.flags()...)
		if _, err := background(ctx, home, "coordinator.log", args...); err != nil {
			return err
		}
		fmt.Fprintln(out, "started dora coordinator")
	}
	if daemonDown {
		if err := <-daemon; err != nil {
			return err
		}
		fmt.Fprintln(out, "started dora daemon")
		return nil
	}
	there, err := awaitDaemon(ctx, t, home)
	if err != nil {
		return err
	}
	if there {
		fmt.Fprintln(out, "daemon already running")
		return nil
	}
	go startDaemon()
	if err := <-daemon; err != nil {
		return err
	}
	fmt.Fprintln(out, "started dora daemon")
	return nil
}

// dialAddr is where a local daemon finds a coordinator that listens on iface.
func dialAddr(iface, addr string) string {
	switch iface {
	case "", "0.0.0.0", "::", defaultAddr:
		return addr
	}
	return iface
}

// runningCoordinator looks who has the port: our coordinator, nobody, or somebody else.
func runningCoordinator(ctx context.Context, t *target, home string) (info ws.Info, running bool, err error) {
	c, err := t.dial(ctx)
	// One that was just killed may still hold its port for an instant.
	for until := time.Now().Add(2 * time.Second); errors.Is(err, ws.ErrLost) && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
		c, err = t.dial(ctx)
	}
	var refused *ws.Error
	switch {
	case errors.Is(err, errNoCoordinator):
		return info, false, nil
	case errors.As(err, &refused):
		return info, false, fmt.Errorf("port %d is used by the coordinator of another user or state folder, %s, which refuses us: %s\n  fix: choose another port (DORA_COORDINATOR_PORT), or set DORA_HOME to its state folder", t.port, portOwner(t.port), refused.Message)
	case err != nil:
		return info, false, fmt.Errorf("port %d is in use by %s, which is no coordinator: %w\n  fix: end that process, or choose another port (DORA_COORDINATOR_PORT)", t.port, portOwner(t.port), err)
	}
	defer c.Close()
	if err := c.Call(ctx, ws.MethodInfo, struct{}{}, &info); err != nil {
		return info, false, err
	}
	if info.Home != home {
		return info, false, fmt.Errorf("port %d is used by the coordinator of the state folder %s (pid %d), and DORA_HOME is %s\n  fix: choose another port (DORA_COORDINATOR_PORT), or set DORA_HOME to that folder", t.port, info.Home, info.PID, home)
	}
	return info, true, nil
}

// storeHeld says whether a process has the store open.
func storeHeld(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer f.Close()
	return lockHeld(f)
}

// awaitDaemon waits until the daemon of this machine, which runs, is connected; false if
// it ended meanwhile.
func awaitDaemon(ctx context.Context, t *target, home string) (bool, error) {
	c, err := t.dial(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	for storeHeld(filepath.Join(home, daemonStore(defaultMachine))) {
		var daemons []ws.Daemon
		if err := c.Call(ctx, ws.MethodDaemons, ws.DaemonsQuery{Ping: true}, &daemons); err != nil {
			return false, err
		}
		for _, d := range daemons {
			if d.Connected && d.Machine == defaultMachine && d.Home == home {
				return true, nil
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false, fmt.Errorf("the daemon runs, but does not connect to the coordinator on %s\n  see %s", t.hostPort(), filepath.Join(home, "daemon-"+defaultMachine+".log"))
		}
	}
	return false, nil
}
