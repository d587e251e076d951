package dataflow

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// bare is a copy of the model without what only the text has: places, keys, sources as
// they were written, and values that were normalised.
func bare(d *Descriptor) *Descriptor {
	strip(reflect.ValueOf(d).Elem(), map[uintptr]bool{})
	return d
}

func strip(v reflect.Value, seen map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return
		}
		seen[v.Pointer()] = true
		strip(v.Elem(), seen)
	case reflect.Slice:
		for i := range v.Len() {
			strip(v.Index(i), seen)
		}
	case reflect.Struct:
		if v.CanAddr() && v.CanSet() {
			switch x := v.Addr().Interface().(type) {
			case *Pos:
				*x = Pos{}
				return
			case *Source:
				x.Pos, x.settled = Pos{}, false
				if x.Kind == SourceNode || x.Kind == SourceLogs {
					x.Text = x.String()
				}
				return
			case *EnvValue:
				if text, err := x.Resolve(func(string) (string, bool) { return "set", true }); err == nil && x.FromHost == "" {
					*x = EnvValue{Text: text}
				}
				return
			case *Descriptor:
				x.Keys, x.byID, x.Types, x.Modules, x.Unannotated = nil, nil, nil, nil, nil
				x.File = ""
				for i := range x.Inferred {
					x.Inferred[i].From = ""
				}
			case *Node:
				x.Keys = nil
			case *Operator:
				x.Keys = nil
			case *Input:
				x.Keys = nil
			case *ROS2:
				x.Keys, x.written = nil, nil
			}
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				strip(v.Field(i), seen)
			}
		}
	}
}

// roundTrip checks that the flat text of a dataflow reads back as the same dataflow, and
// is its own flat text.
func roundTrip(t *testing.T, d *Descriptor) {
	t.Helper()
	text, err := d.Flat()
	if err != nil {
		t.Fatal(err)
	}
	again, diags := Parse("flat.yml", text)
	if err := diags.Err(); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	second, err := again.Flat()
	if err != nil || !bytes.Equal(text, second) {
		t.Errorf("expanding again gives %v\n%s\nnot\n%s", err, second, text)
	}
	for _, x := range []*Descriptor{d, again} {
		bare(x)
	}
	if !reflect.DeepEqual(d, again) {
		t.Errorf("reads back differently:\n%s", text)
		for i := range d.Nodes {
			if i < len(again.Nodes) && !reflect.DeepEqual(d.Nodes[i], again.Nodes[i]) {
				t.Errorf("node %d:\n%+v\n%+v", i, d.Nodes[i], again.Nodes[i])
			}
		}
	}
}

func TestFlatReadsBack(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil || len(files) < 15 {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d, diags := Parse(file, src); !diags.HasErrors() {
			n++
			t.Run(filepath.Base(file), func(t *testing.T) { roundTrip(t, d) })
		}
	}
	if n < 5 {
		t.Errorf("only %d files are valid", n)
	}
}
