// Package payload turns Arrow arrays into the bytes that dora messages carry,
// and back.
//
// A message's payload is one Arrow IPC stream with one nullable column named
// "data" and exactly one record batch, the form that dora 1.1.0 nodes in Rust,
// Python, C and C++ send and expect:
//
//	[schema message] [dictionary messages]... [record batch message] [end marker]
//
// Every message block and every body buffer starts at a multiple of 64 bytes
// from the start of the stream, so a receiver whose buffer is aligned can use
// the values where they lie.
//
// # Guarantees
//
//   - Encoding copies each value at most once, into the place the caller names
//     ([Encoded.AppendTo]), or not at all ([Encoded.Segments], for writev).
//   - Decoding copies nothing: the array points into the bytes it was given.
//   - No input makes the decoder panic, or allocate more than a small multiple
//     of the input's size. An array that was decoded without an error can be
//     walked to its last value without a panic: offsets, indices, type codes and
//     run ends were checked. UTF-8 validity of strings is not checked.
//   - Compressed bodies and big-endian data are refused with an error; dora nodes
//     do not send them.
//
// Start reading at [Encode] and [Decode].
package payload
