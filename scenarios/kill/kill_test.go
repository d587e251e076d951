package kill

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
	"github.com/dora-go/dora/scenarios/programs"
)

var bin string

func TestMain(m *testing.M) {
	programs.Main(m, &bin, map[string]string{"dora": "cmd/dora", "testnode": "scenarios/testnode"})
}

// dataflow has shell nodes with grandchildren, some in sessions of their own, and a
// source and a sink in Go.
const dataflow = `
nodes:
  - id: shell
    path: shell
    args: setsid sleep 1000 & sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000') & wait
  - id: source
    path: testnode
    args: "'init' 'spawn=sleep 1000' 'send=out:0:1ms'"
    outputs: [out]
  - id: sink
    path: testnode
    args: init events
    inputs: {in: source/out}
`

// rounds of the random test: 20 in every run of the tests, hundreds in a soak.
func rounds() int {
	if os.Getenv("DORA_SOAK") != "" {
		return 300
	}
	return 20
}

func TestNothingIsLeftAfterSIGKILLAtRandomMoments(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	victims := [][]string{{"run"}, {"shim"}, {"run", "shim"}, {"guard", "run"}}
	for i := range rounds() {
		after := time.Duration(rnd.IntN(400)) * time.Millisecond
		victim := victims[i%len(victims)]
		t.Run(fmt.Sprintf("%s_after_%v", strings.Join(victim, "+"), after), func(t *testing.T) { round(t, dataflow, victim, after) })
	}
}

// When everything above the nodes is killed in one instant, nobody is left to look for
// grandchildren (only a cgroup could); the nodes themselves see that their shim is gone, and
// the next dora sweeps the sockets.
func TestNodesEndWhenEverythingAboveThemIsKilled(t *testing.T) {
	nodes := dataflow[strings.Index(dataflow, "  - id: source"):]
	nodes = "nodes:\n" + strings.ReplaceAll(nodes, "'spawn=sleep 1000' ", "")
	for _, after := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) { round(t, nodes, []string{"run", "guard", "shim"}, after) })
	}
}

func round(t *testing.T, dataflow string, victims []string, after time.Duration) {
	w := leftovers.New(t) // fails the test for what is left three seconds after its end
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dataflow.yml"), []byte(dataflow), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := w.Command(dir, filepath.Join(bin, "dora"), "run", "dataflow.yml", "--allow-shell-nodes")
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	time.Sleep(after)
	var pids []int // found first, so that they are killed in one instant
	for _, v := range victims {
		pids = append(pids, w.Find(roles[v]...)...)
	}
	if len(pids) == 0 {
		pids = []int{cmd.Process.Pid} // the victim was not born yet
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// A lost shim is no end for `dora run`: it reports the failure and ends.
	select {
	case <-ended:
	case <-time.After(leftovers.Patience):
		t.Errorf("dora run lives on")
		_ = cmd.Process.Kill()
		<-ended
	}
	if len(victims) == 3 {
		sweep(t, w, dir)
	}
	if strings.Contains(stderr.String(), "panic") {
		t.Errorf("panic")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(stderr.String())
		}
	})
}

// sweep is what a user does next: look at the list, run something else.
func sweep(t *testing.T, w *leftovers.Watch, dir string) {
	const next = "nodes:\n  - {id: n, path: testnode, args: print=next}\n"
	if err := os.WriteFile(filepath.Join(dir, "next.yml"), []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"run", "next.yml"}, {"list"}} {
		cmd := w.Command(dir, filepath.Join(bin, "dora"), args...)
		cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("dora %v: %v\n%s", args, err, out)
		}
	}
}

// roles are the arguments by which the processes above the nodes are known.
var roles = map[string][]string{"run": {"run"}, "guard": {"shim", "guard"}, "shim": {"shim", "serve"}}
