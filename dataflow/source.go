package dataflow

import (
	"slices"
	"strings"
)

// shared are the keys that every kind of node may have.
var sharedKeys = []string{"id", "name", "description", "env", "deploy", "_unstable_deploy", "cpu_affinity"}

// runtimeKeys belong into the operators of a node that has any.
var kindKeys = map[NodeKind][]string{
	KindOperators: {"operator", "operators"},
	KindModule:    {"module", "inputs", "params", "build"},
	KindHub: {"hub", "args", "inputs", "outputs", "input_types", "output_types", "output_framing", "output_metadata", "pattern",
		"send_stdout_as", "send_logs_as", "min_log_level", "max_log_size", "max_rotated_files",
		"restart_policy", "max_restarts", "restart_delay", "max_restart_delay", "restart_window",
		"health_check_timeout", "startup_timeout", "finish_grace_secs", "shared_memory_pool_size"},
	KindROS2: {"ros2", "args", "inputs", "outputs", "input_types", "output_types", "output_framing", "output_metadata", "pattern",
		"send_stdout_as", "send_logs_as", "min_log_level", "max_log_size", "max_rotated_files",
		"restart_policy", "max_restarts", "restart_delay", "max_restart_delay", "restart_window",
		"health_check_timeout", "startup_timeout", "finish_grace_secs", "shared_memory_pool_size"},
}

var kindNames = map[NodeKind]string{KindOperators: "operator", KindModule: "module", KindHub: "hub", KindROS2: "ros2"}

var kindAdvice = map[NodeKind]string{
	KindOperators: "move it into the `operator:` (or the entry of `operators:`) that it is meant for",
	KindModule:    "set it on the nodes inside of the module",
	KindHub:       "remove it: the package brings its own",
	KindROS2:      "remove it",
}

// checkSource finds out what kind of node this is: exactly one of path, operator,
// operators, ros2, module and hub must say so, and only the keys of that kind may be
// set.
func (s scope) checkSource(n *Node) {
	var set []string
	for _, key := range []string{"path", "operators", "operator", "ros2", "module", "hub"} {
		if n.Keys.Has(key) {
			set = append(set, key)
		}
	}
	switch {
	case len(set) == 0 && n.Keys.Has("git"):
		s.errorf(n.Keys.At("git"), CodeNoSource, "add `path: file/in/the/clone`", "%s has `git`, but no `path`: which file of the clone is to run?", s.owner)
		return
	case len(set) == 0:
		s.errorf(n.Pos, CodeNoSource, "add `path: program-or-script`", "%s requires a `path`, `operators`, `operator`, `ros2`, `module` or `hub` field", s.owner)
		return
	case len(set) > 1:
		at := n.Keys.At(set[0])
		for _, key := range set[1:] {
			if p := n.Keys.At(key); at.before(p) {
				at = p
			}
		}
		s.errorf(at, CodeManySources, "keep one of them", "%s has multiple exclusive fields set: %s", s.owner, quoteList(set))
		return
	}
	n.Kind = kindOf(n, set[0])
	s.checkGit(n)
	s.checkKeysOfKind(n)
	if n.Keys.Has("params") && n.Kind != KindModule {
		s.errorf(n.Keys.At("params"), CodeNotForKind, "remove it, or use `env` and `args`", "%s has `params`, which only module nodes have", s.owner)
	}
	if n.PathSHA256 != "" && n.Kind != KindURL {
		s.errorf(n.Keys.At("path_sha256"), CodeNotForKind, "remove it", "%s has `path_sha256`, but its `path` is not a URL", s.owner)
	}
}

func kindOf(n *Node, key string) NodeKind {
	switch key {
	case "operators", "operator":
		return KindOperators
	case "ros2":
		return KindROS2
	case "module":
		return KindModule
	case "hub":
		return KindHub
	}
	switch {
	case n.Keys.Has("git"):
		return KindGit
	case n.Path == "shell":
		return KindShell
	case n.Path == "dynamic":
		return KindDynamic
	case IsURL(n.Path):
		return KindURL
	}
	return KindExecutable
}

// IsURL reports whether a path is to be downloaded: http:// or https://, in lower
// case.
func IsURL(path string) bool {
	return strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://")
}

// checkGit checks branch, tag and rev.
func (s scope) checkGit(n *Node) {
	var refs []string
	var last Pos
	for _, key := range []string{"branch", "tag", "rev"} {
		if at := n.Keys.At(key); at.IsValid() {
			refs = append(refs, key)
			if last.before(at) {
				last = at
			}
		}
	}
	switch {
	case len(refs) > 1:
		s.errorf(last, CodeGitRef, "keep one of them", "%s: only one of `branch`, `tag`, and `rev` are allowed (got %s)", s.owner, quoteList(refs))
	case len(refs) == 1 && !n.Keys.Has("git"):
		s.errorf(last, CodeGitRef, "add `git: <url>`, or remove `"+refs[0]+"`", "%s: `git` source required when using branch, tag, or rev", s.owner)
	}
}

func (s scope) checkKeysOfKind(n *Node) {
	allowed, limited := kindKeys[n.Kind]
	if !limited {
		return
	}
	for _, k := range n.Keys {
		if slices.Contains(allowed, k.Name) || slices.Contains(sharedKeys, k.Name) || k.Name == "params" {
			continue
		}
		if n.Kind == KindOperators && slices.Contains([]string{"branch", "tag", "rev"}, k.Name) {
			continue // checkGit has said it
		}
		s.errorf(k.Pos, CodeNotForKind, kindAdvice[n.Kind], "%s has `%s`, which is not allowed on %s nodes", s.owner, k.Name, kindNames[n.Kind])
	}
}
