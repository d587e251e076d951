package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/nodeapi"
)

func number(v int64) arrow.Array {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	b.Append(v)
	return b.NewArray()
}

// calls sends requests on output request until n were answered on input response, and says
// how each ended. What is asked while the server is away reaches nobody, so it asks again
// every half second, for 20 s at most.
func (t *testnode) calls(arg string) error {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	client, err := t.node.NewServiceClient("request", "response")
	if err != nil {
		return err
	}
	giveUp := time.Now().Add(20 * time.Second)
	for answered := 0; answered < n; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
		reply, err := client.Call(ctx, number(int64(answered)))
		cancel()
		switch {
		case errors.Is(err, nodeapi.ErrServerRestarted):
			fmt.Println("CALL lost:", err)
		case errors.Is(err, context.DeadlineExceeded) && time.Now().Before(giveUp):
			fmt.Println("CALL again")
		case err != nil:
			return err
		default:
			fmt.Println("CALL", answered, "answered", reply.Data.(*array.Int64).Value(0))
			reply.Release()
			answered++
		}
	}
	return nil
}

// serve answers requests with their number doubled, and dies of the second one while the
// restart count is 0.
func (t *testnode) serve() error {
	server, err := t.node.NewServiceServer("request", "response")
	if err != nil {
		return err
	}
	served := 0
	for e := range t.node.Events() {
		request, ok := server.Request(e)
		if !ok {
			continue
		}
		if served++; served == 2 && t.node.RestartCount() == 0 {
			os.Exit(3)
		}
		if err := request.Reply(number(2 * request.Data.(*array.Int64).Value(0))); err != nil {
			return err
		}
	}
	return nil
}
