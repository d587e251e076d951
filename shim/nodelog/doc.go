// Package nodelog takes what a node prints and makes log lines of it: for the node's file,
// for whoever watches, and for the dataflow itself.
//
// What it guarantees:
//
//   - Pipes are always drained. A line of any length costs at most MaxLine bytes; a file
//     that cannot be written costs lines, which are counted and told in the file as soon as
//     it can be written again; a stalled disk holds a node up for at most a quarter of a
//     second, once.
//   - Lines of one stream keep their order everywhere; lines of both streams have one order
//     per node.
//   - Whatever bytes come, a line's text is valid UTF-8 (invalid bytes become U+FFFD).
//   - The file is <dir>/log_<node>.jsonl, appended to across restarts, one JSON object per
//     line with the keys ts (RFC 3339, milliseconds, UTC), level, node, stream, msg, target
//     and fields. With a size limit it is rotated to log_<node>.1.jsonl and so on. Such files
//     know how many lines came before them, so that a reader can count what it missed.
//   - The order of lines of several nodes survives a clock that is set back: see Clock. A
//     file that is removed or renamed while it is written is begun anew within a second.
//   - Plain lines that nobody listens to are copied from the pipe's buffer into the form of
//     the file, with one time and one lock for each read; ReadLine reads that form again.
//
// A line that is a JSON object with a level and a message is a structured one: as dora nodes
// print it, as Rust's tracing does, as the Python wheel prints `logging` records, or as
// Go's slog and zap do. Every other line has the level "stdout", on stderr too.
//
// Start reading at Collector.
package nodelog
