package nodeapi

import (
	"errors"
	"fmt"
)

// GoalStatus is how a goal ended, as it stands in the metadata parameter goal_status.
type GoalStatus string

const (
	GoalSucceeded GoalStatus = "succeeded"
	GoalAborted   GoalStatus = "aborted"
	GoalCanceled  GoalStatus = "canceled"
)

// ErrGoalStatus says that a result has a goal_status that dora does not know.
var ErrGoalStatus = errors.New(`goal_status is none of "succeeded", "aborted" and "canceled"`)

// ActionPorts names the four ways between the client and the server of an action. Goal
// and Cancel are outputs of the client and inputs of the server, Feedback and Result the
// other way round. Cancel and Feedback may be left out; Feedback and Result may be one.
//
//	nodes:
//	  - id: planner
//	    path: planner
//	    inputs:
//	      feedback: arm/feedback
//	      result: arm/result
//	    outputs:
//	      - goal
//	      - cancel
//	  - id: arm
//	    path: arm
//	    inputs:
//	      goal: planner/goal
//	      cancel: planner/cancel
//	    outputs:
//	      - feedback
//	      - result
type ActionPorts struct {
	Goal, Cancel, Feedback, Result string
}

func (n *Node) mustHaveOutputs(role, needed, optional string) error {
	if err := n.mustOutput(needed); err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	if optional == "" {
		return nil
	}
	if err := n.mustOutput(optional); err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	return nil
}

func goalOf(p Parameters) (string, bool) {
	id, ok := Lookup[Text](p, ParamGoalID)
	return string(id), ok
}

// statusOf returns the status of a result; false: the message is feedback.
func statusOf(p Parameters) (GoalStatus, bool, error) {
	v, ok := p[ParamGoalStatus]
	if !ok {
		return "", false, nil
	}
	text, _ := v.(Text)
	switch s := GoalStatus(text); s {
	case GoalSucceeded, GoalAborted, GoalCanceled:
		return s, true, nil
	}
	return "", true, fmt.Errorf("%w: %v", ErrGoalStatus, v)
}
