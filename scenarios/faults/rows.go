package main

import (
	"context"
	"slices"
	"strings"
	"time"
)

// row is one cause, and what is done to bring it about. A producer sends three messages a
// tenth of a second apart and then does what its mode says (testdata/producer.py; args are
// the same for a producer in Go); two consumers, one in Python and one in Go, write down what
// they are told.
type row struct {
	name, cause string
	mode, args  string
	producer    string // more fields of the producer
	input       string // more options of the consumers' input
	inputs      string // more inputs of the consumers
	flow        string // more fields of the dataflow
	// act is done once a message has come.
	act func(ctx context.Context, f *flow) error
	// enough says of a consumer's transcript that nothing more is waited for; nil: its end.
	enough func(transcript []string) bool
}

// rows are the table of the event order, and the known weak points of dora 1.1.0.
func rows() []row {
	return []row{
		{name: "crash-restarted", cause: "the producer, which has a timer, crashes and is restarted (`on-failure`); then it ends",
			mode: "crash-once", args: "init sleep=700ms send=out:3:100ms crash-below=1:3", producer: "restart_policy: on-failure, " + timer},
		{name: "source-restarted", cause: "the same, but the producer has no input at all",
			mode: "crash-once", args: "init sleep=700ms send=out:3:100ms crash-below=1:3", producer: "restart_policy: on-failure"},
		{name: "crash", cause: "the producer crashes for good (`never`)",
			mode: "crash", args: "init sleep=700ms send=out:3:100ms exit=3"},
		{name: "gives-up", cause: "the producer crashes again and again (`on-failure`, `max_restarts: 2`, `restart_delay: 0.2`)",
			mode: "crash", args: "init sleep=700ms send=out:3:100ms exit=3", producer: "restart_policy: on-failure, max_restarts: 2, restart_delay: 0.2, " + timer},
		{name: "end", cause: "the producer ends with code 0",
			mode: "end", args: "init sleep=700ms send=out:3:100ms"},
		{name: "end-restarted", cause: "the producer ends with code 0 and is restarted (`always`, `max_restarts: 1`)",
			mode: "end", args: "init sleep=700ms send=out:3:100ms", producer: "restart_policy: always, max_restarts: 1, " + timer},
		{name: "user-stop", cause: "the user stops the dataflow",
			mode: "forever", args: "init sleep=700ms send=out:0:100ms", act: func(ctx context.Context, f *flow) error { return f.dora(ctx, "stop", f.name) }},
		{name: "breaker", cause: "the producer is silent for 3 s, with `input_timeout: 1`; then it goes on",
			mode: "silent", args: "init sleep=700ms send=out:3:100ms sleep=3s send=out:3:100ms", input: ", input_timeout: 1", flow: "health_check_interval: 0.5\n"},
		{name: "parameter", cause: "a parameter of the consumers is set and deleted",
			mode: "forever", args: "init sleep=700ms send=out:0:100ms", act: parameter, enough: inputAfter("PARAM_DELETED speed")},
		{name: "timer-lives-on", cause: "the producer ends; the consumers have a timer too",
			mode: "end", args: "init sleep=700ms send=out:3:100ms", inputs: ", tick: dora/timer/millis/100", enough: has("INPUT tick")},
		{name: "node-restart", cause: "the user restarts the producer (`dora node restart`)",
			mode: "forever", args: "init sleep=700ms send=out:0:100ms", act: func(ctx context.Context, f *flow) error {
				return f.dora(ctx, "node", "restart", "producer", "-d", f.name)
			},
			enough: inputAfter("NODE_RESTARTED producer")},
		{name: "node-stop", cause: "the user stops the producer (`dora node stop`)",
			mode: "forever", args: "init sleep=700ms send=out:0:100ms", act: func(ctx context.Context, f *flow) error { return f.dora(ctx, "node", "stop", "producer", "-d", f.name) }},
		{name: "hang", cause: "the producer, which has a timer, hangs (`on-failure`, `health_check_timeout: 1.5`); once restarted it ends",
			mode: "hang", args: "init sleep=700ms send-unread=out:3:100ms hang-below=1", flow: "health_check_interval: 0.5\n",
			producer: "restart_policy: on-failure, health_check_timeout: 1.5, " + timer},
	}
}

// timer is an input of a producer. Producers do not read it.
const timer = "inputs: {tick: dora/timer/millis/100}"

func parameter(ctx context.Context, f *flow) error {
	for _, node := range f.consumers() {
		if err := f.dora(ctx, "param", "set", "-d", f.name, node, "speed", "42"); err != nil {
			return err
		}
	}
	time.Sleep(300 * time.Millisecond)
	for _, node := range f.consumers() {
		if err := f.dora(ctx, "param", "delete", "-d", f.name, node, "speed"); err != nil {
			return err
		}
	}
	return nil
}

func has(event string) func([]string) bool {
	return func(t []string) bool {
		return slices.ContainsFunc(t, func(l string) bool { return strings.HasPrefix(l, event) })
	}
}

// inputAfter: data has come again after the event.
func inputAfter(event string) func([]string) bool {
	return func(t []string) bool {
		i := slices.Index(t, event)
		return i >= 0 && slices.Contains(t[i:], "INPUT in")
	}
}

// yaml is the dataflow of a row.
func (r row) yaml(f *flow) string {
	var b strings.Builder
	b.WriteString(r.flow + "nodes:\n  - {id: producer, outputs: [out]")
	if f.goOnly {
		b.WriteString(", path: " + f.stage.testnode + ", args: \"append=" + f.file("lives") + ":life " + r.args + "\"")
	} else {
		b.WriteString(", path: producer.py, env: {MODE: " + r.mode + ", LIVES: " + f.file("lives") + "}")
	}
	if r.producer != "" {
		b.WriteString(", " + r.producer)
	}
	b.WriteString("}\n")
	inputs := "inputs: {in: {source: producer/out" + r.input + "}" + r.inputs + "}"
	for _, node := range f.consumers() {
		b.WriteString("  - {id: " + node + ", " + inputs + ", ")
		if node == pythonConsumer {
			b.WriteString("path: watch.py, args: " + f.file(node) + "}\n")
		} else {
			b.WriteString("path: " + f.stage.testnode + ", args: init record=" + f.file(node) + "}\n")
		}
	}
	return b.String()
}

// tidy makes a transcript comparable: repetitions are one line, ticks count only after the
// data has ended, and data that was queued when a stop came does not count.
func tidy(transcript []string) []string {
	var out []string
	ended, stopped := false, false
	for _, line := range transcript {
		ended = ended || line == "INPUT_CLOSED in"
		stopped = stopped || strings.HasPrefix(line, "STOP")
		input := strings.HasPrefix(line, "INPUT ")
		if line == "INPUT tick" && !ended || input && stopped || len(out) > 0 && out[len(out)-1] == line {
			continue
		}
		out = append(out, line)
	}
	return out
}
