// Package nodewire is the dora 1.x node protocol on the wire: how a node and the
// process that runs it talk over TCP. It serves both ends. The server end decodes
// requests and encodes replies and events; the client end does the reverse.
//
// What it guarantees:
//
//   - A frame is a 64-bit little-endian length and a body of at most MaxFrame bytes. A
//     longer one is refused before memory is spent on it, and the buffer of a long body
//     grows only as its bytes arrive.
//   - A body is consumed to its last byte or it is an error. Decoders never panic, never
//     allocate more than a small multiple of the bytes they were given, and accept only
//     what an official node accepts: valid UTF-8, known tags, bounded integers, a
//     non-zero clock id. So bytes that passed DecodeRequest may be forwarded to another
//     node as they are.
//   - Message is such a view: the metadata and payload of a SendMessage, forwarded into
//     an Input event without re-encoding. It aliases the frame it came from; Buffer
//     counts who still reads that frame.
//   - Clock is compatible with the hybrid logical clock of dora nodes (64-bit NTP time,
//     four counter bits).
//
// The encoding is postcard (https://postcard.jamesmunns.com/wire-format): positional,
// little-endian base-128 integers, no field names. Field and variant order are therefore
// the protocol; they are written down at RequestKind, ReplyKind, EventKind and Parameter.
//
// Start reading at request.go (what a node says), then event.go (what it is told),
// frame.go (connections) and config.go (how a node learns where to connect).
package nodewire
