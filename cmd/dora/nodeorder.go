package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/ws"
	"github.com/spf13/cobra"
)

// nodes are the nodes of the dataflow, in file order.
func (f *flow) nodes(ctx context.Context) ([]ws.Node, error) {
	return f.queryNodes(ctx, ws.NodesQuery{Dataflow: f.UUID})
}

func (f *flow) queryNodes(ctx context.Context, q ws.NodesQuery) ([]ws.Node, error) {
	if f.run != nil && !f.run.live {
		return nil, fmt.Errorf("dataflow %s is not running any more (%s)\n  hint: `dora events -d %s` shows what happened", f.UUID, withReason(f.Status, f.Reason), f.UUID)
	}
	var nodes []ws.Node
	err := f.call(ctx, ws.MethodNodes, q, &nodes)
	return nodes, err
}

// node is one of them.
func (f *flow) node(ctx context.Context, id string) (ws.Node, error) {
	return f.oneNode(ctx, ws.NodesQuery{Dataflow: f.UUID}, id)
}

func (f *flow) oneNode(ctx context.Context, q ws.NodesQuery, id string) (ws.Node, error) {
	nodes, err := f.queryNodes(ctx, q)
	if err != nil {
		return ws.Node{}, err
	}
	var ids []string
	for _, n := range nodes {
		if n.NodeID == id {
			return n, nil
		}
		ids = append(ids, n.NodeID)
	}
	hint := ""
	if near := dataflow.Nearest(id, ids); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return ws.Node{}, fmt.Errorf("no node %q in dataflow %s%s\n  hint: available nodes: %s", id, f.label(), hint, strings.Join(ids, ", "))
}

// wait waits for the end of the dataflow.
func (f *flow) wait(ctx context.Context) (ws.Result, error) {
	var res ws.Result
	err := f.call(ctx, ws.MethodWait, ws.DataflowRef{Dataflow: f.UUID}, &res)
	if f.run == nil || err == nil || !errors.Is(err, ws.ErrLost) && !errors.Is(err, errRunEnded) {
		return res, err
	}
	// The run ended before its answer was out: its record has the end.
	for until := time.Now().Add(downPatience); time.Now().Before(until) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if r, err := readRunRecord(recordPath(f.run)); err == nil && !r.live {
			res = ws.Result{UUID: r.UUID, Status: r.Status}
			if r.Reason != "" {
				res.Failures = []ws.Failure{{Error: r.Reason}}
			}
			return res, nil
		}
	}
	return res, err
}

func newNodeStopCmd() *cobra.Command {
	return newNodeOrderCmd(&cobra.Command{
		Use:   "stop <NODE>",
		Short: "Stop one node; the others run on",
		Long: `Stop one node; the others run on. It gets a Stop event, SIGTERM after the grace period
(10 s), and SIGKILL after half of it again. The command returns when the node is gone.`,
	}, false)
}

func newNodeRestartCmd() *cobra.Command {
	return newNodeOrderCmd(&cobra.Command{
		Use:   "restart <NODE>",
		Short: "Restart one node; its consumers stay connected",
		Long: `Stop one node and start it again. Its outputs stay open meanwhile: consumers are told
NODE_RESTARTED and get its data again. The command returns when the node is back.`,
	}, true)
}

func newNodeOrderCmd(cmd *cobra.Command, restart bool) *cobra.Command {
	var d dataflowFlag
	var grace durationFlag
	var force bool
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := d.find(cmd, choice{verb: cmd.Name() + " a node of", changes: true})
		if err != nil {
			return err
		}
		ctx, cancel := notifyStop(cmd.Context())
		defer cancel()
		before, err := f.node(ctx, args[0])
		if err != nil {
			return err
		}
		order := ws.NodeStop{Dataflow: f.UUID, Node: args[0], Restart: restart, Grace: grace.d, Force: force, Asked: asked(cmd)}
		return orderNode(ctx, cmd, f, order, before)
	}
	d.addFlags(cmd)
	cmd.Flags().Var(&grace, "grace", "time between the Stop event and SIGTERM")
	cmd.Flags().BoolVar(&force, "force", false, "kill the node at once")
	return cmd
}

// orderNode stops or restarts a node and waits until that is done.
func orderNode(ctx context.Context, cmd *cobra.Command, f *flow, order ws.NodeStop, before ws.Node) error {
	var o ws.Ordered
	if err := f.call(ctx, ws.MethodNodeStop, order, &o); err != nil {
		return err
	}
	if !o.Delivered {
		return fmt.Errorf("the daemon of machine %s is away: the order is recorded, and carried out when it is back\n  hint: `dora up` starts the daemon of this machine", o.Machine)
	}
	for {
		n, err := f.node(ctx, order.Node)
		if err != nil {
			return err
		}
		over := n.Metrics.Status == actors.StatusFinished || n.Metrics.Status == actors.StatusFailed || n.Metrics.Status == actors.StatusStopped
		switch {
		case !order.Restart && over:
			fmt.Fprintf(cmd.OutOrStdout(), "Stopped node `%s`\n", order.Node)
			return nil
		case order.Restart && n.Generation > before.Generation && n.Metrics.PID > 0 && n.Metrics.Status != actors.StatusRestarting:
			fmt.Fprintf(cmd.OutOrStdout(), "Restarted node `%s` (pid %d)\n", order.Node, n.Metrics.PID)
			return nil
		case over:
			return fmt.Errorf("node %s did not come back: %s", order.Node, withReason(n.Metrics.Status, n.LastExit))
		}
		select {
		case <-time.After(orderInterval):
		case <-ctx.Done():
			return fmt.Errorf("the order is given; node %s is %s", order.Node, n.Metrics.Status)
		}
	}
}

// orderInterval is how often a command looks whether its order is carried out.
const orderInterval = 30 * time.Millisecond
