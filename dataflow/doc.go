// Package dataflow reads dataflow descriptors: the YAML files that say which nodes
// there are, how they are wired and what to do when one of them fails.
//
// What it guarantees:
//
//   - Functions are pure: text in, model and findings out. Only Load (reads the file,
//     its modules and the types beside it), LoadTypes, CheckModule and CheckPaths (looks
//     for executables) touch the file system; nothing reads the environment or the clock.
//   - All findings of a file are reported at once, in the order of the text, each
//     with file, line, column, a stable code and, where there is one, the fix.
//   - Any input ends in a result or in an error, in bounded time and memory: files
//     above MaxFileSize are refused unread, nesting and alias expansion are bounded
//     before the parser sees them, and a panic below Parse becomes a finding.
//   - A Descriptor that comes with no errors is complete: defaults are filled in,
//     sizes are bytes, times are durations, every input's source exists.
//
// Start reading at model.go (what a descriptor is) and parse.go (how it comes to be):
// checks of the text (text.go), text to tokens (lex.go, place.go), tokens to a tree of
// values with places (yaml.go, block.go, flow.go, scalar.go), values to the model
// (check.go has the means; descriptor.go, node.go, source.go, input.go, ports.go,
// operator.go, ros2.go, envsection.go the keys), modules to nodes (module.go, expand.go,
// inherit.go; flat.go writes the result), then checks that need the whole model
// (wiring.go, cycles.go, typecheck.go). Types of the project are read by typefiles.go
// and typedef.go; what is known of them is package types. Findings are in diagnostic.go, their codes in codes.go.
//
// schema.go describes the same keys to editors. The grammars of durations, sizes, arguments and environment values (duration.go,
// size.go, args.go, env.go) are exported: the command line uses the same.
package dataflow
