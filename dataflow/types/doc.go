// Package types is the library of data types that dataflows annotate their inputs and
// outputs with: names (URNs such as std/media/v1/Image), the Arrow types behind them,
// which type may flow into which, and the metadata keys that communication patterns
// need.
//
// What it guarantees:
//
//   - Functions are pure and bounded: nothing reads files, the environment or the
//     clock; resolution stops at MaxDepth levels, widening at MaxHops rules.
//   - Arrow types are plain data (Arrow), without the Arrow library: they cost nothing
//     at start and travel as JSON.
//   - A Library is safe for concurrent readers once it is filled.
//
// The 27 standard types are in standard.go. Types of a project are added by package
// dataflow, which reads their files and knows their places.
package types
