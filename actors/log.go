package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// logNode says what a user should hear of a node.
func logNode(log *logrus.Entry, cfg *nodeConfig, before, after nodeState, r record) {
	switch e := r.Event.(type) {
	case events.NodeSpawned:
		log.Debugf("spawned %s (pid %d, generation %d)", e.Program, e.PID, e.Generation)
	case events.NodeRegistered:
		log.Debugf("registered (node API %s)", e.APIVersion)
	case events.NodeSubscribed:
		log.Debug("is ready")
	case events.NodeRestartScheduled:
		logRestart(log, cfg, after, e)
	case events.NodeGaveUp:
		log.Error(e.Reason)
	case events.NodeSpawnFailed:
		log.Errorf("failed to spawn node: %s", e.Error)
	case events.NodeFinished:
		switch {
		case e.Status == statusFailed && after.LastExit != nil && after.LastExit.SpawnError != "":
		case e.Status == statusFailed:
			log.Errorf("failed: %s", e.Error)
		case e.Error != "":
			log.Warn(e.Error)
		default:
			log.Debug(e.Status)
		}
	case events.NodeStopStepped:
		forced := e.Step == "sigkill" && before.LadderStep != "sigterm"
		if (e.Step == "sigterm" || e.Step == "sigkill") && !forced {
			log.Warnf("does not react to the stop: %s", ladderText(e.Step))
		}
	case events.NodeInputBroken:
		log.Warnf("input %s timed out", e.Input)
	case events.NodeInputRecovered:
		log.Infof("input %s recovered", e.Input)
	case events.NodeRejected:
		log.Warnf("connection rejected: %s", e.Reason)
		if after.Rejections == maxRejections {
			log.Warn("further rejected connections of this node are not recorded")
		}
	case events.WarningRaised:
		log.Warn(e.Text)
	}
}

// logRestart says that a node comes back; in a crash loop only now and then.
func logRestart(log *logrus.Entry, cfg *nodeConfig, s nodeState, e events.NodeRestartScheduled) {
	if s.EqualExits > loopAfter && s.EqualExits%100 != 0 {
		return
	}
	how := "exited"
	if s.LastExit != nil {
		how = s.LastExit.wording()
	}
	switch {
	case e.Cause == causeRestart:
		log.Infof("%s; restarting as asked", how)
	case e.Delay > 0:
		log.Warnf("%s; restarting in %s (restart %s)", how, e.Delay.Round(time.Millisecond), ordinal(e.Count, cfg.MaxRestarts))
	default:
		log.Warnf("%s; restarting (restart %s)", how, ordinal(e.Count, cfg.MaxRestarts))
	}
}

// logFlow says what a user should hear of a dataflow.
func logFlow(log *logrus.Entry, s flowState, r record) {
	switch e := r.Event.(type) {
	case events.DataflowCreated:
		log.Debugf("dataflow %s accepted", e.Path)
	case events.ShimStarted:
		log.Debugf("shim %s started (pid %d)", e.Version, e.PID)
	case events.DataflowStarted:
		log.Debug("all nodes are ready")
	case events.DataflowStartFailed:
		log.Warnf("the dataflow does not start: node %s %s", e.Node, e.Reason)
	case events.DataflowStopRequested:
		switch {
		case e.Force:
			log.Infof("killing all nodes (%s)", e.Cause)
		case e.Cause == causeStraggler:
			log.Warnf("stopping what still runs: nothing can come in any more, and the finish grace is over")
		default:
			log.Infof("stopping all nodes (%s), grace %s", e.Cause, s.Stop.Grace)
		}
	case events.DataflowFinished:
		log.Debugf("dataflow %s", e.Status)
	}
}

// commandName names a command for a log line.
func commandName(cmd link.Command) string {
	switch {
	case cmd.Load != nil:
		return "load"
	case cmd.Spawn != nil:
		return "spawn"
	case cmd.Plan != nil:
		return "plan"
	case cmd.Release != nil:
		return "release"
	case cmd.Abort != nil:
		return "abort"
	case cmd.Stop != nil:
		return "stop"
	case cmd.Close != nil:
		return "close outputs"
	case cmd.Ack != nil:
		return "ack"
	case cmd.End != nil:
		return "end"
	}
	return "other"
}

// slogTo writes what the actor library has to say to the log of the daemon. Its info
// lines are of no use to anybody who does not debug it.
type slogTo struct {
	log   *logrus.Logger
	attrs []slog.Attr
}

func (h slogTo) Enabled(_ context.Context, l slog.Level) bool {
	return h.log.IsLevelEnabled(levelOf(l))
}

func (h slogTo) Handle(_ context.Context, r slog.Record) error {
	fields := logrus.Fields{"lib": "protoactor"}
	for _, a := range h.attrs {
		fields[a.Key] = a.Value.String()
	}
	r.Attrs(func(a slog.Attr) bool {
		fields[a.Key] = a.Value.String()
		return true
	})
	h.log.WithFields(fields).Log(levelOf(r.Level), r.Message)
	return nil
}

func (h slogTo) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return h
}

func (h slogTo) WithGroup(string) slog.Handler { return h }

func levelOf(l slog.Level) logrus.Level {
	switch {
	case l >= slog.LevelError:
		return logrus.ErrorLevel
	case l >= slog.LevelWarn:
		return logrus.WarnLevel
	}
	return logrus.TraceLevel
}
