package nodewire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

const someTypes = `{"inputs":{"wide":{"urn":"std/core/v1/Bytes","arrow":{"name":"LargeBinary"}},
  "tick":{"urn":"std/core/v1/UInt64","arrow":{"name":"UInt64"},"from":"dora/timer/secs/1"}},
 "outputs":{"frame":{"urn":"my/v1/Frame","arrow":{"name":"Struct","fields":[
    {"name":"data","type":{"name":"LargeList","item":{"name":"UInt8"}}},{"name":"at","type":{"name":"Date64"},"nullable":true}]},"metadata":["request_id"]},
  "keyed":{"metadata":["request_id","extra"]}}}`

func TestParseNodeTypes(t *testing.T) {
	got, err := ParseNodeTypes(someTypes)
	if err != nil {
		t.Fatal(err)
	}
	want := &NodeTypes{
		Inputs: map[string]PortType{"wide": {URN: "std/core/v1/Bytes", Arrow: ArrowType{Name: "LargeBinary"}},
			"tick": {URN: "std/core/v1/UInt64", Arrow: ArrowType{Name: "UInt64"}, From: "dora/timer/secs/1"}},
		Outputs: map[string]PortType{"keyed": {Metadata: []string{"request_id", "extra"}},
			"frame": {URN: "my/v1/Frame", Metadata: []string{"request_id"}, Arrow: ArrowType{Name: "Struct", Fields: []ArrowField{
				{Name: "data", Type: ArrowType{Name: "LargeList", Item: &ArrowType{Name: "UInt8"}}},
				{Name: "at", Type: ArrowType{Name: "Date64"}, Nullable: true}}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s := got.Outputs["frame"].Arrow.String(); s != "Struct<data: LargeList<UInt8>, at: Date64>" {
		t.Error(s)
	}
}

func TestParseNodeTypesRefuses(t *testing.T) {
	port := func(arrow string) string { return `{"outputs":{"o":{"arrow":` + arrow + `}}}` }
	deep := strings.Repeat(`{"name":"LargeList","item":`, 30) + `{"name":"Int8"}` + strings.Repeat("}", 30)
	for text, want := range map[string]string{
		"":                           "EOF",
		"null":                       "null",
		"[]":                         "array",
		"{} {}":                      "behind",
		`{"ports":{}}`:               "ports",
		port(`{"name":"Int128"}`):    `output "o": "Int128" is no Arrow type`,
		port(`{"name":"int8"}`):      "int8",
		port(`{"fields":[]}`):        "no parts",
		port(`{"name":"LargeList"}`): "one item",
		port(`{"name":"Int8","item":{"name":"Int8"}}`):                                                               "no parts",
		port(`{"name":"Struct","fields":[{"name":"a","type":{"name":"Int8"}},{"name":"a","type":{"name":"Int8"}}]}`): "twice",
		port(`{"name":"Struct","fields":[{"name":"a","type":{"name":"x"}}]}`):                                        `field "a": "x"`,
		port(deep): "nested deeper",
		`{"inputs":{"` + strings.Repeat("x", MaxNodeTypes) + `":{}}}`: "more than",
	} {
		if _, err := ParseNodeTypes(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), TypesVariable) {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
}

func FuzzParseNodeTypes(f *testing.F) {
	f.Add(someTypes)
	f.Add(`{"outputs":{"o":{"arrow":{"name":"Struct","fields":[{"name":"","type":{"name":"Null"}}]}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseNodeTypes(text)
		if err != nil {
			return
		}
		for _, p := range got.Outputs {
			_ = p.Arrow.String()
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseNodeTypes(string(again))
		if err != nil && len(again) <= MaxNodeTypes {
			t.Fatalf("%q was accepted, %q is not: %v", text, again, err)
		}
		if err == nil {
			if once, _ := json.Marshal(back); string(once) != string(again) {
				t.Fatalf("%q became %q", again, once)
			}
		}
	})
}
