package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// plot is a bar chart of rows that measure the same at different sizes.
type plot struct {
	file, title string
	rows        string // pattern of their names
	logarithmic bool
}

// plots are the pictures of docs/performance.md.
var plots = []plot{
	{"latency.svg", "One-way latency, 300 messages per second (logarithmic; shorter is better)", "paced-*", true},
	{"roundtrip.svg", "Round trip / 2 with an answer of 8 B (logarithmic; shorter is better)", "rtt-*B", true},
	{"rate.svg", "What gets through without pauses, in GB/s (longer is better)", "stream-*iB", false},
	{"fanout.svg", "64 KiB to 1, 4 and 16 receivers, the median one (logarithmic; shorter is better)", "fanout-*", true},
}

// Measures of the drawing, in pixels.
const (
	plotWidth  = 880
	plotLeft   = 200 // where bars begin
	plotRight  = 90  // room for the figure behind the longest bar
	barHeight  = 14
	barGap     = 3
	groupGap   = 16
	plotHeader = 40
)

// colours are distinct for people with any colour vision (Okabe and Ito, 2008); ours are
// the two dark ones.
var colours = map[string]string{
	ours: "#0072b2", oursLoan: "#004c78", realDora: "#d55e00", realBig: "#e69f00", realInPlace: "#f0c987",
	iceEvent: "#009e73", icePoll: "#66c2a5", unixSocket: "#999999", natsPeer: "#cc79a7",
}

const otherColour = "#bbbbbb"

// writePlots draws what was measured into the folder and returns the files it wrote.
func (r report) writePlots(folder string) ([]string, error) {
	var written []string
	for _, p := range plots {
		rows, err := p.pick(r.Rows)
		if err != nil {
			return written, err
		}
		if len(rows) == 0 {
			continue
		}
		file := filepath.Join(folder, p.file)
		if err := os.WriteFile(file, []byte(p.draw(rows)), 0o644); err != nil {
			return written, err
		}
		written = append(written, file)
	}
	return written, nil
}

func (p plot) pick(rows []rowResult) ([]rowResult, error) {
	var out []rowResult
	for _, row := range rows {
		ok, err := filepath.Match(p.rows, row.Name)
		if err != nil {
			return nil, fmt.Errorf("plot %s: %w", p.file, err)
		}
		if ok && row.Error == "" {
			out = append(out, row)
		}
	}
	return out, nil
}

// draw makes the SVG: one group of bars for each row.
func (p plot) draw(rows []rowResult) string {
	low, high := math.Inf(1), 0.0
	for _, row := range rows {
		for _, c := range row.Contenders {
			low, high = min(low, c.Median), max(high, c.Median)
		}
	}
	length := func(v float64) float64 { return v / high }
	if p.logarithmic {
		low /= 2 // so that the shortest bar can be seen
		length = func(v float64) float64 { return math.Log(v/low) / math.Log(high/low) }
	}
	var b strings.Builder
	y := plotHeader
	for _, row := range rows {
		y += groupGap
		fmt.Fprintf(&b, `<text x="8" y="%d" class="group">%s</text>`+"\n", y+barHeight-3, html.EscapeString(row.Name[strings.IndexByte(row.Name, '-')+1:]))
		for _, c := range row.Contenders {
			colour, known := colours[c.Name]
			if !known {
				colour = otherColour
			}
			width := max(1, length(c.Median)*(plotWidth-plotLeft-plotRight))
			fmt.Fprintf(&b, `<text x="%d" y="%d" class="name">%s</text>`+"\n", plotLeft-6, y+barHeight-3, html.EscapeString(c.Name))
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", plotLeft, y, width, barHeight, colour)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`+"\n", plotLeft+width+5, y+barHeight-3, html.EscapeString(value(c.Median, row.Unit)))
			y += barHeight + barGap
		}
	}
	y += groupGap
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%[3]s">
<style>text{font:11px sans-serif;fill:#333}.title{font-size:15px;font-weight:bold}.group{font-size:13px;font-weight:bold}.name{text-anchor:end}</style>
<rect width="%[1]d" height="%[2]d" fill="#fff"/>
<text x="8" y="26" class="title">%[3]s</text>
%[4]s</svg>
`, plotWidth, y, html.EscapeString(p.title), b.String())
}
