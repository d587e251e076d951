// Command printer prints smoothed readings, one line per message, and alerts.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dora-go/dora/nodeapi"
	"github.com/dora-go/dora/scenarios/quickstart/reading"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "printer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	node, err := nodeapi.Init(ctx)
	if err != nil {
		return err
	}
	for event := range node.Events() {
		input, ok := event.(*nodeapi.Input)
		if !ok {
			continue
		}
		switch input.ID {
		case "readings":
			readings, err := reading.From(input.Data)
			if err != nil {
				return fmt.Errorf("input %s: %w", input.ID, err)
			}
			fmt.Println(line(readings))
		case "alert":
			if texts, ok := input.Data.(*array.String); ok && texts.Len() > 0 {
				fmt.Println("ALERT", texts.Value(0))
			}
		}
		input.Release()
	}
	return node.Close()
}

// line renders readings in columns of fixed width, so that lines align.
func line(readings []reading.Reading) string {
	columns := make([]string, len(readings))
	for i, r := range readings {
		columns[i] = r.Name + " " + value(r)
	}
	return strings.Join(columns, "   ")
}

func value(r reading.Reading) string {
	switch r.Unit {
	case reading.Bytes:
		return fmt.Sprintf("%6.2f GiB", r.Value/(1<<30))
	case reading.Count:
		return fmt.Sprintf("%6.2f", r.Value)
	}
	return fmt.Sprintf("%5.1f %s", r.Value, r.Unit)
}
