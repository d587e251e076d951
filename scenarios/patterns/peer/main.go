// Command peer is the Go side of the patterns scenario: client and server of the Python
// node at the same time, by the helpers of package nodeapi.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	fmt.Println("PASS patterns: go")
}

var ports = nodeapi.ActionPorts{Goal: "goal", Cancel: "cancel", Feedback: "feedback", Result: "result"}

func ints(values ...int64) arrow.Array {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.AppendValues(values, nil)
	return b.NewArray()
}

func first(in *nodeapi.Input) int64 { return in.Data.(*array.Int64).Value(0) }

func run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	node, err := nodeapi.Init(ctx)
	if err != nil {
		return err
	}
	if err := serve(ctx, node); err != nil {
		return err
	}
	if s := node.Stats()["request"]; s.Received != 5 || s.Dropped != 0 || s.Bytes == 0 {
		return fmt.Errorf("stats of the requests: %+v", s)
	}
	return node.Close()
}

// serve is the node's loop. The clients wait beside it.
func serve(ctx context.Context, node *nodeapi.Node) error {
	service, err1 := node.NewServiceServer("request", "response")
	action, err2 := node.NewActionServer(ports)
	stream, err3 := node.NewStreamReader("stream")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	clients := make(chan error, 1)
	go func() { clients <- errors.Join(calls(ctx, node), goals(ctx, node), write(node)) }()
	var work sync.WaitGroup
	failed := make(chan error, 10)
	segments, partner, told := 0, false, false
	for !partner || !told {
		wait, stop := context.WithTimeout(ctx, 10*time.Millisecond)
		event, err := node.Recv(wait)
		stop()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("ended too early: %w", err)
		}
		select {
		case err := <-clients:
			if err != nil {
				return err
			}
			clients = nil
		case err := <-failed:
			return err
		default:
		}
		if event != nil {
			if segment, ok, err := stream.Add(event); err != nil {
				return err
			} else if ok {
				if segment != nil {
					if err := checkSegment(segment, segments); err != nil {
						return err
					}
					segments++
				}
			} else if request, ok := service.Request(event); ok {
				if err := request.Reply(ints(2 * first(request.Input))); err != nil {
					return err
				}
			} else if goal, ok := action.Goal(event); ok {
				if goal != nil {
					work.Go(func() {
						if err := do(goal); err != nil {
							failed <- err
						}
					})
				}
			} else if in, ok := event.(*nodeapi.Input); ok && in.ID == "done" {
				partner = true
			} else if _, ok := event.(*nodeapi.InputClosed); !ok { // the partner may end first
				return fmt.Errorf("an event for nobody: %v", event)
			}
		}
		if !told && clients == nil && segments == 2 {
			told = true
			if err := node.SendOutput("done", ints(1)); err != nil {
				return err
			}
		}
	}
	work.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// do works on a goal of n steps: 0 cannot be done, -1 is done when it is canceled.
func do(goal *nodeapi.ServerGoal) error {
	n := first(goal.Input)
	switch {
	case n == 0:
		return goal.Abort(ints(7))
	case n < 0:
		if err := goal.Feedback(ints(0)); err != nil {
			return err
		}
		<-goal.Context().Done()
		return goal.Canceled(ints(7))
	}
	for i := range n {
		if err := goal.Feedback(ints(i)); err != nil {
			return err
		}
	}
	return goal.Succeed(ints(7))
}

// calls has several requests in flight.
func calls(ctx context.Context, node *nodeapi.Node) error {
	client, err := node.NewServiceClient("request", "response")
	if err != nil {
		return err
	}
	var errs [8]error
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			reply, err := client.Call(ctx, ints(int64(i)), nodeapi.With("unit", nodeapi.Text("m")))
			if err != nil {
				errs[i] = err
				return
			}
			defer reply.Release()
			unit, _ := nodeapi.Lookup[nodeapi.Text](reply.Metadata.Parameters, "unit")
			if got := first(reply); got != int64(i)+1 || unit != "m" {
				errs[i] = fmt.Errorf("the answer to %d is %d %s", i, got, unit)
			}
		})
	}
	all.Wait()
	if s := client.Stats(); s.Answered != uint64(len(errs)) || s.InFlight != 0 {
		errs[0] = errors.Join(errs[0], fmt.Errorf("calls: %+v", s))
	}
	return errors.Join(errs[:]...)
}

func goals(ctx context.Context, node *nodeapi.Node) error {
	client, err := node.NewActionClient(ports)
	if err != nil {
		return err
	}
	for steps, want := range map[int64]nodeapi.GoalStatus{3: nodeapi.GoalSucceeded, 0: nodeapi.GoalAborted, -1: nodeapi.GoalCanceled} {
		goal, err := client.Send(ints(steps))
		if err != nil {
			return err
		}
		feedback := int64(0)
		for {
			update, err := goal.Next(ctx)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if update.Status == "" {
				if got := first(update.Input); got != feedback {
					return fmt.Errorf("goal of %d: feedback %d is %d", steps, feedback, got)
				}
				if feedback++; steps < 0 {
					if err := goal.Cancel(); err != nil {
						return err
					}
				}
			} else if update.Status != want || first(update.Input) != 100+steps {
				return fmt.Errorf("goal of %d: %s %d", steps, update.Status, first(update.Input))
			}
			update.Release()
		}
		// The result comes on another input and may overtake feedback.
		if feedback > max(steps, -steps) || feedback == 0 && steps < 0 {
			return fmt.Errorf("goal of %d: %d messages of feedback", steps, feedback)
		}
	}
	return nil
}

func write(node *nodeapi.Node) error {
	w, err := node.NewStreamWriter("stream")
	if err != nil {
		return err
	}
	return errors.Join(w.Interrupt(ints(0)), w.Finish(ints(1)), w.Send(ints(2)), w.Send(ints(3)), w.Finish(ints(4)))
}

func checkSegment(s *nodeapi.StreamSegment, n int) error {
	defer s.Release()
	data, err := s.Data()
	if err != nil {
		return err
	}
	if want := 3 - n; s.Session != "py" || s.ID != int64(n) || s.Missing != 0 || data.Len() != want || data.(*array.Int64).Value(0) != int64(10*n) {
		return fmt.Errorf("segment %d of %s: %v, %d missing", s.ID, s.Session, data, s.Missing)
	}
	return nil
}
