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

// timed runs a command that must succeed and says how long it took.
func (p *peer) timed(args ...string) time.Duration {
	p.t.Helper()
	begin := time.Now()
	if out, err := p.run(args...); err != nil {
		p.t.Fatalf("%s: dora %v: %v\n%s", p.name, args, err, out)
	}
	return time.Since(begin)
}

// scripts are the processes of a node's script.
func (p *peer) scripts(name string) []int {
	var pids []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil || !bytes.Contains(env, []byte(p.w.Mark())) || !strings.Contains(string(raw), name) || strings.Contains(string(raw), "start") {
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
				took[p.name][what] = append(took[p.name][what], p.timed(args...))
			}
			add("up", "up")
			add("start", "start", "python.yml", "--name", "demo", "--detach")
			add("list", "list")
			add("stop", "stop", "demo")
			add("down", "down")
		}
	}
	for _, what := range []string{"up", "start", "list", "stop", "down"} {
		median := func(name string) time.Duration {
			all := took[name][what]
			slices.Sort(all)
			return all[len(all)/2]
		}
		t.Logf("| %s | %v | %v | %.2f |", what, median("ours").Round(time.Millisecond), median("real").Round(time.Millisecond), float64(median("ours"))/float64(median("real")))
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
		before := append(p.scripts("send.py"), p.scripts("receive.py")...)
		for _, pid := range p.w.Find(victim) {
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
		p.t.Logf("| %s | %s | %d of %d nodes | %d daemons | parameter: %s | %s |", p.name, victim, kept, len(before), len(p.w.Find("daemon")),
			strings.TrimSpace(param), strings.Join(strings.Fields(lastLine(list)), " "))
		_, _ = p.run("stop", "demo", "--grace-duration", "1s")
		_, _ = p.run("down")
		for _, pid := range append(p.scripts("send.py"), append(p.scripts("receive.py"), p.w.Find("daemon")...)...) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
