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
	goleak.VerifyTestMain(m)
}
