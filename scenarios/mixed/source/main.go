// Command source is the first node of the mixed scenario: it sends every sample
// message once.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/dora-go/dora/nodeapi"
	"github.com/dora-go/dora/scenarios/mixed/sample"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "source:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	messages, err := sample.Messages()
	if err != nil {
		return err
	}
	node, err := nodeapi.Init(ctx)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := node.SendOutput("data", m.Sent, nodeapi.WithParameters(m.Parameters)); err != nil {
			return err
		}
	}
	node.Logger().Info("everything is sent", "messages", len(messages))
	return node.Close()
}
