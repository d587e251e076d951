package nodeapi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dora-go/dora/transport/nodewire"
)

// typedNode starts a node whose outputs and inputs have types.
func (d *daemon) typedNode(ctx context.Context, mode, types string) (*Node, *bytes.Buffer, error) {
	d.t.Helper()
	cfg := d.config()
	cfg.OutputTypes = map[string]string{"result": "std/core/v1/Int64", "pose": "my/v1/Pose"}
	cfg.Outputs = []string{"result", "extra", "pose"}
	cfg.InputTypes = map[string]string{"data": "std/core/v1/UInt64"}
	d.t.Setenv(envTypeCheck, mode)
	d.t.Setenv(nodewire.TypesVariable, types)
	var lines bytes.Buffer
	log := slog.New(NewLogHandler(&lines, cfg.Node))
	checks, err := newTypeChecks(cfg, log)
	if err != nil {
		return nil, nil, err
	}
	yaml, err := cfg.YAML()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Setenv(envConfig, yaml)
	n, err := Init(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	n.types = checks // logs to where the test can read it; nothing was received yet
	d.t.Cleanup(func() { _ = n.Close() })
	return n, &lines, nil
}

const poseTypes = `{"outputs":{"result":{"urn":"std/core/v1/Int64","arrow":{"name":"Int64"}},
"pose":{"urn":"my/v1/Pose","arrow":{"name":"Struct","fields":[{"name":"x","type":{"name":"Float64"}},{"name":"tags","type":{"name":"LargeList","item":{"name":"Utf8"}}}]}}},
"inputs":{"data":{"arrow":{"name":"UInt64"}},"tick":{"arrow":{"name":"Int8"},"from":"a/b"}}}`

func TestTypeErrorKeepsAWrongArrayBack(t *testing.T) {
	d := newDaemon(t)
	n, _, err := d.typedNode(t.Context(), "error", poseTypes)
	if err != nil {
		t.Fatal(err)
	}
	text := textArray("a")
	err = n.SendOutput("result", text)
	var wrong *TypeError
	if !errors.Is(err, ErrType) || !errors.As(err, &wrong) || *wrong != (TypeError{"result", "Int64", "Utf8"}) ||
		err.Error() != `output "result": expected Arrow type Int64, got Utf8` {
		t.Errorf("got %v", err)
	}
	for _, err := range []error{
		n.SendOutput("result", text, With(ParamRequestID, Text("r"))),
		n.SendOutput("result", text, With(ParamGoalID, Text("g"))),
		n.SendOutput("result", text, With(ParamGoalStatus, Text("aborted"))),
		n.SendOutput("result", ints(1)),
		n.SendOutput("extra", text), // without a type
		n.SendBytes("result", []byte{1}),
		n.SendOutput("result", emptyArray()),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := n.SendOutput("pose", ints(1)); err == nil || !strings.Contains(err.Error(), "Struct<x: Float64, tags: LargeList<Utf8>>, got Int64") {
		t.Errorf("got %v", err)
	}
	d.waitFor("what was right", func() bool { return len(d.sent) == 7 })
}

func TestTypeWarningsAreOneLine(t *testing.T) {
	d := newDaemon(t)
	n, lines, err := d.typedNode(t.Context(), "warn", poseTypes)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := n.SendOutput("result", textArray("a")); err != nil {
			t.Fatal(err)
		}
	}
	d.waitFor("all of them", func() bool { return len(d.sent) == 3 })
	if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"level":"warn"`) ||
		!strings.Contains(got, `output \"result\": expected Arrow type Int64, got Utf8`) {
		t.Errorf("logged %s", got)
	}
	lines.Reset()
	// Inputs: the first message with data that belongs to no pattern.
	p := map[string]nodewire.Parameter{ParamRequestID: text("r")}
	d.give(inputEvent("data", nil, nil), inputEvent("data", bytesPayload(t, []byte{1}), p), inputEvent("tick", bytesPayload(t, []byte{1}), nil))
	for range 3 {
		if _, err := n.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if lines.Len() > 0 {
		t.Errorf("logged %s", lines)
	}
	n.types.inputs["data"] = nodewire.ArrowType{Name: "Float32"}
	d.give(inputEvent("data", bytesPayload(t, []byte{1}), nil), inputEvent("data", bytesPayload(t, []byte{1}), nil))
	for range 2 {
		if _, err := n.Recv(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `input \"data\": expected Arrow type Float32, got UInt8`) {
		t.Errorf("logged %s", got)
	}
}

func TestTypeCheckModes(t *testing.T) {
	cfg := &nodewire.Config{Node: "n", OutputTypes: map[string]string{"a": "std/core/v1/Bytes", "b": "std/core/v1/String[x=y]", "c": "std/core/v1/Bool",
		"d": "std/media/v1/Image", "e": "std/core/v1/Nothing"}, InputTypes: map[string]string{"a": "std/core/v1/Bytes"}}
	t.Setenv(nodewire.TypesVariable, "")
	for mode, want := range map[string]string{"": "off", "0": "off", "false": "off", "off": "off", "Error": "off", "maybe": "off",
		"1": "warn", "true": "warn", "on": "warn", "warn": "warn", "error": "error"} {
		t.Setenv(envTypeCheck, mode)
		var lines bytes.Buffer
		c, err := newTypeChecks(cfg, slog.New(NewLogHandler(&lines, "n")))
		got := "off"
		if c != nil {
			got = map[bool]string{true: "error", false: "warn"}[c.refuse]
			if len(c.outputs) != 3 || c.outputs["a"].Name != "LargeBinary" || c.outputs["b"].Name != "Utf8" || c.outputs["c"].Name != "Boolean" || len(c.inputs) != 0 {
				t.Errorf("types %v, %v", c.outputs, c.inputs)
			}
		}
		if err != nil || got != want {
			t.Errorf("%q is %s (%v), want %s", mode, got, err, want)
		}
		if said := lines.Len() > 0; said != (mode == "Error" || mode == "maybe") {
			t.Errorf("%q: logged %q", mode, lines.String())
		}
	}
	d := newDaemon(t)
	if _, _, err := d.typedNode(t.Context(), "warn", `{"outputs":`); err == nil || !strings.Contains(err.Error(), nodewire.TypesVariable) || !strings.Contains(err.Error(), "worker") {
		t.Errorf("damaged types: %v", err)
	}
}

func TestTypeMatches(t *testing.T) {
	plain := func(name string) nodewire.ArrowType { return nodewire.ArrowType{Name: name} }
	list := func(item nodewire.ArrowType) nodewire.ArrowType {
		return nodewire.ArrowType{Name: "LargeList", Item: &item}
	}
	xy := nodewire.ArrowType{Name: "Struct", Fields: []nodewire.ArrowField{{Name: "x", Type: plain("Float64")}, {Name: "y", Type: list(plain("Int8"))}}}
	f := func(name string, dt arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: dt, Nullable: true}
	}
	for dt, name := range map[arrow.DataType]string{
		arrow.Null: "Null", arrow.FixedWidthTypes.Boolean: "Boolean", arrow.PrimitiveTypes.Int8: "Int8", arrow.PrimitiveTypes.Int16: "Int16",
		arrow.PrimitiveTypes.Int32: "Int32", arrow.PrimitiveTypes.Int64: "Int64", arrow.PrimitiveTypes.Uint8: "UInt8", arrow.PrimitiveTypes.Uint16: "UInt16",
		arrow.PrimitiveTypes.Uint32: "UInt32", arrow.PrimitiveTypes.Uint64: "UInt64", arrow.FixedWidthTypes.Float16: "Float16",
		arrow.PrimitiveTypes.Float32: "Float32", arrow.PrimitiveTypes.Float64: "Float64", arrow.BinaryTypes.String: "Utf8",
		arrow.BinaryTypes.LargeString: "LargeUtf8", arrow.BinaryTypes.Binary: "Binary", arrow.BinaryTypes.LargeBinary: "LargeBinary",
		arrow.FixedWidthTypes.Date32: "Date32", arrow.FixedWidthTypes.Date64: "Date64",
	} {
		if typeName(dt) != name || !typeMatches(plain(name), dt) || typeMatches(plain("Int7"), dt) || typeMatches(xy, dt) || typeMatches(list(plain(name)), dt) {
			t.Errorf("%v is %s, want %s", dt, typeName(dt), name)
		}
	}
	x, y := f("x", arrow.PrimitiveTypes.Float64), f("y", arrow.ListOf(arrow.PrimitiveTypes.Int8))
	for _, good := range []arrow.DataType{arrow.StructOf(x, y), arrow.StructOf(y, f("z", arrow.Null), x), arrow.StructOf(x, f("y", arrow.LargeListOf(arrow.PrimitiveTypes.Int8)))} {
		if !typeMatches(xy, good) {
			t.Errorf("%s does not match %s", typeName(good), xy)
		}
	}
	for _, bad := range []arrow.DataType{arrow.StructOf(x), arrow.StructOf(f("x", arrow.PrimitiveTypes.Float32), y), arrow.StructOf(x, f("y", arrow.ListOf(arrow.PrimitiveTypes.Int16)))} {
		if typeMatches(xy, bad) {
			t.Errorf("%s matches %s", typeName(bad), xy)
		}
	}
	if got := typeName(arrow.StructOf(x, y)); got != "Struct<x: Float64, y: List<Int8>>" {
		t.Error(got)
	}
	if got := typeName(arrow.FixedWidthTypes.Timestamp_us); got == "" {
		t.Error("a type without a name")
	}
	for _, w := range [][2]string{{"UInt8", "UInt32"}, {"UInt8", "UInt64"}, {"UInt32", "UInt64"}, {"Int32", "Int64"}, {"Float32", "Float64"}} {
		if !widens(w[0], w[1]) || widens(w[1], w[0]) {
			t.Errorf("%s to %s", w[0], w[1])
		}
	}
}
