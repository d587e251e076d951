package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// flow is a way of native nodes: whose dora, which node program, how it sends.
type flow struct {
	dora    dora
	program string
	env     []string // of `dora run`
	loan    bool     // the payload is built in the memory it is sent in
	policy  string   // of the receiver's queue
	unread  bool     // the receiver looks at both ends of a message alone
	spins   bool     // the receiver waits without sleeping
}

func (w *workshop) oursFlow() flow { return flow{dora: w.oursDora, program: w.goNode()} }
func (w *workshop) realFlow() flow { return flow{dora: w.realDora, program: w.rustFlow()} }
func (f flow) inPlace() flow       { f.loan = true; return f }
func (f flow) glance() flow        { f.unread = true; return f }
func (f flow) awake() flow         { f.spins = true; return f }
func (f flow) queue(p string) flow { f.policy = p; return f }
func (f flow) pool(bytes int) flow { f.env = []string{poolSetting(bytes)}; return f }
func poolSetting(bytes int) string { return fmt.Sprintf("DORA_NODE_SHM_POOL_SIZE=%d", bytes) }
func (w *workshop) rustFlow() string {
	return filepath.Join(w.rustTarget(), "release", "dora-bench-flow")
}

// prepareFlows builds what both sides need.
func (w *workshop) prepareFlows(ctx context.Context) error {
	return all(w.preparePython, w.prepareGoNode, w.prepareRustNode)(ctx)
}

// node is a node of the graph with its role.
func (f flow) node(id, role string, env map[string]string) graphNode {
	n := graphNode{ID: id, Path: f.program, Env: map[string]string{"BENCH_ROLE": role,
		"BENCH_COUNT": "0", "BENCH_EVERY_US": "0", "BENCH_MILLIS": "0", "BENCH_WARM_MILLIS": "0"}}
	if f.loan {
		n.Env["BENCH_HOW"] = "loan"
	}
	if f.unread {
		n.Env["BENCH_READ"] = "ends"
	}
	maps.Copy(n.Env, env)
	return n
}

// queueFor is the size of queues for messages of so many bytes: enough that nothing is
// dropped when a receiver is late, and at most 160 MiB.
func queueFor(bytes int) int { return max(10, min(100, 16<<20/bytes)) }

// sendGraph is one sender and its receivers.
func (f flow) sendGraph(receivers int, bytes int, acked bool, env map[string]string) graph {
	env = maps.Clone(env)
	env["BENCH_BYTES"] = strconv.Itoa(bytes)
	if acked {
		env["BENCH_ACKED"] = "1"
	}
	sender := f.node("sender", "send", env)
	sender.Outputs = []string{"data"}
	g := graph{}
	for i := range receivers {
		r := f.node(receiverName(i), "receive", env)
		if f.spins {
			r.Env["BENCH_WAIT"] = "awake"
		}
		in := input("sender/data", queueFor(bytes))
		in.Policy = f.policy
		r.Inputs = map[string]graphInput{"data": in}
		if acked {
			r.Outputs = []string{"pong"}
			sender.Inputs = map[string]graphInput{"ack": input(r.ID+"/pong", 10)}
		}
		g.Nodes = append(g.Nodes, r)
	}
	g.Nodes = append(g.Nodes, sender)
	return g
}

func receiverName(i int) string { return fmt.Sprintf("receiver-%d", i+1) }

// latency measures one-way latency, in microseconds. With several receivers it is that of
// the median receiver.
func (w *workshop) latency(f flow, p pace, receivers int) func(context.Context) (sample, error) {
	env := map[string]string{"BENCH_COUNT": strconv.Itoa(p.warmUp + p.count),
		"BENCH_EVERY_US": strconv.FormatInt(p.every.Microseconds(), 10)}
	g := f.sendGraph(receivers, p.bytes, p.acked, env)
	return func(ctx context.Context) (sample, error) {
		var sum sample
		err := w.inRun(ctx, f, g, func(r *run) error {
			var err error
			sum, err = r.oneWay(p, receivers)
			return err
		})
		return sum, err
	}
}

// inRun runs the dataflow to its end and looks at what the nodes left.
func (w *workshop) inRun(ctx context.Context, f flow, g graph, look func(*run) error) error {
	r, err := w.newRun(ctx, f.dora, g, f.env, time.Minute)
	if err != nil {
		return err
	}
	_, err = r.toEnd()
	if err == nil {
		err = r.withLog(look(r))
	}
	return errors.Join(err, r.close())
}

// left reads what a node left.
func (r *run) left(node string, into any) error {
	raw, err := os.ReadFile(filepath.Join(r.results(), node+".json"))
	if err != nil {
		return fmt.Errorf("node %s left no result: %w", node, err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("the result of node %s: %w", node, err)
	}
	return nil
}

func (r *run) oneWay(p pace, receivers int) (sample, error) {
	var sent struct {
		T0 []int64 `json:"t0"`
	}
	if err := r.left("sender", &sent); err != nil {
		return sample{}, err
	}
	if len(sent.T0) != p.warmUp+p.count {
		return sample{}, fmt.Errorf("%d messages were sent instead of %d", len(sent.T0), p.warmUp+p.count)
	}
	var every, medians []float64
	var sum sample
	for i := range receivers {
		var got received
		if err := r.left(receiverName(i), &got); err != nil {
			return sample{}, err
		}
		if err := got.sentAt(sent.T0); err != nil {
			return sample{}, err
		}
		values, lost, reordered, err := got.judge(p)
		if err != nil {
			return sample{}, fmt.Errorf("%s: %w", receiverName(i), err)
		}
		sum.Lost, sum.Reordered = sum.Lost+lost, sum.Reordered+reordered
		every = append(every, values...)
		medians = append(medians, median(values))
	}
	s := sampleOf(every)
	s.P50, s.Lost, s.Reordered = median(medians), sum.Lost, sum.Reordered
	return s, nil
}

// sentAt fills in when each message that arrived was sent.
func (got *received) sentAt(t0 []int64) error {
	got.T0 = got.T0[:0]
	for _, seq := range got.Seq {
		if seq < 0 || seq >= len(t0) {
			return fmt.Errorf("message %d was never sent", seq)
		}
		got.T0 = append(got.T0, t0[seq])
	}
	return nil
}

// roundTrip measures half of the time to the answer of 8 bytes, in microseconds.
func (w *workshop) roundTrip(f flow, bytes, count, warmUp int) func(context.Context) (sample, error) {
	env := map[string]string{"BENCH_BYTES": strconv.Itoa(bytes), "BENCH_COUNT": strconv.Itoa(warmUp + count)}
	if f.loan {
		// Filling a large loan each time would measure how deeply the other side sleeps then.
		env["BENCH_HOW"] = "ends"
	}
	ping, echo := f.node("ping", "ping", env), f.node("echo", "echo", env)
	ping.Outputs, echo.Outputs = []string{"data"}, []string{"pong"}
	echo.Inputs = map[string]graphInput{"data": input("ping/data", 10)}
	ping.Inputs = map[string]graphInput{"pong": input("echo/pong", 10)}
	g := graph{Nodes: []graphNode{echo, ping}}
	return func(ctx context.Context) (sample, error) {
		var values []float64
		err := w.inRun(ctx, f, g, func(r *run) error {
			var pinged struct{ RTT []int64 }
			var echoed struct{ Damaged int }
			if err := errors.Join(r.left("ping", &pinged), r.left("echo", &echoed)); err != nil {
				return err
			}
			if echoed.Damaged > 0 || len(pinged.RTT) != warmUp+count {
				return fmt.Errorf("%d round trips instead of %d, %d messages arrived damaged", len(pinged.RTT), warmUp+count, echoed.Damaged)
			}
			for _, ns := range pinged.RTT[warmUp:] {
				values = append(values, float64(ns)/2e3)
			}
			return nil
		})
		return sampleOf(values), err
	}
}

// flood is a load without pauses.
type flood struct {
	bytes        int
	length, warm time.Duration
}

// streamed is what a receiver leaves of a flood, counted after the warm-up.
type streamed struct {
	Messages    int
	Nanoseconds int64
	Lost        int
	Damaged     int
}

// rate measures how many messages per second arrive, of one sender that never pauses at
// one receiver that reads every cache line. In GB/s if asked for, else in 1000 messages.
func (w *workshop) rate(f flow, l flood, gigabytes bool) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		var got streamed
		err := errTooFew
		for try, l := 0, l; try < tries && errors.Is(err, errTooFew); try++ {
			err = w.inRun(ctx, f, f.floodGraph(l), func(r *run) error {
				got = streamed{}
				if err := r.left(receiverName(0), &got); err != nil {
					return err
				}
				return got.check(f.policy)
			})
			l.length *= 2
		}
		if err != nil {
			return sample{}, err
		}
		value := float64(got.Messages) / float64(got.Nanoseconds) * 1e6
		if gigabytes {
			value = value * float64(l.bytes) / 1e6
		}
		return sample{P50: value, P99: value, Min: value, N: got.Messages, Lost: got.Lost}, nil
	}
}

func (f flow) floodGraph(l flood) graph {
	return f.sendGraph(1, l.bytes, false, map[string]string{
		"BENCH_MILLIS":      strconv.FormatInt((l.warm + l.length).Milliseconds(), 10),
		"BENCH_WARM_MILLIS": strconv.FormatInt(l.warm.Milliseconds(), 10)})
}

// errTooFew is the end of a flood that did not arrive: on a machine that is busy with other
// work, a receiver may starve beside its sender. It gets a few tries, each twice as long.
var errTooFew = errors.New("too few messages to measure")

const tries = 4

// backpressure is the queue policy that loses nothing.
const backpressure = "backpressure"

func (got streamed) check(policy string) error {
	switch {
	case got.Damaged > 0:
		return fmt.Errorf("%d messages arrived damaged", got.Damaged)
	case got.Lost > 0 && policy == backpressure:
		return fmt.Errorf("%d messages were lost in spite of queue_policy: %s", got.Lost, policy)
	case got.Messages < 4 || got.Nanoseconds <= 0:
		return fmt.Errorf("%w: %d in %d ns", errTooFew, got.Messages, got.Nanoseconds)
	}
	return nil
}
