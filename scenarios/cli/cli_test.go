package cli

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
	"github.com/rogpeppe/go-internal/testscript"
)

// bin holds dora and testnode, built once.
var bin string

// toolEnv lets builds in a private home use the caches that are there already, and nothing
// from the network.
var toolEnv []string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "dora-cli-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin = filepath.Join(dir, "bin")
	for name, pkg := range map[string]string{"dora": "cmd/dora", "testnode": "scenarios/testnode"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, name), "github.com/dora-go/dora/"+pkg)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return 1, fmt.Errorf("build %s: %w", pkg, err)
		}
	}
	if toolEnv, err = findTools(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

func findTools() ([]string, error) {
	env := []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GONOSUMDB=*", "GOWORK=off"}
	for _, key := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", key).Output()
		if err != nil {
			return nil, fmt.Errorf("go env %s: %w", key, err)
		}
		env = append(env, key+"="+strings.TrimSpace(string(value)))
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	module := filepath.Dir(strings.TrimSpace(string(mod)))
	return append(rustEnv(env, module), "MODULE="+module), nil
}

// rustEnv adds where cargo and its crates are, and how to link large static libraries in
// less time: with the linker that comes with Rust, if there is one.
func rustEnv(env []string, module string) []string {
	home, _ := os.UserHomeDir()
	for key, value := range map[string]string{"CARGO_HOME": filepath.Join(home, ".cargo"), "RUSTUP_HOME": filepath.Join(home, ".rustup"),
		"CARGO_TARGET_DIR": filepath.Join(module, "target")} {
		env = append(env, key+"="+cmp.Or(os.Getenv(key), value))
	}
	link := ""
	if root, err := exec.Command("rustc", "--print", "sysroot").Output(); err == nil {
		found, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "lib/rustlib/*/bin/gcc-ld"))
		for _, dir := range found {
			link = "-fuse-ld=lld -B" + dir
		}
	}
	return append(env, "FAST_LINK="+link)
}

func TestScripts(t *testing.T) {
	python := os.Getenv("DORA_TEST_PYTHON")
	if python == "" {
		t.Fatal("DORA_TEST_PYTHON is not set: run `task setup`, then DORA_TEST_PYTHON=$PWD/.venv/bin/python")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			w := leftovers.New(t) // looks when all scripts have ended
			for _, kv := range w.Env() {
				if k, v, _ := strings.Cut(kv, "="); slices.Contains(leftovers.Variables, k) {
					env.Setenv(k, v)
				}
			}
			env.Setenv("PATH", strings.Join([]string{bin, filepath.Dir(python), os.Getenv("PATH")}, ":"))
			env.Setenv("NO_COLOR", "1")
			env.Setenv("DORA_COORDINATOR_PORT", freePort(t))
			env.Setenv("DORA_AUTH_TOKEN", "")
			env.Defer(func() { takeDown(t, env) })
			for _, kv := range toolEnv {
				k, v, _ := strings.Cut(kv, "=")
				env.Setenv(k, v)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dora":   func(ts *testscript.TestScript, neg bool, args []string) { expect(ts, code(neg), "dora", args) },
			"rc":     cmdRC,
			"within": cmdWithin,
		},
	})
}

// freePort is a port for the coordinator of one script.
func freePort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// takeDown ends the coordinator of a script that did not come to its end, with all below.
func takeDown(t *testing.T, env *testscript.Env) {
	cmd := exec.Command(filepath.Join(bin, "dora"), "down")
	cmd.Env = env.Vars
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "nobody listens") {
		t.Errorf("down: %v\n%s", err, out)
	}
}

// code is the exit code of a command that must succeed, or fail with an error (1).
func code(neg bool) int {
	if neg {
		return 1
	}
	return 0
}

// expect runs a program and checks its exit code.
func expect(ts *testscript.TestScript, want int, prog string, args []string) {
	err := ts.Exec(prog, args...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%s: %v", prog, err)
	}
	if got != want {
		ts.Fatalf("%s %s: exit code %d, want %d", prog, strings.Join(args, " "), got, want)
	}
	if text := ts.ReadFile("stderr"); strings.Contains(text, "panic:") || strings.Contains(text, "goroutine ") {
		ts.Fatalf("stack trace on stderr")
	}
}

// rc CODE PROGRAM ARGS... checks the exact exit code.
func cmdRC(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: rc CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	expect(ts, want, args[1], args[2:])
}

// within MIN MAX CODE PROGRAM ARGS... also checks how long it took.
func cmdWithin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: within MIN MAX CODE PROGRAM ARGS...")
	}
	least, err := time.ParseDuration(args[0])
	ts.Check(err)
	most, err := time.ParseDuration(args[1])
	ts.Check(err)
	start := time.Now()
	cmdRC(ts, false, args[2:])
	if took := time.Since(start); took < least || took > most {
		ts.Fatalf("took %v, want %v to %v", took, least, most)
	}
}
