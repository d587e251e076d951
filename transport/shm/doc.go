// Package shm moves messages between processes of one machine through shared memory: no
// broker, no copy on the way, no system call while the receiver is awake.
//
// # Parts
//
//   - A Supervisor, in the process that runs the nodes, makes the edges, hands them out
//     over a control socket (protocol.go) and repairs what killed processes leave behind.
//   - An Endpoint is a node's end of that socket. Its Writer sends on outputs, its Reader
//     receives from all inputs. The supervisor's own process may have endpoints too.
//   - An edge leads from one output to one input, for one incarnation of each. It is a
//     ring of descriptors with room for 4 KiB inline, and a ring of tokens back.
//   - Longer payloads lie in the producer's arena: slots of 8 KiB, 16 KiB, ... 1 GiB. A
//     message to many inputs is one slot and many descriptors.
//   - A bell is what a node sleeps on: one for all its inputs. The sender to a single
//     receiver that sleeps rings before it makes a short message, and when the last 256 KiB
//     of a long one are to be copied (Writer.Rouse), because waking a processor takes longer.
//     The receiver of regular messages wakes by itself before they come (pace.go).
//
// # What it guarantees
//
//   - A process may be killed at any instruction. Its neighbours get everything that it
//     had published, then the end of the edge; the slots that it held come back; nobody
//     waits for ever. Nothing is left behind: the memory has no name, and goes with the
//     last process that has it open. (Where a consumer gave some a name, that goes with the
//     supervisor; if this is killed, who asked for the name has to remove it.)
//   - Order within an edge. With Backpressure nothing is lost; with DropOldest
//     received + Dropped + Withheld is what was sent, and Seq shows where the gaps are.
//   - An input that gets a restarted producer first reads the old edge to its end.
//   - A process that scribbles over an edge, does not release, or stops, harms the edges
//     it is part of, and it is named: in errors, in Trouble, in EdgeStats. It is not a
//     border of security: processes of one user can always harm each other, and a
//     producer can change a payload while it is being read.
//   - Idle memory goes back to the system (Writer.Trim).
//
// Crash safety rests on one rule: every shared word has one writer, except tail, which
// moves by compare-and-swap only, and the bell. Who owns a slot is known to the
// producer alone, in private memory.
//
// # Edge
//
// One memfd, little endian, mapped for writing by its producer and its consumer, sealed
// against resizing. "Header" words are for readers of a dump: both ends use what they
// were told over the control socket.
//
//	offset  type  writer      name            meaning
//	0       u32   supervisor  magic           "dshm", stored last
//	4       u32   supervisor  version         of this layout
//	8       u32   supervisor  entries         ring entries, a power of two above cap
//	12      u32   supervisor  stride          bytes per entry
//	16      u32   supervisor  cap             messages that may be queued
//	20      u32   supervisor  policy          0 drop_oldest, 1 backpressure
//	24      u32   supervisor  inlinemax       bytes of payload and metadata in an entry
//	28      u32   supervisor  release         release ring entries, a power of two
//	32      u64   supervisor  edge            id
//	40      u64   supervisor  releasering     offset of the release ring
//	128     u64   producer    head            entries written
//	136     u64   producer    dropped         messages dropped
//	144     u64   producer    withheld        messages not queued: the consumer holds too much
//	152     u64   producer    heldbytes       bytes of slots that the edge holds
//	160     u32   producer    heldslots       slots that the edge holds
//	168     u64   producer    flushed         entries before this one are obsolete, unless protected
//	176     u64   producer    newest          the sender's timestamp of the newest message
//	256     u64   both, CAS   tail            entries read or dropped
//	384     u64   consumer    releasehead     tokens written
//	392     u64   consumer    received        entries claimed
//	512     u32   producer    want            ring my bell: 1 at every read and release, 2 when there is room
//	640     u32   supervisor  producerstate   0 live, 1 gone
//	704     u32   supervisor  consumerstate   0 live, 1 gone
//	4096    -     producer    ring            entry i at 4096 + (i mod entries) * stride
//
// The release ring follows at the next multiple of 4096: token i, a u64, at
// releasering + (i mod release) * 8.
//
// # Entry
//
//	offset  type  name        meaning
//	0       u32   len         bytes of payload
//	4       u32   flags       1 inline, 2 arena, 4 end, 8 metadata in the slot, 16 protected
//	8       u32   segment     id of the arena segment
//	12      u32   slot        the producer's name for the slot
//	16      u64   offset      of the payload in the segment, a multiple of 64
//	24      u32   generation  counts the uses of the slot
//	28      u32   metalen     bytes of metadata
//	32      u64   time        the sender's timestamp
//	40      u64   seq         counts the messages meant for this edge
//	64      -     bytes       inline: payload, metadata; arena: metadata, unless in the slot
//
// Metadata in the slot begins at the first multiple of 64 behind the payload. A token
// is generation << 32 | slot; the producer ignores it unless this edge holds that slot
// in that generation.
//
// # Bell
//
// One memfd of 4096 bytes, sealed like an edge, mapped by the node and its neighbours.
//
//	offset  type  name   meaning
//	64      u32   sleep  rings << 1 | somebody sleeps; for messages
//	128     u32   room   the same, for room in queues and slots that came back
//
// # Segment
//
// A memfd without structure, sealed against resizing and, after the producer has mapped
// it, against every further writable mapping. Consumers map it read-only, when the first
// message names it.
//
// Exportable segments are for consumers that hand payloads on to processes which know shared
// memory by name (Route.Export). Such a consumer is an endpoint of the supervisor's process and
// the only receiver of its output. A segment of this kind is a file in /dev/shm without a name
// (O_TMPFILE), whose memory is all taken when it is made; the supervisor gives it its name when
// a consumer asks for one (Export.Link) and takes it away when the segment is retired. It
// cannot be sealed, so its producer can cut it off under those who read it. That is why the
// supervisor hands it to no other process, and why nobody in its own process reads it by
// loads: Message.ReadExport fails where a load would end the process (SIGBUS), and the edge is
// broken then, as others are. Processes that opened the file by its name have no such guard.
//
//   - Payloads of 64 KiB to 4 MiB lie there, at multiples of 128; metadata is in the entry.
//   - A segment has at most 8 MiB and a producer at most 16 MiB of them, or what Route.Export
//     says; beyond that, messages take ordinary segments, and nobody waits.
//   - They stay as long as the producer has an edge of this kind: whoever has mapped them by
//     name may keep that for ever. When the last payload there is released after their end,
//     their memory goes back to the system all the same (a hole in the file).
//
// A writer in the supervisor's process may also name memory that somebody else made
// (Writer.Lend), which is not sealed: a message that lies there is not copied, and its owner
// hears when it is back. Who got such a message may pass it on where it lies (Writer.Pass) to
// endpoints of the supervisor's process that hand payloads on: they get it as exportable memory,
// and keep it from its owner for as long as they have it.
//
// # Where to start reading
//
// writer.go and publish.go (sending), reader.go and claim.go (receiving), bell.go (sleeping and
// waking), export.go (memory that gets a name), lend.go and pass.go (memory of others), then
// member.go (what the supervisor does when somebody dies). On systems other than Linux everything
// compiles and NewSupervisor and Dial return ErrUnsupported.
package shm
