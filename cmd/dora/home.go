package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// doraHome is the folder of everything that outlives a command: DORA_HOME, else
// ~/.dora. It is created with mode 0700.
func doraHome() (string, error) {
	home := os.Getenv("DORA_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no home folder: %w\n  fix: set DORA_HOME to a folder of yours", err)
		}
		home = filepath.Join(user, ".dora")
	}
	home, err := filepath.Abs(home)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fmt.Errorf("state folder: %w\n  fix: make %s writable, or set DORA_HOME to a folder that is", err, home)
	}
	return home, nil
}
