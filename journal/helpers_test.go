package journal_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dora-go/dora/journal"
)

func folder(t testing.TB, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// kinds are the stores on a disk, with what makes tests quick: no large ballast.
var kinds = map[string]func(dir string) (*journal.Journal, error){
	"file": func(dir string) (*journal.Journal, error) {
		return journal.OpenFile(filepath.Join(dir, journal.RunFileName), journal.OpenOptions{})
	},
	"badger": func(dir string) (*journal.Journal, error) {
		return journal.OpenBadger(dir, journal.OpenOptions{Ballast: -1})
	},
}

// child starts this test binary as one of the children. It ends when the test does, or
// the test binary: the child waits for the end of its standard input.
func child(t testing.TB, name string, env ...string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self)
	cmd.Env = append(append(os.Environ(), childKey+"="+name), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(stdout)
}

// endWithParent is for children.
func endWithParent() {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
}

// testContext is the context of children, which have no testing.T.
var testContext = context.Background()
