package main

import (
	"context"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// measuredReport is a report of rows with the figures, as if they had been measured.
func measuredReport(t *testing.T) report {
	t.Helper()
	var ran []string
	make := func(name, unit string, c comparison, a, b float64) row {
		return row{name: name, load: "a <load>", unit: unit, prepare: ready, comparisons: []comparison{c}, contenders: func() []contender {
			return []contender{scripted(ours, &ran, a, a), scripted(realDora, &ran, b, b)}
		}}
	}
	var rep report
	for _, r := range []row{
		make("paced-8B", "us", comparison{subject: ours, peer: realDora, limit: 0.5}, 10, 100),
		make("paced-1MiB", "us", comparison{subject: ours, peer: realDora, limit: 0.5}, 90, 2000),
		make("stream-1MiB", "GB/s", comparison{subject: ours, peer: realDora, limit: 1.5, atLeast: true}, 4, 8),
	} {
		rep.Rows = append(rep.Rows, measureRow(context.Background(), r, 2, quiet(t)))
	}
	rep.Versions = map[string]string{"dora-rs": officialVersion}
	return rep
}

func TestPublishingReplacesWhatWasMeasuredAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	if err := os.WriteFile(file, []byte("before\n"+measuredBegin+"\nold\n"+measuredEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rep := measuredReport(t)
	for range 2 { // what it wrote, it can replace
		if err := rep.publish(dir); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	if !strings.HasPrefix(page, "before\n"+measuredBegin) || !strings.HasSuffix(page, measuredEnd+"\nafter\n") || strings.Contains(page, "old") {
		t.Errorf("page:\n%s", page)
	}
	if !containsAll(page, "| paced-1MiB |", "2.00 ms", "0.100", "**exceeded**", ">= 1.50", "(latency.svg)", "(rate.svg)", "dora-rs 1.1.0") {
		t.Errorf("page:\n%s", page)
	}
	if strings.Contains(page, "fanout.svg") {
		t.Error("a plot without rows is shown")
	}
	if err := os.WriteFile(file, []byte("no lines\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rep.publish(dir); err == nil || !containsAll(err.Error(), file, measuredBegin) {
		t.Errorf("without the lines: %v", err)
	}
}

func TestPlotsAreDrawnToScale(t *testing.T) {
	rep := measuredReport(t)
	rows, err := plots[0].pick(rep.Rows)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	svg := plots[0].draw(rows)
	widths := map[string]string{}
	var last string
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
		element, ok := token.(xml.StartElement)
		if !ok || element.Name.Local != "rect" {
			continue
		}
		for _, a := range element.Attr {
			if a.Name.Local == "width" {
				last = a.Value
			}
			if a.Name.Local == "fill" {
				widths[a.Value] = last
			}
		}
	}
	// 2000 us, the longest, has the whole width; 90 us of 5 to 2000 us about half.
	if widths[colours[realDora]] != "590.0" || widths[colours[ours]] != "284.6" {
		t.Errorf("widths %v\n%s", widths, svg)
	}
}
