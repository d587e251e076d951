package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

func main() {
	docs := flag.String("docs", "", "put the table into fault-tolerance.md of this `folder` instead of printing it")
	only := flag.String("only", "", "play only the `row` of this name")
	peer := flag.String("peer", "", "the `program` dora 1.1.0 (default: the one beside $DORA_TEST_PYTHON)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := compare(ctx, *docs, *only, *peer)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// compare plays the rows under both and writes the page.
func compare(ctx context.Context, docs, only, peer string) error {
	python := os.Getenv("DORA_TEST_PYTHON")
	if python == "" {
		return fmt.Errorf("DORA_TEST_PYTHON is not set: run `task setup`, then DORA_TEST_PYTHON=$PWD/.venv/bin/python")
	}
	if peer == "" {
		peer = filepath.Join(filepath.Dir(python), "dora")
	}
	base, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	bin := filepath.Join(base, "bin")
	if err := buildInto(bin); err != nil {
		return err
	}
	seen := map[string]map[string]outcome{}
	for _, side := range []struct{ name, program string }{{"here", filepath.Join(bin, "dora")}, {"1.1.0", peer}} {
		env, err := privateEnv(filepath.Join(base, side.name), python)
		if err != nil {
			return err
		}
		s, err := newStage(side.program, filepath.Join(bin, "testnode"), filepath.Join(base, side.name), env)
		if err != nil {
			return err
		}
		if seen[side.name], err = s.playAll(ctx, only, false); err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
	}
	return publish(docs, page(seen["here"], seen["1.1.0"]))
}

// buildInto builds dora and testnode.
func buildInto(bin string) error {
	for name, pkg := range map[string]string{"dora": "cmd/dora", "testnode": "scenarios/testnode"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), "github.com/dora-go/dora/"+pkg).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

// privateEnv is the environment of an installation of its own.
func privateEnv(dir, python string) ([]string, error) {
	for _, sub := range []string{"home", "run"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return append(os.Environ(), "HOME="+filepath.Join(dir, "home"), "DORA_HOME="+filepath.Join(dir, "home", ".dora"),
		"XDG_RUNTIME_DIR="+filepath.Join(dir, "run"), "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"),
		"DORA_COORDINATOR_PORT="+port, "DORA_AUTH_TOKEN=", "NO_COLOR=1"), nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// together is how many rows are played at once; they mostly wait.
const together = 6

// playAll plays the rows (all, or one) and gives their outcomes by name.
func (s *stage) playAll(ctx context.Context, only string, goOnly bool) (map[string]outcome, error) {
	if _, err := s.run(ctx, "up"); err != nil {
		return nil, err
	}
	defer func() { _, _ = s.run(context.WithoutCancel(ctx), "down") }()
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		out  = map[string]outcome{}
		fail bool
		gate = make(chan struct{}, together)
	)
	for _, r := range rows() {
		if only != "" && r.name != only {
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			gate <- struct{}{}
			defer func() { <-gate }()
			f := &flow{stage: s, row: r, name: r.name, goOnly: goOnly}
			o, err := f.play(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", r.name, err)
			}
			fail = fail || err != nil && o.told == nil
			out[r.name] = o
		}()
	}
	wg.Wait()
	if fail {
		return out, errFailed
	}
	return out, ctx.Err()
}

const (
	beginMark = "<!-- begin: go run ./scenarios/faults --docs docs -->"
	endMark   = "<!-- end -->"
)

// page is the comparison in Markdown.
func page(here, there map[string]outcome) string {
	var b strings.Builder
	cell := func(l []string) string { return strings.Join(l, ", ") }
	for _, r := range rows() {
		a, ok := here[r.name]
		c, ok2 := there[r.name]
		if !ok || !ok2 {
			continue
		}
		fmt.Fprintf(&b, "**%s%s**\n\n| | here | dora 1.1.0 |\n|---|---|---|\n", strings.ToUpper(r.cause[:1]), r.cause[1:])
		for _, node := range []string{pythonConsumer, goConsumer} {
			fmt.Fprintf(&b, "| %s is told | %s | %s |\n", node, cell(a.told[node]), cell(c.told[node]))
		}
		fmt.Fprintf(&b, "| processes of the producer | %d | %d |\n| `dora list` at the end | %s | %s |\n\n", a.lives, c.lives, a.status, c.status)
	}
	return b.String()
}

// publish puts the text between the marks of the page, or prints it.
func publish(docs, text string) error {
	if docs == "" {
		fmt.Print(text)
		return nil
	}
	path := filepath.Join(docs, "fault-tolerance.md")
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, ok := bytes.Cut(raw, []byte(beginMark))
	_, tail, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no marks %q and %q to write between", path, beginMark, endMark)
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s%s\n\n%s%s%s", head, beginMark, text, endMark, tail), 0o644)
}
