package payload

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// samples are one array of every Arrow type, with nulls where the type has them.
var samples = []struct {
	typ  arrow.DataType
	json string
}{
	{arrow.Null, `[null, null]`},
	{arrow.FixedWidthTypes.Boolean, `[true, null, false]`},
	{arrow.PrimitiveTypes.Int8, `[-128, null, 127]`},
	{arrow.PrimitiveTypes.Int16, `[-32768, 1, 32767]`},
	{arrow.PrimitiveTypes.Int32, `[1, null, 3]`},
	{arrow.PrimitiveTypes.Int64, `[9007199254740993, -1]`},
	{arrow.PrimitiveTypes.Uint8, `[0, 255]`},
	{arrow.PrimitiveTypes.Uint16, `[0, 65535, null]`},
	{arrow.PrimitiveTypes.Uint32, `[4294967295]`},
	{arrow.PrimitiveTypes.Uint64, `[18446744073709551615]`},
	{arrow.FixedWidthTypes.Float16, `[1.5, null]`},
	{arrow.PrimitiveTypes.Float32, `[1.5, null, -2.25]`},
	{arrow.PrimitiveTypes.Float64, `[3.141592653589793]`},
	{arrow.BinaryTypes.String, `["", "hello", null, "wörld"]`},
	{arrow.BinaryTypes.LargeString, `["a", null, "bcd"]`},
	{arrow.BinaryTypes.Binary, `["AAEC", null, ""]`},
	{arrow.BinaryTypes.LargeBinary, `["AAEC", null]`},
	{arrow.BinaryTypes.StringView, `["short", null, "longer than twelve bytes"]`},
	{arrow.BinaryTypes.BinaryView, `["AAEC", null, "AAECAwQFBgcICQoLDA0ODw=="]`},
	{&arrow.FixedSizeBinaryType{ByteWidth: 3}, `["AAEC", null]`},
	{&arrow.Decimal32Type{Precision: 5, Scale: 2}, `["123.45", null]`},
	{&arrow.Decimal64Type{Precision: 10, Scale: 2}, `["123.45", null]`},
	{&arrow.Decimal128Type{Precision: 20, Scale: 2}, `["123.45", null]`},
	{&arrow.Decimal256Type{Precision: 40, Scale: 2}, `["123.45", null]`},
	{arrow.FixedWidthTypes.Date32, `[0, null, 19000]`},
	{arrow.FixedWidthTypes.Date64, `[0, 86400000]`},
	{arrow.FixedWidthTypes.Time32s, `["10:11:12"]`},
	{arrow.FixedWidthTypes.Time64ns, `["10:11:12.123456789"]`},
	{&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, `["2026-01-02T03:04:05Z", null]`},
	{arrow.FixedWidthTypes.Duration_us, `[1000, null]`},
	{arrow.FixedWidthTypes.MonthInterval, `[{"months": 3}, null]`},
	{arrow.FixedWidthTypes.DayTimeInterval, `[{"days": 1, "milliseconds": 2}]`},
	{arrow.FixedWidthTypes.MonthDayNanoInterval, `[{"months": 1, "days": 2, "nanoseconds": 3}]`},
	{arrow.ListOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, [], [3]]`},
	{arrow.LargeListOf(arrow.BinaryTypes.String), `[["a"], null, []]`},
	{arrow.ListViewOf(arrow.PrimitiveTypes.Int32), `[[1, 2], null, [3]]`},
	{arrow.LargeListViewOf(arrow.PrimitiveTypes.Int32), `[[1, 2], [3]]`},
	{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32), `[[1, 2], null, [3, 4]]`},
	{arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int32), `[[{"key": "a", "value": 1}], null]`},
	{arrow.StructOf(
		arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		arrow.Field{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	), `[{"x": 1, "name": "a"}, null, {"x": null, "name": "b"}]`},
	{arrow.ListOf(arrow.StructOf(arrow.Field{Name: "y", Type: arrow.ListOf(arrow.PrimitiveTypes.Int8), Nullable: true})),
		`[[{"y": [1]}, {"y": null}], []]`},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `["a", "b", null, "a"]`},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint16, ValueType: arrow.PrimitiveTypes.Int64}, `[5, 7, 5]`},
	{arrow.RunEndEncodedOf(arrow.PrimitiveTypes.Int32, arrow.BinaryTypes.String), `["a", "a", "b"]`},
	{arrow.DenseUnionOf([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, []arrow.UnionTypeCode{0, 5}), `[[0, 1], [5, "x"], [0, 2]]`},
	{arrow.SparseUnionOf([]arrow.Field{
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, []arrow.UnionTypeCode{0, 1}), `[[0, 1], [1, "x"]]`},
}

func sampleArray(t testing.TB, i int) arrow.Array {
	t.Helper()
	arr, _, err := array.FromJSON(memory.NewGoAllocator(), samples[i].typ, strings.NewReader(samples[i].json))
	if err != nil {
		t.Fatalf("build %s: %v", samples[i].typ, err)
	}
	return arr
}

func mustEncode(t testing.TB, arr arrow.Array) []byte {
	t.Helper()
	e, err := Encode(arr)
	if err != nil {
		t.Fatal(err)
	}
	b := e.AppendTo(make([]byte, 0, e.Size()))
	if len(b) != e.Size() {
		t.Fatalf("encoded %d bytes, Size says %d", len(b), e.Size())
	}
	return b
}

func TestRoundTripOfEveryType(t *testing.T) {
	for i, s := range samples {
		t.Run(s.typ.String(), func(t *testing.T) {
			arr := sampleArray(t, i)
			got, err := Decode(mustEncode(t, arr), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !array.Equal(arr, got) {
				t.Errorf("got %v, want %v", got, arr)
			}
			if !arrow.TypeEqual(arr.DataType(), got.DataType(), arrow.CheckMetadata()) {
				t.Errorf("got type %s, want %s", got.DataType(), arr.DataType())
			}
		})
	}
}

// Slices share their parent's buffers; only the slice may travel.
func TestRoundTripOfSlices(t *testing.T) {
	for i, s := range samples {
		t.Run(s.typ.String(), func(t *testing.T) {
			arr := sampleArray(t, i)
			for lo := range arr.Len() {
				for hi := lo; hi <= arr.Len(); hi++ {
					part := array.NewSlice(arr, int64(lo), int64(hi))
					got, err := Decode(mustEncode(t, part), nil)
					if err != nil {
						t.Fatalf("[%d:%d]: %v", lo, hi, err)
					}
					if !array.Equal(part, got) {
						t.Errorf("[%d:%d]: got %v, want %v", lo, hi, got, part)
					}
				}
			}
		})
	}
}

func TestSliceTravelsWithoutItsParent(t *testing.T) {
	b := array.NewInt64Builder(memory.NewGoAllocator())
	b.AppendValues(make([]int64, 100_000), nil)
	part := array.NewSlice(b.NewArray(), 500, 510)
	if n := len(mustEncode(t, part)); n > 1024 {
		t.Errorf("10 values became %d bytes", n)
	}
}

func TestStreamIsAlignedAndSingleColumn(t *testing.T) {
	for i := range samples {
		arr := sampleArray(t, i)
		b := mustEncode(t, arr)
		if (len(b)-8)%alignment != 0 {
			t.Errorf("%s: %d bytes before the end marker", arr.DataType(), len(b)-8)
		}
		s := &stream{rest: b, whole: b, body: memory.NewBufferBytes(b)}
		for {
			m, err := s.Message()
			if err != nil {
				break
			}
			if at := len(b) - len(s.rest) - int(m.BodyLen()); at%alignment != 0 {
				t.Errorf("%s: body at %d", arr.DataType(), at)
			}
		}
		if !s.ended || s.batches != 1 {
			t.Errorf("%s: ended=%v, %d batches", arr.DataType(), s.ended, s.batches)
		}
		r, err := ipc.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if f := r.Schema().Fields(); len(f) != 1 || f[0].Name != "data" || !f[0].Nullable {
			t.Errorf("schema %v", r.Schema())
		}
	}
}

func TestDecodeIsInPlace(t *testing.T) {
	e, err := EncodeBytes(bytes.Repeat([]byte{7}, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	b := e.AppendTo(nil)
	arr, err := Decode(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte{7, 7, 7, 7})] = 9
	if got := arr.(*array.Uint8).Value(0); got != 9 {
		t.Errorf("the array did not follow its bytes: first value %d", got)
	}
}

func TestEncodeRefersToTheArray(t *testing.T) {
	data := make([]byte, 1<<20)
	e, err := EncodeBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range e.Segments() {
		if len(s) == len(data) && &s[0] == &data[0] {
			return
		}
	}
	t.Error("the values were copied")
}

func TestFreeIsCalledOnceAfterTheLastRelease(t *testing.T) {
	for i := range samples {
		arr := sampleArray(t, i)
		freed := 0
		got, err := Decode(mustEncode(t, arr), func() { freed++ })
		if err != nil {
			t.Fatal(err)
		}
		if freed != 0 && arr.DataType().ID() != arrow.NULL {
			t.Errorf("%s: freed while the array lives", arr.DataType())
		}
		part := array.NewSlice(got, 0, 1)
		got.Release()
		part.Release()
		if freed != 1 {
			t.Errorf("%s: freed %d times", arr.DataType(), freed)
		}
	}
	for _, bad := range [][]byte{{}, {1, 2, 3}, mustEncode(t, sampleArray(t, 4))[:300]} {
		freed := 0
		_, err := Decode(bad, func() { freed++ })
		if freed != 1 {
			t.Errorf("%d bytes (%v): freed %d times", len(bad), err, freed)
		}
	}
}

func TestDecodeRefusesDamage(t *testing.T) {
	good := mustEncode(t, sampleArray(t, 4))
	two := append(append([]byte{}, good[:len(good)-8]...), good[lenOfSchema(good):]...)
	cases := map[string]struct {
		data []byte
		want string
	}{
		"cut off":              {good[:len(good)-1], "cut off"},
		"no end marker":        {good[:len(good)-8], "without an end marker"},
		"bytes after the end":  {append(append([]byte{}, good...), 0), "after the end marker"},
		"two batches":          {two, "more than one record batch"},
		"schema only":          {append(append([]byte{}, good[:lenOfSchema(good)]...), endOfStream[:]...), "no record batch"},
		"not a stream":         {[]byte("hello, world, this is text"), "starts with"},
		"end marker only":      {endOfStream[:], ""},
		"huge metadata length": {[]byte{255, 255, 255, 255, 255, 255, 255, 127, 1, 2}, "in a rest of"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			arr, err := Decode(c.data, nil)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v; want an error with %q", arr, err, c.want)
			}
		})
	}
	if _, err := Decode(make([]byte, MaxSize+1), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("oversized: %v", err)
	}
}

func lenOfSchema(b []byte) int {
	return 8 + int(b[4]) + int(b[5])<<8
}

func TestDecodeRefusesCompression(t *testing.T) {
	arr := sampleArray(t, 4)
	schema := arrow.NewSchema([]arrow.Field{{Name: "data", Type: arr.DataType(), Nullable: true}}, nil)
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, ipc.WithSchema(schema), ipc.WithZstd())
	if err := w.Write(array.NewRecordBatch(schema, []arrow.Array{arr}, int64(arr.Len()))); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := Decode(buf.Bytes(), nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("got %v", err)
	}
}

func TestEncodeRefusesNilAndTooLarge(t *testing.T) {
	if _, err := Encode(nil); err == nil {
		t.Error("nil array was encoded")
	}
	if _, err := EncodeBytes(make([]byte, MaxSize)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Single damaged bytes must never panic, and what decodes must be readable.
func TestDecodeSurvivesFlippedBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range samples {
		good := mustEncode(t, sampleArray(t, i))
		for range 300 {
			bad := bytes.Clone(good)
			for range 1 + rng.IntN(3) {
				bad[rng.IntN(len(bad))] ^= byte(1 << rng.IntN(8))
			}
			arr, err := Decode(bad, nil)
			if err != nil {
				refused++
				continue
			}
			walk(arr)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed at all")
	}
}

// walk reads every valid value.
func walk(arr arrow.Array) {
	if arr.DataType().ID() == arrow.NULL || arr.Len() > 1<<16 {
		return
	}
	for i := range arr.Len() {
		if arr.IsValid(i) {
			_ = fmt.Sprint(arr.ValueStr(i))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i := range samples {
		f.Add(mustEncode(f, sampleArray(f, i)))
	}
	f.Add([]byte{})
	f.Add(endOfStream[:])
	f.Fuzz(func(t *testing.T, data []byte) {
		freed := 0
		arr, err := Decode(data, func() { freed++ })
		if err == nil {
			walk(arr)
			again, err := Decode(mustEncode(t, arr), nil)
			if err != nil {
				t.Fatalf("what was decoded cannot be sent on: %v", err)
			}
			again.Release()
			arr.Release()
		}
		if freed != 1 {
			t.Fatalf("freed %d times", freed)
		}
	})
}

func BenchmarkEncode8B(b *testing.B)   { benchEncode(b, 8) }
func BenchmarkEncode1MiB(b *testing.B) { benchEncode(b, 1<<20) }
func BenchmarkDecode8B(b *testing.B)   { benchDecode(b, 8) }
func BenchmarkDecode1MiB(b *testing.B) { benchDecode(b, 1<<20) }

func benchEncode(b *testing.B, n int) {
	data := make([]byte, n)
	dst := make([]byte, 0, n+4096)
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		e, err := EncodeBytes(data)
		if err != nil {
			b.Fatal(err)
		}
		e.AppendTo(dst)
	}
}

func benchDecode(b *testing.B, n int) {
	e, err := EncodeBytes(make([]byte, n))
	if err != nil {
		b.Fatal(err)
	}
	data := e.AppendTo(nil)
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		arr, err := Decode(data, nil)
		if err != nil {
			b.Fatal(err)
		}
		arr.Release()
	}
}
