// Package link is the language between a daemon and a shim: one Unix socket per
// shim, commands and plans down, facts and log lines up.
//
// What it guarantees:
//
//   - A frame is a 4-byte little-endian length and one JSON document of at most
//     MaxFrame bytes. A longer or malformed frame ends the connection with an
//     error; it is never skipped.
//   - Fields that a reader does not know are ignored, so that an older shim works
//     under a newer daemon. What a shim can do is said by Hello.Capabilities, never
//     guessed from its version.
//   - Facts are numbered by the shim from 1 without a gap. A fact is written to the
//     shim's facts.log before it is sent, is sent again after every reconnect until
//     it is acknowledged, and is acknowledged only when the daemon made it durable.
//     So every fact arrives at least once and in order.
//   - Log lines are not facts. They may be dropped when the reader is slow; the
//     number dropped is then told by LogGap. The log files have every line.
//
// Start reading at Command (down) and Message (up). Only actors/ (the daemon's side),
// shim/ and cmd/dora import this package.
package link
