// Package release replaces the running program by a newer one from a release source, a
// folder or an http(s) address with these files:
//
//	release.json       version, and per platform the name of a file and its SHA-256
//	release.json.sig   the Ed25519 signature of release.json, in base64
//	<file>             the program of one platform
//
// What it guarantees: nothing is installed whose signature or checksum is wrong, that does
// not start, or that says another version of itself. The program is replaced by one rename,
// so that there is always a whole one under its name; the one before is kept beside it as
// <name>.previous until the new one has answered, and comes back if it does not.
//
// Start reading at Open and Install.
package release
