package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// deliverParam tells a live process a parameter.
func (s *simShim) deliverParam(d *link.Deliver) error {
	n := s.nodes[d.Node]
	if n == nil || !n.running || n.phase != "subscribed" {
		return errors.New("no such process")
	}
	w := s.w
	if w.params == nil {
		w.params = map[string]map[string]string{}
	}
	life := fmt.Sprintf("%s#%d", d.Node, n.generation)
	if w.params[life] == nil {
		w.params[life] = map[string]string{}
	}
	if d.Event == "param_deleted" {
		delete(w.params[life], d.Key)
	} else {
		w.params[life][d.Key] = string(d.Value)
	}
	return nil
}

// memVault keeps environments like files would.
type memVault struct {
	mu   sync.Mutex
	envs map[string][]string
}

func (v *memVault) Keep(uuid string, env []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.envs[uuid] = env
	return nil
}

func (v *memVault) Open(uuid string) ([]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	env, ok := v.envs[uuid]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return env, nil
}

func (v *memVault) Forget(uuid string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.envs, uuid)
	return nil
}

// cluster is a coordinator and its machines, simulated: the network between them loses,
// repeats and delays what is sent, and every process can be killed.
type cluster struct {
	t   *testing.T
	rng *rand.Rand

	mu       sync.Mutex
	faulty   bool
	disk     *journal.Journal // the coordinator's
	vault    *memVault
	store    *simStore
	c        *Coordinator
	machines []*simMachine
	uuids    int
	acked    []string // what was answered, as "machine what"
	lostDisk bool     // the coordinator lost its journal at least once
}

type simMachine struct {
	cl   *cluster
	w    *world
	d    *simDaemon
	up   *Uplink
	cutC func() // ends the present connection
}

func (cl *cluster) chance(p float64) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.faulty && cl.rng.Float64() < p
}

func (cl *cluster) delay() {
	cl.mu.Lock()
	d := time.Duration(cl.rng.IntN(3000)) * time.Microsecond
	if cl.faulty && cl.rng.IntN(20) == 0 {
		d = time.Duration(cl.rng.IntN(2000)) * time.Millisecond
	}
	cl.mu.Unlock()
	time.Sleep(d)
}

func quietLog() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	if os.Getenv("SIM_LOG") != "" {
		log.SetOutput(os.Stderr)
	}
	return log
}

// bootCoordinator opens the coordinator on its disk.
func (cl *cluster) bootCoordinator() {
	store := &simStore{Journal: cl.disk, killed: make(chan struct{}), glitchAt: map[int]bool{}, lieAt: map[int]bool{}, panicAt: map[int]bool{}}
	c, err := OpenCoordinator(CoordinatorOptions{Store: store, Log: quietLog(), Vault: cl.vault, NewUUID: func() string {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		cl.uuids++
		return fmt.Sprintf("uuid-%d", cl.uuids)
	}})
	if err != nil {
		cl.t.Fatalf("open the coordinator: %v", err)
	}
	cl.mu.Lock()
	cl.store, cl.c = store, c
	cl.mu.Unlock()
}

func (cl *cluster) coordinator() *Coordinator {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.c
}

// killCoordinator ends it without a word: what it had not written is lost.
func (cl *cluster) killCoordinator() {
	cl.mu.Lock()
	c, store := cl.c, cl.store
	cl.c = nil
	cl.mu.Unlock()
	if c == nil {
		return
	}
	store.kill()
	for _, m := range cl.machines {
		m.cut()
	}
	_ = c.Close()
}

// wire is one connection between a daemon and the coordinator.
type wire struct {
	cl       *cluster
	c        *Coordinator
	machine  string
	handlers map[string]ws.ClientHandler

	mu   sync.Mutex
	done chan struct{}
	cut  bool
}

func (x *wire) Done() <-chan struct{} { return x.done }

func (x *wire) Close() {
	x.mu.Lock()
	again := x.cut
	x.cut = true
	if !again {
		close(x.done)
	}
	x.mu.Unlock()
	if !again {
		x.c.Detach((*wireToDaemon)(x), x.machine)
	}
}

// carry takes a request over: it may be lost, repeated, late, or its answer be lost; a
// loss ends the connection, as with TCP.
func (x *wire) carry(ctx context.Context, params, out any, handle func(raw json.RawMessage) (any, error)) error {
	raw, err := json.Marshal(params)
	if err != nil {
		return err
	}
	x.cl.delay()
	if x.lost() || x.cl.chance(0.01) {
		x.Close()
		return ws.ErrLost
	}
	type answer struct {
		v   any
		err error
	}
	got := make(chan answer, 2)
	times := 1
	if x.cl.chance(0.02) {
		times = 2 // a client that asks again, or an order that is sent again
	}
	for range times {
		go func() {
			v, err := handle(raw)
			got <- answer{v, err}
		}()
	}
	var a answer
	select {
	case a = <-got:
	case <-ctx.Done():
		return ctx.Err()
	case <-x.done:
		return ws.ErrLost
	}
	x.cl.delay()
	if x.lost() || x.cl.chance(0.01) {
		x.Close()
		return ws.ErrLost
	}
	if a.err != nil {
		return a.err
	}
	body, err := json.Marshal(a.v)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(body, out)
}

func (x *wire) lost() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cut
}

// Call implements CoordinatorConn.
func (x *wire) Call(ctx context.Context, method string, params, out any) error {
	self := (*wireToDaemon)(x)
	return x.carry(ctx, params, out, func(raw json.RawMessage) (any, error) {
		switch method {
		case ws.MethodRegister:
			var reg ws.Register
			_ = json.Unmarshal(raw, &reg)
			return x.c.Register(ctx, self, reg, "sim", "sim")
		case ws.MethodFacts:
			var f ws.Facts
			_ = json.Unmarshal(raw, &f)
			return x.c.TakeFacts(ctx, self, x.machine, &f)
		case ws.MethodState:
			var s ws.State
			_ = json.Unmarshal(raw, &s)
			return x.c.TakeState(ctx, self, x.machine, &s)
		}
		x.c.Heard(x.machine)
		return nil, nil
	})
}

// wireToDaemon is the other end.
type wireToDaemon wire

func (x *wireToDaemon) Close() { (*wire)(x).Close() }

func (x *wireToDaemon) Call(ctx context.Context, method string, params, out any) error {
	w := (*wire)(x)
	return w.carry(ctx, params, out, func(raw json.RawMessage) (any, error) { return w.handlers[method](ctx, raw) })
}

// connect gives the machine's daemon its uplink.
func (m *simMachine) connect() {
	if m.d.Daemon == nil {
		return
	}
	m.up = Connect(m.d.Daemon, UplinkOptions{Dial: func(_ context.Context, handlers map[string]ws.ClientHandler) (CoordinatorConn, error) {
		m.cl.delay()
		c := m.cl.coordinator()
		if c == nil || m.cl.chance(0.05) {
			return nil, errors.New("connection refused")
		}
		x := &wire{cl: m.cl, c: c, machine: m.w.machine, handlers: handlers, done: make(chan struct{})}
		m.cl.mu.Lock()
		m.cutC = x.Close
		m.cl.mu.Unlock()
		return x, nil
	}})
}

// cut ends the connection of the machine, if there is one.
func (m *simMachine) cut() {
	m.cl.mu.Lock()
	f := m.cutC
	m.cutC = nil
	m.cl.mu.Unlock()
	if f != nil {
		f()
	}
}

// killDaemon ends the machine's daemon without a word.
func (m *simMachine) killDaemon() {
	m.d.store.kill()
	m.cut()
	m.up.Close()
	m.d.bury()
}

func (m *simMachine) bootDaemon() {
	m.d = m.w.boot(m.cl.t, nil)
	m.connect()
}

// TestCoordinatorSimulation runs a coordinator and three daemons under loss, repetition,
// delay, partitions and kills. COORD_SEED runs one seed, COORD_ROUNDS that many.
func TestCoordinatorSimulation(t *testing.T) {
	first, rounds := 1, 150
	if testing.Short() {
		rounds = 20
	}
	if n, err := strconv.Atoi(os.Getenv("COORD_SEED")); err == nil {
		first, rounds = n, 1
	}
	if n, err := strconv.Atoi(os.Getenv("COORD_ROUNDS")); err == nil {
		rounds = n
	}
	total := map[string]int{}
	for seed := first; seed < first+rounds && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { simulateCluster(t, uint64(seed), total) })
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}
	t.Logf("%d rounds: %v", rounds, total)
	if rounds >= 100 && (total["coordinator"] < 50 || total["daemon"] < 50 || total["disk"] < 5 || total["cut"] < 50 || total["acked param"] < 100) {
		t.Error("the simulation does not reach what it is for")
	}
}

func simulateCluster(t *testing.T, seed uint64, total map[string]int) {
	rng := rand.New(rand.NewPCG(seed, 9))
	cl := &cluster{t: t, rng: rand.New(rand.NewPCG(seed, 10)), disk: journal.NewMemory(), vault: &memVault{envs: map[string][]string{}}, faulty: true}
	cl.bootCoordinator()
	for _, name := range []string{"A", "B", "C"} {
		p := drawPlan(rng)
		m := &simMachine{cl: cl, w: newWorld(t, seed)}
		m.w.machine, m.w.vault, m.w.plays, m.w.flow = name, &memVault{envs: map[string][]string{}}, p.plays, "flow-"+name
		cl.machines = append(cl.machines, m)
		m.bootDaemon()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	time.Sleep(500 * time.Millisecond)
	for _, m := range cl.machines {
		cl.order(ctx, m, "start", rng, total)
	}
	for range 4 + rng.IntN(12) {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
		m := cl.machines[rng.IntN(3)]
		kind := []string{"coordinator", "daemon", "cut", "shim", "disk", "start", "param", "param", "param", "restart-node", "stop"}[rng.IntN(11)]
		if kind == "disk" && rng.IntN(3) != 0 {
			kind = "coordinator"
		}
		total[kind]++
		switch kind {
		case "coordinator", "disk":
			cl.killCoordinator()
			if kind == "disk" {
				cl.disk, cl.vault, cl.lostDisk = journal.NewMemory(), &memVault{envs: map[string][]string{}}, true
			}
			time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
			cl.bootCoordinator()
		case "daemon":
			m.killDaemon()
			time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
			m.bootDaemon()
		case "cut":
			m.cut()
		case "shim":
			m.w.mu.Lock()
			for _, s := range m.w.shims {
				if !s.gone {
					s.crash("killed")
				}
			}
			m.w.mu.Unlock()
		default:
			cl.order(ctx, m, kind, rng, total)
		}
	}
	cl.finish(ctx)
}

// order gives the coordinator one command, as a client with some patience.
func (cl *cluster) order(ctx context.Context, m *simMachine, kind string, rng *rand.Rand, total map[string]int) {
	c := cl.coordinator()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	flow := m.w.flow
	node := string(rune('a' + rng.IntN(len(m.w.plays))))
	value := rng.IntN(1 << 30)
	var err error
	what := kind
	switch kind {
	case "start":
		_, err = c.Start(ctx, cl.request(m))
	case "stop":
		_, err = c.Stop(ctx, flow, StopRequest{Grace: time.Second})
	case "restart-node":
		_, err = c.StopNode(ctx, flow, events.NodeStopOrdered{Node: node, Restart: true, Grace: time.Second})
	case "param":
		what = fmt.Sprintf("param %s %d", node, value)
		_, err = c.SetParam(ctx, flow, node, "k", json.RawMessage(strconv.Itoa(value)))
	}
	if err == nil {
		total["acked "+kind]++
		cl.acked = append(cl.acked, m.w.machine+" "+what)
	}
}

func (cl *cluster) request(m *simMachine) WantRequest {
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range len(m.w.plays) {
		fmt.Fprintf(&b, "  - {id: %c, path: x, restart_policy: on-failure, restart_delay: 0.1, max_restarts: %d, outputs: [x], deploy: {machine: %s}}\n", 'a'+i, 5*(i%2), m.w.machine)
	}
	return WantRequest{UUID: m.w.flow, Name: "name-" + m.w.machine, Text: b.String(), Path: "/x/dataflow.yml", WorkingDir: "/x", LogDir: "/x/out/{uuid}", Env: []string{"HOME=/h"}, Command: "start"}
}
