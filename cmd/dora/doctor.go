package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/shim/launch"
	"github.com/dora-go/dora/transport/ws"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/spf13/cobra"
)

func newDoctorCmd() *cobra.Command {
	var t target
	var path string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the environment, coordinator, daemons, and optionally a dataflow file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.resolve(cmd); err != nil {
				return err
			}
			return examineAll(cmd.Context(), cmd.OutOrStdout(), &t, path)
		},
	}
	t.addFlags(cmd)
	cmd.Flags().StringVar(&path, "dataflow", "", "dataflow file to check as well")
	return cmd
}

// doctor prints one line per check and counts what failed.
type doctor struct {
	w      io.Writer
	color  bool
	failed int
}

func (d *doctor) say(mark, colour, format string, args ...any) {
	if d.color {
		mark = "\x1b[" + colour + "m" + mark + "\x1b[0m"
	}
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n        ")
	fmt.Fprintf(d.w, "  %s  %s\n", mark, text)
}

func (d *doctor) pass(format string, args ...any) { d.say("PASS", "32", format, args...) }
func (d *doctor) warn(format string, args ...any) { d.say("WARN", "33", format, args...) }

func (d *doctor) fail(format string, args ...any) {
	d.failed++
	d.say("FAIL", "31", format, args...)
}

func examineAll(ctx context.Context, w io.Writer, t *target, path string) error {
	f, isFile := w.(*os.File)
	d := &doctor{w: w, color: isFile && useColor(f)}
	d.pass("CLI version: %s", buildName())
	d.environment()
	h, err := examine(ctx, t)
	if err != nil {
		return err
	}
	d.control(h, t)
	d.dataflows(ctx, h, t)
	d.shims(h)
	if path != "" {
		d.descriptor(path)
	}
	if d.failed > 0 {
		d.failed--
		d.fail("%d check(s) failed", d.failed+1)
		return errSilent
	}
	d.pass("All checks passed")
	return nil
}

// minShm is the shared memory below which official nodes with large outputs get small
// pools (a Docker container has 64 MiB).
const minShm = 256 << 20

func (d *doctor) environment() {
	home, err := doraHome()
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(home, "doctor-*"); err == nil {
			_ = probe.Close()
			err = os.Remove(probe.Name())
		}
	}
	if err != nil {
		d.fail("State folder: %v\nfix: make it writable, or set DORA_HOME to another one", err)
	} else {
		d.pass("State folder: %s", home)
	}
	if u, err := disk.Usage("/dev/shm"); err == nil {
		text := fmt.Sprintf("Shared memory: %d MB free of %d MB", u.Free/1e6, u.Total/1e6)
		if u.Total < minShm {
			d.warn("%s\nlarge messages of official nodes are slower with so little; for Docker: --shm-size 1g", text)
		} else {
			d.pass("%s", text)
		}
	} else {
		d.pass("Shared memory: not in /dev/shm on this system")
	}
	if path, err := exec.LookPath("uv"); err == nil {
		d.pass("uv: %s", path)
	} else {
		d.pass("uv: not installed (only --uv needs it)")
	}
}

func (d *doctor) control(h *health, t *target) {
	if !h.Coordinator.Running {
		d.fail("Coordinator: %v", h.err)
		d.fail("Daemon: unknown without a coordinator")
		return
	}
	d.pass("Coordinator: %s (dora %s, pid %d, store %s)", t.hostPort(), h.Coordinator.Version, h.Coordinator.PID, h.Coordinator.Store)
	if h.connected() == 0 {
		d.fail("Daemon: none is connected\nfix: `dora up` starts the daemon of this machine")
		return
	}
	d.pass("Daemon: connected")
	d.pass("Connected machines: %d", h.connected())
	for _, m := range h.Daemons {
		heard, _ := time.Parse(time.RFC3339Nano, m.Heard)
		switch {
		case !m.Connected:
			d.warn("Machine %s: its daemon is away since %s", m.Machine, localTime(m.Since))
		case m.Version != h.Coordinator.Version:
			d.warn("Machine %s: dora %s, and the coordinator has %s; use the same release on both", m.Machine, m.Version, h.Coordinator.Version)
		default:
			d.pass("Machine %s: pid %d, heard of %s ago", m.Machine, m.PID, max(0, time.Since(heard)).Round(100*time.Millisecond))
		}
	}
}

func (d *doctor) dataflows(ctx context.Context, h *health, t *target) {
	if !h.Coordinator.Running {
		return
	}
	failed := 0
	for _, f := range h.flows {
		if f.Status == actors.StatusFailed {
			failed++
		}
	}
	d.pass("Dataflows: %d running, %d failed, %d total", h.Dataflows, failed, len(h.flows))
	var nodes []ws.Node
	if err := t.call(ctx, ws.MethodNodes, ws.NodesQuery{}, &nodes); err != nil {
		d.fail("Nodes: %v", err)
		return
	}
	healthy := 0
	var ill []string
	for _, n := range nodes {
		switch n.Metrics.Status {
		case actors.StatusFailed, actors.StatusDegraded, actors.StatusRestarting:
			ill = append(ill, fmt.Sprintf("%s of %s is %s%s", n.NodeID, n.Dataflow, n.Metrics.Status, brackets(n.Note)))
		default:
			healthy++
		}
	}
	text := fmt.Sprintf("Nodes: %d total, %d healthy", len(nodes), healthy)
	if len(ill) > 0 {
		d.warn("%s\n%s", text, strings.Join(ill, "\n"))
	} else {
		d.pass("%s", text)
	}
}

func brackets(note string) string {
	if note == "" {
		return ""
	}
	return " (" + note + ")"
}

// shims names processes that belong to nobody.
func (d *doctor) shims(h *health) {
	home, err := doraHome()
	if err != nil {
		return
	}
	found, err := launch.Find(home)
	if err != nil {
		d.fail("Shims: %v", err)
		return
	}
	known := map[string]bool{}
	for _, f := range h.flows {
		known[f.UUID] = true
	}
	daemonHere := storeHeld(filepath.Join(home, daemonStore(defaultMachine)))
	for _, f := range found {
		if f.Alive && !f.Owner.Run && !known[f.Dataflow] && (h.Coordinator.Running || !daemonHere) {
			d.warn("Dataflow %s: its nodes run, and nobody claims them\nfix: `dora up` adopts them, `dora shim stop %s` ends them", f.Dataflow, f.Dataflow)
		}
	}
}

func (d *doctor) descriptor(path string) {
	desc, _, err := loadDataflow(path, false, io.Discard)
	if err == nil {
		if errs := dataflow.CheckPaths(desc, os.Environ()).Errors(); len(errs) > 0 {
			err = errors.New(errs.Error())
		}
	}
	if err != nil {
		d.fail("Dataflow validation: %s\n%v", path, err)
		return
	}
	d.pass("Dataflow validation: %s OK", path)
}
