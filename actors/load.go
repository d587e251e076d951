package actors

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// finishGraceEnv bounds how long a straggler may take: whole seconds, or "off".
const finishGraceEnv = "DORA_FINISH_DRAIN_GRACE_SECS"

// LoadFor turns a start into what its shim needs to know. All mistakes are reported at
// once: node kinds that cannot run, variables that are not set. Variables that belong
// to dora or to the loader are left out (the descriptor's findings say so).
func LoadFor(r StartRequest) (*link.Load, error) {
	if r.Descriptor == nil {
		return nil, errors.New("a start needs a descriptor")
	}
	for what, path := range map[string]string{"working directory": r.WorkingDir, "log directory": r.LogDir} {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("the %s %q of dataflow %s is not absolute", what, path, r.UUID)
		}
	}
	d := r.Descriptor
	load := &link.Load{
		Dataflow: r.UUID, Name: r.Name, WorkingDir: r.WorkingDir, LogDir: r.LogDir,
		Env: r.Env, AllowShell: r.AllowShell, UV: r.UV, Debug: r.Debug || d.Debug,
		ExitWhenNodesFinish: exitWhenNodesFinish(r), HealthInterval: d.HealthCheckInterval,
	}
	if load.HealthInterval <= 0 {
		load.HealthInterval = dataflow.DefaultHealthCheckInterval
	}
	host := lookupIn(r.Env)
	var errs []error
	for _, n := range d.Nodes {
		node, err := loadNode(r, n, host)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		load.Nodes = append(load.Nodes, node)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if err := addTypes(load, d); err != nil {
		return nil, fmt.Errorf("dataflow %s: %w", r.UUID, err)
	}
	var err error
	if load.Descriptor, err = descriptorJSON(d); err != nil {
		return nil, fmt.Errorf("dataflow %s: %w", r.UUID, err)
	}
	return load, nil
}

// typeCheckEnv makes nodes compare what they send with the types that the dataflow
// declares. Only for that they need the types resolved.
const typeCheckEnv = "DORA_RUNTIME_TYPE_CHECK"

// addTypes resolves the types of all ports if a node is to check them.
func addTypes(load *link.Load, d *dataflow.Descriptor) error {
	_, wanted := lookupIn(load.Env)(typeCheckEnv)
	for i := range load.Nodes {
		wanted = wanted || slices.ContainsFunc(load.Nodes[i].Env, func(v link.EnvVar) bool { return v.Name == typeCheckEnv })
	}
	if !wanted {
		return nil
	}
	types := d.PortTypes()
	for i := range load.Nodes {
		n := &load.Nodes[i]
		if t, ok := types[n.ID]; ok {
			text, err := json.Marshal(t)
			if err != nil {
				return fmt.Errorf("types of node %s: %w", n.ID, err)
			}
			n.Types = text
		}
	}
	return nil
}

func exitWhenNodesFinish(r StartRequest) bool {
	switch {
	case r.ExitWhenNodesFinish != nil:
		return *r.ExitWhenNodesFinish
	case r.Descriptor.ExitWhenNodesFinish != nil:
		return *r.Descriptor.ExitWhenNodesFinish
	}
	return false
}

func loadNode(r StartRequest, n *dataflow.Node, host func(string) (string, bool)) (link.Node, error) {
	kind, err := kindOf(n, r.AllowShell)
	if err != nil {
		return link.Node{}, err
	}
	env, err := envOf(n, host)
	if err != nil {
		return link.Node{}, err
	}
	ports, logging := n.ProcessPorts(), n.ProcessLogging()
	node := link.Node{
		ID: n.ID, Kind: kind, Path: n.Path, Args: n.Args, WorkingDir: workingDir(r, n), Env: env,
		OutputTypes: textMap(ports.OutputTypes), InputTypes: textMap(ports.InputTypes), OutputFraming: textMap(ports.OutputFraming),
		SendStdoutAs: logging.SendStdoutAs, SendLogsAs: logging.SendLogsAs, MinLogLevel: string(logging.MinLogLevel),
		MaxLogSize: logging.MaxLogSize, MaxRotatedFiles: logging.MaxRotatedFiles,
		CPUAffinity: n.CPUAffinity, PoolSize: n.PoolSize,
		StartupTimeout: n.StartupTimeout, HealthTimeout: n.HealthCheckTimeout, HasBuild: len(n.BuildLines()) > 0,
	}
	for _, o := range ports.Outputs {
		node.Outputs = append(node.Outputs, o.ID)
	}
	for _, in := range ports.Inputs {
		node.Inputs = append(node.Inputs, loadInput(in))
	}
	for _, o := range n.Operators {
		op, err := loadOperator(n, o)
		if err != nil {
			return link.Node{}, err
		}
		node.Operators = append(node.Operators, op)
	}
	return node, nil
}

func loadOperator(n *dataflow.Node, o *dataflow.Operator) (link.Operator, error) {
	op := link.Operator{ID: o.ID, CondaEnv: o.CondaEnv}
	switch o.Source {
	case dataflow.OperatorPython:
		op.Python = o.Location
	case dataflow.OperatorSharedLibrary:
		op.SharedLibrary = dataflow.SharedLibrary(o.Location)
	default:
		return op, fmt.Errorf("node %s: operator %s: there is no runtime for %s; use `python` or `shared-library`", n.ID, o.ID, o.Source)
	}
	return op, nil
}

func workingDir(r StartRequest, n *dataflow.Node) string {
	if n.WorkingDir != "" {
		return n.WorkingDir
	}
	return r.WorkingDir
}

func kindOf(n *dataflow.Node, allowShell bool) (link.Kind, error) {
	switch n.Kind {
	case dataflow.KindExecutable:
		return link.KindExecutable, nil
	case dataflow.KindOperators:
		return link.KindRuntime, nil
	case dataflow.KindDynamic:
		return link.KindDynamic, nil
	case dataflow.KindShell:
		if !allowShell {
			return "", fmt.Errorf("node %s: Shell nodes are disabled by default; allow them with --allow-shell-nodes or DORA_ALLOW_SHELL_NODES=true", n.ID)
		}
		return link.KindShell, nil
	}
	return "", fmt.Errorf("node %s: sources of kind %s cannot be run by this version of dora; use `path` with a program on this machine", n.ID, n.Kind)
}

// envOf gives the variables of a node. What comes from the host is named and read by
// the shim, on the node's machine, but it must be set.
func envOf(n *dataflow.Node, host func(string) (string, bool)) ([]link.EnvVar, error) {
	var out []link.EnvVar
	var errs []error
	for _, v := range n.Env {
		if dataflow.RefusedEnv(v.Name) {
			continue
		}
		text, err := v.Value.Resolve(host)
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: variable %s: %w; set it where dora is started", n.ID, v.Name, err))
			continue
		}
		if v.Value.FromHost != "" {
			out = append(out, link.EnvVar{Name: v.Name, Value: v.Value.FromHost, FromHost: true})
			continue
		}
		out = append(out, link.EnvVar{Name: v.Name, Value: text})
	}
	return out, errors.Join(errs...)
}

func loadInput(in *dataflow.Input) link.Input {
	out := link.Input{
		ID: in.ID, Source: in.Source.String(), Kind: link.SourceKind(in.Source.Kind),
		Node: in.Source.Node, Output: in.Source.Output, Interval: in.Source.Interval,
		QueueSize: max(1, in.QueueSize), HasQueueSize: in.HasQueueSize,
		Backpressure: in.QueuePolicy == dataflow.Backpressure, Timeout: in.Timeout,
	}
	if in.Source.Kind == dataflow.SourceLogs {
		out.Level, out.Node = string(in.Source.Level), in.Source.LogNode
	}
	return out
}

func textMap(ports []dataflow.PortText) map[string]string {
	if len(ports) == 0 {
		return nil
	}
	m := make(map[string]string, len(ports))
	for _, p := range ports {
		m[p.Port] = p.Text
	}
	return m
}

// descriptorJSON is the descriptor as official nodes expect it in their configuration:
// an id and a path per node are all that their API reads.
func descriptorJSON(d *dataflow.Descriptor) (json.RawMessage, error) {
	type node struct {
		ID   string `json:"id"`
		Path string `json:"path"`
	}
	doc := struct {
		Nodes []node `json:"nodes"`
	}{Nodes: []node{}}
	for _, n := range d.Nodes {
		doc.Nodes = append(doc.Nodes, node{ID: n.ID, Path: n.Path})
	}
	return json.Marshal(doc)
}

// lookupIn reads variables from KEY=VALUE entries; as in the system, the last one wins.
func lookupIn(env []string) func(string) (string, bool) {
	values := make(map[string]string, len(env))
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			values[name] = value
		}
	}
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

// createdEvent is the record of a start: names of variables, no values.
func (d *Daemon) createdEvent(r StartRequest, load *link.Load) (events.DataflowCreated, error) {
	e := events.DataflowCreated{
		UUID: r.UUID, Name: r.Name, Path: r.Path, WorkingDir: r.WorkingDir, Descriptor: r.Text, Command: r.Command,
		LogDir: r.LogDir, AllowShell: r.AllowShell, UV: r.UV, Debug: r.Debug,
		ExitWhenNodesFinish: load.ExitWhenNodesFinish, FinishGrace: d.opts.FinishGrace, Nodes: []string{},
	}
	if r.UUID == "" || strings.ContainsAny(r.UUID, "/\x00") {
		return e, fmt.Errorf("%q is no UUID of a dataflow", r.UUID)
	}
	for _, n := range r.Descriptor.Nodes {
		e.Nodes = append(e.Nodes, n.ID)
	}
	for _, entry := range r.Env {
		if name, _, ok := strings.Cut(entry, "="); ok {
			e.EnvNames = append(e.EnvNames, name)
		}
	}
	slices.Sort(e.EnvNames)
	if text, ok := lookupIn(r.Env)(finishGraceEnv); ok {
		grace, err := parseFinishGrace(text)
		if err != nil {
			d.env.log.Warn(err)
		} else {
			e.FinishGrace = grace
		}
	}
	if e.FinishGrace == 0 {
		e.FinishGrace = DefaultFinishGrace
	}
	return e, nil
}

// parseFinishGrace reads whole seconds, "off" or "disabled" (no bound: negative).
func parseFinishGrace(text string) (time.Duration, error) {
	switch strings.ToLower(text) {
	case "off", "disabled":
		return -1, nil
	}
	secs, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is %q, not whole seconds or `off`; using the default of %s", finishGraceEnv, text, DefaultFinishGrace)
	}
	return max(time.Duration(secs)*time.Second, time.Nanosecond), nil
}
