package payload

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// golden are the arrays that testdata/capture/send.py sends, as the official Python
// node of dora 1.1.0 puts them on the wire.
var golden = map[string]struct {
	typ  arrow.DataType
	json string
}{
	"null":              {arrow.Null, `[null, null, null]`},
	"bool":              {arrow.FixedWidthTypes.Boolean, `[true, null, false]`},
	"int8":              {arrow.PrimitiveTypes.Int8, `[-128, null, 127]`},
	"int16":             {arrow.PrimitiveTypes.Int16, `[-32768, 32767]`},
	"int32":             {arrow.PrimitiveTypes.Int32, `[1, null, 3]`},
	"int64":             {arrow.PrimitiveTypes.Int64, `[1, 2, 3]`},
	"uint8":             {arrow.PrimitiveTypes.Uint8, `[0, 255]`},
	"uint16":            {arrow.PrimitiveTypes.Uint16, `[0, 65535]`},
	"uint32":            {arrow.PrimitiveTypes.Uint32, `[4294967295]`},
	"uint64":            {arrow.PrimitiveTypes.Uint64, `[18446744073709551615]`},
	"float16":           {arrow.FixedWidthTypes.Float16, `[1.5, null]`},
	"float32":           {arrow.PrimitiveTypes.Float32, `[1.5, null, -2.25]`},
	"float64":           {arrow.PrimitiveTypes.Float64, `[3.141592653589793]`},
	"utf8":              {arrow.BinaryTypes.String, `["", "hello", null, "wörld"]`},
	"large_utf8":        {arrow.BinaryTypes.LargeString, `["a", null, "bcd"]`},
	"binary":            {arrow.BinaryTypes.Binary, `["AAEC", null, ""]`},
	"large_binary":      {arrow.BinaryTypes.LargeBinary, `["AAEC", null]`},
	"fixed_size_binary": {&arrow.FixedSizeBinaryType{ByteWidth: 3}, `["YWJj", null]`},
	"utf8_view":         {arrow.BinaryTypes.StringView, `["short", null, "longer than twelve bytes"]`},
	"decimal128":        {&arrow.Decimal128Type{Precision: 20, Scale: 2}, `["123.45", null]`},
	"date32":            {arrow.FixedWidthTypes.Date32, `["2026-01-02", null]`},
	"time64":            {arrow.FixedWidthTypes.Time64us, `["01:02:03.000004"]`},
	"timestamp":         {&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, `["2026-01-02T03:04:05.000006Z", null]`},
	"duration":          {arrow.FixedWidthTypes.Duration_us, `[1000]`},
	"list":              {arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, [], [3]]`},
	"large_list":        {arrow.LargeListOf(arrow.BinaryTypes.String), `[["a"], null, []]`},
	"fixed_size_list":   {arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), `[[1, 2], null, [3, 4]]`},
	"map":               {arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), `[[{"key": "a", "value": 1}], null]`},
	"struct": {arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		arrow.Field{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	), `[{"x": 1, "name": "a"}, null, {"x": null, "name": "b"}]`},
	"dictionary": {&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}, `["a", "b", null, "a"]`},
	"dense_union": {arrow.DenseUnionOf([]arrow.Field{
		{Name: "0", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "1", Type: arrow.BinaryTypes.String, Nullable: true},
	}, []arrow.UnionTypeCode{0, 1}), `[[0, 1], [1, "x"], [0, 2]]`},
	"sparse_union": {arrow.SparseUnionOf([]arrow.Field{
		{Name: "0", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "1", Type: arrow.BinaryTypes.String, Nullable: true},
	}, []arrow.UnionTypeCode{0, 1}), `[[0, 1], [1, "x"]]`},
	"sliced": {arrow.PrimitiveTypes.Int64, `[50, 51, 52]`},
	"empty":  {arrow.PrimitiveTypes.Float32, `[]`},
	"matrix": {arrow.ListOf(arrow.PrimitiveTypes.Float64), `[[1, 2], [3]]`},
}

func TestDecodeWhatOfficialNodesSend(t *testing.T) {
	files, err := filepath.Glob("testdata/*.arrows")
	if err != nil || len(files) != len(golden) {
		t.Fatalf("%d golden files, want %d (%v)", len(files), len(golden), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".arrows")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, _, err := array.FromJSON(memory.NewGoAllocator(), golden[name].typ, strings.NewReader(golden[name].json))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(data, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !equalLogically(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if !arrow.TypeEqual(got.DataType(), want.DataType()) {
				t.Errorf("got type %s, want %s", got.DataType(), want.DataType())
			}
			// What we send for the same array is laid out as theirs: blocks of 64 bytes.
			ours := mustEncode(t, got)
			if len(ours)%alignment != len(data)%alignment {
				t.Errorf("our message has %d bytes, theirs %d", len(ours), len(data))
			}
		})
	}
}

// equalLogically compares values; null slots of a dense union's children, which Go's
// reader of JSON lays out in another way, do not matter.
func equalLogically(a, b arrow.Array) bool {
	if a.Len() != b.Len() {
		return false
	}
	for i := range a.Len() {
		if a.ValueStr(i) != b.ValueStr(i) || a.IsNull(i) != b.IsNull(i) {
			return false
		}
	}
	return true
}

func FuzzDecodeFromOfficial(f *testing.F) {
	files, err := filepath.Glob("testdata/*.arrows")
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		if arr, err := Decode(data, nil); err == nil {
			walk(arr)
		}
	})
}
