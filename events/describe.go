package events

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// describeWidth is the most characters of one description.
const describeWidth = 240

// Describe renders an envelope as one printable line without its time and stream, for
// people: "exited with code 3 (generation 2)". What cannot be decoded is said so.
func Describe(env Envelope) string {
	e, err := Open(env)
	var text string
	switch {
	case errors.Is(err, ErrNewer):
		text = fmt.Sprintf("%s version %d, written by a newer dora", env.Type, env.Version)
	case errors.Is(err, ErrUnknown):
		text = fmt.Sprintf("%s, an event that this dora does not know", env.Type)
	case err != nil:
		text = fmt.Sprintf("%s, unreadable: %v", env.Type, err)
	default:
		text = describe(e)
	}
	if env.Cause != "" {
		text += " [" + env.Cause + "]"
	}
	return oneLine(text)
}

// describe has one case per event type; a test fails for a type without one.
func describe(e Event) string {
	switch e := e.(type) {
	case DaemonStarted:
		return fmt.Sprintf("daemon %s on %q started, pid %d", e.Version, e.Machine, e.PID)
	case DaemonStopped:
		return "daemon stopped"
	case ShimStartIntended:
		return "shim is to be started"
	case ShimStarted:
		return fmt.Sprintf("shim %s started, pid %d", e.Version, e.PID)
	case ShimLost:
		return "shim lost, its nodes are gone"
	case WarningRaised:
		return "warning: " + e.Text
	case HistorySummarized:
		return fmt.Sprintf("events %d to %d removed: %s", e.FirstSeq, e.LastSeq, e.Text)
	case HistoryGap:
		return fmt.Sprintf("facts after %d and before %d are not available: %s", e.After, e.Before, e.Reason)
	}
	if text := describeDataflow(e); text != "" {
		return text
	}
	if text := describeNodeLife(e); text != "" {
		return text
	}
	if text := describeOrder(e); text != "" {
		return text
	}
	return describeNode(e)
}

func describeDataflow(e Event) string {
	switch e := e.(type) {
	case DataflowCreated:
		return fmt.Sprintf("dataflow %sof %s accepted, %s", named(e.Name), e.Path, count(uint64(len(e.Nodes)), "node"))
	case DataflowStarted:
		return "dataflow started, every node is ready"
	case DataflowStartFailed:
		return fmt.Sprintf("dataflow did not start: node %s %s", e.Node, e.Reason)
	case DataflowStopRequested:
		return fmt.Sprintf("stop requested by %s%s", e.Cause, ladder(e.Grace, e.Force))
	case DataflowFinished:
		return "dataflow " + e.Status + failures(e.Failures)
	case ParamSet:
		return fmt.Sprintf("parameter %s of node %s is %s", e.Key, e.Node, e.Value)
	case ParamDeleted:
		return fmt.Sprintf("parameter %s of node %s is deleted", e.Key, e.Node)
	}
	return ""
}

func describeNodeLife(e Event) string {
	switch e := e.(type) {
	case NodeSpawnIntended:
		return fmt.Sprintf("generation %d is to be spawned: %s", e.Generation, e.Cause)
	case NodeSpawned:
		return fmt.Sprintf("generation %d spawned: %s, pid %d", e.Generation, e.Program, e.PID)
	case NodeSpawnFailed:
		return fmt.Sprintf("generation %d could not be spawned: %s", e.Generation, e.Error)
	case NodeExited:
		return fmt.Sprintf("generation %d %s after %s%s", e.Generation, exit(e), e.Uptime.Round(time.Millisecond), reason(e.Reason))
	case NodeRestartScheduled:
		return fmt.Sprintf("restart %d (%d in all) in %s: %s", e.Count, e.Total, e.Delay, e.Cause)
	case NodeGaveUp:
		return "no further restart: " + e.Reason
	case NodeFinished:
		return "node " + e.Status + reason(e.Error)
	case NodeCrashLooped:
		return fmt.Sprintf("crash loop: %s, %d restarts so far%s", count(e.Crashes, "crash"), e.Total, reason(e.Error))
	case NodeStopRequested:
		what := "stop requested"
		if e.Restart {
			what = "restart requested"
		}
		return what + ladder(e.Grace, e.Force)
	case NodeStopStepped:
		return fmt.Sprintf("generation %d: %s", e.Generation, e.Step)
	}
	return ""
}

func describeNode(e Event) string {
	switch e := e.(type) {
	case NodeRegistered:
		how := "registered"
		if e.Dynamic {
			how = "registered as a dynamic node"
		}
		return fmt.Sprintf("generation %d %s, node API %s", e.Generation, how, e.APIVersion)
	case NodeSubscribed:
		return fmt.Sprintf("generation %d is ready", e.Generation)
	case NodeOutputsClosed:
		what := "outputs " + strings.Join(e.Outputs, ", ")
		if e.Done {
			what = "all its outputs"
		}
		return fmt.Sprintf("generation %d closed %s", e.Generation, what)
	case NodeInputsClosed:
		return fmt.Sprintf("generation %d has no input left", e.Generation)
	case NodeInputBroken:
		return fmt.Sprintf("input %s timed out", e.Input)
	case NodeInputRecovered:
		return fmt.Sprintf("input %s recovered", e.Input)
	case NodeMessagesDropped:
		return fmt.Sprintf("input %s dropped %s%s", e.Input, count(e.Count, "message"), reason(e.Cause))
	case NodeRejected:
		return "connection rejected" + reason(e.Reason)
	case NodeParamsDelivered:
		return fmt.Sprintf("generation %d knows its parameters up to change %d", e.Generation, e.Through)
	}
	return ""
}

func exit(e NodeExited) string {
	how := fmt.Sprintf("exited with code %d", e.Code)
	if e.Signal != 0 {
		how = fmt.Sprintf("was ended by signal %d", e.Signal)
	}
	if e.Stopping {
		how += " while stopping"
	}
	return how
}

func failures(list []NodeFailure) string {
	parts := make([]string, 0, len(list))
	for _, f := range list {
		text := "node " + f.Node + " " + f.Error
		if f.CausedBy != "" {
			text += " (caused by " + f.CausedBy + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("%q ", name)
}

func reason(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

func ladder(grace time.Duration, force bool) string {
	if force {
		return ", by force"
	}
	return fmt.Sprintf(", grace %s", grace)
}

func count(n uint64, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "sh"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// oneLine makes text that came from anywhere safe for a terminal line: white space runs
// become one space, other control and invisible characters are escaped, long texts cut.
func oneLine(text string) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range text {
		if n >= describeWidth {
			b.WriteString("...")
			break
		}
		switch {
		case unicode.IsSpace(r):
			space = n > 0
			continue
		case space:
			b.WriteByte(' ')
			n++
			space = false
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			n++
		} else {
			escaped, _ := fmt.Fprintf(&b, "\\u%04x", r)
			n += escaped
		}
	}
	return b.String()
}
