package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/shim/folder"
	"github.com/sirupsen/logrus"
)

// runner is one `dora run`: coordinator and daemon in this process, a real shim below.
type runner struct {
	opts *runOptions
	env  []string
	desc *dataflow.Descriptor
	text string
	uuid string
	sigs <-chan os.Signal

	logDir  string
	screen  *screen
	log     *logrus.Logger
	daemon  *actors.Daemon
	control *controlServer
}

func (r *runner) run(ctx context.Context) error {
	dir := r.desc.Dir()
	r.logDir = filepath.Join(dir, "out", r.uuid)
	if err := os.MkdirAll(r.logDir, 0o755); err != nil {
		return fmt.Errorf("folder for logs: %w\n  fix: make %s writable", err, dir)
	}
	// Not synced: a power failure ends the run and its nodes anyway, and SIGKILL loses
	// nothing that was written.
	store, err := journal.OpenFile(filepath.Join(r.logDir, journal.RunFileName), journal.OpenOptions{NoSync: true})
	if err != nil {
		return err
	}
	defer store.Close()

	r.screen = newScreen(os.Stderr, r.opts, r.uuid)
	defer r.screen.close()
	r.log = r.screen.logger()

	launcher, err := newShimLauncher(r.screen.show)
	if err != nil {
		return err
	}
	defer launcher.close()
	r.daemon, err = actors.Open(actors.Options{Store: store, Clock: actors.SystemClock(), Log: r.log, Machine: "local",
		Version: version, PID: os.Getpid(), BootID: folder.BootID(), Launcher: launcher, NewToken: newToken})
	if err != nil {
		return err
	}
	defer func() { _ = r.daemon.Close(context.Background()) }()

	record, finish, err := r.announce(launcher)
	if err != nil {
		return err
	}
	res, err := r.superviseRun(ctx)
	if err != nil {
		finish(record, "Failed", err.Error())
		return err
	}
	// Everything is gone and every log line shown before the verdict.
	_ = r.daemon.Close(context.Background())
	launcher.close()
	if res.Status == "failed" {
		finish(record, "Failed", reason(res))
		return r.screen.fail(failureText(res))
	}
	finish(record, "Finished", "")
	return nil
}

// announce records the run, so that other commands find it, and has the control socket
// opened as soon as there are guard and shim, who remove it should this process be killed.
func (r *runner) announce(launcher *shimLauncher) (*runRecord, func(*runRecord, string, string), error) {
	socket, err := folder.SocketPath()
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	r.control = newControlServer(r)
	launcher.socket = socket
	launcher.launched = sync.OnceValue(func() error {
		l, err := listenControl(socket)
		if err == nil {
			go func() { _ = r.control.srv.Serve(l) }()
		}
		return err
	})
	rec := &runRecord{UUID: r.uuid, PID: os.Getpid(), Socket: socket, Path: r.desc.File, WorkingDir: r.desc.Dir(),
		LogDir: r.logDir, StartedAt: time.Now()}
	for _, n := range r.desc.Nodes {
		rec.Nodes = append(rec.Nodes, n.ID)
	}
	f, err := rec.register()
	if err != nil {
		r.control.srv.Close()
		return nil, nil, err
	}
	return rec, func(rec *runRecord, status, why string) {
		r.control.srv.Close()
		rec.finish(f, status, why)
	}, nil
}

// superviseRun starts the dataflow and waits for its end; Ctrl-C once stops it, twice
// kills it, and so does the end of --stop-after.
func (r *runner) superviseRun(ctx context.Context) (actors.Result, error) {
	req := actors.StartRequest{UUID: r.uuid, Descriptor: r.desc, Text: r.text, Path: r.desc.File, WorkingDir: r.desc.Dir(),
		LogDir: r.logDir, Env: r.env, AllowShell: r.opts.allowShell, UV: r.opts.uv, Debug: r.opts.debug || r.desc.Debug, Command: "run"}
	if r.opts.exitGiven {
		req.ExitWhenNodesFinish = &r.opts.exitWhen
	}
	if err := r.daemon.Start(ctx, req); err != nil {
		return actors.Result{}, err
	}
	r.log.Infof("dataflow %s: logs in %s", r.uuid, r.logDir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.opts.hotReload {
		stop, err := hotReload(operatorFiles(r.desc), func(f operatorFile) error {
			return r.daemon.Reload(ctx, r.uuid, f.node, f.operator)
		}, r.log)
		if err != nil {
			return actors.Result{}, err
		}
		defer stop()
	}
	type outcome struct {
		res actors.Result
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		res, err := r.daemon.Wait(ctx, r.uuid)
		done <- outcome{res, err}
	}()
	var timer <-chan time.Time
	started := make(chan struct{})
	if r.opts.stopAfter.set {
		go func() {
			if ok, err := r.daemon.Started(ctx, r.uuid); ok && err == nil {
				close(started)
			}
		}()
	}
	for interrupts := 0; ; {
		stop := actors.StopRequest{Grace: defaultGrace}
		select {
		case o := <-done:
			return o.res, o.err
		case <-started:
			started, timer = nil, time.After(r.opts.stopAfter.d)
			continue
		case <-timer:
			stop.Cause = "stop-after"
		case <-r.sigs:
			interrupts++
			stop.Cause, stop.Force = "ctrl-c", interrupts > 1
			if stop.Force {
				r.log.Warn("second interrupt: killing all nodes")
			} else {
				r.log.Info("stopping all nodes; interrupt again to kill them")
			}
		}
		if err := r.daemon.Stop(ctx, r.uuid, stop); err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn(err)
		}
	}
}

func reason(res actors.Result) string {
	var parts []string
	for _, f := range res.Failures {
		if f.CausedBy == "" {
			if f.Node == "" {
				parts = append(parts, f.Error)
			} else {
				parts = append(parts, fmt.Sprintf("node %s %s", f.Node, f.Error))
			}
		}
	}
	return strings.Join(parts, "; ")
}
