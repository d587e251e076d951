package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dora-go/dora/actors"
	"github.com/spf13/cobra"
)

// installOptions are the flags of `dora system install`.
type installOptions struct {
	dir, home, addr string
	machine         string
	port            uint16
	iface           string
	daemonOnly      bool
	print, force    bool
}

func newSystemInstallCmd() *cobra.Command {
	o := &installOptions{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Write systemd units for coordinator and daemon",
		Long: `Write systemd units for coordinator and daemon: for the system if run as root, else for this
user. ` + "`systemctl restart`" + ` of either never stops a robot: the nodes run on and are adopted.
Nothing is enabled or started; the command says how. docs/limits.md says what holds in
containers and after a logout.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := fromEnv(cmd, map[string]string{"coordinator-addr": "DORA_COORDINATOR_ADDR", "coordinator-port": "DORA_COORDINATOR_PORT", "interface": "DORA_COORDINATOR_INTERFACE"})
			if err != nil {
				return err
			}
			return o.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", "", "folder of the units (default /etc/systemd/system for root, else ~/.config/systemd/user)")
	f.StringVar(&o.home, "home", "", "state folder of the services (default /var/lib/dora for root, else DORA_HOME)")
	f.StringVar(&o.machine, "machine-id", defaultMachine, "name of this machine")
	f.StringVar(&o.addr, "coordinator-addr", defaultAddr, "address of the coordinator (DORA_COORDINATOR_ADDR)")
	f.Uint16Var(&o.port, "coordinator-port", defaultPort, "port of the coordinator (DORA_COORDINATOR_PORT)")
	f.StringVar(&o.iface, "interface", defaultAddr, "address that the coordinator listens on (DORA_COORDINATOR_INTERFACE)")
	f.BoolVar(&o.daemonOnly, "daemon-only", false, "no coordinator here: the daemon of another machine's coordinator")
	f.BoolVar(&o.print, "print", false, "print the units instead of writing them")
	f.BoolVar(&o.force, "force", false, "replace units that are there")
	return cmd
}

// unit is one systemd unit.
type unit struct{ name, text string }

// unitQuote writes a word of an ExecStart or Environment line: quoted, with systemd's own
// signs doubled.
func unitQuote(s string) string {
	r := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$", "\n", `\n`)
	return `"` + r.Replace(s) + `"`
}

func (o *installOptions) units(exe string, system bool) []unit {
	target := "default.target"
	network := ""
	if system {
		target = "multi-user.target"
		network = "After=network-online.target\nWants=network-online.target\n"
	}
	common := fmt.Sprintf(`Environment=%s
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
OOMPolicy=continue
TasksMax=infinity
`, strings.ReplaceAll(unitQuote("DORA_HOME="+o.home), "$$", "$"))
	make := func(name, what, after string, args ...string) unit {
		words := []string{unitQuote(exe)}
		for _, a := range args {
			words = append(words, unitQuote(a))
		}
		return unit{name, fmt.Sprintf(`# Written by dora system install %s.
# KillMode=process: a restart of the service leaves the nodes running.
# Delegate=yes: each dataflow gets a cgroup of its own, to be ended whole.
[Unit]
Description=%s
%s
[Service]
ExecStart=%s
%s
[Install]
WantedBy=%s
`, version, what, after, strings.Join(words, " "), common, target)}
	}
	var out []unit
	after := network
	if !o.daemonOnly {
		out = append(out, make("dora-coordinator.service", "dora coordinator", network, "coordinator", "--interface", o.iface, "--port", fmt.Sprint(o.port)))
		after += "After=dora-coordinator.service\nWants=dora-coordinator.service\n"
	}
	return append(out, make("dora-daemon.service", "dora daemon", after, "daemon", "--machine-id", o.machine,
		"--coordinator-addr", o.addr, "--coordinator-port", fmt.Sprint(o.port)))
}

// defaults fills in what depends on who installs.
func (o *installOptions) defaults(system bool) error {
	if o.home == "" && system {
		o.home = "/var/lib/dora"
	} else if o.home == "" {
		home, err := doraHome()
		if err != nil {
			return err
		}
		o.home = home
	}
	var err error
	if o.home, err = filepath.Abs(o.home); err != nil {
		return err
	}
	if o.dir == "" && system {
		o.dir = "/etc/systemd/system"
	} else if o.dir == "" {
		config, err := os.UserConfigDir()
		if err != nil {
			return err
		}
		o.dir = filepath.Join(config, "systemd", "user")
	}
	return nil
}

func (o *installOptions) run(cmd *cobra.Command) error {
	if runtime.GOOS != "linux" {
		return errors.New("system install writes systemd units, which this system does not have")
	}
	if err := actors.CheckMachineID(o.machine); err != nil {
		return usagef("--machine-id: %w", err)
	}
	system := os.Geteuid() == 0
	if err := o.defaults(system); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return fmt.Errorf("where this program lies: %w", err)
	}
	units := o.units(exe, system)
	out := cmd.OutOrStdout()
	if o.print {
		for _, u := range units {
			fmt.Fprintf(out, "# %s\n%s\n", filepath.Join(o.dir, u.name), u.text)
		}
		return nil
	}
	if err := o.write(out, units); err != nil {
		return err
	}
	ctl, names := "systemctl", ""
	if !system {
		ctl = "systemctl --user"
	}
	for _, u := range units {
		names += " " + u.name
	}
	fmt.Fprintf(out, "next: %s daemon-reload && %s enable --now%s\n", ctl, ctl, names)
	return verifyUnits(cmd.ErrOrStderr(), o.dir, units, system)
}

// write puts the units into place, none if one is there already.
func (o *installOptions) write(out io.Writer, units []unit) error {
	for _, u := range units {
		path := filepath.Join(o.dir, u.name)
		old, err := os.ReadFile(path)
		if err == nil && !o.force && !bytes.Equal(old, []byte(u.text)) {
			return fmt.Errorf("%s is there already and says something else\n  fix: --force replaces it, --print shows the new one", path)
		}
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	for _, u := range units {
		path := filepath.Join(o.dir, u.name)
		tmp := path + ".new"
		if err := os.WriteFile(tmp, []byte(u.text), 0o644); err != nil {
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			_ = os.Remove(tmp)
			return err
		}
		fmt.Fprintln(out, "wrote", path)
	}
	return nil
}

// verifyUnits has systemd read them, where it is there.
func verifyUnits(out io.Writer, dir string, units []unit, system bool) error {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		fmt.Fprintln(out, "systemd-analyze is not here: the units were not verified")
		return nil
	}
	args := []string{"verify"}
	if !system {
		args = []string{"--user", "verify"}
	}
	for _, u := range units {
		args = append(args, filepath.Join(dir, u.name))
	}
	text, err := exec.Command(analyze, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemd-analyze verify: %w\n%s", err, text)
	}
	return nil
}
