package shim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	r, w, _ := os.Pipe()
	defer r.Close()
	socket, _ := folder.SocketPath()
	cmd := exec.Command(os.Args[0], "shim", "guard", dataflowID)
	cmd.Env = append(os.Environ(), guard.Config{Dir: dir, Dataflow: dataflowID, Token: "older", Socket: socket, Mark: folder.NewName()}.Encode())
	cmd.ExtraFiles = []*os.File{w}
	out, err := cmd.CombinedOutput()
	w.Close()
	answer := make([]byte, 1000)
	n, _ := r.Read(answer)
	if err != nil || !strings.Contains(string(answer[:n]), "wants the shim with token newer") {
		t.Errorf("%v, %s, answer %q", err, out, answer[:n])
	}
	if held, _ := folder.Held(dir); held || !missing(socket) {
		t.Error("something is left")
	}
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
