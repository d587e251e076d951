package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nativeLimit is how long a program that measures without dora may take.
const nativeLimit = 2 * time.Minute

// native measures with a program that prints times in nanoseconds, one per line, and gives
// them in microseconds.
func (w *workshop) native(argv ...string) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		times, err := w.nativeTimes(ctx, argv)
		if err != nil {
			return sample{}, err
		}
		for i := range times {
			times[i] /= 1e3
		}
		return sampleOf(times), nil
	}
}

// nativeRate measures with a program that prints how many nanoseconds it took to move size
// bytes, one per line, and gives GB/s.
func (w *workshop) nativeRate(size int, argv ...string) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		times, err := w.nativeTimes(ctx, argv)
		if err != nil {
			return sample{}, err
		}
		for i := range times {
			times[i] = float64(size) / times[i]
		}
		return sampleOf(times), nil
	}
}

// nativeTimes runs the program in a process group with a mark of its own, ends what it
// leaves behind, and returns what it printed.
func (w *workshop) nativeTimes(ctx context.Context, argv []string) ([]float64, error) {
	ctx, free := context.WithTimeout(ctx, nativeLimit)
	defer free()
	r := &run{mark: rand.Text()}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = w.tmp
	cmd.Env = append(w.environment(), markVar+"="+r.mark, "TMPDIR="+w.tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours to pass on
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w%s", strings.Join(argv, " "), err, quoted(said.Bytes()))
	}
	if err := errors.Join(err, r.endStrays(strayGrace)); err != nil {
		return nil, err
	}
	return parseTimes(argv[0], out)
}

func parseTimes(program string, out []byte) ([]float64, error) {
	var times []float64
	for line := range strings.FieldsSeq(string(out)) {
		ns, err := strconv.ParseInt(line, 10, 64)
		if err != nil || ns <= 0 {
			return nil, fmt.Errorf("%s printed %q; times in nanoseconds were expected", program, line)
		}
		times = append(times, float64(ns))
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("%s printed no times", program)
	}
	return times, nil
}

func (w *workshop) floorProgram() string { return filepath.Join(w.tmp, "bin", "floor") }
func (w *workshop) peerProgram() string  { return filepath.Join(w.tmp, "bin", "peers") }
func (w *workshop) iceoryxProgram() string {
	return filepath.Join(w.rustTarget(), "release", "iceoryx-bench-peer")
}

// prepareFloor builds the C program.
func (w *workshop) prepareFloor(ctx context.Context) error {
	return w.floor.do(func() error {
		if _, err := exec.LookPath("cc"); err != nil {
			return fmt.Errorf("%w\n  fix: install a C compiler (gcc), or leave the rows out with --only", err)
		}
		if err := os.MkdirAll(filepath.Dir(w.floorProgram()), 0o700); err != nil {
			return err
		}
		source := filepath.Join(w.root, "scenarios", "bench", "floor", "floor.c")
		return w.build(ctx, w.root, nil, "cc", "-O2", "-o", w.floorProgram(), source)
	})
}

// preparePeers builds the Unix socket and NATS, which are a module of their own.
func (w *workshop) preparePeers(ctx context.Context) error {
	return w.peers.do(func() error {
		dir := filepath.Join(w.root, "scenarios", "bench", "peers")
		err := w.build(ctx, dir, []string{"CGO_ENABLED=0"}, "go", "build", "-o", w.peerProgram(), ".")
		if err != nil {
			return err
		}
		list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", "github.com/nats-io/nats-server/v2")
		list.Dir = dir
		out, err := list.Output()
		if err != nil {
			return fmt.Errorf("the version of the NATS server: %w", err)
		}
		w.versions["nats-server"] = strings.TrimSpace(string(out))
		return nil
	})
}

// iceoryxVersion is what iceoryx/Cargo.toml asks for.
const iceoryxVersion = "0.10.0"

func (w *workshop) prepareIceoryx(ctx context.Context) error {
	return w.iceoryx.do(func() error {
		if err := w.cargoBuild(ctx, filepath.Join(w.root, "scenarios", "bench", "iceoryx")); err != nil {
			return err
		}
		w.versions["iceoryx2"] = iceoryxVersion
		return nil
	})
}

// all joins preparations.
func all(steps ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, step := range steps {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}
