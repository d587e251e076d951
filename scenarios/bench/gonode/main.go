// Command gonode is the Go node of the benchmark. BENCH_ROLE says what it does:
//
//	(unset)       registers and exits; before, it leaves a file named after its node id
//	send          sends on `data`, one message every BENCH_EVERY_US, BENCH_COUNT of them; with 0
//	              as fast as it can, for BENCH_MILLIS. With an input `ack` one at a time. It
//	              leaves the times right before each send
//	receive       leaves when each message arrived; with BENCH_EVERY_US=0 how many arrived in
//	              which time, after BENCH_WARM_MILLIS. It reads every cache line
//	ping, echo    round trips, the answer has 8 bytes
//	relay         passes every message on unchanged, with its parameters
//	idle          stays connected for BENCH_MILLIS without sending
//
// BENCH_HOW=loan builds the payload in shared memory, ends writes its ends there alone, fresh
// relays an array of its own instead of what was received.
// BENCH_READ=ends has a receiver look at the ends of a message alone. BENCH_WAIT=awake has a
// receiver wait without sleeping. What it leaves is `<node id>.json` in BENCH_OUT. Times are
// nanoseconds of CLOCK_MONOTONIC.
// rust/src/flow.rs is the same for the real dora.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dora-go/dora/nodeapi"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	role := os.Getenv("BENCH_ROLE")
	if role == "" {
		return registerAndExit()
	}
	s, err := settingsFromEnv(role)
	if err != nil {
		return err
	}
	b, err := newBench(s)
	if err != nil {
		return err
	}
	result, err := b.play(role)
	if err != nil {
		return errors.Join(err, b.node.Close())
	}
	file := filepath.Join(os.Getenv("BENCH_OUT"), b.node.ID()+".json")
	return errors.Join(b.node.Close(), leave(file, result))
}

func registerAndExit() error {
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

// settings are the BENCH_ variables. Times are nanoseconds.
type settings struct {
	size, count         int
	every, length, warm int64
	loan, ends, acked   bool
	glance              bool // at the ends of what is received
	awake               bool // while it waits
	fresh               bool // what is relayed is an array of its own
}

func settingsFromEnv(role string) (settings, error) {
	var failed error
	number := func(name string, unit int64) int64 {
		v, err := strconv.ParseInt(os.Getenv(name), 10, 64)
		if err != nil || v < 0 {
			failed = errors.Join(failed, fmt.Errorf("%s=%q: a number from 0 is needed", name, os.Getenv(name)))
		}
		return v * unit
	}
	how := os.Getenv("BENCH_HOW")
	s := settings{loan: how == "loan" || how == "ends", ends: how == "ends", acked: os.Getenv("BENCH_ACKED") == "1",
		glance: os.Getenv("BENCH_READ") == "ends", awake: os.Getenv("BENCH_WAIT") == "awake", fresh: how == "fresh"}
	if role == "relay" {
		return s, nil
	}
	s.size = int(number("BENCH_BYTES", 1))
	s.count = int(number("BENCH_COUNT", 1))
	s.every = number("BENCH_EVERY_US", 1000)
	s.length = number("BENCH_MILLIS", 1e6)
	s.warm = number("BENCH_WARM_MILLIS", 1e6)
	if s.size < 8 || s.size%8 != 0 {
		failed = errors.Join(failed, fmt.Errorf("BENCH_BYTES=%d: a multiple of 8 is needed", s.size))
	}
	return s, failed
}

// leave writes the result so that nobody sees half of it.
func leave(file string, result any) error {
	raw, err := json.Marshal(result)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".partial", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".partial", file)
}
