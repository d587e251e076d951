// Package actors is the control plane of one machine: what shall run, what does run,
// and what to do about the difference. It knows no processes, sockets or files. The
// processes are held by shims (one per dataflow, reached through the Launcher), the
// history by a journal.Store.
//
// What it guarantees:
//
//   - A command is decided, appended to the journal, applied, answered, and only then
//     carried out. What was answered with nil survives SIGKILL at any moment, as far as
//     the store is durable; what was refused has changed nothing.
//   - Intent before effect: no Spawn is sent before its NodeSpawnIntended is in the
//     store, no shim is launched before its ShimStartIntended. So whatever runs can be
//     found again.
//   - A fact of a shim is applied once, however often it comes, and acknowledged when
//     what follows from it is durable.
//   - At most one generation of a node lives at any time, across restarts of nodes,
//     shims and daemons.
//   - Nothing is restarted after a stop was journaled.
//   - Replaying the journal gives the same state and has no effects. Effects follow from
//     "desired minus sent": see nodeConfig.effects and flowConfig.effects. All of them
//     may be repeated, and are after every reconnect.
//   - An actor that crashes goes on from the journal. One that crashes again and again
//     ends its dataflow as failed, with the reason, and no other.
//   - What runs, runs on while the store cannot be written: stops and exits are applied
//     and recorded later, new spawns wait, new dataflows are refused.
//
// Not promised: that a stop which was accepted while the store could not be written is
// known after a SIGKILL before it could; that a dataflow whose shim and daemon both died
// comes back by itself without a Vault (the environment of its nodes is not journaled).
//
// There is one writer per stream: the actor of that name. The Daemon actor is the parent
// of one actor per dataflow, and that of one actor per node. A rule that concerns several
// streams is decided from the levels of all of them, not from an edge in one, so that it
// gives the same answer after a crash between two appends: the start barrier, the end,
// stragglers, another shim after a lost one (flowConfig.follow, flowConfig.shimWanted).
//
// The coordinator (coordinator.go) owns what is wanted: want_state.go (pure) and
// want_actor.go send orders until the daemon's facts show them; remote_actor.go keeps the facts
// of each machine; projection.go makes of them what is shown; serve.go is its control
// protocol, uplink.go and obey.go the daemon's side of it.
//
// For the daemon, start reading at actors.go (the API), then node_state.go, node_policy.go and
// node_decide.go (one node: pure), flow_state.go and flow_decide.go (a dataflow: pure).
// node_actor.go, flow_actor.go and flow_shim.go drive them; ledger.go is the way into the
// journal; flow.go is what outlives a crash of an actor; recover.go is the way back.
// sim_test.go shows all of it under faults.
package actors
