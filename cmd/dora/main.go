package main

import (
	"os"

	"github.com/dora-go/dora/shim"
	"github.com/dora-go/dora/shim/guard"
)

func main() {
	// The guard and the shim are this same binary; they start without the command tree.
	if handled, code := shim.Main(os.Args[1:]); handled {
		os.Exit(code)
	}
	code := execute(os.Args[1:], os.Stdout, os.Stderr)
	guard.DropAhead()
	os.Exit(code)
}
