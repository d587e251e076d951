package nodeapi_test

import (
	"context"
	"errors"
	"io"
	"log"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

// numbers makes an Arrow array.
func numbers(values ...float64) arrow.Array {
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	return b.NewArray()
}

// A call inside of the loop: other events wait meanwhile.
func ExampleServiceClient() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	squares, err := node.NewServiceClient("request", "response")
	if err != nil {
		log.Fatal(err)
	}
	for event := range node.Events() {
		in, ok := event.(*nodeapi.Input)
		if !ok || in.ID != "value" {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		reply, err := squares.Call(ctx, in.Data)
		cancel()
		switch {
		case errors.Is(err, nodeapi.ErrServerRestarted):
			node.Logger().Warn("the server restarted; ask again with the next value")
		case err != nil:
			node.Logger().Error("no answer", "reason", err)
		default:
			node.Logger().Info("answer", "square", reply.Data.ValueStr(0))
			reply.Release()
		}
	}
}

// Several requests in flight, and answers in any order.
func ExampleServiceClient_Start() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	squares, err := node.NewServiceClient("request", "response")
	if err != nil {
		log.Fatal(err)
	}
	var calls []*nodeapi.Call
	for _, v := range []float64{1, 2, 3} {
		call, err := squares.Start(numbers(v))
		if err != nil {
			log.Fatal(err)
		}
		calls = append(calls, call)
	}
	for _, call := range calls {
		reply, err := call.Wait(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		node.Logger().Info("answer", "square", reply.Data.ValueStr(0))
		reply.Release()
	}
}

// A service that squares numbers.
func ExampleServiceServer() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	server, err := node.NewServiceServer("request", "response")
	if err != nil {
		log.Fatal(err)
	}
	for event := range node.Events() {
		request, ok := server.Request(event)
		if !ok {
			continue // not a request
		}
		x := request.Data.(*array.Float64).Value(0)
		if err := request.Reply(numbers(x * x)); err != nil {
			log.Fatal(err)
		}
		request.Release()
	}
}

// Send a goal, follow its progress, and cancel it when that takes too long.
func ExampleActionClient() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	arm, err := node.NewActionClient(nodeapi.ActionPorts{Goal: "goal", Cancel: "cancel", Feedback: "feedback", Result: "result"})
	if err != nil {
		log.Fatal(err)
	}
	goal, err := arm.Send(numbers(0.3, 0.1, 0.5))
	if err != nil {
		log.Fatal(err)
	}
	late := time.AfterFunc(10*time.Second, func() { _ = goal.Cancel() })
	defer late.Stop()
	for {
		update, err := goal.Next(context.Background())
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		if update.Status == "" {
			node.Logger().Info("on the way", "percent", update.Data.ValueStr(0))
		} else {
			node.Logger().Info("done", "status", update.Status)
		}
		update.Release()
	}
}

// Work on goals beside the loop, which hears of cancellations meanwhile.
func ExampleActionServer() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	server, err := node.NewActionServer(nodeapi.ActionPorts{Goal: "goal", Cancel: "cancel", Feedback: "feedback", Result: "result"})
	if err != nil {
		log.Fatal(err)
	}
	work := func(goal *nodeapi.ServerGoal) error {
		for _, percent := range []float64{50, 100} {
			select {
			case <-goal.Context().Done():
				return goal.Canceled(numbers(percent))
			case <-time.After(time.Millisecond): // moving
			}
			if err := goal.Feedback(numbers(percent)); err != nil {
				return err
			}
		}
		return goal.Succeed(numbers(1))
	}
	for event := range node.Events() {
		goal, ok := server.Goal(event)
		if !ok || goal == nil {
			continue // not for the server, or a cancellation
		}
		go func() {
			if err := work(goal); err != nil {
				node.Logger().Error("goal", "id", goal.GoalID(), "reason", err)
			}
		}()
	}
}

// Speech in segments. Interrupt throws away what the receiver has not taken yet.
func ExampleStreamWriter() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	speech, err := node.NewStreamWriter("audio")
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(
		speech.Send(numbers(0.1, 0.2)),      // segment 0, seq 0
		speech.Finish(numbers(0.3)),         // segment 0, seq 1, fin
		speech.Send(numbers(0.4)),           // segment 1, seq 0
		speech.Interrupt(numbers(0.5, 0.6)), // segment 2, seq 0, flush
		speech.Finish(numbers(0.7)),         // segment 2, seq 1, fin
	)
	if err != nil {
		log.Fatal(err)
	}
}

// Put segments together again.
func ExampleStreamReader() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	speech, err := node.NewStreamReader("audio")
	if err != nil {
		log.Fatal(err)
	}
	defer speech.Close()
	for event := range node.Events() {
		segment, ok, err := speech.Add(event)
		if err != nil {
			node.Logger().Warn("a chunk was dropped", "reason", err)
		}
		if !ok || segment == nil {
			continue // not of the stream, or the segment goes on
		}
		samples, err := segment.Data()
		if err != nil {
			log.Fatal(err)
		}
		node.Logger().Info("segment", "samples", samples.Len(), "missing", segment.Missing)
		segment.Release()
	}
}

// `dora param set DATAFLOW NODE gain 2.5` changes a running node.
func ExampleParam() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	for event := range node.Events() {
		if in, ok := event.(*nodeapi.Input); ok {
			gain := nodeapi.ParamOr(node.Params(), "gain", 1.0)
			x := in.Data.(*array.Float64).Value(0)
			if err := node.SendOutput("scaled", numbers(gain*x)); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// What every input has received and lost.
func ExampleNode_Stats() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	for range node.Events() {
		for id, s := range node.Stats() {
			node.Logger().Info("input", "id", id, "received", s.Received, "dropped", s.Dropped, "queued", s.Queued)
		}
	}
}

// End on Ctrl-C or SIGTERM as on a stop of the dataflow: what is queued is handled first.
func ExampleNode_ShutdownOn() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	defer node.ShutdownOn()()
	for event := range node.Events() {
		node.Logger().Info("event", "what", event)
	}
}

// An array of a wrong type is refused with DORA_RUNTIME_TYPE_CHECK=error.
func ExampleTypeError() {
	node, err := nodeapi.Init(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	var wrong *nodeapi.TypeError
	if err := node.SendOutput("count", numbers(1)); errors.As(err, &wrong) {
		node.Logger().Error("a mistake in this node", "output", wrong.Output, "expected", wrong.Expected, "got", wrong.Got)
	}
}
