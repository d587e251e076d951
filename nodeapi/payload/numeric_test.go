package payload

import (
	"bytes"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// numbers returns an array of n values of a type, with every byte its own value.
func numbers(typ arrow.DataType, n int) arrow.Array {
	b := make([]byte, n*typ.(arrow.FixedWidthDataType).Bytes())
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	d := array.NewData(typ, n, []*memory.Buffer{nil, memory.NewBufferBytes(b)}, nil, 0, 0)
	defer d.Release()
	return array.MakeFromData(d)
}

// The short way and the general one write the same bytes and read the same arrays.
func TestNumbersTakeTheShortWay(t *testing.T) {
	found := 0
	for _, f := range forms().byType {
		if f == nil {
			continue
		}
		found++
		var e Encoded
		for _, n := range []int{1, 2, 7, 8, 63, 64, 65, 1000, 100_000} {
			arr := numbers(f.typ, n)
			want, err := encode(arr)
			if err != nil {
				t.Fatal(err)
			}
			if err := EncodeInto(&e, arr); err != nil {
				t.Fatal(err)
			}
			got := e.AppendTo(nil)
			if !bytes.Equal(got, want.AppendTo(nil)) || e.Size() != len(got) {
				t.Fatalf("%d x %s: the short way writes other bytes than the general one", n, f.typ)
			}
			freed := 0
			back := decodeNumeric(got, &Owner{To: returnFunc(func() { freed++ })})
			if back == nil {
				t.Fatalf("%d x %s does not take the short way back", n, f.typ)
			}
			if !array.Equal(arr, back) {
				t.Fatalf("%d x %s came back as %v", n, f.typ, back)
			}
			back.Release()
			if freed != 1 {
				t.Fatalf("freed %d times", freed)
			}
			if n < 10 {
				continue
			}
			part := array.NewSlice(arr, 3, 9)
			if err := EncodeInto(&e, part); err != nil {
				t.Fatal(err)
			}
			if back, err := Decode(e.AppendTo(nil), nil); err != nil || !array.Equal(part, back) {
				t.Fatalf("a slice of %s came back as %v (%v)", f.typ, back, err)
			}
		}
	}
	if found != 11 {
		t.Fatalf("%d forms, want 11", found)
	}
}

// What is damaged does not take the short way to more than the general one accepts.
func TestDamagedNumbers(t *testing.T) {
	var e Encoded
	arr := numbers(arrow.PrimitiveTypes.Int32, 5)
	if err := EncodeInto(&e, arr); err != nil {
		t.Fatal(err)
	}
	good := e.AppendTo(nil)
	for i := range good {
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] = v
			short := decodeNumeric(bad, nil)
			if short == nil {
				continue
			}
			general, err := decode(bad, nil)
			if err != nil {
				t.Fatalf("byte %d = %#x: the short way accepts what is refused: %v", i, v, err)
			}
			if !array.Equal(short, general) {
				t.Fatalf("byte %d = %#x: %v and %v", i, v, short, general)
			}
		}
	}
	for n := range good {
		if decodeNumeric(good[:n], nil) != nil {
			t.Fatalf("a stream cut after %d bytes is accepted", n)
		}
	}
}

// A decoder that knows the last message's shape reads every next message as the function
// does, whatever it is, and is not fooled by one that resembles the last.
func TestDecoderReadsWhatDecodeReads(t *testing.T) {
	var d Decoder
	var streams [][]byte
	add := func(arr arrow.Array) {
		var e Encoded
		if err := EncodeInto(&e, arr); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, e.AppendTo(nil))
	}
	for _, n := range []int{5, 5, 6, 64, 5} {
		add(numbers(arrow.PrimitiveTypes.Int32, n))
		add(numbers(arrow.PrimitiveTypes.Uint8, 4*n))
	}
	words := array.NewStringBuilder(memory.DefaultAllocator)
	words.Append("neither")
	add(words.NewArray())
	streams = append(streams, withBitmap(t), withBitmap(t))
	add(numbers(arrow.PrimitiveTypes.Int32, 5))
	good := streams[len(streams)-1]
	for i := range good { // same length, one byte wrong
		bad := bytes.Clone(good)
		bad[i] ^= 0x41
		streams = append(streams, bad, good)
	}
	for i, data := range streams {
		want, wantErr := Decode(data, nil)
		freed := 0
		got, err := d.Decode(data, &Owner{To: returnFunc(func() { freed++ })})
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("stream %d: %v instead of %v", i, err, wantErr)
		}
		if err == nil {
			if !array.Equal(got, want) || !arrow.TypeEqual(got.DataType(), want.DataType()) {
				t.Fatalf("stream %d: %v instead of %v", i, got, want)
			}
			if freed != 0 {
				t.Fatalf("stream %d: given back before it was released", i)
			}
			got.Release()
		}
		if freed != 1 {
			t.Fatalf("stream %d: given back %d times", i, freed)
		}
	}
}

// withBitmap is a stream as official nodes write it: with a validity bitmap, though nothing
// is missing.
func withBitmap(t *testing.T) []byte {
	b := array.NewInt32Builder(memory.DefaultAllocator)
	b.AppendValues([]int32{1, 2, 3}, []bool{true, false, true})
	e, err := Encode(b.NewArray())
	if err != nil {
		t.Fatal(err)
	}
	data := e.AppendTo(nil)
	nulls := data[forms().byType[arrow.INT32].node+8:]
	if nulls[0] != 1 {
		t.Fatalf("%d values are missing there, not 1", nulls[0])
	}
	nulls[0] = 0
	return data
}

func TestDecoderRemembersStreamsOfOthers(t *testing.T) {
	var d Decoder
	data := withBitmap(t)
	for range 2 {
		got, err := d.Decode(data, nil)
		if err != nil || got.NullN() != 0 || got.Len() != 3 || got.(*array.Int32).Value(2) != 3 {
			t.Fatalf("%v, %v", got, err)
		}
		if d.size != len(data) {
			t.Fatal("it is not remembered")
		}
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = d.Decode(data, nil) }); n > 8 {
		t.Fatalf("%v allocations for a stream that is like the one before", n)
	}
	forgotten, err := d.Decode(data[:len(data)-1], nil)
	if err == nil {
		t.Fatalf("a stream cut short is read as %v", forgotten)
	}
}
