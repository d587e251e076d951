package production

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// peer is one implementation of dora in the comparison.
type peer struct {
	*Site
	name    string
	program string
}

func (p *peer) run(args ...string) (string, error) {
	cmd := p.w.Command(p.dir, p.program, args...)
	cmd.Env = p.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// timed runs a command and says how long it took; false if it failed, which only the peer
// may.
func (p *peer) timed(args ...string) (time.Duration, bool) {
	p.t.Helper()
	begin := time.Now()
	out, err := p.run(args...)
	took := time.Since(begin)
	if err != nil && p.name == "ours" {
		p.t.Fatalf("%s: dora %v: %v\n%s", p.name, args, err, out)
	}
	return took, err == nil
}

// processes are those of this peer with this word among their arguments, or at the end of
// one: a role, or the script of a node.
func (p *peer) processes(word string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		args := strings.Split(string(raw), "\x00")
		has := slices.ContainsFunc(args, func(a string) bool { return a == word || strings.HasSuffix(a, "/"+word) })
		if err != nil || !bytes.Contains(env, []byte(p.w.Mark())) || !has {
			continue
		}
		var pid int
		if fmt.Sscan(e.Name(), &pid); alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// peerRounds is how often each peer does everything, in turn.
const peerRounds = 15

// started is how long it takes from `start --detach` until all nodes are past their
// beginning: each appends a line to a file then. The two programs return from that command
// at different moments.
func (p *peer) started(file string, nodes int) (time.Duration, bool) {
	ready := filepath.Join(p.dir, "ready")
	_ = os.Remove(ready)
	begin := time.Now()
	if _, ok := p.timed("start", file, "--name", "demo", "--detach"); !ok {
		return 0, false
	}
	for time.Since(begin) < time.Minute {
		raw, _ := os.ReadFile(ready)
		if bytes.Count(raw, []byte("\n")) >= nodes {
			return time.Since(begin), true
		}
		time.Sleep(2 * time.Millisecond)
	}
	if p.name == "ours" {
		p.t.Fatalf("%d nodes of %s do not start", nodes, file)
	}
	return 0, false
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// ratioOf is the ratio of the medians, and its 95 % bootstrap interval.
func ratioOf(a, b []time.Duration) (ratio, low, high float64) {
	of := func(a, b []time.Duration) float64 { return float64(median(a)) / float64(median(b)) }
	rnd := rand.New(rand.NewPCG(1, 1))
	draw := func(all []time.Duration) []time.Duration {
		out := make([]time.Duration, len(all))
		for i := range out {
			out[i] = all[rnd.IntN(len(all))]
		}
		return out
	}
	ratios := make([]float64, 2000)
	for i := range ratios {
		ratios[i] = of(draw(a), draw(b))
	}
	slices.Sort(ratios)
	return of(a, b), ratios[len(ratios)*25/1000], ratios[len(ratios)*975/1000]
}

// newPeers are ours and the real one, each with its own state and dataflows; none without
// DORA_PEER.
func newPeers(t *testing.T) []*peer {
	t.Helper()
	real, python := os.Getenv("DORA_PEER"), os.Getenv("DORA_TEST_PYTHON")
	if real == "" || python == "" {
		return nil // the comparison is part of the soak
	}
	peers := []*peer{}
	for _, name := range []string{"ours", "real"} {
		p := &peer{Site: newSite(t), name: name, program: real}
		if name == "ours" {
			p.program = filepath.Join(bin, "dora")
		}
		p.env = append(p.env, "PATH="+bin+":"+filepath.Dir(python)+":"+os.Getenv("PATH"))
		// Each says when it is past its beginning.
		ready := fmt.Sprintf("\nopen(%q, \"a\").write(\"ready\\n\")\n", filepath.Join(p.dir, "ready"))
		p.write("send.py", strings.Replace(pythonSender, "\nn = 0\n", ready+"n = 0\n", 1))
		p.write("receive.py", strings.Replace(pythonReceiver, "\nfor event in Node():", "\nnode = Node()"+ready+"for event in node:", 1))
		p.write("python.yml", `
nodes:
  - {id: source, path: send.py, inputs: {tick: dora/timer/millis/20}, outputs: [out]}
  - {id: sink, path: receive.py, inputs: {in: source/out}}
`)
		p.write("survives.yml", `
nodes:
  - {id: source, path: send.py, inputs: {tick: dora/timer/millis/20}, outputs: [out]}
  - {id: sink, path: receive.py, inputs: {in: source/out}, restart_policy: on-failure, max_restarts: 5}
`)
		fifty := "nodes:\n"
		for i := range 50 {
			fifty += fmt.Sprintf("  - {id: n%d, path: %s, args: init append=%s:ready events, inputs: {tick: dora/timer/millis/1000}}\n",
				i, filepath.Join(bin, "testnode"), filepath.Join(p.dir, "ready"))
		}
		p.write("fifty.yml", fifty)
		peers = append(peers, p)
	}
	return peers
}

// TestBesideTheRealDora compares with dora 1.1.0 in the same run, interleaved: how long
// commands take. It needs DORA_PEER, the path of that program (`pip install
// dora-rs-cli==1.1.0`), and is part of the soak.
func TestBesideTheRealDora(t *testing.T) {
	peers := newPeers(t)
	if len(peers) == 0 {
		return // the comparison is part of the soak
	}
	took := map[string]map[string][]time.Duration{"ours": {}, "real": {}}
	for range peerRounds {
		for _, p := range peers {
			add := func(what string, d time.Duration, ok bool) {
				if ok {
					took[p.name][what] = append(took[p.name][what], d)
				}
			}
			timed := func(what string, args ...string) {
				d, ok := p.timed(args...)
				add(what, d, ok)
			}
			started := func(what, file string, nodes int) {
				d, ok := p.started(file, nodes)
				add(what, d, ok)
			}
			timed("up", "up")
			started("start of 2 Python nodes", "python.yml", 2)
			timed("list", "list")
			timed("stop right after the start", "stop", "demo")
			if _, ok := p.started("python.yml", 2); ok {
				time.Sleep(time.Second) // one starts them sooner than the other: now both run
				timed("stop", "stop", "demo")
			}
			started("start of 50 Go nodes", "fifty.yml", 50)
			timed("stop of 50", "stop", "demo")
			timed("down", "down")
		}
	}
	limits := map[string]float64{"up": 1, "start of 2 Python nodes": 1, "list": 1, "stop right after the start": 1, "stop": 1, "start of 50 Go nodes": 0.5, "stop of 50": 1, "down": 1}
	for _, what := range []string{"up", "start of 2 Python nodes", "list", "stop right after the start", "stop", "start of 50 Go nodes", "stop of 50", "down"} {
		ours, real := took["ours"][what], took["real"][what]
		if len(real) < peerRounds/2 {
			t.Errorf("%s: the real dora did it %d times", what, len(real))
			continue
		}
		ratio, low, high := ratioOf(ours, real)
		t.Logf("| %s (%d, %d) | %v | %v | %.2f (%.2f-%.2f) |", what, len(ours), len(real),
			median(ours).Round(time.Millisecond), median(real).Round(time.Millisecond), ratio, low, high)
		if low > limits[what] {
			t.Errorf("%s: the ratio is %.2f (%.2f-%.2f), the limit %.1f", what, ratio, low, high, limits[what])
		}
	}
}

// TestWhatSurvivesBesideTheRealDora compares what is left after deaths with dora 1.1.0; see
// TestBesideTheRealDora.
func TestWhatSurvivesBesideTheRealDora(t *testing.T) {
	for _, p := range newPeers(t) {
		p.survival()
	}
}

// standing is what can be lost in a crash.
type standing struct {
	nodes     []int  // pids
	param     string // of a running node
	restarts  string // of a node that was killed once
	traces    int    // in the list
	finished  bool   // the dataflow that ended before is in the list
	status    string // of the one that runs
	daemons   int
	survivors int // of the nodes there were
}

var restartCount = regexp.MustCompile(`"restart_count": *"?(\d+)`)

func (p *peer) standing() (st standing) {
	st.nodes = append(p.processes("send.py"), p.processes("receive.py")...)
	param, _ := p.run("param", "get", "-d", "demo", "sink", "key")
	st.param = firstOf(param)
	info, _ := p.run("node", "info", "sink", "-d", "demo", "--format", "json")
	if m := restartCount.FindStringSubmatch(info); m != nil {
		st.restarts = m[1]
	}
	traces, _ := p.run("trace", "list")
	for line := range strings.Lines(traces) {
		if strings.Contains(line, "_dataflow") {
			st.traces++
		}
	}
	list, _ := p.run("list")
	for line := range strings.Lines(list) {
		st.finished = st.finished || strings.Contains(line, " before ") && strings.Contains(line, "Finished")
		if strings.Contains(line, " demo ") {
			for _, status := range []string{"Running", "Finished", "Failed"} {
				if strings.Contains(line, status) {
					st.status = status
				}
			}
		}
	}
	st.daemons = len(p.processes("daemon"))
	return st
}

func firstOf(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// survival kills coordinator, daemon and both, and says what is left of what there was: a
// dataflow that runs, with a parameter and a node that was restarted once, one that has
// ended, and the traces of all that. Ours loses nothing.
func (p *peer) survival() {
	for _, victims := range [][]string{{"coordinator"}, {"daemon"}, {"coordinator", "daemon"}} {
		p.timed("up")
		p.timed("start", "python.yml", "--name", "before", "--detach")
		time.Sleep(2 * time.Second)
		_, _ = p.run("stop", "before")
		p.timed("start", "survives.yml", "--name", "demo", "--detach")
		time.Sleep(2 * time.Second)
		_, _ = p.run("param", "set", "-d", "demo", "sink", "key", "42")
		for _, pid := range p.processes("receive.py") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(4 * time.Second) // the restart, and numbers that are told every few seconds
		before := p.standing()
		for _, victim := range victims {
			for _, pid := range p.processes(victim) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(3 * time.Second)
		_, _ = p.run("up")
		time.Sleep(4 * time.Second)
		after := p.standing()
		for _, pid := range before.nodes {
			if alive(pid) {
				after.survivors++
			}
		}
		p.t.Logf("| %s | %v | nodes %d of %d | daemons %d | status %q | parameter %q, was %q | restarts %q, was %q | finished in the list %v, was %v | traces %d, were %d |",
			p.name, victims, after.survivors, len(before.nodes), after.daemons, after.status, after.param, before.param, after.restarts, before.restarts,
			after.finished, before.finished, after.traces, before.traces)
		if p.name == "ours" && (after.survivors != 2 || after.daemons != 1 || after.status != "Running" || after.param != "42" || before.restarts != "1" || after.restarts != "1" ||
			!after.finished || after.traces < before.traces || before.traces < 3) {
			p.t.Errorf("after the deaths of %v there is %+v; before there was %+v", victims, after, before)
		}
		_, _ = p.run("stop", "demo", "--grace-duration", "1s")
		_, _ = p.run("down")
		for _, pid := range append(p.processes("send.py"), append(p.processes("receive.py"), p.processes("daemon")...)...) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
