package production

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/transport/link"
)

// newest is the file with which the newest capability of shims came, `tap`. The program as
// it was just before is the older one of these tests, until there is a release to take.
const newest = "shim/tap_test.go"

// TestOlderShim has everything started by the program as it was one capability ago, and
// then coordinator and daemon replaced by today's: they read the older histories, adopt the
// older shim with its nodes, order it about, and give the dataflow a shim of today after it.
func TestOlderShim(t *testing.T) {
	root := repository(t)
	before := commitBefore(t, root, newest)
	if before == "" {
		t.Log("this is a shallow copy of the history, or none: only the shim that lacks a capability is tested here (TestShimThatLacksACapability)")
		return
	}
	tree := t.TempDir()
	archive := exec.Command("sh", "-c", `git -C "$0" archive "$1" | tar -x -C "$2"`, root, before, tree)
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("the tree of commit %s: %v\n%s", before, err, out)
	}
	adoptOlder(t, buildOlder(t, tree))
}

// TestShimThatLacksACapability is the same with today's program less its newest capability.
func TestShimThatLacksACapability(t *testing.T) {
	root := repository(t)
	replaced := map[string]string{}
	for name, change := range map[string][2]string{
		"shim/shim.go":     {`, "tap"}`, `}`},
		"shim/commands.go": {`case c.Tap != nil:`, `case c.Tap != nil && false:`},
	} {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(raw), change[0]) != 1 {
			t.Fatalf("%s does not have %q once any more", name, change[0])
		}
		to := filepath.Join(t.TempDir(), "changed.go")
		if err := os.WriteFile(to, []byte(strings.Replace(string(raw), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[filepath.Join(root, name)] = to
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	var pairs []string
	for from, to := range replaced {
		pairs = append(pairs, fmt.Sprintf("%q: %q", from, to))
	}
	if err := os.WriteFile(overlay, []byte(`{"Replace": {`+strings.Join(pairs, ", ")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	adoptOlder(t, buildOlder(t, root, "-overlay", overlay))
}

// repository is the folder of the source.
func repository(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// commitBefore is the parent of the commit that added a file; "" without that much history.
func commitBefore(t *testing.T, root, file string) string {
	t.Helper()
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", root}, args...)...).Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	if git("rev-parse", "--is-shallow-repository") != "false" {
		return ""
	}
	added := git("log", "-1", "--diff-filter=A", "--format=%H", "--", file)
	before := git("rev-parse", "--verify", "--quiet", added+"^")
	if added == "" || before == "" {
		t.Fatalf("the history does not say which commit added %s, or has none before it", file)
	}
	return before
}

// buildOlder builds dora in a tree, in a folder of its own.
func buildOlder(t *testing.T, tree string, flags ...string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "dora")
	cmd := exec.Command("go", append(append([]string{"build", "-o", program}, flags...), "./cmd/dora")...)
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the older program: %v\n%s", err, out)
	}
	return program
}

func adoptOlder(t *testing.T, older string) {
	s := newSite(t)
	s.write("stream.yml", restarting)
	for _, args := range [][]string{{"up"}, {"start", "stream.yml", "--name", "demo", "--detach"}} {
		cmd := s.w.Command(s.dir, older, args...)
		cmd.Env = s.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("the older dora %v: %v\n%s", args, err, out)
		}
	}
	id := s.list()[0].UUID
	s.await(id, "Running")
	s.setParam("demo", "sink", "early", "1")
	pids := s.pids(id)
	seen := len(s.numbers(id, "sink"))
	shim := s.w.Find(roles["shim"]...)
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", shim[0])); len(shim) != 1 || exe != older {
		t.Fatalf("the shims are %v, the first runs %s", shim, exe)
	}

	s.kill("coordinator", "daemon")
	could := s.hello(id).Capabilities
	s.dora("up")
	s.await(id, "Running")
	if now := s.pids(id); !maps.Equal(now, pids) {
		t.Errorf("the nodes were %v and are %v", pids, now)
	}
	s.flows(id, "sink", max(0, seen-1))
	if p := s.params("demo", "sink"); string(p["early"]) != "1" {
		t.Errorf("the parameters are %s", p)
	}
	s.setParam("demo", "sink", "late", "2")
	s.awaitLog(id, "sink", "late", 1)
	if out := s.dora("logs", "demo", "sink", "--tail", "3"); strings.Count(out, "\n") != 3 {
		t.Errorf("three lines of the log are %q", out)
	}
	s.dora("node", "restart", "source", "-d", "demo")
	s.await(id, "Running")
	s.flows(id, "sink", len(s.numbers(id, "sink"))-1)
	if now := s.pids(id); now["source"] == pids["source"] || now["sink"] != pids["sink"] {
		t.Errorf("after the restart of the source the nodes are %v, they were %v", now, pids)
	}

	s.kill("shim")
	s.eventually(20*time.Second, func() bool { now := s.w.Find(roles["shim"]...); return len(now) == 1 && now[0] != shim[0] },
		func() string { return "there is no new shim" })
	s.await(id, "Running")
	s.awaitLog(id, "sink", "late", 2)
	s.kill("daemon")
	can := s.hello(id).Capabilities
	s.dora("up")
	if slices.Equal(could, can) || !slices.Equal(append(slices.Clone(could), "tap"), can) {
		t.Errorf("the older shim can %v, today's %v", could, can)
	}
	s.await(id, "Running")
	s.dora("stop", "demo")
	if r := s.find(id); r.Status != "Finished" {
		t.Errorf("after the stop it is %+v", r)
	}
	s.awaitNodes(0)
}

// hello is how the shim of a dataflow introduces itself, to whom it is asked by instead of
// a daemon. One that cannot be tapped must refuse that, as it does what it does not know.
func (s *Site) hello(uuid string) link.Hello {
	s.t.Helper()
	dir := filepath.Join(s.home(), "shims", uuid)
	owner, err := folder.ReadOwner(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	want, err := folder.ReadWant(dir)
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := link.Dial(owner.Socket, 5*time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	first, err := c.ReadMessage()
	if err != nil || first.Hello == nil {
		s.t.Fatalf("hello: %v, %+v", err, first)
	}
	tap := link.Command{ID: 1, Epoch: want.Epoch, Tap: &link.Tap{Outputs: []link.TapOutput{{Node: "source", Output: "out"}}}}
	if err := c.Send(&tap); err != nil {
		s.t.Fatal(err)
	}
	for {
		m, err := c.ReadMessage()
		if err != nil {
			s.t.Fatalf("the answer to a tap: %v", err)
		}
		if m.Reply == nil {
			continue
		}
		can := slices.Contains(first.Hello.Capabilities, "tap")
		if can != (m.Reply.Error == "") || !can && !strings.Contains(m.Reply.Error, "does not know the command") {
			s.t.Errorf("a shim with %v answers a tap with %+v", first.Hello.Capabilities, m.Reply)
		}
		return *first.Hello
	}
}
