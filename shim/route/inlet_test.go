package route

import (
	"bytes"
	"testing"
)

// The first block of a stream is found in whatever a node sends.
func FuzzSchemaOfAMessage(f *testing.F) {
	f.Add(textPayload("text"))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x80})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		n := schemaLength(stream)
		if n < 0 || n > len(stream) {
			t.Fatalf("%d of %d bytes", n, len(stream))
		}
		var s schemaMemory
		full, ok := s.complete(stream, nil)
		if !ok || !bytes.Equal(full, stream) || len(s.block) != n {
			t.Fatalf("a stream in full was changed: %v, %d bytes of %d, schema %d of %d", ok, len(full), len(stream), len(s.block), n)
		}
	})
}
