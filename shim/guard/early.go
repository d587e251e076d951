package guard

import "os"

// A guard takes the process over while the packages of the binary are being initialised.
// Go does that in the order of their dependencies, and, where that leaves a choice, of
// their names. This package needs nothing but the lowest ones, so the guard runs, and has
// started the shim, before the rest of the binary (stores, actors, codecs, command tree)
// has come to life. That is most of the time and memory a start costs, and the guard lives
// as long as the robot and only waits. TestGuardStaysLean keeps it so.
func init() {
	if len(os.Args) < 3 || os.Args[1] != Args[0] || os.Args[2] != Args[1] {
		return
	}
	cfg, err := FromEnvironment()
	if err != nil {
		say(err.Error())
		os.Exit(2)
	}
	os.Exit(Run(cfg, ownFile(), []string{"dora", "shim", "serve", cfg.Dataflow}))
}

// Args are the first arguments of a process that is to be a guard.
var Args = [2]string{"shim", "guard"}

// ownFile is this process's own program, even if its path leads to a newer one by now.
func ownFile() string {
	if _, err := os.Lstat("/proc/self/exe"); err == nil {
		return "/proc/self/exe"
	}
	return os.Args[0]
}

// say prints to the file that the daemon shows when a shim is lost or does not come up.
func say(text string) { os.Stderr.WriteString("guard: " + text + "\n") }
