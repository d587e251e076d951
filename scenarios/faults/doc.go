// Command faults shows what nodes are told when others crash, end, hang, fall silent or are
// restarted: the same dataflows under this dora and under dora 1.1.0, with consumers in
// Python (the official wheel) and in Go.
//
//	go run ./scenarios/faults --docs docs
//
// writes docs/fault-tolerance.md (between its markers). The tests of this folder run the
// rows under this dora and compare with the transcripts in testdata, and have operators'
// worse days: floods of log lines, hostile lines, full disks, a machine that stands still.
//
// Start reading at rows.go.
package main
