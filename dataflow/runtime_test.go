package dataflow

import "testing"

func TestProcessPorts(t *testing.T) {
	d := mustParse(t, `nodes:
  - id: rt
    operators:
      - id: a
        shared-library: a
        inputs: {in: {source: rt/b/out, queue_size: 3}}
        outputs: [out]
        output_types: {out: std/core/v1/UInt64}
        send_stdout_as: out
      - id: b
        shared-library: b
        inputs: {in: rt/a/out}
        outputs: [out]
        max_rotated_files: 2
`)
	n := d.Node("rt")
	p, l := n.ProcessPorts(), n.ProcessLogging()
	equal(t, "inputs", len(p.Inputs), 2)
	equal(t, "input", p.Inputs[0].ID, "a/in")
	equal(t, "its queue", p.Inputs[0].QueueSize, 3)
	equal(t, "its source", p.Inputs[0].Source.String(), "rt/b/out")
	equal(t, "the operator keeps its own", n.Operators[0].Inputs[0].ID, "in")
	equal(t, "output", p.Outputs[1].ID, "b/out")
	equal(t, "type", p.OutputTypes[0].Port, "a/out")
	equal(t, "stdout", l.SendStdoutAs, "a/out")
	equal(t, "rotated files", l.MaxRotatedFiles, 2)
}

func TestSharedLibrary(t *testing.T) {
	for _, written := range []string{"../target/debug/preprocess", "../target/debug/libpreprocess"} {
		equal(t, written, SharedLibrary(written), "../target/debug/preprocess")
	}
	equal(t, "file", SharedLibraryFile("a/libx"), "a/lib"+"x"+libraryEnding())
	equal(t, "with its ending", SharedLibrary("a/libx"+libraryEnding()), "a/x")
}
