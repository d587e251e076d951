// Package factlog is facts.log: what happened in a shim and was not acknowledged yet.
//
// What it guarantees:
//
//   - Append returns when the fact is in the file (one write, no buffer of ours), so it
//     survives the death of the shim and of the daemon in any combination. It is not
//     synced: after a loss of power the machine has another boot, and no node lives.
//   - Sequence numbers start at 1 and have no gap, across acknowledgement and across a
//     shim that takes over an older file.
//   - A torn or damaged tail is cut off when the file is opened; what is before it counts.
//   - If the file cannot be written (disk full), facts are kept in memory, are sent all
//     the same, and are written as soon as a later write succeeds.
//
// Format: records of
//
//	length  uint32 little-endian, of kind and body
//	crc     uint32 little-endian, CRC-32C of kind and body
//	kind    1 byte: 'F' fact (body: JSON of link.Fact), 'A' acknowledged (body: sequence
//	        number as uint64 little-endian; every fact up to it is done)
//
// A file begins with an 'A' record. Start reading at Open.
package factlog
