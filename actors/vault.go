package actors

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/link"
)

// keepEnvironment puts the environment of a start where a later daemon finds it.
func (d *Daemon) keepEnvironment(r StartRequest) error {
	if d.opts.Vault == nil {
		return nil
	}
	if err := d.opts.Vault.Keep(r.UUID, r.Env); err != nil {
		return fmt.Errorf("dataflow %s cannot be started: its environment cannot be kept: %w", r.UUID, err)
	}
	return nil
}

// forgetEnvironment is for dataflows that are over.
func (d *Daemon) forgetEnvironment(uuid string) {
	if d.opts.Vault == nil {
		return
	}
	if err := d.opts.Vault.Forget(uuid); err != nil {
		d.env.log.WithField("dataflow", uuid).Warnf("its environment could not be removed: %v", err)
	}
}

// recallLoad makes anew what a shim is told, from the journal and the vault; nil if the
// environment is not there.
func (d *Daemon) recallLoad(f *flow, created events.DataflowCreated) *link.Load {
	if d.opts.Vault == nil {
		return nil
	}
	log := d.env.log.WithField("dataflow", f.uuid)
	env, err := d.opts.Vault.Open(f.uuid)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warnf("its environment cannot be read: %v", err)
		}
		return nil
	}
	if d.opts.Place != nil {
		if err := d.opts.Place(f.desc); err != nil {
			log.Warnf("it could not be loaded into another shim: %v", err)
			return nil
		}
	}
	load, err := LoadFor(StartRequest{
		UUID: f.uuid, Name: created.Name, Descriptor: f.desc, Text: created.Descriptor,
		Path: created.Path, WorkingDir: created.WorkingDir, LogDir: created.LogDir, Env: env,
		AllowShell: created.AllowShell, UV: created.UV, Debug: created.Debug,
		ExitWhenNodesFinish: &created.ExitWhenNodesFinish, Command: created.Command,
	})
	if err != nil {
		log.Warnf("it could not be loaded into another shim: %v", err)
		return nil
	}
	load.Machine = d.opts.Machine
	return load
}

// paramEvents are the parameters that a dataflow has from its start, in a fixed order.
func paramEvents(r StartRequest) ([]events.Event, error) {
	var out []events.Event
	for _, n := range r.Descriptor.Nodes {
		of := r.Params[n.ID]
		keys := make([]string, 0, len(of))
		for key, value := range of {
			if err := CheckParam(key, value); err != nil {
				return nil, fmt.Errorf("parameter %s of node %s: %w", key, n.ID, err)
			}
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			out = append(out, events.ParamSet{Node: n.ID, Key: key, Value: of[key]})
		}
	}
	return out, nil
}
