// Package zenoh sends and receives on keys of the network engine Zenoh, which is built into
// the official nodes of dora 1.1.0. On one machine, large payloads stay in memory that
// sender and receiver share.
//
// The engine is Zenoh itself (a crate of Rust), behind a small C interface: the crate in
// engine/, which `task setup-zenoh` builds into target/release. It is linked with the
// build tag zenoh, for which cgo is needed (`task build-zenoh`). Without the tag, or with
// CGO_ENABLED=0, Built is false and everything that needs the engine fails with ErrAbsent.
//
// What it guarantees:
//
//   - Sessions listen and connect where they are told, and look for nobody: no multicast,
//     no gossip.
//   - A panic of the engine becomes an error, and one in a callback ends nothing.
//   - A Publisher loses nothing; it waits where a peer does not take what was sent. A
//     Sample tells whether its payload came through shared memory.
//   - A payload may lie in a file that somebody else made (PutPlace). It is not read here
//     then, and Pool.Returned tells when its last reader let it go.
//   - Closing a Subscription waits for its callback; no call comes later. Nothing here
//     calls back into Go from Put, as no session subscribes to what it publishes.
//
// The version of Zenoh is that of the official nodes (1.10): shared memory does not work
// across versions, silently.
package zenoh
