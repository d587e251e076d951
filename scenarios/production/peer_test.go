package production

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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

// TestBesideTheRealDora compares with dora 1.1.0 in the same run, interleaved: how long
// commands take, and what survives the deaths of coordinator and daemon. It needs DORA_PEER,
// the path of that program (`pip install dora-rs-cli==1.1.0`), and is part of the soak.
func TestBesideTheRealDora(t *testing.T) {
	real, python := os.Getenv("DORA_PEER"), os.Getenv("DORA_TEST_PYTHON")
	if real == "" || python == "" {
		return // the comparison is part of the soak
	}
	peers := []*peer{}
	for _, name := range []string{"ours", "real"} {
		p := &peer{Site: newSite(t), name: name, program: real}
		if name == "ours" {
			p.program = filepath.Join(bin, "dora")
		}
		p.env = append(p.env, "PATH="+bin+":"+filepath.Dir(python)+":"+os.Getenv("PATH"))
		p.write("send.py", pythonSender)
		p.write("receive.py", pythonReceiver)
		p.write("python.yml", `
nodes:
  - {id: source, path: send.py, inputs: {tick: dora/timer/millis/20}, outputs: [out]}
  - {id: sink, path: receive.py, inputs: {in: source/out}}
`)
		peers = append(peers, p)
	}
	took := map[string]map[string][]time.Duration{"ours": {}, "real": {}}
	for range 15 {
		for _, p := range peers {
			add := func(what string, args ...string) {
				if d, ok := p.timed(args...); ok {
					took[p.name][what] = append(took[p.name][what], d)
				}
			}
			add("up", "up")
			add("start", "start", "python.yml", "--name", "demo", "--detach")
			time.Sleep(2 * time.Second) // both have all nodes ready
			add("list", "list")
			add("stop", "stop", "demo")
			add("down", "down")
		}
	}
	for _, what := range []string{"up", "start", "list", "stop", "down"} {
		median := func(name string) time.Duration {
			all := took[name][what]
			if len(all) == 0 {
				return time.Hour
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		t.Logf("| %s (%d, %d) | %v | %v | %.2f |", what, len(took["ours"][what]), len(took["real"][what]), median("ours").Round(time.Millisecond), median("real").Round(time.Millisecond), float64(median("ours"))/float64(median("real")))
	}
	for _, p := range peers {
		p.survival()
	}
}

// survival kills coordinator and daemon, and says what is left.
func (p *peer) survival() {
	for _, victim := range []string{"coordinator", "daemon"} {
		p.timed("up")
		p.timed("start", "python.yml", "--name", "demo", "--detach")
		time.Sleep(2 * time.Second)
		_, _ = p.run("param", "set", "-d", "demo", "sink", "key", "42")
		before := append(p.processes("send.py"), p.processes("receive.py")...)
		for _, pid := range p.processes(victim) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(3 * time.Second)
		kept := 0
		for _, pid := range before {
			if alive(pid) {
				kept++
			}
		}
		_, _ = p.run("up")
		time.Sleep(3 * time.Second)
		list, _ := p.run("list")
		param, _ := p.run("param", "get", "-d", "demo", "sink", "key")
		p.t.Logf("| %s | %s | %d of %d nodes | %d daemons | parameter: %s | %s |", p.name, victim, kept, len(before), len(p.processes("daemon")),
			strings.TrimSpace(param), strings.Join(strings.Fields(lastLine(list)), " "))
		_, _ = p.run("stop", "demo", "--grace-duration", "1s")
		_, _ = p.run("down")
		for _, pid := range append(p.processes("send.py"), append(p.processes("receive.py"), p.processes("daemon")...)...) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
