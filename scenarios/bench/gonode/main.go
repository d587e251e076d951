// Command gonode is the Go node of the start-to-end row: it registers and exits at once.
// Before it exits it leaves a file named after its node id in BENCH_OUT, so that the
// benchmark knows that it was really there.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dora-go/dora/nodeapi"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		return err
	}
	mark := filepath.Join(os.Getenv("BENCH_OUT"), node.ID())
	if err := os.WriteFile(mark, []byte("registered\n"), 0o600); err != nil {
		_ = node.Close()
		return err
	}
	return node.Close()
}
