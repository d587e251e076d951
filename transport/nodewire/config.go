package nodewire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Config is what a node learns at its start: in the environment variable
// DORA_NODE_CONFIG as YAML, or as JSON in answer to GetConfig.
type Config struct {
	Dataflow UUID
	Node     string
	Inputs   []InputConfig // in ascending order of ID
	Outputs  []string

	OutputTypes   map[string]string
	InputTypes    map[string]string
	OutputFraming map[string]string
	// PoolSize is shared_memory_pool_size in bytes; 0 if not given.
	PoolSize int64

	// Addr is the address ("127.0.0.1:33085") that the node connects to.
	Addr string
	// Descriptor is the dataflow as JSON, at least {"nodes": []}. ParseConfig leaves it
	// empty.
	Descriptor   json.RawMessage
	Dynamic      bool
	RestartCount uint32
	// Routing per output; nil lets every message go through the connection.
	Routing map[string]Routing
	// Shared is where a Go node finds the dataflow's shared memory; nil if it has none.
	// YAML leaves it out: a node that is started gets it in its environment.
	Shared *Shared
}

// Shared is the control socket of package shm and the token by which a node is known
// there. It is no part of dora 1.1.0; nodes that do not know it ignore it.
type Shared struct {
	Socket string `json:"socket"`
	Token  string `json:"token"`
}

// InputConfig is one input as a node sees it. Zero values mean "not given".
type InputConfig struct {
	ID           string
	Source       string // node/output, dora/timer/millis/100, dora/logs/...
	QueueSize    int
	HasQueueSize bool
	Backpressure bool
	Timeout      time.Duration
}

// Routing of one output: on the direct path between nodes once every acker has answered,
// or for good through the connection.
type Routing struct {
	DaemonOnly bool
	Ackers     []Acker
}

// Acker is a consumer's input that must answer before an output goes direct.
type Acker struct {
	Node  string
	Input string
}

// Peering is where the direct path of a dynamic node listens and connects
// ("tcp/127.0.0.1:7447").
type Peering struct {
	Listen  string
	Connect []string
}

// maxDescriptor bounds the descriptor in a configuration, in bytes: one string of a
// process's environment may have 128 KiB (MAX_ARG_STRLEN of Linux).
const maxDescriptor = 64 << 10

// YAML renders the configuration for DORA_NODE_CONFIG. A descriptor that would not fit
// into an environment variable is left empty, which nodes accept (operator runtimes do
// not).
func (c *Config) YAML() (string, error) {
	var b strings.Builder
	line := func(key string, value any) {
		b.WriteString(key)
		b.WriteString(": ")
		writeYAML(&b, value)
		b.WriteByte('\n')
	}
	var descriptor any
	if len(c.Descriptor) > 0 && len(c.Descriptor) <= maxDescriptor {
		dec := json.NewDecoder(bytes.NewReader(c.Descriptor))
		dec.UseNumber()
		if err := dec.Decode(&descriptor); err != nil {
			return "", fmt.Errorf("configuration of node %s: the descriptor is not JSON: %w", c.Node, err)
		}
	} else {
		descriptor = map[string]any{"nodes": []any{}}
	}
	line("dataflow_id", c.Dataflow.String())
	line("node_id", c.Node)
	line("run_config", c.runConfig())
	// The variant of an enum is a YAML tag in what nodes read.
	b.WriteString("daemon_communication: !Tcp\n  socket_addr: ")
	writeYAML(&b, c.Addr)
	b.WriteByte('\n')
	line("dataflow_descriptor", descriptor)
	line("dynamic", c.Dynamic)
	line("write_events_to", nil)
	line("restart_count", json.Number(strconv.FormatUint(uint64(c.RestartCount), 10)))
	line("output_routing", c.routing())
	return b.String(), nil
}

// DynamicReply renders the answer to GetConfig: one JSON frame.
func (c *Config) DynamicReply(p *Peering) ([]byte, error) {
	descriptor := c.Descriptor
	if len(descriptor) == 0 {
		descriptor = json.RawMessage(`{"nodes":[]}`)
	}
	reply := map[string]any{"result": map[string]any{"Ok": map[string]any{
		"dataflow_id":          c.Dataflow.String(),
		"node_id":              c.Node,
		"run_config":           c.runConfig(),
		"daemon_communication": map[string]any{"Tcp": map[string]any{"socket_addr": c.Addr}},
		"dataflow_descriptor":  descriptor,
		"dynamic":              c.Dynamic,
		"write_events_to":      nil,
		"restart_count":        c.RestartCount,
		"output_routing":       c.routing(),
	}}}
	if p != nil {
		// A null where a node expects a list is an error to it.
		connect := append([]string{}, p.Connect...)
		reply["zenoh"] = map[string]any{"listen": p.Listen, "connect": connect}
	}
	if c.Shared != nil {
		reply["shm"] = c.Shared
	}
	return json.Marshal(map[string]any{"NodeConfig": reply})
}

// DynamicError renders the refusal of a GetConfig.
func DynamicError(reason string) []byte {
	b, err := json.Marshal(map[string]any{"NodeConfig": map[string]any{"result": map[string]any{"Err": reason}}})
	if err != nil { // a map of strings always encodes
		return []byte(`{"NodeConfig":{"result":{"Err":"internal error"}}}`)
	}
	return b
}

func (c *Config) runConfig() map[string]any {
	inputs := make(map[string]any, len(c.Inputs))
	for _, in := range c.Inputs {
		inputs[in.ID] = in.definition()
	}
	outputs := make([]any, 0, len(c.Outputs))
	for _, o := range c.Outputs {
		outputs = append(outputs, o)
	}
	m := map[string]any{"inputs": inputs, "outputs": outputs}
	for key, types := range map[string]map[string]string{
		"output_types": c.OutputTypes, "input_types": c.InputTypes, "output_framing": c.OutputFraming,
	} {
		if len(types) > 0 {
			m[key] = stringMap(types)
		}
	}
	if c.PoolSize > 0 {
		m["shared_memory_pool_size"] = json.Number(strconv.FormatInt(c.PoolSize, 10))
	}
	return m
}

func stringMap(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// definition is the short form of an input when nothing but its source is given.
func (in *InputConfig) definition() any {
	if !in.HasQueueSize && !in.Backpressure && in.Timeout <= 0 {
		return in.Source
	}
	m := map[string]any{"source": in.Source}
	if in.HasQueueSize {
		m["queue_size"] = json.Number(strconv.Itoa(in.QueueSize))
	}
	if in.Backpressure {
		m["queue_policy"] = "backpressure"
	}
	if in.Timeout > 0 {
		m["input_timeout"] = json.Number(formatFloat(in.Timeout.Seconds()))
	}
	return m
}

// formatFloat writes a number that YAML and JSON both read as a fraction.
func formatFloat(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func (c *Config) routing() any {
	if c.Routing == nil {
		return nil
	}
	m := make(map[string]any, len(c.Routing))
	for output, r := range c.Routing {
		ackers := make([]any, 0, len(r.Ackers))
		for _, a := range r.Ackers {
			ackers = append(ackers, map[string]any{"node_id": a.Node, "input_id": a.Input})
		}
		m[output] = map[string]any{"daemon_only": r.DaemonOnly, "required_ackers": ackers}
	}
	return m
}

// writeYAML renders a JSON-like value in YAML's flow style, keys in ascending order.
func writeYAML(b *strings.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case json.Number:
		b.WriteString(v.String())
	case string:
		writeYAMLString(b, v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			writeYAML(b, e)
		}
		b.WriteByte(']')
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			if len(k) > maxSimpleKey {
				b.WriteString("? ")
			}
			writeYAMLString(b, k)
			b.WriteString(": ")
			writeYAML(b, v[k])
		}
		b.WriteByte('}')
	}
}

// maxSimpleKey: YAML wants a "?" before a key of more than 1024 characters, escapes
// included.
const maxSimpleKey = 128

// writeYAMLString writes a plain scalar where no reader can take it for anything but
// this string, else a double-quoted one. The YAML reader of official nodes refuses raw
// control characters and pairs of \u escapes; \U is fine.
func writeYAMLString(b *strings.Builder, s string) {
	if isPlain(s) {
		b.WriteString(s)
		return
	}
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x20 || r >= 0x7F && r <= 0xA0:
			fmt.Fprintf(b, `\x%02X`, r)
		case r == 0x2028 || r == 0x2029 || r == 0xFEFF || r == 0xFFFE || r == 0xFFFF:
			fmt.Fprintf(b, `\u%04X`, r)
		case r == utf8.RuneError:
			b.WriteString(`\uFFFD`)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// isPlain allows letters, digits, '-', '_', '/' and '.' in a string that begins with a
// letter and is no YAML keyword.
func isPlain(s string) bool {
	if s == "" || !isLetter(s[0]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' && c != '/' && c != '.' {
			return false
		}
	}
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		return false
	}
	return true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// seconds converts a number of seconds, saturating.
func seconds(f float64) (time.Duration, error) {
	if math.IsNaN(f) || f < 0 {
		return 0, fmt.Errorf("%v is not a number of seconds", f)
	}
	if f >= math.MaxInt64/1e9 {
		return math.MaxInt64, nil
	}
	return time.Duration(f * 1e9), nil
}
