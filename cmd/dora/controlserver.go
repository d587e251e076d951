package main

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/transport/ws"
	"github.com/shirou/gopsutil/v4/process"
)

// controlServer answers other commands about this run.
type controlServer struct {
	r       *runner
	srv     *ws.Server
	sampler sampler
}

func newControlServer(r *runner) *controlServer {
	c := &controlServer{r: r, srv: ws.NewServer(ws.HelloResult{Version: version, Role: "run", PID: os.Getpid()})}
	c.srv.Handle("list", c.list)
	c.srv.Handle("nodes", c.nodes)
	return c
}

func (c *controlServer) list(ctx context.Context, _ *ws.Session, _ json.RawMessage) (any, error) {
	flows, err := c.r.daemon.Dataflows(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]ws.Dataflow, 0, len(flows))
	for _, f := range flows {
		d := ws.Dataflow{UUID: f.UUID, Name: f.Name, Status: f.Status, Nodes: len(f.Nodes), NodeIDs: f.Nodes, LogDir: c.r.logDir}
		if !f.StartedAt.IsZero() {
			d.StartedAt = f.StartedAt.Format(time.RFC3339)
		}
		nodes, err := c.r.daemon.Nodes(ctx, f.UUID)
		if err != nil {
			return nil, err
		}
		for _, u := range c.sampler.sample(pids(nodes)) {
			d.CPU += u.cpu
			d.MemoryMB += u.memoryMB
		}
		out = append(out, d)
	}
	return out, nil
}

func pids(nodes []actors.NodeInfo) []int {
	var out []int
	for _, n := range nodes {
		if n.PID > 0 {
			out = append(out, n.PID)
		}
	}
	return out
}

func (c *controlServer) nodes(ctx context.Context, _ *ws.Session, _ json.RawMessage) (any, error) {
	flows, err := c.r.daemon.Dataflows(ctx)
	if err != nil {
		return nil, err
	}
	out := []ws.Node{}
	for _, f := range flows {
		nodes, err := c.r.daemon.Nodes(ctx, f.UUID)
		if err != nil {
			return nil, err
		}
		usage := c.sampler.sample(pids(nodes))
		for i := range nodes {
			out = append(out, c.node(f, &nodes[i], usage[nodes[i].PID]))
		}
	}
	return out, nil
}

func (c *controlServer) node(f actors.DataflowInfo, n *actors.NodeInfo, u usage) ws.Node {
	label := f.Name
	if label == "" {
		label = f.UUID
	}
	broken := map[string]bool{}
	for _, b := range n.Broken {
		broken[b] = true
	}
	w := ws.Node{NodeID: n.ID, Dataflow: label, DataflowUUID: f.UUID, Path: n.Path, RestartPolicy: n.RestartPolicy,
		Generation: n.Generation, Note: n.Note, LastExit: n.LastExit, Inputs: []ws.NodeInput{}, Outputs: []ws.NodeOutput{},
		Metrics: ws.NodeMetrics{Status: n.Status, PID: n.PID, CPUUsage: u.cpu, MemoryMB: u.memoryMB, RestartCount: n.Restarts,
			BrokenInputs: append([]string{}, n.Broken...), PendingMessages: n.Pending}}
	if d := c.r.desc.Node(n.ID); d != nil {
		w.MaxRestarts = d.MaxRestarts
	}
	for _, in := range n.Inputs {
		w.Inputs = append(w.Inputs, ws.NodeInput{ID: in.ID, Source: in.Source, Dropped: n.Dropped[in.ID], Broken: broken[in.ID]})
	}
	for _, out := range n.Outputs {
		w.Outputs = append(w.Outputs, ws.NodeOutput{ID: out, Subscribers: subscribers(c.r.desc, n.ID, out)})
	}
	return w
}

// subscribers lists who reads an output, as node/input.
func subscribers(d *dataflow.Descriptor, node, output string) []string {
	subs := []string{}
	for _, n := range d.Nodes {
		for _, in := range n.Inputs {
			if in.Source.Kind == dataflow.SourceNode && in.Source.Node == node && in.Source.Output == output {
				subs = append(subs, n.ID+"/"+in.ID)
			}
		}
	}
	return subs
}

// usage of one process: cpu in percent of one core, resident memory in MB (10^6 bytes).
type usage struct{ cpu, memoryMB float64 }

// sampler measures CPU between two calls; a process that it has not seen for a while is
// looked at twice, sampleGap apart.
type sampler struct {
	mu   sync.Mutex
	seen map[int]*sampled
}

type sampled struct {
	p    *process.Process
	last time.Time
}

const (
	sampleGap   = 200 * time.Millisecond
	sampleStale = 10 * time.Second
)

func (s *sampler) sample(pids []int) map[int]usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	known := map[int]*sampled{}
	fresh := false
	for _, pid := range pids {
		k := s.seen[pid]
		if k == nil || now.Sub(k.last) > sampleStale {
			p, err := process.NewProcess(int32(pid))
			if err != nil {
				continue // it ended
			}
			_, _ = p.Percent(0)
			k, fresh = &sampled{p: p, last: now}, true
		}
		known[pid] = k
	}
	s.seen = known
	if fresh {
		time.Sleep(sampleGap)
	}
	out := map[int]usage{}
	for pid, k := range known {
		var u usage
		if cpu, err := k.p.Percent(0); err == nil {
			u.cpu = cpu
		}
		if m, err := k.p.MemoryInfo(); err == nil {
			u.memoryMB = float64(m.RSS) / 1e6
		}
		k.last = time.Now()
		out[pid] = u
	}
	return out
}
