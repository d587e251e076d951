// Command check is the last node of the mixed scenario: it compares what arrives with
// what must arrive, and fails if anything differs or is missing.
package main

import (
	"context"
	"fmt"
	"os"
	"reflect"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/dora-go/dora/nodeapi"
	"github.com/dora-go/dora/scenarios/mixed/sample"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	want, err := sample.Messages()
	if err != nil {
		return err
	}
	node, err := nodeapi.Init(ctx)
	if err != nil {
		return err
	}
	next := 0
	for event := range node.Events() {
		switch event := event.(type) {
		case *nodeapi.Input:
			if next == len(want) {
				return fmt.Errorf("one message too many: %v", event)
			}
			if err := compare(event, want[next]); err != nil {
				return fmt.Errorf("message %d (%s): %w", next, want[next].Name, err)
			}
			fmt.Printf("ok %s\n", want[next].Name)
			event.Release()
			next++
		case *nodeapi.Error:
			return event.Err
		case *nodeapi.NodeFailed:
			return fmt.Errorf("%v", event)
		}
	}
	if next != len(want) {
		return fmt.Errorf("%d of %d messages arrived", next, len(want))
	}
	fmt.Printf("PASS mixed: %d messages Go -> Python -> Go\n", next)
	return node.Close()
}

func compare(got *nodeapi.Input, want sample.Message) error {
	if !array.Equal(got.Data, want.Received) {
		return fmt.Errorf("got %d x %s, want %d x %s, or the values differ",
			got.Data.Len(), got.Data.DataType(), want.Received.Len(), want.Received.DataType())
	}
	for name, v := range want.Parameters {
		if !reflect.DeepEqual(got.Metadata.Parameters[name], v) {
			return fmt.Errorf("parameter %s is %#v, want %#v", name, got.Metadata.Parameters[name], v)
		}
	}
	return nil
}
