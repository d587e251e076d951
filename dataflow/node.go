package dataflow

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// nodeFields are the keys of a node, in the order in which messages list them.
var nodeFields = newObject(slices.Concat(
	[]field[Node]{
		{"id", func(s scope, n *Node, v *value) {}}, // read before the others, see node
		{"name", func(s scope, n *Node, v *value) { n.Name = s.str(v) }},
		{"description", func(s scope, n *Node, v *value) { n.Description = s.str(v) }},
		{"path", func(s scope, n *Node, v *value) { n.Path = s.nonEmpty(v) }},
		{"path_sha256", func(s scope, n *Node, v *value) { n.PathSHA256 = s.sha256(v) }},
		{"args", func(s scope, n *Node, v *value) { n.Args = s.str(v) }},
		{"env", func(s scope, n *Node, v *value) { n.Env = s.env(v) }},
		{"git", func(s scope, n *Node, v *value) { n.Git = s.nonEmpty(v) }},
		{"branch", func(s scope, n *Node, v *value) { n.Branch = s.nonEmpty(v) }},
		{"tag", func(s scope, n *Node, v *value) { n.Tag = s.nonEmpty(v) }},
		{"rev", func(s scope, n *Node, v *value) { n.Rev = s.nonEmpty(v) }},
		{"hub", func(s scope, n *Node, v *value) { n.Hub = s.nonEmpty(v) }},
		{"module", func(s scope, n *Node, v *value) { n.Module = s.nonEmpty(v) }},
		{"params", func(s scope, n *Node, v *value) { n.Params = s.params(v) }},
		{"build", func(s scope, n *Node, v *value) { n.Build = s.build(v) }},
		{"operator", func(s scope, n *Node, v *value) {
			n.SingleOperator = true
			n.Operators = append(n.Operators, s.operator(v, true))
		}},
		{"operators", func(s scope, n *Node, v *value) { n.Operators = append(n.Operators, s.operators(v)...) }},
		{"ros2", func(s scope, n *Node, v *value) { n.ROS2 = s.ros2(v) }},
	},
	portFields(func(n *Node) *Ports { return &n.Ports }),
	loggingFields(func(n *Node) *Logging { return &n.Logging }),
	[]field[Node]{
		{"restart_policy", func(s scope, n *Node, v *value) {
			if p := s.choice(v, string(RestartNever), string(RestartOnFailure), string(RestartAlways)); p != "" {
				n.RestartPolicy = RestartPolicy(p)
			}
		}},
		{"max_restarts", func(s scope, n *Node, v *value) { n.MaxRestarts = uint32(s.count(v, 0, math.MaxUint32)) }},
		{"restart_delay", func(s scope, n *Node, v *value) { n.RestartDelay = s.seconds(v, true) }},
		{"max_restart_delay", func(s scope, n *Node, v *value) { n.MaxRestartDelay = s.seconds(v, true) }},
		{"restart_window", func(s scope, n *Node, v *value) { n.RestartWindow = s.optionalSeconds(v) }},
		{"health_check_timeout", func(s scope, n *Node, v *value) { n.HealthCheckTimeout = s.optionalSeconds(v) }},
		{"startup_timeout", func(s scope, n *Node, v *value) { n.StartupTimeout = s.optionalSeconds(v) }},
		{"finish_grace_secs", func(s scope, n *Node, v *value) {
			d := s.seconds(v, true)
			n.FinishGrace = &d
		}},
		{"shared_memory_pool_size", func(s scope, n *Node, v *value) { n.PoolSize = s.size(v) }},
		{"cpu_affinity", func(s scope, n *Node, v *value) { n.CPUAffinity = s.cores(v) }},
		{"deploy", func(s scope, n *Node, v *value) { n.Deploy = s.deploy(v) }},
		{"_unstable_deploy", func(s scope, n *Node, v *value) { n.Deploy = s.deploy(v) }},
	},
)...)

// node reads one entry of `nodes`.
func (s scope) node(v *value, index int) *Node {
	n := &Node{Pos: v.pos, RestartPolicy: RestartNever, Logging: Logging{MaxRotatedFiles: DefaultMaxRotatedFiles}}
	s.owner = fmt.Sprintf("node number %d", index+1)
	if v.kind == kindMap {
		s.key = "id"
		if id := v.child("id"); id == nil {
			s.errorf(v.pos, CodeMissingKey, "add `id: some-name`", "%s has no `id`", s.owner)
		} else if n.ID = s.id(id, CheckNodeID); n.ID == "" && id.kind != kindString && id.kind < kindSeq {
			n.ID = id.text // reported; known under this name, so that its inputs are not reported too
		}
	}
	if n.ID != "" {
		s.owner = "node `" + excerpt(n.ID) + "`"
	}
	s.key = ""
	n.Keys = nodeFields.into(s, n, v, s.owner)
	if v.kind == kindMap {
		s.checkSource(n)
		s.checkNode(n)
	}
	return n
}

// checkNode checks what needs more than one key of the node.
func (s scope) checkNode(n *Node) {
	s.bothSpellings(n.Keys, "deploy", "_unstable_deploy")
	if n.Keys.Has("max_restart_delay") && n.MaxRestartDelay == 0 && n.RestartDelay > 0 {
		s.warnf(n.Keys.At("max_restart_delay"), CodeNoEffect, "write a number above 0", "%s has `max_restart_delay: 0`: it restarts without delay", s.owner)
		n.RestartDelay = 0
	}
	if n.RestartPolicy == RestartNever {
		for _, key := range []string{"max_restarts", "restart_delay", "max_restart_delay", "restart_window"} {
			if n.Keys.Has(key) && (key != "max_restarts" || n.MaxRestarts > 0) {
				s.warnf(n.Keys.At(key), CodeNoEffect, "add `restart_policy: on-failure` or `always`", "%s has `%s`, but is never restarted", s.owner, key)
			}
		}
	}
	if n.Kind == KindDynamic && n.Keys.Has("startup_timeout") {
		s.errorf(n.Keys.At("startup_timeout"), CodeNotForKind, "remove it", "dynamic %s cannot have `startup_timeout`: dora does not start it", s.owner)
	}
	if n.Kind == KindShell && strings.TrimSpace(n.Args) == "" {
		s.errorf(n.Keys.At("path"), CodeMissingKey, "add `args: <command>`", "shell %s has no `args`, the command to run", s.owner)
	}
	if n.Kind != KindShell && n.Args != "" {
		s.checkArgs(n)
	}
	s.checkROS2Ports(n)
	s.checkLogging(s.owner, &n.Logging, &n.Ports, n.Keys)
}

// checkArgs reports quotes that are never closed, at the quote where the place in the
// text can be told.
func (s scope) checkArgs(n *Node) {
	_, err := SplitArgs(n.Args)
	if err == nil {
		return
	}
	at := n.Keys.At("args")
	bad := err.(*ArgsError)
	// A plain or single-line text stands in the file as it is.
	line := s.line(at.Line)
	prefix := []rune(line)[:min(len([]rune(line)), at.Column-1)]
	rest := strings.TrimPrefix(line, string(prefix))
	if strings.HasPrefix(rest, n.Args) {
		at.Column += len([]rune(n.Args[:bad.Offset]))
	}
	s.errorf(at, CodeInvalidArgs, "close it, or write \\"+string(bad.Mark)+" for the character itself", "%s has `args` that cannot be split: %s", s.owner, err)
}

// bothSpellings refuses two names of one thing in one mapping.
func (s scope) bothSpellings(keys Keys, a, b string) {
	if !keys.Has(a) || !keys.Has(b) {
		return
	}
	at := keys.At(a)
	if other := keys.At(b); at.before(other) {
		at = other
	}
	s.errorf(at, CodeBothSet, "keep one of them", "%s has both `%s` and `%s`, two names of the same thing", s.ownerOr("the dataflow"), a, b)
}

// build reads commands, one per line.
func (s scope) build(v *value) []BuildLine {
	text := s.str(v)
	var lines []BuildLine
	for i, command := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(command)
		if trimmed == "" {
			continue
		}
		at := v.pos
		if v.block == '|' {
			at.Line += 1 + i
			written := s.line(at.Line)
			at.Column = 1 + len(written) - len(strings.TrimLeft(written, " \t"))
		}
		lines = append(lines, BuildLine{Command: trimmed, Pos: at})
	}
	return lines
}

// params reads a module's parameters; numbers and booleans count as their text.
func (s scope) params(v *value) []Param {
	var list []Param
	seen := map[string]Param{}
	for _, e := range s.entries(v, "parameter names to values") {
		if e.key == "" || paramNameLen(e.key) != len(e.key) {
			s.errorf(e.keyPos, CodeModuleParam, "letters, digits and `_` are allowed", "%s has the parameter name `%s`, which is not allowed", s.owner, excerpt(e.key))
			continue
		}
		if first, twice := seen[strings.ToUpper(e.key)]; twice {
			s.errorf(e.keyPos, CodeModuleParam, "rename one of them", "%s has the parameters `%s` and `%s`, which are both `$%s`", s.owner, first.Name, e.key, paramVariable(e.key))
			continue
		}
		if text, ok := s.scalarText(e); ok {
			p := Param{Name: e.key, Value: text, Pos: e.keyPos}
			seen[strings.ToUpper(e.key)] = p
			list = append(list, p)
		}
	}
	return list
}

// scalarText reads a value that is used as text whatever YAML takes it for.
func (s scope) scalarText(e entry) (string, bool) {
	switch e.val.kind {
	case kindString:
		return e.val.text, true
	case kindBool, kindInt, kindFloat:
		return e.val.text, true // as written: 2.0 is not 2
	}
	s.errorf(e.val.posOr(e.keyPos), CodeWrongType, "", "`%s.%s` of %s must be a text, not %s", s.key, excerpt(e.key), s.ownerOr("the dataflow"), e.val.kind)
	return "", false
}

func (s scope) sha256(v *value) string {
	text := s.str(v)
	if v.kind != kindString {
		return ""
	}
	hex := strings.ToLower(text)
	if len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		s.errorf(v.pos, CodeInvalidValue, "write the 64 hexadecimal digits that sha256sum prints", "%s is not a SHA-256 checksum", s.of())
	}
	return hex
}

func (s scope) cores(v *value) []int {
	var list []int
	for _, item := range s.list(v, "core numbers") {
		list = append(list, int(s.count(item, 0, math.MaxUint16)))
	}
	return list
}

// deployFields are the keys of `deploy`.
var deployFields = newObject(
	field[Deploy]{"machine", func(s scope, d *Deploy, v *value) { d.Machine = s.nonEmpty(v) }},
	field[Deploy]{"working_dir", func(s scope, d *Deploy, v *value) { d.WorkingDir = s.nonEmpty(v) }},
	field[Deploy]{"labels", func(s scope, d *Deploy, v *value) { d.Labels = s.labels(v) }},
	field[Deploy]{"distribute", func(s scope, d *Deploy, v *value) {
		if x := s.choice(v, string(DistributeLocal), string(DistributeSCP), string(DistributeHTTP)); x != "" {
			d.Distribute = Distribute(x)
		}
	}},
)

func (s scope) deploy(v *value) *Deploy {
	d := &Deploy{Pos: v.pos, Distribute: DistributeLocal}
	deployFields.into(s, d, v, s.of())
	return d
}

func (s scope) labels(v *value) []Label {
	var list []Label
	for _, e := range s.entries(v, "label names to values") {
		if text, ok := s.scalarText(e); ok {
			list = append(list, Label{Name: e.key, Value: text})
		}
	}
	return byName(list, func(l Label) string { return l.Name })
}
