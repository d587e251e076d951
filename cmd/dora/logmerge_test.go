package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/dora-go/dora/transport/ws"
)

// manyLogs writes what 50 nodes printed: 250 files of 50 KB.
func manyLogs(b *testing.B, dir string) (lines int) {
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for i := range 50 {
		for k, name := range []string{".5", ".4", ".3", ".2", ".1", ""} {
			var raw []byte
			for j := range 400 {
				t := at.Add(time.Duration(k*400+j) * time.Millisecond)
				raw = fmt.Appendf(raw, `{"ts":"%s","level":"stdout","node":"n%d","stream":"stdout","msg":"line %d","target":null,"fields":null}`+"\n", t.Format("2006-01-02T15:04:05.000Z"), i, k*400+j)
				lines++
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("log_n%d%s.jsonl", i, name)), raw, 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	return lines
}

// BenchmarkPages is the way of lines from the files to the screen, per line: read, and
// encoded twice (daemon, coordinator) and decoded twice for the network, and shown.
func BenchmarkPages(b *testing.B) {
	dir := b.TempDir()
	lines := manyLogs(b, dir)
	for _, part := range []string{"read", "wire", "show"} {
		b.Run(part, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, readers := newLogPrinter(io.Discard, "json", false, "x"), &logReaders{}
				pages := func(ctx context.Context, q ws.LogsQuery) (ws.LogsPage, error) {
					page, err := readers.read(ctx, dir, q, func() bool { return true })
					if part == "read" {
						page.Lines = nil
						page.Ended = !page.More
						return page, err
					}
					page.Packed, page.Lines = packLines(page.Lines), nil
					for range 2 {
						raw, err := json.Marshal(page)
						if err != nil {
							b.Fatal(err)
						}
						page = ws.LogsPage{}
						if err := json.Unmarshal(raw, &page); err != nil {
							b.Fatal(err)
						}
					}
					if page.Lines, err = unpackLines(page.Packed); err != nil {
						b.Fatal(err)
					}
					if part == "wire" {
						page.Lines = nil
					}
					return page, err
				}
				if err := showLogs(b.Context(), pages, ws.LogsQuery{}, false, p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lines), "ns/line")
		})
	}
}

func FuzzUnpackLines(f *testing.F) {
	f.Add(packLines([]ws.LogLine{{Node: "n", Raw: "{}"}, {Node: "m"}}))
	f.Add(s2.Encode(nil, []byte("half")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, packed []byte) {
		lines, err := unpackLines(packed)
		if err != nil {
			return
		}
		again, err := unpackLines(packLines(lines))
		if err != nil || !slices.Equal(lines, again) {
			t.Fatalf("%q became %q: %v", lines, again, err)
		}
	})
}

// FuzzReadLine: what is read the fast way is what any JSON reader makes of it.
func FuzzReadLine(f *testing.F) {
	f.Add([]byte(`{"ts":"2026-01-02T12:00:00.123Z","level":"info","node":"n","stream":"stdout","msg":"hello","target":null,"fields":null}` + "\n"))
	f.Add([]byte(`{"ts":"2026-02-30T12:00:00.123Z","level":"warn","node":"n","stream":"stderr","msg":"ünï","target":"t","fields":{"a":"1","b":""}}`))
	f.Add([]byte(`{"ts":"2026-01-02T12:00:00.123Z","level":"info","node":"n","stream":"stdout","msg":"\"","target":null,"fields":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, want := parseLogFileLine("n", string(raw)), parseAnyLogLine("n", string(raw))
		if !got.At.Equal(want.At) {
			t.Fatalf("%q: at %v, want %v", raw, got.At, want.At)
		}
		got.At = want.At
		if len(got.Fields)+len(want.Fields) == 0 {
			got.Fields, want.Fields = nil, nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\ngot  %+v\nwant %+v", raw, got, want)
		}
	})
}
