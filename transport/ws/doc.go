// Package ws is the control plane on the wire: JSON text frames over WebSocket, between
// the command line, the coordinator, daemons and third parties.
//
// What it guarantees:
//
//   - The first frame of every client is a request with the method "hello"; a protocol
//     version that differs is refused with a text that names both.
//   - A frame is at most MaxMessage bytes; a server keeps at most MaxConnections.
//   - Every request is answered by exactly one response with its id: a result, or an
//     Error with a stable code, a message and a fix.
//   - A browser page cannot use it: a request with a foreign Origin is refused.
//   - A server with a token refuses everything but /health without it; tokens are
//     compared in constant time.
//
// `dora run` serves it on a Unix socket (file mode 0600, no token), a coordinator on
// TCP port 6013. Start reading at protocol.go.
package ws
