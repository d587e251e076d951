package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

func newDownCmd() *cobra.Command {
	t := &target{}
	cmd := &cobra.Command{
		Use:     "down",
		Aliases: []string{"destroy"},
		Short:   "Stop all dataflows, then end daemons and coordinator",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(cmd); err != nil {
				return err
			}
			ctx, stop := notifyStop(cmd.Context())
			defer stop()
			return down(ctx, cmd, t)
		},
	}
	t.addFlags(cmd)
	return cmd
}

// downPatience is how long processes may take to end once they were told to.
const downPatience = 15 * time.Second

func down(ctx context.Context, cmd *cobra.Command, t *target) error {
	c, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var info ws.Info
	if err := c.Call(ctx, ws.MethodInfo, struct{}{}, &info); err != nil {
		return err
	}
	var daemons []ws.Daemon
	if err := c.Call(ctx, ws.MethodDaemons, ws.DaemonsQuery{}, &daemons); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Destroying coordinator at %s\n", t.hostPort())
	if err := stopAll(ctx, c, asked(cmd)); err != nil {
		return err
	}
	if err := c.Call(ctx, ws.MethodDown, struct{}{}, nil); err != nil && !errors.Is(err, ws.ErrLost) {
		return err
	}
	// What runs here is waited for, so that the next `up` finds a free port and stores.
	home, err := doraHome()
	if err != nil {
		return err
	}
	if info.Home == home {
		stores := []string{info.Store} // a folder, or "memory"
		for _, d := range daemons {
			if d.Home == home {
				stores = append(stores, filepath.Join(home, daemonStore(d.Machine)))
			}
		}
		for _, dir := range stores {
			if err := awaitFree(ctx, dir); err != nil {
				return err
			}
		}
		if err := stopLeftShims(ctx, home); err != nil {
			return err
		}
	}
	fmt.Fprintln(cmd.OutOrStdout(), "Coordinator and daemons destroyed successfully")
	return nil
}

// stopAll stops every dataflow and waits for their ends.
func stopAll(ctx context.Context, c *ws.Client, by *ws.Asked) error {
	var flows []ws.Dataflow
	if err := c.Call(ctx, ws.MethodList, ws.ListQuery{Brief: true}, &flows); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(flows))
	for i, d := range flows {
		if d.EndedAt != "" {
			continue
		}
		wg.Go(func() {
			var o ws.Ordered
			if err := c.Call(ctx, ws.MethodStop, ws.Stop{Dataflow: d.UUID, Cause: "down", Asked: by}, &o); err != nil {
				errs[i] = ignoreEnded(err)
				return
			}
			if !o.Delivered {
				fmt.Fprintf(os.Stderr, "warning: the daemon of machine %s is away; dataflow %s is stopped when it is back\n", o.Machine, d.UUID)
				return
			}
			errs[i] = c.Call(ctx, ws.MethodWait, ws.DataflowRef{Dataflow: d.UUID}, nil)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ignoreEnded: what has ended meanwhile need not be stopped.
func ignoreEnded(err error) error {
	var e *ws.Error
	if errors.As(err, &e) && e.Code == "ended" {
		return nil
	}
	return err
}

func awaitFree(ctx context.Context, store string) error {
	for until := time.Now().Add(downPatience); storeHeld(store); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) || ctx.Err() != nil {
			return fmt.Errorf("the process that has %s open does not end", store)
		}
	}
	return nil
}

// stopLeftShims ends shims that no daemon was there to end.
func stopLeftShims(ctx context.Context, home string) error {
	found, err := launch.Find(home)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range found {
		if f.Owner.Run {
			continue // of a `dora run`
		}
		if f.Alive {
			fmt.Fprintf(os.Stderr, "stopping the nodes of dataflow %s, which no daemon did\n", f.Dataflow)
			errs = append(errs, f.Stop(ctx, false))
		}
	}
	return errors.Join(errs...)
}
