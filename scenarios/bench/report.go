package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/load"
)

// reportSchema is raised when a field of the JSON changes its meaning.
const reportSchema = 2

// report is the JSON that is written.
type report struct {
	Schema   int               `json:"schema"`
	When     time.Time         `json:"when"`
	Command  []string          `json:"command"`
	Commit   string            `json:"commit,omitempty"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Rows     []rowResult       `json:"rows"`
	Seconds  float64           `json:"seconds"`
}

// machine says where the figures come from. Load is the one-minute load average before the
// first row: other work on the machine makes every figure larger.
type machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Arch   string  `json:"arch"`
	Kernel string  `json:"kernel"`
	Load   float64 `json:"load1_before"`
}

func newReport(ctx context.Context, root string) report {
	r := report{Schema: reportSchema, When: time.Now().UTC().Truncate(time.Second), Command: os.Args,
		Machine: machine{CPUs: runtime.NumCPU(), Arch: runtime.GOARCH}}
	if infos, err := cpu.InfoWithContext(ctx); err == nil && len(infos) > 0 {
		r.Machine.CPU = infos[0].ModelName
	}
	r.Machine.Kernel, _ = host.KernelVersionWithContext(ctx)
	if avg, err := load.AvgWithContext(ctx); err == nil {
		r.Machine.Load = avg.Load1
	}
	git := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty")
	git.Dir = root
	if out, err := git.Output(); err == nil {
		r.Commit = strings.TrimSpace(string(out))
	}
	return r
}

// write replaces the file at path.
func (r report) write(path string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// failures lists the rows that could not be measured, and, if factor is positive, the
// limits that are exceeded even when multiplied by it.
func (r report) failures(factor float64) []string {
	var out []string
	for _, row := range r.Rows {
		if row.Error != "" {
			out = append(out, fmt.Sprintf("%s could not be measured: %s", row.Name, row.Error))
		}
		for _, c := range row.Comparisons {
			if factor > 0 && !c.tableOnly && c.exceeds(factor) {
				out = append(out, fmt.Sprintf("%s: %s is %s (95 %%: %s), the limit is %s", row.Name, c.what(row.Unit),
					digits(c.Ratio), c.intervalText(), c.limitText(factor)))
			}
		}
	}
	return out
}

// what is compared, in words.
func (c comparisonResult) what(unit string) string {
	if c.Peer == "" {
		return c.Subject
	}
	return c.Subject + " / " + c.peerName(unit)
}

func (c comparisonResult) peerName(unit string) string {
	switch {
	case c.Without != "":
		return c.Peer + ", net"
	case c.Plus > 0:
		return c.Peer + " + " + value(c.Plus, unit)
	}
	return c.Peer
}

func (c comparisonResult) intervalText() string { return digits(c.Low) + " to " + digits(c.High) }

func (c comparisonResult) limitText(factor float64) string {
	switch {
	case c.Limit == 0:
		return ""
	case c.AtLeast:
		return ">= " + digits(c.Limit/factor)
	}
	return "<= " + digits(c.Limit*factor)
}

func (c comparisonResult) verdict() string {
	switch {
	case c.Limit == 0:
		return ""
	case c.Exceeded:
		return "EXCEEDED"
	}
	return "ok"
}

// tableHead names the columns of lines.
var tableHead = []string{"row", "load", "subject", "figure", "peer", "peer's", "ratio", "95 % interval", "limit", "verdict"}

// lines gives the table, one line per comparison; what repeats the line above is empty.
func (r report) lines() [][]string {
	var out [][]string
	for _, row := range r.Rows {
		name, what := row.Name, row.Load
		if row.Error != "" {
			out = append(out, []string{name, what, "", "", "", "", "", "", "", "not measured"})
		}
		for _, c := range row.Comparisons {
			peers := value(c.PeerNet, row.Unit)
			if c.Peer == "" {
				peers = ""
			}
			out = append(out, []string{name, what, c.Subject, value(row.median(c.Subject), row.Unit), c.peerName(row.Unit), peers,
				digits(c.Ratio), c.intervalText(), c.limitText(1), c.verdict()})
			name, what = "", ""
		}
	}
	return out
}

// table prints one line per comparison.
func (r report) table(out io.Writer) {
	printColumns(out, append([][]string{tableHead}, r.lines()...), map[int]bool{3: true, 5: true, 6: true, 8: true})
}

func (r rowResult) median(contender string) float64 {
	for _, c := range r.Contenders {
		if c.Name == contender {
			return c.Median
		}
	}
	return 0
}

// value prints a figure with three digits, in the unit that suits it.
func value(v float64, unit string) string {
	switch {
	case unit == "us" && v >= 1000:
		v, unit = v/1000, "ms"
	case unit == "k/s" && v >= 1000:
		v, unit = v/1000, "M/s"
	}
	return digits(v) + " " + unit
}

// digits prints a positive number with three significant digits and no exponent.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// printColumns aligns cells; columns in right are aligned to the right.
func printColumns(out io.Writer, cells [][]string, right map[int]bool) {
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, line := range cells {
		var b strings.Builder
		for i, c := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if right[i] {
				b.WriteString(pad + c + "  ")
			} else {
				b.WriteString(c + pad + "  ")
			}
		}
		fmt.Fprintln(out, strings.TrimRight(b.String(), " "))
	}
}
