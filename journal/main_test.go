package journal_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// children are what the test binary does instead of testing when it is started as a
// child of a test, by the name in the environment.
var children = map[string]func() error{}

const childKey = "JOURNAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childKey); name != "" {
		if err := children[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// An attempt to open Badger that fails, as happens after kills, leaves these behind.
	// A store that nobody closed would leave others, too.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"),
		goleak.IgnoreAnyFunction("github.com/dgraph-io/badger/v4.(*DB).updateSize"),
		goleak.IgnoreAnyFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"),
	)
}
