package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// workshop holds the programs that are measured, and makes them when they are first
// needed.
type workshop struct {
	root   string // of the repository
	tmp    string // private, removed by close
	python string
	// given is a ready program of ours to measure instead of building one.
	given    string
	progress *progress

	oursDora  dora
	zenohDora dora // ours with the Zenoh engine
	realDora  dora
	versions  map[string]string

	dora, zenoh, official, gonode, rust, iceoryx, floor, peers step
}

// step is a preparation that is done once.
type step struct {
	once sync.Once
	err  error
}

func (s *step) do(f func() error) error {
	s.once.Do(func() { s.err = f() })
	return s.err
}

// newWorkshop finds the repository from the working directory. python names the
// interpreter of an environment with dora-rs and dora-rs-cli.
func newWorkshop(ctx context.Context, python, given string, p *progress) (*workshop, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOMOD: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return nil, errors.New("not inside the repository\n  fix: run it from there: go run ./scenarios/bench")
	}
	w := &workshop{root: filepath.Dir(mod), python: python, given: given, progress: p, versions: map[string]string{}}
	if w.python == "" {
		w.python = filepath.Join(w.root, ".venv", "bin", "python")
	}
	if w.tmp, err = os.MkdirTemp("", "dora-bench-"); err != nil {
		return nil, err
	}
	w.oursDora.program = filepath.Join(w.tmp, "bin", "dora")
	w.zenohDora.program = filepath.Join(w.tmp, "bin", "dora-zenoh")
	if given != "" {
		if w.oursDora.program, err = filepath.Abs(given); err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.zenohDora = w.oursDora
	}
	w.realDora.program = filepath.Join(filepath.Dir(w.python), "dora")
	return w, nil
}

func (w *workshop) close() error { return os.RemoveAll(w.tmp) }

// script is the path of one of the Python nodes.
func (w *workshop) script(name string) string {
	return filepath.Join(w.root, "scenarios", "bench", "python", name)
}

func (w *workshop) goNode() string { return filepath.Join(w.tmp, "bin", "gonode") }

// rustTarget is where cargo puts what it builds; shared with everything else in Rust here.
func (w *workshop) rustTarget() string {
	if dir := os.Getenv("CARGO_TARGET_DIR"); dir != "" {
		return dir
	}
	return filepath.Join(w.root, "target")
}

func (w *workshop) rustNode() string {
	return filepath.Join(w.rustTarget(), "release", "dora-bench-node")
}

// environment is what every measured command starts from: this process's, without
// settings of dora and Zenoh, and with the Python environment first.
func (w *workshop) environment() []string {
	bin := filepath.Dir(w.python)
	env := []string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"VIRTUAL_ENV=" + filepath.Dir(bin),
		"PYTHONDONTWRITEBYTECODE=1"} // nothing is written into the source tree
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		switch {
		case strings.HasPrefix(name, "DORA_"), strings.HasPrefix(name, "ZENOH_"), strings.HasPrefix(name, "PYTHON"),
			strings.HasPrefix(name, "BENCH_"), strings.HasPrefix(name, "RUST_"), name == "PATH", name == "VIRTUAL_ENV":
		default:
			env = append(env, setting)
		}
	}
	return env
}

// preparePython needs our program and the official packages.
func (w *workshop) preparePython(ctx context.Context) error {
	if err := w.official.do(func() error { return w.findOfficial(ctx) }); err != nil {
		return err
	}
	return w.dora.do(func() error { return w.buildDora(ctx) })
}

// officialVersion is the release of dora-rs that is the peer.
const officialVersion = "1.1.0"

func (w *workshop) findOfficial(ctx context.Context) error {
	const ask = `import importlib.metadata as m
for p in ("dora-rs", "dora-rs-cli", "pyarrow", "numpy"): print(p, m.version(p))`
	cmd := exec.CommandContext(ctx, w.python, "-c", ask)
	cmd.Env = w.environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s has not all of dora-rs, dora-rs-cli, pyarrow, numpy: %w%s\n"+
			"  fix: run the task `setup`, or set DORA_TEST_PYTHON to the interpreter of an environment with scenarios/requirements.txt",
			w.python, err, quoted(out))
	}
	for line := range strings.Lines(string(out)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		w.versions[name] = version
		if strings.HasPrefix(name, "dora-rs") && version != officialVersion {
			return fmt.Errorf("%s: %s is %s, the limits are for %s", w.python, name, version, officialVersion)
		}
	}
	if _, err := os.Stat(w.realDora.program); err != nil {
		return fmt.Errorf("the real dora: %w\n  fix: install dora-rs-cli==%s beside %s", err, officialVersion, w.python)
	}
	return nil
}

func (w *workshop) buildDora(ctx context.Context) error {
	if w.given != "" {
		return nil
	}
	return w.goBuild(ctx, w.oursDora.program, "./cmd/dora")
}

// prepareZenohDora builds what `task build-zenoh` builds; without a cache that takes
// minutes.
func (w *workshop) prepareZenohDora(ctx context.Context) error {
	return w.zenoh.do(func() error {
		if w.given != "" {
			return nil
		}
		if err := w.cargoBuild(ctx, w.root, "--workspace"); err != nil {
			return err
		}
		flags := "CGO_LDFLAGS=-Wl,--gc-sections -L" + filepath.Join(w.rustTarget(), "release")
		return w.build(ctx, w.root, []string{"CGO_ENABLED=1", flags}, "go", "build", "-tags", "zenoh", "-o", w.zenohDora.program, "./cmd/dora")
	})
}

func (w *workshop) prepareGoNode(ctx context.Context) error {
	return w.gonode.do(func() error {
		return w.goBuild(ctx, w.goNode(), "./scenarios/bench/gonode")
	})
}

// goBuild builds as the README says: without cgo, so that the program is one static file
// (and starts 2 ms faster: no dynamic linker and no C library come to life).
func (w *workshop) goBuild(ctx context.Context, file, pkg string) error {
	return w.build(ctx, w.root, []string{"CGO_ENABLED=0"}, "go", "build", "-o", file, pkg)
}

// prepareRustNode builds the official crate; without a cache that takes minutes.
func (w *workshop) prepareRustNode(ctx context.Context) error {
	return w.rust.do(func() error {
		if err := w.cargoBuild(ctx, w.root, "--workspace"); err != nil {
			return err
		}
		w.versions["dora-node-api"] = officialVersion
		return nil
	})
}

// cargoBuild builds the Rust packages of a folder into the shared target folder.
func (w *workshop) cargoBuild(ctx context.Context, folder string, flags ...string) error {
	if _, err := exec.LookPath("cargo"); err != nil {
		return fmt.Errorf("%w\n  fix: install Rust 1.95 or newer, or leave the rows out with --only", err)
	}
	argv := append([]string{"nice", "cargo", "build", "--release", "--target-dir", w.rustTarget()}, flags...)
	return w.build(ctx, folder, nil, argv...)
}

// build runs a build command with env added to the environment, shows its lines as
// progress, and quotes them if it fails.
func (w *workshop) build(ctx context.Context, dir string, env []string, argv ...string) error {
	w.progress.say("%s", strings.Join(argv, " "))
	what := strings.Join(argv[:2], " ")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	var last []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(read); lines.Scan(); {
			line := strings.TrimSpace(lines.Text())
			w.progress.step("%s: %s", what, line)
			if last = append(last, line); len(last) > 30 {
				last = last[1:]
			}
		}
		_, _ = io.Copy(io.Discard, read) // beyond a line that is too long
	}()
	err := cmd.Run()
	_ = write.Close()
	<-done
	if err != nil {
		return fmt.Errorf("%s: %w\n    | %s", strings.Join(argv, " "), err, strings.Join(last, "\n    | "))
	}
	return nil
}
