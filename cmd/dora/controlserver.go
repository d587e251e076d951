package main

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/dora-go/dora/actors"
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
	r.daemon.Serve(c.srv)
	c.srv.Handle(ws.MethodList, c.list)
	c.srv.Handle(ws.MethodNodes, c.nodes)
	return c
}

func (c *controlServer) list(ctx context.Context, _ *ws.Session, raw json.RawMessage) (any, error) {
	var q ws.ListQuery
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &q); err != nil {
			return nil, ws.Errorf(ws.CodeBadRequest, "parameters of %s: %v", ws.MethodList, err)
		}
	}
	flows, err := c.r.daemon.Dataflows(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]ws.Dataflow, 0, len(flows))
	for _, f := range flows {
		d := ws.Dataflow{UUID: f.UUID, Name: f.Name, Status: f.Status, Nodes: len(f.Nodes), NodeIDs: f.Nodes, LogDir: c.r.logDir, Path: f.Path}
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
		out = append(out, c.sampler.wire(c.r.desc, f, nodes)...)
	}
	return out, nil
}

// usage of one process: cpu in percent of one core, resident memory in MB (10^6 bytes).
type usage struct{ cpu, memoryMB float64 }

// sampler measures CPU between two calls; of a process that it has not seen for a while it
// gives the mean since its start.
type sampler struct {
	mu   sync.Mutex
	seen map[int]*sampled
}

type sampled struct {
	p    *process.Process
	last time.Time
	used usage // then
}

// A sample that is older than sampleStale tells nothing about now; from one that is younger
// than sampleFresh no rate can be made: the kernel counts in hundredths of a second.
const (
	sampleStale = 10 * time.Second
	sampleFresh = 250 * time.Millisecond
)

func (s *sampler) sample(pids []int) map[int]usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	known := map[int]*sampled{}
	fresh := map[int]bool{}
	for _, pid := range pids {
		k := s.seen[pid]
		if k == nil || now.Sub(k.last) > sampleStale {
			p, err := process.NewProcess(int32(pid))
			if err != nil {
				continue // it ended
			}
			_, _ = p.Percent(0)
			k, fresh[pid] = &sampled{p: p, last: now}, true
		}
		known[pid] = k
	}
	s.seen = known
	out := map[int]usage{}
	for pid, k := range known {
		if !fresh[pid] && now.Sub(k.last) < sampleFresh {
			out[pid] = k.used
			continue
		}
		var u usage
		measure := func() (float64, error) { return k.p.Percent(0) }
		if fresh[pid] {
			measure = k.p.CPUPercent
		}
		if cpu, err := measure(); err == nil {
			u.cpu = cpu
		}
		if m, err := k.p.MemoryInfo(); err == nil {
			u.memoryMB = float64(m.RSS) / 1e6
		}
		k.last, k.used = time.Now(), u
		out[pid] = u
	}
	return out
}
