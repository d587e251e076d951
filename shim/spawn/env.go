package spawn

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// TokenEnv marks the processes of one spawn.
const TokenEnv = "DORA_SPAWN_TOKEN"

// poolSizeEnv is the one control variable that a user's value beats.
const poolSizeEnv = "DORA_NODE_SHM_POOL_SIZE"

// injecting variables load code into a process, or are secrets of the daemon: refused
// from a descriptor, and not inherited.
var injecting = []string{"LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "DORA_AUTH_TOKEN", "DORA_ALLOW_SHELL_NODES"}

// wiring variables say how a node reaches its peers: refused from a descriptor, and not
// inherited (a dataflow may be started from a node of another).
var wiring = []string{
	"DORA_NODE_CONFIG", "DORA_RUNTIME_CONFIG", "DORA_ZENOH_LISTEN", "DORA_ZENOH_LISTEN_EXTRA",
	"DORA_ZENOH_CONNECT", "DORA_ZENOH_MULTICAST", "DORA_RUN_PARENT_PID", nodewire.TypesVariable,
	contain.Mark, TokenEnv, "DORA_SHIM_CONFIG", "DORA_SHM_SOCKET", "DORA_SHM_TOKEN",
}

// deployment variables belong to whoever runs the daemon: refused from a descriptor, but
// inherited.
var deployment = []string{
	"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "ZENOH_CONFIG", "DORA_ZENOH_CONFIG_OVERLAY",
	"DORA_ZENOH_OPEN_TIMEOUT_MS",
}

// refusal says why a variable may not be set by a descriptor; empty: it may.
func refusal(name string) string {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsFunc(name, unicode.IsSpace):
		return fmt.Sprintf("environment variable %q is ignored: a name must not be empty nor contain `=`, blanks or NUL", name)
	case slices.Contains(injecting, name):
		return fmt.Sprintf("environment variable `%s` is ignored: it could load foreign code into the node, or is a secret of the daemon; set it where the daemon is started, if at all", name)
	case slices.Contains(wiring, name):
		return fmt.Sprintf("environment variable `%s` is ignored: it wires the node to dora and is set by dora alone", name)
	case slices.Contains(deployment, name):
		return fmt.Sprintf("environment variable `%s` is ignored: set it where dora is started; nodes inherit it from there", name)
	}
	return ""
}

// environment is a set of variables in the order in which they were first set.
type environment struct {
	names  []string
	values map[string]string
}

func newEnvironment(entries []string) *environment {
	e := &environment{values: make(map[string]string, len(entries)+16)}
	for _, entry := range entries {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			e.set(name, value)
		}
	}
	return e
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) unset(name string) {
	if _, ok := e.values[name]; ok {
		delete(e.values, name)
		e.names = slices.DeleteFunc(e.names, func(n string) bool { return n == name })
	}
}

func (e *environment) prependPath(dir string) {
	if rest := e.values["PATH"]; rest != "" {
		dir += string(os.PathListSeparator) + rest
	}
	e.set("PATH", dir)
}

func (e *environment) entries() []string {
	out := make([]string, 0, len(e.names))
	for _, n := range e.names {
		out = append(out, n+"="+e.values[n])
	}
	return out
}

// userEnvironment is the captured environment without what must not be inherited, with
// the node's own section on top. Later comes only what dora itself sets.
func userEnvironment(base []string, node *link.Node) (*environment, []string, error) {
	e := newEnvironment(base)
	for _, name := range slices.Concat(injecting, wiring) {
		e.unset(name)
	}
	e.set("PYTHONUNBUFFERED", "1")
	e.set("PWD", node.WorkingDir)
	var warnings []string
	for _, v := range node.Env {
		if why := refusal(v.Name); why != "" {
			warnings = append(warnings, fmt.Sprintf("node `%s`: %s", node.ID, why))
			continue
		}
		value := v.Value
		if v.FromHost {
			var ok bool
			if value, ok = dataflow.LookupEnv(base, v.Value); !ok {
				return nil, warnings, fmt.Errorf("node `%s`: env `%s` wants the variable `%s` of this machine, which is not set; export it before the dataflow is started", node.ID, v.Name, v.Value)
			}
		}
		if strings.ContainsRune(value, 0) {
			return nil, warnings, fmt.Errorf("node `%s`: the value of env `%s` contains a NUL byte", node.ID, v.Name)
		}
		e.set(v.Name, value)
	}
	return e, warnings, nil
}

// addControl sets what dora itself sets. It wins, except for the pool size.
func (e *environment) addControl(control []string) {
	for _, entry := range control {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		if _, users := e.values[name]; users && name == poolSizeEnv {
			continue
		}
		e.set(name, value)
	}
}
