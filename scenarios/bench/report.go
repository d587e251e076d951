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
const reportSchema = 1

// report is the JSON that is written.
type report struct {
	Schema   int               `json:"schema"`
	When     time.Time         `json:"when"`
	Command  []string          `json:"command"`
	Commit   string            `json:"commit,omitempty"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Rows     []rowResult       `json:"rows"`
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
			if factor > 0 && c.Limit > 0 && c.Low > c.Limit*factor {
				out = append(out, fmt.Sprintf("%s: %s / %s is %s (95 %%: %s to %s), the limit is %s", row.Name, c.Subject,
					c.peerName(), ratioText(c.Ratio), ratioText(c.Low), ratioText(c.High), ratioText(c.Limit*factor)))
			}
		}
	}
	return out
}

func (c comparisonResult) peerName() string {
	if c.Without != "" {
		return c.Peer + ", net"
	}
	return c.Peer
}

// table prints one line per comparison.
func (r report) table(out io.Writer) {
	cells := [][]string{{"row", "load", "ours", "peer", "peer's", "ratio", "95 % interval", "limit", "verdict"}}
	for _, row := range r.Rows {
		name, what := row.Name, row.Load
		if row.Error != "" {
			cells = append(cells, []string{name, what, "", "", "", "", "", "", "not measured"})
		}
		for _, c := range row.Comparisons {
			verdict, limit := "", ""
			if c.Limit > 0 {
				verdict, limit = "ok", ratioText(c.Limit)
				if c.Exceeded {
					verdict = "EXCEEDED"
				}
			}
			cells = append(cells, []string{name, what, value(row.median(c.Subject), row.Unit), c.peerName(), value(c.PeerNet, row.Unit),
				ratioText(c.Ratio), ratioText(c.Low) + " to " + ratioText(c.High), limit, verdict})
			name, what = "", ""
		}
	}
	printColumns(out, cells, map[int]bool{2: true, 4: true, 5: true, 7: true})
}

func (r rowResult) median(contender string) float64 {
	for _, c := range r.Contenders {
		if c.Name == contender {
			return c.Median
		}
	}
	return 0
}

// value prints a duration given in us or ms with three digits, in the unit that suits it.
func value(v float64, unit string) string {
	if unit == "us" && v >= 1000 {
		v, unit = v/1000, "ms"
	}
	return digits(v) + " " + unit
}

func ratioText(v float64) string { return digits(v) }

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
