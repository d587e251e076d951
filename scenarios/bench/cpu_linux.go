package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// usage is the processor time of one process at one moment.
type usage struct {
	program string
	onCPU   time.Duration
}

// usages reads the processor time of the living processes that carry the mark, by pid.
func usages(mark string) (map[int]usage, error) {
	found, err := strays(markVar + "=" + mark)
	if err != nil {
		return nil, err
	}
	out := map[int]usage{}
	for _, s := range found {
		t, err := onCPU(s.pid)
		if err != nil {
			continue // ended meanwhile
		}
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid))
		out[s.pid] = usage{program: program, onCPU: t}
	}
	return out, nil
}

// onCPU adds up what the scheduler counted for each thread of a process, in nanoseconds
// (the first number in schedstat). /proc/<pid>/stat counts in steps of 10 ms.
func onCPU(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d has no threads", pid)
	}
	var sum time.Duration
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that ended
		}
		first, _, _ := strings.Cut(string(raw), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}
