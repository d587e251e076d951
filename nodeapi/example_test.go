package nodeapi_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

// A node that sends the running mean of the numbers it receives. It ends when its
// inputs are closed or the dataflow is stopped.
func Example() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err) // says how to run it as part of a dataflow
	}
	defer node.Close()
	var sum, count float64
	for event := range node.Events() {
		switch event := event.(type) {
		case *nodeapi.Input:
			if values, ok := event.Data.(*array.Float64); ok {
				for _, v := range values.Float64Values() {
					sum, count = sum+v, count+1
				}
			}
			event.Release()
			mean := array.NewFloat64Builder(memory.DefaultAllocator)
			mean.Append(sum / count)
			if err := node.SendOutput("mean", mean.NewArray()); err != nil {
				log.Fatal(err)
			}
		case *nodeapi.NodeRestarted:
			sum, count = 0, 0
		case *nodeapi.Error:
			node.Logger().Error("trouble", "reason", event.Err)
		}
	}
}

// A service answers a request on its output "response", under the request's id.
func ExampleWithParameters() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	for event := range node.Events() {
		if request, ok := event.(*nodeapi.Input); ok {
			answer := request.Data // an echo
			// The parameters hold request_id; the client finds its answer by it.
			if err := node.SendOutput("response", answer, nodeapi.WithParameters(request.Metadata.Parameters)); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// Recv waits for one event, with a limit.
func ExampleNode_Recv() {
	node, err := nodeapi.InitDynamic(context.Background(), "plot")
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	event, err := node.Recv(ctx)
	if err != nil {
		log.Fatal("nothing came for a second: ", err)
	}
	fmt.Println(event)
}

// Structured logs keep their level and their fields in the logs of the dataflow.
func ExampleNode_Logger() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	slog.SetDefault(node.Logger()) // optional: for code that logs by package slog
	slog.Warn("battery is low", "volts", 10.8, "cell", 3)
}

func ExampleLookup() {
	parameters := nodeapi.Parameters{
		"width":    nodeapi.Int(640),
		"encoding": nodeapi.Text("rgb8"),
	}
	if width, ok := nodeapi.Lookup[nodeapi.Int](parameters, "width"); ok {
		fmt.Println("width", int(width))
	}
	if _, ok := nodeapi.Lookup[nodeapi.Int](parameters, "encoding"); !ok {
		fmt.Println("encoding is no number")
	}
	fmt.Println(parameters.Names())
	// Output:
	// width 640
	// encoding is no number
	// [encoding width]
}

// An image is built where its receivers will read it.
func ExampleNode_Loan() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	const pixels = 1920 * 1080 * 3
	loan, err := node.Loan("image", pixels)
	if err != nil {
		log.Fatal(err) // says who holds the memory
	}
	image := array.NewUint8Builder(loan)
	image.Resize(pixels) // not Reserve, which takes more than it is asked for
	for i := range pixels {
		image.UnsafeAppend(byte(i))
	}
	data := image.NewArray()
	defer data.Release()
	if err := loan.Send(data); err != nil {
		log.Fatal(err)
	}
}
