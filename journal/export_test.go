package journal

import "github.com/dgraph-io/badger/v4"

// SealBlock gives a changed block a valid checksum.
func SealBlock(b []byte) { sealBlock(b) }

// BadgerOptions are the options of the Badger store, for comparing with plain Badger.
func BadgerOptions(dir string) badger.Options {
	return badgerOptions(dir, OpenOptions{}.withDefaults(-1, -1))
}
