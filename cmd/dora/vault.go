package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// fileVault keeps the environments of dataflows that are not over, one file of mode 0600
// each: they may hold passwords, which no journal is to keep.
type fileVault struct{ dir string }

func newFileVault(dir string) (*fileVault, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for environments: %w", err)
	}
	return &fileVault{dir: dir}, nil
}

func (v *fileVault) path(uuid string) string { return filepath.Join(v.dir, filepath.Base(uuid)) }

// Keep implements actors.Vault.
func (v *fileVault) Keep(uuid string, env []string) error {
	raw, err := json.Marshal(env)
	if err != nil {
		return err
	}
	tmp := v.path(uuid) + ".new"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, v.path(uuid))
}

// Open implements actors.Vault.
func (v *fileVault) Open(uuid string) ([]string, error) {
	raw, err := os.ReadFile(v.path(uuid))
	if err != nil {
		return nil, err
	}
	var env []string
	if err := json.Unmarshal(raw, &env); err != nil {
		return nil, fmt.Errorf("%s: %w", v.path(uuid), err)
	}
	return env, nil
}

// Forget implements actors.Vault.
func (v *fileVault) Forget(uuid string) error {
	if err := os.Remove(v.path(uuid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
