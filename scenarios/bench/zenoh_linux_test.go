//go:build zenoh

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mixedShop is a workshop with what Python to Go to Python needs, in the build with Zenoh.
func mixedShop(t *testing.T) *workshop {
	t.Helper()
	prepare := []func(context.Context) error{shop.prepareZenohDora, shop.prepareGoNode,
		func(ctx context.Context) error {
			return shop.official.do(func() error { return shop.findOfficial(ctx) })
		}}
	for _, step := range prepare {
		if err := step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return shop
}

// mixedRun is a running chain of Python, Go and Python with 1 MiB messages.
type mixedRun struct {
	*run
	shm *mounts
}

// startMixed starts the chain in a /dev/shm of its own, and waits until both edges go
// through it: the receiver reads where the sender has written, or with anew where the Go node
// has.
func startMixed(t *testing.T, w *workshop, anew bool, change func(*graph)) mixedRun {
	t.Helper()
	run := launchMixed(t, w, anew, change)
	run.until(t, "both edges to go through shared memory", func() bool {
		there := run.share(t, "sender.py", "receiver.py")
		if anew {
			there = run.inPlace(t, "gonode", "receiver.py")
		}
		return there && run.share(t, "sender.py", "gonode")
	})
	// The shim looks at what is mapped from time to time; what it has not seen when it is
	// killed, nobody can remove.
	run.until(t, "the shim to note all segments", func() bool {
		noted := run.noted(t)
		return !slices.ContainsFunc(run.shm.segments(t, "*.zenoh"), func(file string) bool { return !slices.Contains(noted, path.Base(file)) })
	})
	return run
}

func launchMixed(t *testing.T, w *workshop, anew bool, change func(*graph)) mixedRun {
	t.Helper()
	m := privateShm(t, 256)
	p := pace{bytes: 1 << 20, every: 20 * time.Millisecond, count: 100_000}
	g := w.relayGraph(p, w.goNode())
	if anew {
		g = fresh(g)
	}
	if change != nil {
		change(&g)
	}
	r, err := w.newRun(context.Background(), m.inside(w.zenohDora), g, nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_, _ = r.cmd.Process.Wait()
		if err := errors.Join(r.endStrays(strayGrace), r.close()); err != nil {
			t.Error(err)
		}
	})
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	if err := r.waitFor("receiving", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	return mixedRun{r, m}
}

// noted are the segments that the shim has written down for those who clean up after it.
func (r mixedRun) noted(t *testing.T) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(filepath.Join(r.dir, "home"), func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "segments" {
			return nil // it may go while we look
		}
		raw, err := os.ReadFile(file)
		names = append(names, strings.Fields(string(raw))...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (r mixedRun) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s%s", what, r.logTail())
		}
	}
}

// pid of the process of the run whose command holds the words.
func (r mixedRun) pid(t *testing.T, words string) int {
	t.Helper()
	found, err := strays(markVar + "=" + r.mark)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(found, func(s stray) bool { return strings.Contains(s.command, words) })
	if i < 0 {
		return 0
	}
	return found[i].pid
}

// files are those of shared memory that a process has mapped, by device and inode, with the
// names under which it opened them.
func (r mixedRun) files(t *testing.T, words string) map[string]string {
	t.Helper()
	pid := r.pid(t, words)
	if pid == 0 {
		return nil
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil // it has ended
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 5 && strings.HasPrefix(f[5], "/dev/shm/") {
			out[f[3]+" "+f[4]] = path.Base(f[5])
		}
	}
	return out
}

// inPlace says whether the reader has mapped, as a segment of Zenoh, memory that the writer
// made without a name.
func (r mixedRun) inPlace(t *testing.T, writer, reader string) bool {
	t.Helper()
	theirs := r.files(t, reader)
	for file, name := range r.files(t, writer) {
		if strings.HasPrefix(name, "#") && strings.HasSuffix(theirs[file], ".zenoh") {
			return true
		}
	}
	return false
}

// zenohMaps are the segments that a process has mapped.
func (r mixedRun) zenohMaps(t *testing.T, words string) []string {
	t.Helper()
	var out []string
	for _, name := range r.files(t, words) {
		if strings.HasSuffix(name, ".zenoh") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// share says whether two processes have mapped the same segment.
func (r mixedRun) share(t *testing.T, one, other string) bool {
	t.Helper()
	theirs := r.zenohMaps(t, other)
	return slices.ContainsFunc(r.zenohMaps(t, one), func(file string) bool { return slices.Contains(theirs, file) })
}

// Whoever is killed while Go and Python share memory: all processes end, and no segment is
// left in /dev/shm.
func TestKilledMixedEdgesLeaveNothing(t *testing.T) {
	w := mixedShop(t)
	for name, words := range map[string]string{
		"run": "", "shim": "shim serve", "sender": "sender.py", "Go node": "gonode", "receiver": "receiver.py",
		"new arrays, shim": "shim serve", "new arrays, Go node": "gonode", "new arrays, receiver": "receiver.py",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startMixed(t, w, strings.HasPrefix(name, "new"), nil)
			pid := r.cmd.Process.Pid
			if words != "" {
				pid = r.pid(t, words)
			}
			if pid == 0 {
				t.Fatalf("there is no process %q", words)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- r.cmd.Wait() }()
			if strings.HasSuffix(words, ".py") || words == "gonode" {
				_ = r.cmd.Process.Signal(os.Interrupt) // the other nodes may run on
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("the run ended with exit code 0")
				}
			case <-time.After(30 * time.Second):
				t.Fatal("the run does not end")
			}
			if err := r.endStrays(strayGrace); err != nil {
				t.Error(err)
			}
			for _, file := range r.shm.segments(t, "*.zenoh") {
				t.Errorf("%s is left", file)
			}
		})
	}
	t.Run("restarted sender", func(t *testing.T) {
		t.Parallel()
		r := startMixed(t, w, false, func(g *graph) { g.Nodes[0].Restart = "always" })
		before := r.zenohMaps(t, "gonode")
		if err := syscall.Kill(r.pid(t, "sender.py"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.until(t, "the Go node to read the next process's memory, and no more that of the killed one", func() bool {
			now := r.zenohMaps(t, "gonode")
			return len(now) == len(before) && !slices.ContainsFunc(now, func(file string) bool { return slices.Contains(before, file) })
		})
	})
}
