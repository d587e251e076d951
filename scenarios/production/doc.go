// Package production holds end-to-end tests of coordinator, daemon and shims as real
// processes: `dora up` and what follows, with every process killed at every moment.
//
// A test makes a [Site] (a state folder, a port, a folder for dataflows), and drives the
// real binary in it. What must hold after a kill: the nodes keep their pids and data
// flows, unless the shim or a node was the victim; one daemon, one shim per dataflow; no
// process of the test is left at its end (scenarios/leftovers).
//
// Tests run in a network of their own if they may, and choose a free port anyway. Start
// reading at site_test.go.
package production
