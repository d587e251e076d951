package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

// typed sends text on output number, once as a request's answer, and {y} on output point,
// and says what was refused for its type.
func (t *testnode) typed() error {
	text, _, err := array.FromJSON(memory.DefaultAllocator, arrow.BinaryTypes.String, strings.NewReader(`["a"]`))
	if err != nil {
		return err
	}
	point, _, err := array.FromJSON(memory.DefaultAllocator, arrow.StructOf(arrow.Field{Name: "y", Type: arrow.PrimitiveTypes.Float64}), strings.NewReader(`[{"y": 1}]`))
	if err != nil {
		return err
	}
	sent := 0
	for _, m := range []struct {
		output string
		data   arrow.Array
		opts   []nodeapi.SendOption
	}{
		{"number", text, nil},
		{"number", text, []nodeapi.SendOption{nodeapi.With(nodeapi.ParamRequestID, nodeapi.Text("r"))}},
		{"point", point, nil},
	} {
		err := t.node.SendOutput(m.output, m.data, m.opts...)
		switch {
		case err == nil:
			sent++
		case errors.Is(err, nodeapi.ErrType):
			fmt.Printf("refused %s: %v\n", m.output, err)
		default:
			return err
		}
	}
	fmt.Printf("sent %d of 3\n", sent)
	return nil
}
