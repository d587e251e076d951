// Package cli runs the real dora binary through readable scripts (testdata/*.txtar), one
// file per group of cases. Every script has a HOME, a DORA_HOME and a working directory of
// its own, and leaves nothing behind: no process, port, socket or shared-memory segment.
//
// The programs that scripts can start: dora (the binary under test), testnode (a node in
// Go whose behaviour is written in its arguments, see scenarios/testnode), python (with the
// official wheel, from DORA_TEST_PYTHON), and Debian's usual tools.
package cli
