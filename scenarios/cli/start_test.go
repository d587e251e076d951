package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGuardIsUpBeforeTheRestOfTheBinary: in the real binary, too, a guard has not waited
// for what costs time. By hand it refuses and ends where it would begin.
func TestGuardIsUpBeforeTheRestOfTheBinary(t *testing.T) {
	cmd := exec.Command(filepath.Join(bin, "dora"), "shim", "guard")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "not by hand") {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "init os @") {
		t.Fatalf("nothing is traced any more:\n%s", out)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "init "), " @")
		for _, late := range []string{"net", "github.com/dora-go/dora/actors", "github.com/dora-go/dora/events", "github.com/dora-go/dora/transport",
			"google.golang.org/protobuf/reflect", "github.com/prometheus", "github.com/dgraph-io", "github.com/spf13"} {
			if name == late || strings.HasPrefix(name, late+"/") {
				t.Errorf("the guard has waited for %s", name)
			}
		}
	}
}

// TestPairIsStartedAhead: guard and shim are there before it is known what for, and go
// when nobody needs them (the watch over leftovers looks).
func TestPairIsStartedAhead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "dataflow.yml", "nodes:\n  - {id: n, path: testnode, build: sleep 100}\n")
	cmd, w := command(t, dir, "run", "dataflow.yml")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(w.Find("shim", "guard")) != 1 || len(w.Find("shim", "serve")) != 1 {
		if time.Now().After(deadline) {
			t.Error("no guard and shim while the node is being built")
			break
		}
		time.Sleep(time.Millisecond)
	}
	if shims, _ := os.ReadDir(filepath.Join(w.Home(), "shims")); len(shims) > 0 {
		t.Errorf("they have touched %v before they were needed", shims)
	}
	time.Sleep(50 * time.Millisecond) // the build runs, and Ctrl-C ends it
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err == nil {
		t.Error("an interrupted build was a success")
	}
	if left := append(w.Find("shim", "guard"), w.Find("shim", "serve")...); len(left) > 0 {
		t.Errorf("guard and shim were not needed and outlived the command: %v", left)
	}
}
