package nodewire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxConfig bounds a configuration in bytes; nobody can put more into an environment
// variable, and a dynamic node's answer is not larger than its dataflow.
const maxConfig = 4 << 20

// ParseConfig reads the value of DORA_NODE_CONFIG, from this project's shim or from the
// daemon of official dora.
func ParseConfig(text string) (c *Config, err error) {
	// The YAML parser is not ours; whatever the text does to it is an error here.
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("DORA_NODE_CONFIG is not readable as YAML: %v", p)
		}
	}()
	if len(text) > maxConfig {
		return nil, fmt.Errorf("DORA_NODE_CONFIG has %d bytes, more than the %d allowed", len(text), maxConfig)
	}
	file, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		return nil, fmt.Errorf("DORA_NODE_CONFIG is not YAML: %w", err)
	}
	if len(file.Docs) != 1 {
		return nil, fmt.Errorf("DORA_NODE_CONFIG has %d YAML documents instead of one", len(file.Docs))
	}
	root, err := yamlMap(file.Docs[0].Body, "the configuration")
	if err != nil {
		return nil, fmt.Errorf("DORA_NODE_CONFIG: %w", err)
	}
	raw := rawConfig{}
	for key, node := range root {
		if err := raw.set(key, node); err != nil {
			return nil, fmt.Errorf("DORA_NODE_CONFIG: %s: %w", key, err)
		}
	}
	c, err = raw.config()
	if err != nil {
		return nil, fmt.Errorf("DORA_NODE_CONFIG: %w", err)
	}
	return c, nil
}

// ParseDynamicReply reads the answer to GetConfig. The peering is nil if the answer has
// none. An error that the other side gave comes back as it is.
func ParseDynamicReply(frame []byte) (*Config, *Peering, error) {
	var reply struct {
		NodeConfig *struct {
			Result struct {
				Ok  *rawConfig
				Err *string
			} `json:"result"`
			Zenoh  *Peering `json:"zenoh"`
			Shared *Shared  `json:"shm"`
		}
	}
	if err := json.Unmarshal(frame, &reply); err != nil {
		return nil, nil, fmt.Errorf("%w: the answer is not a node configuration: %w", ErrMalformed, err)
	}
	switch {
	case reply.NodeConfig == nil:
		return nil, nil, fmt.Errorf("%w: the answer is not a node configuration", ErrMalformed)
	case reply.NodeConfig.Result.Err != nil:
		return nil, nil, errors.New(*reply.NodeConfig.Result.Err)
	case reply.NodeConfig.Result.Ok == nil:
		return nil, nil, fmt.Errorf("%w: the answer has neither a configuration nor an error", ErrMalformed)
	}
	c, err := reply.NodeConfig.Result.Ok.config()
	if err != nil {
		return nil, nil, err
	}
	c.Shared = reply.NodeConfig.Shared
	return c, reply.NodeConfig.Zenoh, nil
}

// rawConfig is a configuration as it is written. Unknown fields are left to newer
// releases.
type rawConfig struct {
	Dataflow      string                `json:"dataflow_id"`
	Node          string                `json:"node_id"`
	Run           rawRun                `json:"run_config"`
	Communication rawCommunication      `json:"daemon_communication"`
	Dynamic       bool                  `json:"dynamic"`
	RestartCount  uint32                `json:"restart_count"`
	Routing       map[string]rawRouting `json:"output_routing"`
}

type rawRun struct {
	Inputs        map[string]rawInput `json:"inputs" yaml:"inputs"`
	Outputs       []string            `json:"outputs" yaml:"outputs"`
	OutputTypes   map[string]string   `json:"output_types" yaml:"output_types"`
	InputTypes    map[string]string   `json:"input_types" yaml:"input_types"`
	OutputFraming map[string]string   `json:"output_framing" yaml:"output_framing"`
	PoolSize      rawSize             `json:"shared_memory_pool_size" yaml:"shared_memory_pool_size"`
}

type rawRouting struct {
	DaemonOnly bool `json:"daemon_only" yaml:"daemon_only"`
	Ackers     []struct {
		Node  string `json:"node_id" yaml:"node_id"`
		Input string `json:"input_id" yaml:"input_id"`
	} `json:"required_ackers" yaml:"required_ackers"`
}

// rawCommunication is how to reach the daemon: {Tcp: {socket_addr}} in JSON, a mapping
// with the tag !Tcp in YAML.
type rawCommunication struct {
	Tcp struct {
		Addr string `json:"socket_addr" yaml:"socket_addr"`
	} `json:"Tcp" yaml:"Tcp"`
}

// rawSize is a number of bytes, or text like "128MB".
type rawSize int64

// rawInput is the source alone, or a mapping.
type rawInput struct {
	Source    string   `json:"source" yaml:"source"`
	QueueSize *uint64  `json:"queue_size" yaml:"queue_size"`
	Timeout   *float64 `json:"input_timeout" yaml:"input_timeout"`
	Policy    string   `json:"queue_policy" yaml:"queue_policy"`
}

func (r *rawConfig) set(key string, node ast.Node) error {
	if _, null := node.(*ast.NullNode); null {
		return nil // an option that is not given
	}
	switch key {
	case "dataflow_id":
		return yaml.NodeToValue(node, &r.Dataflow)
	case "node_id":
		return yaml.NodeToValue(node, &r.Node)
	case "run_config":
		return yaml.NodeToValue(node, &r.Run)
	case "dynamic":
		return yaml.NodeToValue(node, &r.Dynamic)
	case "restart_count":
		return yaml.NodeToValue(node, &r.RestartCount)
	case "output_routing":
		return yaml.NodeToValue(node, &r.Routing)
	case "daemon_communication":
		return r.Communication.fromYAML(node)
	}
	return nil
}

func (r *rawCommunication) fromYAML(node ast.Node) error {
	tag, ok := node.(*ast.TagNode)
	if !ok {
		return yaml.NodeToValue(node, r)
	}
	if tag.Start == nil || tag.Start.Value != "!Tcp" {
		return fmt.Errorf("%q is not supported, only !Tcp is", tag.GetToken().Value)
	}
	return yaml.NodeToValue(tag.Value, &r.Tcp)
}

// yamlMap returns the fields of a mapping.
func yamlMap(node ast.Node, what string) (map[string]ast.Node, error) {
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, fmt.Errorf("%s is not a mapping", what)
	}
	out := make(map[string]ast.Node, len(values))
	for _, v := range values {
		out[v.Key.GetToken().Value] = v.Value
	}
	return out, nil
}

func (in *rawInput) UnmarshalYAML(read func(any) error) error {
	if read(&in.Source) == nil {
		return nil
	}
	type plain rawInput
	return read((*plain)(in))
}

func (in *rawInput) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &in.Source) == nil {
		return nil
	}
	type plain rawInput
	return json.Unmarshal(b, (*plain)(in))
}

func (s *rawSize) UnmarshalYAML(read func(any) error) error {
	var text string
	if err := read(&text); err != nil {
		return err
	}
	return s.parse(text)
}

func (s *rawSize) UnmarshalJSON(b []byte) error {
	return s.parse(strings.Trim(string(b), `"`))
}

// parse reads a size with an optional unit of 1024 bytes to a power.
func (s *rawSize) parse(text string) error {
	t := strings.ToUpper(strings.TrimSpace(text))
	if t == "" || t == "NULL" {
		return nil
	}
	shift := 0
	t = strings.TrimSuffix(t, "B")
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(t, unit); ok {
			t, shift = rest, 10*(i+1)
			break
		}
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(t), 64)
	f *= float64(int64(1) << shift)
	if err != nil || !(f >= 0) || f >= math.MaxInt64 {
		return fmt.Errorf("%q is not a size in bytes (write for example 128MB)", text)
	}
	*s = rawSize(f)
	return nil
}

// config checks what a node cannot do without.
func (r *rawConfig) config() (*Config, error) {
	id, err := ParseUUID(r.Dataflow)
	if err != nil {
		return nil, fmt.Errorf("dataflow_id: %w", err)
	}
	if r.Node == "" {
		return nil, errors.New("node_id is missing")
	}
	if r.Communication.Tcp.Addr == "" {
		return nil, errors.New("daemon_communication has no TCP address (socket_addr)")
	}
	c := &Config{
		Dataflow: id, Node: r.Node, Outputs: r.Run.Outputs,
		OutputTypes: r.Run.OutputTypes, InputTypes: r.Run.InputTypes, OutputFraming: r.Run.OutputFraming,
		PoolSize: int64(r.Run.PoolSize), Addr: r.Communication.Tcp.Addr,
		Dynamic: r.Dynamic, RestartCount: r.RestartCount,
	}
	for name, in := range r.Run.Inputs {
		ic, err := in.config(name)
		if err != nil {
			return nil, fmt.Errorf("input %s: %w", name, err)
		}
		c.Inputs = append(c.Inputs, ic)
	}
	sort.Slice(c.Inputs, func(i, j int) bool { return c.Inputs[i].ID < c.Inputs[j].ID })
	if r.Routing != nil {
		c.Routing = make(map[string]Routing, len(r.Routing))
	}
	for output, rr := range r.Routing {
		routing := Routing{DaemonOnly: rr.DaemonOnly}
		for _, a := range rr.Ackers {
			routing.Ackers = append(routing.Ackers, Acker{Node: a.Node, Input: a.Input})
		}
		c.Routing[output] = routing
	}
	return c, nil
}

func (in *rawInput) config(id string) (InputConfig, error) {
	c := InputConfig{ID: id, Source: in.Source}
	if !strings.Contains(in.Source, "/") {
		return c, fmt.Errorf("source %q is not of the form node/output", in.Source)
	}
	switch in.Policy {
	case "", "drop_oldest":
	case "backpressure":
		c.Backpressure = true
	default:
		return c, fmt.Errorf("queue_policy %q is neither drop_oldest nor backpressure", in.Policy)
	}
	if in.QueueSize != nil {
		c.HasQueueSize = true
		c.QueueSize = int(min(*in.QueueSize, math.MaxInt32))
	}
	if in.Timeout != nil {
		t, err := seconds(*in.Timeout)
		if err != nil {
			return c, fmt.Errorf("input_timeout: %w", err)
		}
		c.Timeout = t
	}
	return c, nil
}
