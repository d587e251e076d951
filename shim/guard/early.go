package guard

import (
	"os"
	"slices"
)

// This file takes part in the start of every process of the binary, while its packages
// are being initialised. Go does that in the order of their dependencies, and, where that
// leaves a choice, of their names. This package needs nothing but the lowest ones, so what
// is done here is done before the rest of the binary (stores, actors, codecs, command
// tree) has come to life; TestGuardStaysLean keeps it so.
//
// A process that is to be a guard never gets further: the rest would be most of the time
// and memory that its start costs, and the guard lives as long as the robot and only
// waits.
//
// A process that is to run a dataflow starts guard and shim first, so that they come to
// life on another core while it does itself. Such a pair (see Pair) does not know yet what
// it is for, and has touched nothing: the journal learns of a shim before the shim does.
func init() {
	switch {
	case len(os.Args) >= 3 && os.Args[1] == Args[0] && os.Args[2] == Args[1]:
		os.Exit(Run(ownFile(), []string{"dora", "shim", "serve"}, slices.Contains(os.Args[3:], argNoCgroup)))
	case len(os.Args) >= 3 && os.Args[1] == "run":
		ahead, _ = Start(StartOptions{}) // if that fails, it fails again when it matters
	}
}

// Args are the first arguments of a process that is to be a guard.
var Args = [2]string{"shim", "guard"}

const argNoCgroup = "--no-cgroup"

// ahead is the pair that init started.
var ahead *Pair

// TakeAhead returns the pair that was started ahead by a command that needs one, once;
// nil if there is none.
func TakeAhead() *Pair {
	p := ahead
	ahead = nil
	return p
}

// DropAhead ends the pair that was started ahead, if nobody has taken it.
func DropAhead() {
	if p := TakeAhead(); p != nil {
		p.Drop()
	}
}

// ownFile is this process's own program, even if its path leads to a newer one by now.
func ownFile() string {
	if _, err := os.Lstat("/proc/self/exe"); err == nil {
		return "/proc/self/exe"
	}
	if path, err := os.Executable(); err == nil {
		return path
	}
	return os.Args[0]
}

// say prints to the file that the daemon shows when a shim is lost or does not come up.
func say(text string) { os.Stderr.WriteString("guard: " + text + "\n") }
