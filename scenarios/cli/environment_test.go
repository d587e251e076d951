package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dora-go/dora/scenarios/leftovers"
)

// TestEnvironmentAgainstFlags: each variable of the reference works alone, the flag wins
// over it, and a value that the flag would refuse is refused by the name of the variable.
func TestEnvironmentAgainstFlags(t *testing.T) {
	w := leftovers.New(t)
	dir := t.TempDir()
	write(t, dir, "flow.yml", `nodes:
  - id: talk
    path: testnode
    args: >-
      'print={"level":"info","message":"mild"}' 'print={"level":"error","message":"high"}' init
`)
	write(t, dir, "shell.yml", "nodes:\n  - {id: sh, path: shell, args: echo from the shell}\n")
	run := func(env []string, args ...string) (int, string) {
		t.Helper()
		cmd := w.Command(dir, filepath.Join(bin, "dora"), args...)
		cmd.Env = append(w.Env(), append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "NO_COLOR=1", "DORA_AUTH_TOKEN="}, env...)...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode(), string(out)
		} else if err != nil {
			t.Fatal(err)
		}
		return 0, string(out)
	}
	type check struct {
		name string
		env  []string
		args []string
		code int
		want string // in the output
		not  string
	}
	var checks []check
	nobody, other := freePort(t), freePort(t)
	for _, c := range []string{"list", "stop x", "restart x", "node list", "node info n -d x", "node stop n -d x", "node restart n -d x", "logs x", "events",
		"param list n -d x", "param get n k -d x", "param set n k 1 -d x", "param delete n k -d x", "trace list", "trace view ab", "status", "system status",
		"doctor", "down", "start flow.yml"} {
		args := strings.Fields(c)
		checks = append(checks,
			check{c, []string{"DORA_COORDINATOR_PORT=" + nobody}, args, 1, "127.0.0.1:" + nobody, ""},
			check{c, []string{"DORA_COORDINATOR_PORT=" + nobody, "DORA_COORDINATOR_ADDR=127.0.0.2"}, args, 1, "127.0.0.2:" + nobody, ""},
			check{c, []string{"DORA_COORDINATOR_PORT=" + nobody, "DORA_COORDINATOR_ADDR=127.0.0.2"},
				append(args, "--coordinator-port", other, "--coordinator-addr", "127.0.0.3"), 1, "127.0.0.3:" + other, nobody},
			check{c, []string{"DORA_COORDINATOR_PORT=many"}, args, 2, "DORA_COORDINATOR_PORT=many", ""})
	}
	flow := []string{"run", "flow.yml"}
	logs := []string{"logs", "--local", "talk"}
	for _, c := range []struct {
		args  []string
		level string
	}{{flow, "--log-level"}, {logs, "--level"}} {
		name := c.args[0]
		with := func(more ...string) []string { return append(append([]string{}, c.args...), more...) }
		checks = append(checks,
			check{name, nil, c.args, 0, "mild", ""},
			check{name, []string{"DORA_LOG_LEVEL=error"}, c.args, 0, "high", "mild"},
			check{name, []string{"DORA_LOG_LEVEL=error"}, with(c.level, "info"), 0, "mild", ""},
			check{name, []string{"DORA_LOG_LEVEL=loud"}, c.args, 2, "DORA_LOG_LEVEL=loud", ""},
			check{name, []string{"DORA_LOG_FORMAT=json"}, c.args, 0, `"message":"mild"`, ""},
			check{name, []string{"DORA_LOG_FORMAT=json"}, with("--log-format", "compact"), 0, "talk: mild", `"message"`},
			check{name, []string{"DORA_LOG_FORMAT=html"}, c.args, 2, "DORA_LOG_FORMAT=html", ""},
			check{name, []string{"DORA_LOG_FILTER=talk=error"}, c.args, 0, "high", "mild"},
			check{name, []string{"DORA_LOG_FILTER=talk=error"}, with("--log-filter", "talk=info"), 0, "mild", ""},
			check{name, []string{"DORA_LOG_FILTER=talk"}, c.args, 2, "DORA_LOG_FILTER=talk", ""})
	}
	shell := []string{"run", "shell.yml"}
	checks = append(checks,
		check{"run", nil, shell, 1, "DORA_ALLOW_SHELL_NODES", "sh: from the shell"},
		check{"run", []string{"DORA_ALLOW_SHELL_NODES=true"}, shell, 0, "sh: from the shell", ""},
		check{"run", []string{"DORA_ALLOW_SHELL_NODES=true"}, append(shell, "--allow-shell-nodes=false"), 1, "DORA_ALLOW_SHELL_NODES", "sh: from the shell"},
		check{"run", []string{"DORA_ALLOW_SHELL_NODES=perhaps"}, shell, 2, "DORA_ALLOW_SHELL_NODES=perhaps", ""})
	for _, c := range checks {
		code, out := run(c.env, c.args...)
		if code != c.code || !strings.Contains(out, c.want) || c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("%v dora %v: exit code %d, want %d with %q and without %q:\n%s", c.env, c.args, code, c.code, c.want, c.not, out)
		}
	}
}
