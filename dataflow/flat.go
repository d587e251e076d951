package dataflow

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// Flat is the dataflow as YAML, with modules expanded, paths relative to its folder, and
// the defaults that matter spelled out. Reading it again gives the same dataflow, and
// the same text.
func (d *Descriptor) Flat() ([]byte, error) {
	var doc section
	nodes := []yaml.MapSlice{}
	for _, n := range d.Nodes {
		nodes = append(nodes, d.flatNode(n))
	}
	doc.set("nodes", nodes)
	doc.set("deploy", flatDeploy(d.Deploy))
	doc.set("debug", yaml.MapSlice{{Key: "enable_debug_inspection", Value: d.Debug}})
	if d.Keys.Has("health_check_interval") {
		doc.set("health_check_interval", seconds(d.HealthCheckInterval))
	} else {
		doc.set("health_check_interval", nil)
	}
	if d.StrictTypes {
		doc.set("strict_types", true)
	}
	if len(d.TypeRules) > 0 {
		var rules []yaml.MapSlice
		for _, r := range d.TypeRules {
			rules = append(rules, yaml.MapSlice{{Key: "from", Value: r.From}, {Key: "to", Value: r.To}})
		}
		doc.set("type_rules", rules)
	}
	if d.ExitWhenNodesFinish != nil {
		doc.set("exit_when_nodes_finish", *d.ExitWhenNodesFinish)
	}
	if len(d.Env) > 0 {
		doc.set("env", flatEnv(d.Env))
	}
	return yaml.MarshalWithOptions(yaml.MapSlice(doc), yaml.IndentSequence(false))
}

// section is a mapping in the making.
type section yaml.MapSlice

func (s *section) set(key string, value any) { *s = append(*s, yaml.MapItem{Key: key, Value: value}) }

// text sets what is not empty.
func (s *section) text(key, value string) {
	if value != "" {
		s.set(key, value)
	}
}

func (s *section) seconds(key string, keys Keys, d time.Duration) {
	if d != 0 || keys.Has(key) {
		s.set(key, seconds(d))
	}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func seconds(d time.Duration) float64 { return d.Seconds() }

func (d *Descriptor) flatNode(n *Node) yaml.MapSlice {
	var s section
	s.set("id", n.ID)
	s.set("name", orNull(n.Name))
	s.set("description", orNull(n.Description))
	s.text("path", n.Path)
	s.text("path_sha256", n.PathSHA256)
	s.text("args", n.Args)
	s.set("env", nil)
	if own := d.ownEnv(n); len(own) > 0 {
		s[len(s)-1].Value = flatEnv(own)
	}
	s.text("git", n.Git)
	s.text("branch", n.Branch)
	s.text("tag", n.Tag)
	s.text("rev", n.Rev)
	s.text("hub", n.Hub)
	s.text("module", n.Module)
	if len(n.Params) > 0 {
		var params section
		for _, p := range n.Params {
			params.set(p.Name, p.Value)
		}
		s.set("params", yaml.MapSlice(params))
	}
	switch {
	case n.SingleOperator && len(n.Operators) == 1:
		s.set("operator", d.flatOperator(n.Operators[0]))
	case n.Kind == KindOperators:
		var list []yaml.MapSlice
		for _, op := range n.Operators {
			list = append(list, d.flatOperator(op))
		}
		s.set("operators", list)
	}
	if n.ROS2 != nil {
		s.set("ros2", n.ROS2.written.plain())
	}
	switch n.Kind {
	case KindOperators: // the operators have them
	case KindModule:
		s.set("inputs", d.flatInputs(n.Inputs))
	default:
		s.ports(d, &n.Ports)
	}
	s.build(n.Build)
	s.logging(&n.Logging)
	if n.Kind != KindOperators && n.Kind != KindModule {
		s.policy(n)
	}
	if len(n.CPUAffinity) > 0 {
		s.set("cpu_affinity", n.CPUAffinity)
	}
	var deploy any
	if n.Deploy != d.Deploy {
		deploy = flatDeploy(n.Deploy)
	}
	s.set("deploy", deploy)
	return yaml.MapSlice(s)
}

func (s *section) policy(n *Node) {
	s.set("restart_policy", string(n.RestartPolicy))
	s.set("max_restarts", n.MaxRestarts)
	s.seconds("restart_delay", n.Keys, n.RestartDelay)
	s.seconds("max_restart_delay", n.Keys, n.MaxRestartDelay)
	s.seconds("restart_window", n.Keys, n.RestartWindow)
	s.seconds("health_check_timeout", n.Keys, n.HealthCheckTimeout)
	s.seconds("startup_timeout", n.Keys, n.StartupTimeout)
	if n.FinishGrace != nil {
		s.set("finish_grace_secs", seconds(*n.FinishGrace))
	}
	if n.PoolSize > 0 {
		s.set("shared_memory_pool_size", n.PoolSize)
	}
}

// ownEnv are the variables that the node does not have from the dataflow.
func (d *Descriptor) ownEnv(n *Node) []EnvVar {
	root := make(map[string]EnvVar, len(d.Env))
	for _, v := range d.Env {
		root[v.Name] = v
	}
	var own []EnvVar
	for _, v := range n.Env {
		if inherited, ok := root[v.Name]; !ok || inherited != v {
			own = append(own, v)
		}
	}
	return own
}

func flatEnv(list []EnvVar) yaml.MapSlice {
	var s section
	for _, v := range list {
		switch {
		case v.Value.FromHost != "":
			s.set(v.Name, yaml.MapSlice{{Key: hostEnvKey, Value: v.Value.FromHost}})
		case v.Value.Literal:
			s.set(v.Name, strings.ReplaceAll(v.Value.Text, "$", "$$"))
		default:
			s.set(v.Name, v.Value.Text)
		}
	}
	return yaml.MapSlice(s)
}

func flatDeploy(d *Deploy) any {
	if d == nil {
		return nil
	}
	var s section
	s.set("machine", orNull(d.Machine))
	s.set("working_dir", orNull(d.WorkingDir))
	if len(d.Labels) > 0 {
		var labels section
		for _, l := range d.Labels {
			labels.set(l.Name, l.Value)
		}
		s.set("labels", yaml.MapSlice(labels))
	}
	s.set("distribute", string(d.Distribute))
	return yaml.MapSlice(s)
}

func (d *Descriptor) flatOperator(o *Operator) yaml.MapSlice {
	var s section
	s.set("id", o.ID)
	s.set("name", orNull(o.Name))
	s.set("description", orNull(o.Description))
	if o.CondaEnv != "" {
		s.set(string(o.Source), yaml.MapSlice{{Key: "source", Value: o.Location}, {Key: "conda_env", Value: o.CondaEnv}})
	} else {
		s.text(string(o.Source), o.Location)
	}
	s.ports(d, &o.Ports)
	s.build(o.Build)
	s.logging(&o.Logging)
	return yaml.MapSlice(s)
}

func (s *section) build(lines []BuildLine) {
	var text []string
	for _, l := range lines {
		text = append(text, l.Command)
	}
	s.text("build", strings.Join(text, "\n"))
}

func (s *section) logging(l *Logging) {
	s.text("send_stdout_as", l.SendStdoutAs)
	s.text("send_logs_as", l.SendLogsAs)
	s.text("min_log_level", string(l.MinLogLevel))
	if l.MaxLogSize > 0 {
		s.set("max_log_size", fmt.Sprintf("%dB", l.MaxLogSize))
	}
	if l.MaxRotatedFiles != DefaultMaxRotatedFiles {
		s.set("max_rotated_files", l.MaxRotatedFiles)
	}
}

func (s *section) ports(d *Descriptor, p *Ports) {
	outputs := []string{}
	for _, o := range p.Outputs {
		outputs = append(outputs, o.ID)
	}
	s.set("outputs", outputs)
	s.portTexts("output_types", p.OutputTypes)
	s.portTexts("output_framing", p.OutputFraming)
	s.set("inputs", d.flatInputs(p.Inputs))
	s.portTexts("input_types", p.InputTypes)
	if len(p.OutputMetadata) > 0 {
		var m section
		for _, pk := range p.OutputMetadata {
			m.set(pk.Port, append([]string{}, pk.Keys...))
		}
		s.set("output_metadata", yaml.MapSlice(m))
	}
	s.text("pattern", p.Pattern)
}

func (s *section) portTexts(key string, list []PortText) {
	if len(list) == 0 {
		return
	}
	var m section
	for _, t := range list {
		m.set(t.Port, t.Text)
	}
	s.set(key, yaml.MapSlice(m))
}

func (d *Descriptor) flatInputs(list []*Input) yaml.MapSlice {
	s := section{}
	for _, in := range list {
		source := in.Source.String()
		if in.Source.Kind == SourceTimer {
			source = in.Source.Text // as it was written: hz/30 is no whole number of nanoseconds
		} else if from := d.Node(in.Source.Node); from != nil && from.SingleOperator {
			source = from.ID + "/" + portOf(in.Source.Output) // dora 1.1 knows no other form
		}
		long := section{{Key: "source", Value: source}}
		if in.HasQueueSize {
			long.set("queue_size", in.QueueSize)
		}
		if in.Keys.Has("queue_policy") {
			long.set("queue_policy", string(in.QueuePolicy))
		}
		long.seconds("input_timeout", in.Keys, in.Timeout)
		if len(long) == 1 {
			s.set(in.ID, source)
		} else {
			s.set(in.ID, yaml.MapSlice(long))
		}
	}
	return yaml.MapSlice(s)
}

// plain is a value as it was written.
func (v *value) plain() any {
	switch v.kind {
	case kindMap:
		s := section{}
		for _, e := range (&checker{}).pairs(v) {
			s.set(e.key, e.val.plain())
		}
		return yaml.MapSlice(s)
	case kindSeq:
		list := []any{}
		for _, item := range v.items {
			list = append(list, item.plain())
		}
		return list
	case kindNull:
		return nil
	case kindBool:
		return strings.EqualFold(v.text, "true")
	case kindInt, kindFloat:
		if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
			return n
		}
		return number(v)
	}
	return v.text
}
