package shim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/folder"
	"github.com/dora-go/dora/shim/guard"
	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/link"
)

func TestOnlyOneShimPerFolder(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	d := startShim(t, launch.Options{StateDir: state})
	_, err := launch.Launch(context.Background(), launch.Options{StateDir: state, Dataflow: dataflowID})
	if !errors.Is(err, folder.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint(d.h.Owner().PID)) {
		t.Errorf("second launch: %v", err)
	}
	if _, err := launch.Launch(context.Background(), launch.Options{StateDir: state, Dataflow: "../evil"}); err == nil {
		t.Error("a dataflow id may not lead out of the folder")
	}
}

// TestUnwantedShim: a shim that was started for a token nobody wants any more goes.
func TestUnwantedShim(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	dir, err := folder.Create(state, dataflowID)
	if err != nil {
		t.Fatal(err)
	}
	folder.WriteWant(dir, folder.Want{Token: "newer"})
	socket, _ := folder.SocketPath()
	p, err := guard.Start(guard.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Drop()
	err = p.Configure(guard.Config{Dir: dir, Dataflow: dataflowID, Token: "older", Socket: socket, Mark: folder.NewName()})
	answer, rerr := io.ReadAll(p.Ready())
	if err != nil || rerr != nil || !strings.Contains(string(answer), "wants the shim with token newer") {
		t.Errorf("%v, %v, answer %q", err, rerr, answer)
	}
	<-p.Done()
	if held, _ := folder.Held(dir); held || !missing(socket) {
		t.Error("something is left")
	}
}

// TestPairAhead: a pair that was started before it was known what for.
func TestPairAhead(t *testing.T) {
	t.Parallel()
	start := func() *guard.Pair {
		p, err := guard.Start(guard.StartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	state := t.TempDir()
	p := start()
	d := startShim(t, launch.Options{StateDir: state, ParentPipe: true, Ahead: p})
	if d.h.Owner().GuardPID != p.PID() {
		t.Errorf("guard %d is not the one that was started ahead, %d", d.h.Owner().GuardPID, p.PID())
	}

	// Nobody needs it: it goes and has touched nothing.
	p = start()
	waiting := func() bool { return len(childrenOf(p.PID())) == 1 && alive(childrenOf(p.PID())[0], "dora-shim") }
	eventually(t, 5*time.Second, "the shim waits", waiting)
	shim := childrenOf(p.PID())[0]
	p.Drop()
	if alive(p.PID(), "dora-guard") || alive(shim, "dora-shim") {
		t.Error("a pair that nobody needs is still there")
	}

	// It was killed meanwhile: that is said, and nothing is left.
	for _, victim := range []string{"guard", "shim"} {
		p = start()
		eventually(t, 5*time.Second, "the shim waits", waiting)
		shim := childrenOf(p.PID())[0]
		if victim == "guard" {
			kill(p.PID())
		} else {
			kill(shim)
		}
		state := t.TempDir()
		_, err := launch.Launch(context.Background(), launch.Options{StateDir: state, Dataflow: dataflowID, ParentPipe: true, Ahead: p})
		if err == nil || !strings.Contains(err.Error(), "ended at once") {
			t.Errorf("the %s was killed: %v", victim, err)
		}
		eventually(t, time.Second, "both are gone", func() bool { return !alive(p.PID(), "dora-guard") && !alive(shim, "dora-shim") })
		if found, err := launch.Find(state); len(found) != 0 || err != nil {
			t.Errorf("left %+v, %v", found, err)
		}
	}

	// A launch that cannot be ends it.
	p = start()
	_, err := launch.Launch(context.Background(), launch.Options{StateDir: state, Dataflow: dataflowID, Ahead: p})
	if !errors.Is(err, folder.ErrHeld) {
		t.Error(err)
	}
	select {
	case <-p.Done():
	case <-time.After(3 * time.Second):
		t.Error("the pair of a failed launch is still there")
	}
}

func childrenOf(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(b)) {
			child, _ := strconv.Atoi(f)
			pids = append(pids, child)
		}
	}
	return pids
}

func TestLaunchFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ program, want string }{
		"no program":    {"/no/such/dora", "/no/such/dora"},
		"ends at once":  {"/bin/false", "ended at once"},
		"another thing": {"/bin/echo", "it printed: shim guard"},
	} {
		state := t.TempDir()
		_, err := launch.Launch(context.Background(), launch.Options{Executable: c.program, StateDir: state, Dataflow: dataflowID})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if found, err := launch.Find(state); len(found) != 0 || err != nil {
			t.Errorf("%s: left %+v, %v", name, found, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	script := filepath.Join(t.TempDir(), "hangs")
	os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 100\n"), 0o755)
	begin := time.Now()
	_, err := launch.Launch(ctx, launch.Options{Executable: script, StateDir: t.TempDir(), Dataflow: dataflowID})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
		t.Errorf("a guard that hangs: %v after %v", err, time.Since(begin))
	}
}

// TestFind: what the folder alone tells, without dialling anybody.
func TestFind(t *testing.T) {
	t.Parallel()
	if found, err := launch.Find(t.TempDir()); err != nil || len(found) != 0 {
		t.Errorf("no shims: %+v, %v", found, err)
	}
	// A daemon was killed between making the folder and starting the shim.
	state := t.TempDir()
	dir, _ := folder.Create(state, dataflowID)
	found, err := launch.Find(state)
	if err != nil || len(found) != 1 || found[0].Alive || found[0].Owner.PID != 0 {
		t.Errorf("an empty folder: %+v, %v", found, err)
	}
	d := startShim(t, launch.Options{StateDir: state}) // is no obstacle
	found, _ = launch.Find(state)
	if !found[0].Alive || found[0].Rebooted || found[0].Owner.PID != d.h.Owner().PID {
		t.Errorf("a live shim: %+v", found[0])
	}
	if err := found[0].Remove(); !errors.Is(err, folder.ErrHeld) {
		t.Errorf("removing a live shim: %v", err)
	}
	// A stale socket is an answer at once.
	os.Remove(d.h.Owner().Socket)
	begin := time.Now()
	if _, err := launch.Adopt(context.Background(), found[0]); !errors.Is(err, os.ErrNotExist) || time.Since(begin) > 200*time.Millisecond {
		t.Errorf("no socket: %v after %v", err, time.Since(begin))
	}
	kill(d.h.Owner().PID)
	<-d.h.Lost()
	if _, err := launch.Adopt(context.Background(), found[0]); err == nil {
		t.Error("a dead shim was adopted")
	}
	// Another boot tells without looking further; nothing of it is touched.
	lock, _ := os.ReadFile(filepath.Join(dir, folder.LockName))
	os.WriteFile(filepath.Join(dir, folder.LockName), []byte(strings.Replace(string(lock), folder.BootID(), "another", 1)), 0o600)
	found, _ = launch.Find(state)
	if found[0].Alive || !found[0].Rebooted {
		t.Errorf("another boot: %+v", found[0])
	}
	if err := found[0].Remove(); err != nil || !missing(dir) {
		t.Errorf("removing: %v", err)
	}
}

// TestStopFromTheFolderAlone is what `dora shim stop` does.
func TestStopFromTheFolderAlone(t *testing.T) {
	t.Parallel()
	for _, force := range []bool{false, true} {
		d := startShim(t, launch.Options{})
		tag := newTag()
		d.must(link.Command{Load: d.load(sh("n", "trap 'exit 0' TERM; sleep 1"+tag+" & wait"))})
		d.must(link.Command{Spawn: &link.Spawn{Node: "n", Generation: 1}})
		eventually(t, 5*time.Second, "the node runs", func() bool { return len(tagged(tag)) == 1 })
		found := findOne(t, d)
		if !force {
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			if err := found.Stop(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the ladder takes longer: %v", err)
			}
			cancel()
			if got := names(d.collect(func(f link.Fact) bool { return f.StopStep != nil })); !strings.HasSuffix(got, "warning stop") {
				t.Errorf("facts: %s", got)
			}
			d.must(link.Command{Stop: &link.Stop{Grace: time.Millisecond, Kill: time.Minute}})
		}
		if err := found.Stop(context.Background(), force); err != nil {
			t.Errorf("force %v: %v", force, err)
		}
		eventually(t, time.Second, "nothing is left", func() bool { return len(tagged(tag)) == 0 })
		if err := found.Stop(context.Background(), force); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("again: %v", err)
		}
	}
}
