package release

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// answerPatience is what a program gets to say its version.
const answerPatience = 20 * time.Second

// Names beside the program while it is replaced.
const (
	newSuffix      = ".new"
	previousSuffix = ".previous"
)

// Install replaces the program by that of the release. The error says whether anything
// was changed.
func (s *Source) Install(ctx context.Context, program string) error {
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real // links to it stay
	}
	tmp, previous := program+newSuffix, program+previousSuffix
	_ = os.Remove(tmp) // of an update that was killed
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return fmt.Errorf("the program cannot be replaced: %w\n  fix: run it as a user who may write into %s", err, filepath.Dir(program))
	}
	defer os.Remove(tmp)
	err = s.fetch(ctx, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if info, err := os.Stat(program); err == nil {
		if err := os.Chmod(tmp, info.Mode().Perm()|0o100); err != nil {
			return err
		}
	}
	if err := s.answers(ctx, tmp); err != nil {
		return fmt.Errorf("the new program is not used: %w; nothing was changed", err)
	}
	if err := os.Remove(previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(program, previous); err != nil {
		return fmt.Errorf("the program cannot be kept as %s: %w; nothing was changed", previous, err)
	}
	if err := os.Rename(tmp, program); err != nil {
		_ = os.Remove(previous)
		return err
	}
	if err := s.answers(ctx, program); err != nil {
		if back := os.Rename(previous, program); back != nil {
			return fmt.Errorf("the new program does not work in its place: %w, and the one before could not be put back: %w\n  fix: mv %s %s", err, back, previous, program)
		}
		return fmt.Errorf("the new program does not work in its place: %w; the one before is back", err)
	}
	return os.Remove(previous)
}

// answers asks a program for its version.
func (s *Source) answers(ctx context.Context, program string) error {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return fmt.Errorf("`%s --version`: %w", filepath.Base(program), err)
	}
	if words := strings.Fields(string(out)); len(words) < 2 || words[0] != "dora" || words[1] != s.Manifest.Version {
		return fmt.Errorf("it says %q, not dora %s", strings.TrimSpace(string(out)), s.Manifest.Version)
	}
	return nil
}
