package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What lies between these lines of docs/performance.md is written by the benchmark.
const (
	measuredBegin = "<!-- measured: written by `task bench`, do not edit -->"
	measuredEnd   = "<!-- end of what was measured -->"
)

// publish draws the plots into the folder and puts the table into its performance.md.
func (r report) publish(folder string) error {
	file := filepath.Join(folder, "performance.md")
	page, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("publish the result: %w", err)
	}
	before, rest, ok := bytes.Cut(page, []byte(measuredBegin+"\n"))
	_, after, closed := bytes.Cut(rest, []byte(measuredEnd+"\n"))
	if !ok || !closed {
		return fmt.Errorf("publish the result: %s has not the lines\n    %s\n    %s", file, measuredBegin, measuredEnd)
	}
	drawn, err := r.writePlots(folder)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(measuredBegin + "\n\n" + r.markdown(drawn) + "\n" + measuredEnd + "\n")
	b.Write(after)
	return os.WriteFile(file, b.Bytes(), 0o644)
}

func (r report) markdown(drawn []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, commit %s, %s; %d CPUs (%s, %s), Linux %s, load average %.1f before the first row. The whole run took %v.\n\n",
		r.When.Format("2006-01-02 15:04 MST"), r.Commit, r.versionsText(), r.Machine.CPUs, r.Machine.CPU, r.Machine.Arch,
		r.Machine.Kernel, r.Machine.Load, (time.Duration(r.Seconds) * time.Second).Round(time.Second))
	writeMarkdownRow(&b, tableHead)
	writeMarkdownRow(&b, slices.Repeat([]string{"---"}, len(tableHead)))
	for _, line := range r.lines() {
		if v := len(line) - 1; line[v] == "EXCEEDED" {
			line[v] = "**exceeded**"
		}
		writeMarkdownRow(&b, line)
	}
	for _, row := range r.Rows {
		if row.Error != "" {
			fmt.Fprintf(&b, "\n`%s` could not be measured.\n", row.Name)
		}
	}
	for _, file := range drawn {
		for _, p := range plots {
			if p.file == filepath.Base(file) {
				fmt.Fprintf(&b, "\n![%s](%s)\n", p.title, p.file)
			}
		}
	}
	return b.String()
}

func (r report) versionsText() string {
	var out []string
	for name, version := range r.Versions {
		out = append(out, name+" "+version)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func writeMarkdownRow(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
