package main

import "os"

func main() {
	// The guard and the shim are this same binary; they start without the command tree.
	if handled, code := runShimIfAsked(os.Args[1:]); handled {
		os.Exit(code)
	}
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}
