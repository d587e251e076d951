//go:build !linux

package main

import (
	"errors"
	"time"
)

type usage struct {
	program string
	onCPU   time.Duration
}

func usages(string) (map[int]usage, error) {
	return nil, errors.New("the processor time of a dataflow is read from /proc, which only Linux has")
}
