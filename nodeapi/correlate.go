package nodeapi

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

var (
	// ErrServerRestarted ends what waits for an answer of a node that restarted, failed
	// or ended: what it was doing is lost (NodeRestarted, NodeFailed or InputClosed said
	// so). If it restarted, ask again, with a deadline: what is sent before the new
	// server is there reaches nobody.
	ErrServerRestarted = errors.New("the server restarted or ended before it answered")
	// ErrCanceled ends a call that was given up by Cancel or by closing its client.
	ErrCanceled = errors.New("the call was given up")
	// ErrWrongNode: a helper was made for an input or output that the dataflow does
	// not give this node.
	ErrWrongNode = errors.New("the dataflow gives this node no such input or output")
)

// maxLate is how many ids a client remembers of calls that were given up.
const maxLate = 1024

// lateIDs remembers the ids of calls whose answers nobody waits for any more.
type lateIDs struct {
	ids   map[string]bool
	order []string
}

func (l *lateIDs) add(id string) {
	if l.ids == nil {
		l.ids = make(map[string]bool)
	}
	if l.ids[id] {
		return
	}
	if len(l.order) == maxLate {
		delete(l.ids, l.order[0])
		l.order = slices.Delete(l.order, 0, 1)
	}
	l.ids[id] = true
	l.order = append(l.order, id)
}

func (l *lateIDs) has(id string) bool { return l.ids[id] }

// sourceOf is the node an input comes from, or an error if there is no such input.
func (n *Node) sourceOf(input string) (string, error) {
	for _, in := range n.cfg.Inputs {
		if in.ID == input {
			return sourceNode(in.Source), nil
		}
	}
	return "", fmt.Errorf("input %q of node %s: %w; its inputs are: %s", input, n.ID(), ErrWrongNode, strings.Join(n.Inputs(), ", "))
}

func (n *Node) mustOutput(output string) error {
	if slices.Contains(n.cfg.Outputs, output) {
		return nil
	}
	return fmt.Errorf("output %q of node %s: %w; its outputs are: %s", output, n.ID(), ErrWrongNode, strings.Join(n.Outputs(), ", "))
}

// loses says whether ev means that what was asked of node server, whose answers come on
// input, is lost.
func loses(ev Event, server, input string) bool {
	switch ev := ev.(type) {
	case *InputClosed:
		return ev.ID == input
	case *NodeRestarted:
		return ev.Node == server && server != ""
	case *NodeFailed:
		return ev.Node == server && server != "" || slices.Contains(ev.Inputs, input)
	}
	return false
}
