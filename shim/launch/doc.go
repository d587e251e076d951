// Package launch is the daemon's way to a shim: starting one, finding those that live, and
// knowing at once when one is gone.
//
// What it guarantees:
//
//   - Launch returns when the shim listens and has introduced itself, or with an error
//     that says what the guard or the shim printed. Nothing is polled on the way.
//   - Handle.Lost is closed when the shim's lock is free, whoever started it, and after
//     what the shim had started is gone as far as it can be found.
//   - A Handle made with ParentPipe ends its shim by ending itself, however that happens.
//
// Launch and Find are the two entries; start reading there.
package launch
