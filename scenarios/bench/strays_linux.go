package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// strays lists the living processes whose environment has the given NAME=value. Zombies
// have no environment and do not count.
func strays(setting string) ([]stray, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes left behind: %w", err)
	}
	var out []stray
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil || !hasSetting(env, setting) {
			continue // gone meanwhile, or somebody else's
		}
		cmdline, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		out = append(out, stray{pid, strings.TrimSpace(string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))})
	}
	return out, nil
}

// hasSetting looks for NAME=value in an environment as the kernel gives it.
func hasSetting(env []byte, setting string) bool {
	for line := range bytes.SplitSeq(env, []byte{0}) {
		if string(line) == setting {
			return true
		}
	}
	return false
}
