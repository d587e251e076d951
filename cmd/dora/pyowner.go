package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pyPackage is an installed Python package that a program belongs to.
type pyPackage struct {
	name   string
	prefix string // of the environment: <prefix>/bin/python
	by     string // what installed it: "pip", "uv", ...
	tool   bool   // by `uv tool install`, in an environment of its own
}

// owningPackage finds the package that installed a program, by the record that installers
// keep (https://packaging.python.org/en/latest/specifications/recording-installed-packages);
// nil if there is none.
func owningPackage(program string) *pyPackage {
	if real, err := filepath.EvalSymlinks(program); err == nil {
		program = real
	}
	prefix := filepath.Dir(filepath.Dir(program))
	records, _ := filepath.Glob(filepath.Join(prefix, "lib", "python*", "*-packages", "*.dist-info", "RECORD"))
	for _, record := range records {
		if !lists(record, program) {
			continue
		}
		info := filepath.Dir(record)
		p := &pyPackage{name: metadataName(info), prefix: prefix}
		if p.name == "" {
			continue
		}
		by, _ := os.ReadFile(filepath.Join(info, "INSTALLER"))
		p.by = strings.TrimSpace(string(by))
		_, err := os.Stat(filepath.Join(prefix, "uv-receipt.toml"))
		p.tool = err == nil
		return p
	}
	return nil
}

// lists says whether a RECORD has the program among its files, whose paths are relative to
// the folder of the packages, or absolute.
func lists(record, program string) bool {
	f, err := os.Open(record)
	if err != nil {
		return false
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	for {
		row, err := r.Read()
		if err != nil {
			return false
		}
		file := row[0]
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(filepath.Dir(record)), file)
		}
		if real, err := filepath.EvalSymlinks(file); err == nil && real == program {
			return true
		}
	}
}

// metadataName is the name in the METADATA of a package.
func metadataName(info string) string {
	f, err := os.Open(filepath.Join(info, "METADATA"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan() && s.Text() != ""; {
		if name, ok := strings.CutPrefix(s.Text(), "Name:"); ok {
			return strings.TrimSpace(name)
		}
	}
	return ""
}

// command is what installs ("install", "--upgrade") or removes ("uninstall") the package.
func (p *pyPackage) command(words ...string) []string {
	python := filepath.Join(p.prefix, "bin", "python")
	switch {
	case p.tool && words[0] == "install":
		return []string{"uv", "tool", "upgrade", p.name}
	case p.tool:
		return append(append([]string{"uv", "tool"}, words...), p.name)
	case p.by == "uv":
		return append(append([]string{"uv", "pip"}, words...), "--python", python, p.name)
	}
	cmd := append([]string{python, "-m", "pip"}, words...)
	if words[0] == "uninstall" {
		cmd = append(cmd, "--yes")
	}
	return append(cmd, p.name)
}

// uninstall has the package removed by what installed it.
func (p *pyPackage) uninstall(ctx context.Context) error {
	words := p.command("uninstall")
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("package %s: `%s`: %w\n%s", p.name, strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
