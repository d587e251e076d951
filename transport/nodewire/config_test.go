package nodewire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// As the daemon of official dora 1.1.0 writes it.
const officialConfig = `dataflow_id: 01a20a11-3c39-71d3-be12-eafecfe06cce
node_id: sender
run_config:
  inputs:
    tick: dora/timer/millis/10
    data:
      source: sender/data
      queue_size: 100
      input_timeout: 5.0
      queue_policy: backpressure
  outputs:
  - data
  shared_memory_pool_size: 134217728
daemon_communication: !Tcp
  socket_addr: 127.0.0.1:33085
dataflow_descriptor:
  nodes:
  - id: sender
    path: ./sender.py
    inputs:
      tick: dora/timer/millis/10
dynamic: false
write_events_to: null
restart_count: 3
output_routing:
  data:
    daemon_only: false
    required_ackers:
    - node_id: receiver
      input_id: data
`

func officialParsed(t *testing.T) *Config {
	id, err := ParseUUID("01a20a11-3c39-71d3-be12-eafecfe06cce")
	if err != nil {
		t.Fatal(err)
	}
	return &Config{
		Dataflow: id, Node: "sender", Outputs: []string{"data"}, PoolSize: 128 << 20,
		Addr: "127.0.0.1:33085", RestartCount: 3,
		Inputs: []InputConfig{
			{ID: "data", Source: "sender/data", QueueSize: 100, HasQueueSize: true, Backpressure: true, Timeout: 5 * time.Second},
			{ID: "tick", Source: "dora/timer/millis/10"},
		},
		Routing: map[string]Routing{"data": {Ackers: []Acker{{Node: "receiver", Input: "data"}}}},
	}
}

func TestParseOfficialConfig(t *testing.T) {
	got, err := ParseConfig(officialConfig)
	if err != nil {
		t.Fatal(err)
	}
	if want := officialParsed(t); !reflect.DeepEqual(got, want) {
		t.Fatalf("parsed\n%+v, want\n%+v", got, want)
	}
	text := strings.Replace(officialConfig, "134217728", "128MB", 1)
	if got, err = ParseConfig(text); err != nil || got.PoolSize != 128<<20 {
		t.Fatalf("pool size with a unit: %+v, %v", got, err)
	}
	text = officialConfig[:strings.Index(officialConfig, "output_routing")] + "output_routing: null\nsomething_new: {a: [1]}\n"
	if got, err = ParseConfig(text); err != nil || got.Routing != nil {
		t.Fatalf("without routing: %+v, %v", got, err)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	c := officialParsed(t)
	c.OutputTypes = map[string]string{"data": "std/core/v1/UInt8"}
	c.InputTypes = map[string]string{"data": "std/media/v1/AudioFrame[sample_type=f32]"}
	c.OutputFraming = map[string]string{"data": "arrow-ipc"}
	c.Inputs[1].Timeout = 250 * time.Millisecond
	c.Routing["other"] = Routing{DaemonOnly: true}
	c.Descriptor = json.RawMessage(`{"nodes":[{"id":"sender","path":"a b.py","env":{"K":"x: \"y\"\n\ud83d\ude00\u2028\u007f","on":1.5e3,"n":null,"l":[]}}]}`)
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "daemon_communication: !Tcp\n  socket_addr: \"127.0.0.1:33085\"\n") {
		t.Errorf("the address is not under a !Tcp tag:\n%s", text)
	}
	for _, r := range text {
		if r != '\n' && (r < 0x20 || r == 0x7F || r == 0x2028) {
			t.Errorf("raw %q in\n%s", r, text)
		}
	}
	got, err := ParseConfig(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	want := *c
	want.Descriptor = nil
	if !reflect.DeepEqual(got, &want) {
		t.Fatalf("parsed\n%+v, want\n%+v", got, &want)
	}
	reply, err := c.DynamicReply(&Peering{Listen: "tcp/127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(reply), `"connect":[]`) {
		t.Errorf("an empty list must be written as one: %s", reply)
	}
	got, peering, err := ParseDynamicReply(reply)
	if err != nil || !reflect.DeepEqual(got, &want) || peering == nil || peering.Listen != "tcp/127.0.0.1:1" {
		t.Fatalf("dynamic: %+v, %+v, %v", got, peering, err)
	}
}

func TestMinimalDynamicReply(t *testing.T) {
	c := &Config{Node: "n", Addr: "127.0.0.1:1", Dynamic: true}
	reply, err := c.DynamicReply(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"inputs":{}`, `"outputs":[]`, `"dataflow_descriptor":{"nodes":[]}`, `"daemon_communication":{"Tcp":{"socket_addr":"127.0.0.1:1"}}`, `"output_routing":null`} {
		if !strings.Contains(string(reply), want) {
			t.Errorf("%s is missing in %s", want, reply)
		}
	}
	if strings.Contains(string(reply), "zenoh") {
		t.Errorf("peering in %s", reply)
	}
	if _, _, err := ParseDynamicReply(DynamicError(`no "x"`)); err == nil || err.Error() != `no "x"` {
		t.Errorf("refusal = %v", err)
	}
	for _, bad := range []string{"", "null", "{}", `{"NodeConfig":{}}`, `{"NodeConfig":{"result":{"Ok":{}}}}`, "[" + strings.Repeat("[", 100000)} {
		if _, _, err := ParseDynamicReply([]byte(bad)); err == nil {
			t.Errorf("%.40q accepted", bad)
		}
	}
}

func TestBadConfigs(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(officialConfig, old, new, 1) }
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", "mapping"},
		"a list":          {"[1]", "mapping"},
		"not YAML":        {"a: [", "YAML"},
		"two documents":   {officialConfig + "---\na: 1\n", "documents"},
		"no uuid":         {replace("01a20a11", "01a20a1x"), "UUID"},
		"no node":         {replace("node_id: sender", "node_id: \"\""), "node_id"},
		"other transport": {replace("!Tcp", "!Unix"), "!Tcp"},
		"no address":      {replace("socket_addr: 127.0.0.1:33085", "x: 1"), "socket_addr"},
		"bad policy":      {replace("queue_policy: backpressure", "queue_policy: x"), "queue_policy"},
		"bad source":      {replace("source: sender/data", "source: data"), "node/output"},
		"bad timeout":     {replace("5.0", "-1.0"), "input_timeout"},
		"bad size":        {replace("134217728", "5XB"), "size"},
		"too long":        {strings.Repeat("#", maxConfig+1), "bytes"},
	} {
		_, err := ParseConfig(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLongDescriptorIsLeftOut(t *testing.T) {
	c := officialParsed(t)
	c.Descriptor = json.RawMessage(`{"nodes":[{"id":"` + strings.Repeat("x", maxDescriptor) + `"}]}`)
	text, err := c.YAML()
	if err != nil || !strings.Contains(text, "dataflow_descriptor: {nodes: []}\n") {
		t.Fatalf("%v in %.300s", err, text)
	}
	if c.Descriptor = json.RawMessage(`{`); true {
		if _, err = c.YAML(); err == nil || !strings.Contains(err.Error(), "descriptor") {
			t.Fatalf("broken descriptor: %v", err)
		}
	}
}
