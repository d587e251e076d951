// Package journal is the event store: streams of events that are never changed, in a
// Badger store (daemons, the coordinator), in a single file (`dora run`) or in memory
// (tests, simulations), all behind [Store].
//
// Start reading in journal.go (the contract), then writer.go (how appends become one
// write), mark.go (how a lost end is noticed), then the store at hand: badger.go,
// file.go or memory.go. journaltest is the conformance suite that all three pass.
//
// # What is promised
//
//   - Append is all or nothing, also over several streams, and durable when it returns
//     nil: against SIGKILL at any instant always, against power failure unless NoSync.
//     If it returns ErrConflict, ErrNoSpace, ErrInvalid, ErrClosed or the error of the
//     context, nothing was written. After [ErrFailed] the disk itself reported an error;
//     whether the append is there shows the next open.
//   - Sequence numbers of a stream and positions of the journal start at 1 and have no
//     gap. Where retention removed events, a HistorySummarized stands for them.
//   - An open verifies every record and all sequences, and compares with the mark. What
//     was acknowledged and is missing or altered is ErrDamaged with its place, and the
//     journal is not opened. What was not acknowledged may be there or not, whole or not
//     at all.
//   - A journal of a later schema is ErrNewer, one that another process has open is
//     ErrLocked, and both are left as they are.
//   - The last two snapshots of a stream are kept. If one is altered the other is used;
//     a store says so at open (Recovery.Warnings).
//   - Below Reserve bytes of free space only urgent appends are taken. At the end they
//     get the ballast, and then ErrNoSpace.
//   - All methods may be called from any goroutine. Iterations hold no lock while the
//     caller has control and see what is appended meanwhile.
//
// # What is not promised
//
//   - A whole folder or file put back from an older copy looks like what it is: an older,
//     whole journal. Only whoever remembers a higher position can tell.
//   - The mark is synced within a second, not with each append. After a power failure,
//     and only if the store lost its end as well, up to a second of it can go unnoticed.
//   - Bytes that change on the disk while a store is open are found when they are read or
//     at the next open. Badger maps its files: a sector that cannot be read while it is
//     open is a SIGBUS.
//   - A process that fills the disk from above the floor (32 MiB, or Reserve if that is
//     less) to the last byte within the milliseconds of one write or merge can end the
//     process by SIGBUS with Badger. The file store gets an error instead.
//   - File systems without flock, or with one that is local to each host (some NFS), do
//     not keep two owners apart.
//   - Data is not encrypted. Folders have mode 0700, the file of a run that of its folder.
//
// # A write, step by step
//
//	caller    check arguments, measure                            failpoint before-append
//	writer    take all appends that wait, check expected versions
//	          write them as one transaction or one write(2)       failpoint mid-batch
//	          sync
//	          write the mark                                      failpoint after-write
//	          add to the index                                    failpoint after-mark
//	caller    is told                                             failpoint after-ack
//
// The mark is one pwrite of 512 bytes that never waits for the disk. It is why a store
// that lost its end does not look whole: Badger, for one, drops everything behind an
// altered record of its log without a word.
//
// # The folder of a Badger journal
//
//	lock      flock of the owner; holds its pid for people
//	mark      header and two marks, see mark.go
//	ballast   takes up space
//	badger/   Badger's own files
//	rescued/  only after Badger's manifest was torn: what Badger would have deleted
//
// Keys (see badger.go); every value begins with the CRC32C of its key and content:
//
//	g/<pos>             event, see record.go
//	s/<stream> 0 <seq>  snapshot
//	m/format            schema, journal id, time of creation
//	m/head              writes so far, head, epoch, number of snapshots
//
// # The file of a run
//
//	offset  bytes  content
//	0       512    "DORAJRNL", schema, id, creation time; CRC32C at 508
//	512     512    mark 0: writes so far, end, head, epoch, id; CRC32C at 508
//	1024    512    mark 1, likewise
//	1536    9+n    frame: length uint32, kind byte, CRC32C, content; see frame.go
//	...            frames to the end
//
// A frame is an event, an epoch or a snapshot; the highest bit of the kind closes an
// append. Removing old events writes the file anew and renames it. [OpenFileReadOnly]
// reads it beside its writer.
package journal
