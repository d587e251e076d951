package types

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestStandardLibrary holds the whole library: names, Arrow types and fields.
func TestStandardLibrary(t *testing.T) {
	vector := "Struct<x: Float64, y: Float64, z: Float64>"
	quaternion := "Struct<x: Float64, y: Float64, z: Float64, w: Float64>"
	pose := "Struct<position: " + vector + ", orientation: " + quaternion + ">"
	twist := "Struct<linear: " + vector + ", angular: " + vector + ">"
	box := "Struct<x: Float32, y: Float32, width: Float32, height: Float32, confidence: Float32, label: Utf8>"
	want := map[string]string{
		"core/v1/String": "Utf8", "core/v1/Bytes": "LargeBinary", "core/v1/Bool": "Boolean",
		"math/v1/Vector3": vector, "math/v1/Quaternion": quaternion, "math/v1/Pose": pose,
		"math/v1/Transform":        "Struct<translation: " + vector + ", rotation: " + quaternion + ">",
		"control/v1/Twist":         twist,
		"control/v1/JointState":    "Struct<names: LargeList<Utf8>, positions: LargeList<Float64>, velocities: LargeList<Float64>, efforts: LargeList<Float64>>",
		"control/v1/Odometry":      "Struct<pose: " + pose + ", twist: " + twist + ", frame_id: Utf8>",
		"media/v1/Image":           "Struct<width: UInt32, height: UInt32, encoding: Utf8, data: LargeBinary>",
		"media/v1/CompressedImage": "LargeBinary",
		"media/v1/PointCloud":      "Struct<points: LargeBinary, width: UInt32, height: UInt32>",
		"media/v1/AudioFrame":      "Struct<sample_rate: UInt32, channels: UInt32, data: LargeBinary>",
		"vision/v1/BoundingBox":    box,
		"vision/v1/Detection":      "Struct<boxes: LargeList<" + box + ">>",
		"vision/v1/Segmentation":   "Struct<width: UInt32, height: UInt32, num_classes: UInt32, mask: LargeBinary, class_names: LargeList<Utf8>>",
	}
	for _, name := range []string{"Float32", "Float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"} {
		want["core/v1/"+name] = name
	}
	names := Standard().Names()
	if len(names) != 27 || len(want) != 27 {
		t.Errorf("%d types, want %d: %v", len(names), len(want), names)
	}
	for _, name := range names {
		a, err := Standard().Resolve(URN{Base: name})
		if w := want[strings.TrimPrefix(name, "std/")]; err != nil || a.String() != w {
			t.Errorf("%s is %s, %v, want %s", name, a, err, w)
		}
		for _, f := range a.Fields {
			if !f.Nullable {
				t.Errorf("%s.%s is not nullable", name, f.Name)
			}
		}
	}
	if p := Standard().Lookup("std/media/v1/AudioFrame").Params; len(p) != 1 || p[0] != (ParamDef{"sample_type", "f32"}) {
		t.Errorf("parameters of AudioFrame: %v", p)
	}
}

func TestParseURN(t *testing.T) {
	for text, want := range map[string]string{
		"std/core/v1/Int8":              "std/core/v1/Int8",
		"std/a/v1/B[k=v]":               "std/a/v1/B[k=v]",
		"std/a/v1/B[ k = v , k2 = v2 ]": "std/a/v1/B[k=v,k2=v2]",
		"Thing":                         "Thing",
		"":                              "error: cannot be empty",
		"a[":                            "error: `[` is never closed",
		"a[k=v":                         "error: `[` is never closed",
		"a[]":                           "error: brackets are empty",
		"a[ ]":                          "error: brackets are empty",
		"a[k]":                          "error: parameter `k` has no `=`",
		"a[=v]":                         "error: no key before `=`",
		"a[k=]":                         "error: parameter `k` has no value",
		"a[k=v,k=w]":                    "error: written twice",
		"a[k=v,]":                       "error: has no `=`",
		"a[b[k=v]]":                     "error: cannot hold brackets",
		"[k=v]":                         "error: no name before `[`",
		"a b":                           "error: holds a space",
		"a]":                            "error: holds a space or one of",
		strings.Repeat("a", 513):        "error: at most 512 bytes",
	} {
		u, err := ParseURN(text)
		got := u.String()
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want && (err == nil || !strings.HasPrefix(want, "error: ") || !strings.Contains(got, want[len("error: "):])) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func parse(t *testing.T, text string) URN {
	t.Helper()
	u, err := ParseURN(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestCompatible goes through every pair of core types, and through parameters and
// rules.
func TestCompatible(t *testing.T) {
	wider := map[string][]string{"UInt8": {"UInt32", "UInt64"}, "UInt32": {"UInt64"}, "Int32": {"Int64"}, "Float32": {"Float64"}}
	std := StandardRules()
	core := slices.DeleteFunc(Standard().Names(), func(urn string) bool { return !strings.HasPrefix(urn, "std/core/") })
	if len(core) != 13 {
		t.Fatal(core)
	}
	for _, from := range core {
		for _, to := range core {
			f, n := URN{Base: from}, URN{Base: to}
			want := from == to || to == Bytes
			for _, w := range wider[f.Name()] {
				want = want || n.Name() == w
			}
			if got := std.Compatible(f, n); got != want {
				t.Errorf("%s -> %s: %v", from, to, got)
			}
		}
	}
	rules := StandardRules()
	for _, r := range []string{"a b", "b c", "c d", "d e", "e a", "x[k=v] std/core/v1/UInt8"} {
		from, to, _ := strings.Cut(r, " ")
		rules.Add(from, to)
	}
	for text, want := range map[string]bool{
		"A[s=f32] A[s=i16]": false, "A[s=f32] A": true, "A A[s=f32]": true, "A[s=f32,c=2] A[s=f32]": true, "A[s=f32] A[s=f32,c=2]": true,
		"A[c=2] A[s=f32]": true, "A[s=f32,c=2] A[c=1,s=f32]": false, "A B": false,
		"a b": true, "a c": true, "a d": true, "a e": false, "b a": false, "c a": true, "a[k=1] b[k=2]": true,
		"x std/core/v1/UInt64": true, "x std/core/v1/UInt8": true, "x std/core/v1/Int8": false, "b std/core/v1/Bytes": true,
	} {
		from, to, _ := strings.Cut(text, " ")
		if got := rules.Compatible(parse(t, from), parse(t, to)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	// A wide net of rules is walked once, not once per way through it.
	var wide Rules
	for i := range 300 {
		for j := range 300 {
			wide.Add(fmt.Sprint(i), fmt.Sprint(j))
		}
	}
	if wide.Compatible(URN{Base: "0"}, URN{Base: "nowhere"}) {
		t.Error("found a way to nowhere")
	}
}

func TestResolve(t *testing.T) {
	l := NewLibrary()
	structOf := func(urn string, fields ...string) {
		d := Definition{URN: urn, Arrow: "Struct"}
		for i, f := range fields {
			d.Fields = append(d.Fields, FieldDef{Name: fmt.Sprintf("f%d", i), Type: f})
		}
		l.Add(d)
	}
	structOf("p/v1/Good", "Int8", "List<List<Utf8>>", "Vector3", "List<p/v1/Inner>", "std/media/v1/AudioFrame[sample_type=f32]")
	structOf("p/v1/Inner", "Boolean")
	structOf("p/v1/Same", "Int8")
	structOf("q/v1/Same", "Int16")
	structOf("q/v1/Unclear", "Same")
	structOf("q/v1/Clear", "q/v1/Same", "p/v1/Same")
	structOf("q/v1/Nested", "Unclear")
	structOf("q/v1/Endless", "List<Endless>")
	structOf("q/v1/Unknown", "Nope")
	structOf("q/v1/Open", "List<Int8")
	structOf("q/v1/Brackets", "Int8[")
	wide := make([]string, 100)
	for i := range 4 {
		for j := range wide {
			wide[j] = fmt.Sprintf("w/v1/W%d", i+1)
		}
		structOf(fmt.Sprintf("w/v1/W%d", i), wide...)
	}
	structOf("w/v1/W4", "Int8")
	l.Add(Definition{URN: "q/v1/Rows", Arrow: "List<List<Float32>>"})
	for i := range 9 {
		structOf(fmt.Sprintf("d/v1/D%d", i), fmt.Sprintf("D%d", i+1))
	}
	structOf("d/v1/D9", "Int8")

	for urn, want := range map[string]string{
		"p/v1/Good":     "Struct<f0: Int8, f1: LargeList<LargeList<Utf8>>, f2: Struct<x: Float64, y: Float64, z: Float64>, f3: LargeList<Struct<f0: Boolean>>, f4: Struct<sample_rate: UInt32, channels: UInt32, data: LargeBinary>>",
		"q/v1/Clear":    "Struct<f0: Struct<f0: Int16>, f1: Struct<f0: Int8>>",
		"q/v1/Rows":     "LargeList<LargeList<Float32>>",
		"q/v1/Unclear":  `type "Same" of field "f0" is ambiguous: it may be p/v1/Same or q/v1/Same`,
		"q/v1/Nested":   `type "Same" of field "f0.f0" is ambiguous`,
		"q/v1/Endless":  "nested more than 8 levels deep",
		"q/v1/Unknown":  `unknown type "Nope" of field "f0"`,
		"q/v1/Open":     "`<` is never closed",
		"q/v1/Brackets": "`[` is never closed",
		"w/v1/W0":       "has more than 4096 fields",
		"d/v1/D0":       "nested more than 8 levels deep",
		"d/v1/D3":       "Int8", // 7 structs and a number: 8 levels
		"d/v1/D2":       "nested more than 8 levels deep",
		"none":          `unknown type "none"`,
	} {
		a, err := l.Resolve(URN{Base: urn})
		got := a.String()
		if err != nil {
			var bad *UnresolvedError
			if !errors.As(err, &bad) {
				t.Errorf("%s: %T", urn, err)
			}
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s is %s, want %s", urn, got, want)
		}
	}
	// The last one with a URN counts, also against the standard library.
	structOf("p/v1/Same", "Utf8")
	if a, _ := l.Resolve(URN{Base: "p/v1/Same"}); a.Fields[0].Type.Name != "Utf8" || len(l.Find("Same")) != 2 {
		t.Errorf("redefined type is %v, found %v", a, l.Find("Same"))
	}
}

func TestDifferences(t *testing.T) {
	l := NewLibrary()
	l.Add(Definition{URN: "a/A", Arrow: "Struct", Fields: []FieldDef{{Name: "v", Type: "Vector3"}, {Name: "n", Type: "List<Int8>"}, {Name: "more", Type: "Utf8"}}})
	l.Add(Definition{URN: "a/B", Arrow: "Struct", Fields: []FieldDef{{Name: "v", Type: "std/math/v1/Vector3"}, {Name: "n", Type: "List<Int16>"}, {Name: "w", Type: "Utf8"}}})
	l.Add(Definition{URN: "a/C", Arrow: "Struct", Fields: []FieldDef{{Name: "v", Type: "Vector3"}}})
	for text, want := range map[string]string{
		"a/A a/B": `field "n" type mismatch: expected List<Int16>, got List<Int8>; missing field "w"`,
		"a/A a/C": "", "a/A std/core/v1/Int8": "", "a/A none": "",
		"std/math/v1/Pose std/math/v1/Transform": `missing field "translation"; missing field "rotation"`,
	} {
		from, to, _ := strings.Cut(text, " ")
		if got := strings.Join(l.Differences(parse(t, from), parse(t, to)), "; "); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for name, want := range map[string]string{"service-server": "request_id", "service-client": "request_id", "action-server": "goal_id goal_status", "action-client": "goal_id", "bogus": ""} {
		if got := strings.Join(PatternKeys(name), " "); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := strings.Join(Patterns(), ", "); got != "service-server, service-client, action-server, action-client" {
		t.Error(got)
	}
}

// TestArrowAsJSON: the shape that other programs read.
func TestArrowAsJSON(t *testing.T) {
	a := Arrow{Name: "Struct", Fields: []Field{{Name: "x", Type: Arrow{Name: "LargeList", Item: &Arrow{Name: "Int8"}}, Nullable: true}, {Name: "y", Type: Arrow{Name: "Utf8"}}}}
	text, err := json.Marshal(a)
	want := `{"name":"Struct","fields":[{"name":"x","type":{"name":"LargeList","item":{"name":"Int8"}},"nullable":true},{"name":"y","type":{"name":"Utf8"}}]}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	var back Arrow
	if err := json.Unmarshal(text, &back); err != nil || !back.Equal(a) {
		t.Errorf("%v, %v", back, err)
	}
	for _, other := range []Arrow{{Name: "Struct"}, {Name: "Int8"}, {Name: "LargeList", Item: &Arrow{Name: "Int8"}}} {
		if a.Equal(other) || other.Equal(a) {
			t.Errorf("%v equals %v", a, other)
		}
	}
}

func FuzzParseURN(f *testing.F) {
	for _, s := range []string{"std/core/v1/Int8", "a[k=v]", "a[k=v,l=w]", "a[", "a[]", "[", "]", "a[=]", "a[k=v]b", "", "a[k= v ]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURN(s)
		if err != nil {
			return
		}
		again, err := ParseURN(u.String())
		if err != nil || again.String() != u.String() || u.Base == "" {
			t.Fatalf("%q is %+v and reads back as %+v, %v", s, u, again, err)
		}
		if !StandardRules().Compatible(u, u) {
			t.Fatalf("%q is not compatible with itself", s)
		}
	})
}

func FuzzResolveExpr(f *testing.F) {
	for _, s := range []string{"Int8", "List<Int8>", "List<List<Vector3>>", "List<", "Vector3", "std/math/v1/Pose", "List<>", "a[k=v]", strings.Repeat("List<", 1000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Standard().ResolveExpr(s)
		var bad *UnresolvedError
		switch {
		case err != nil && (!errors.As(err, &bad) || err.Error() == ""):
			t.Fatalf("%q: %v", s, err)
		case err == nil && a.Name == "":
			t.Fatalf("%q resolves to nothing", s)
		}
	})
}
