// Package build makes the programs of a dataflow ready to run: it fetches their sources
// and runs their build lines. `dora build` and `dora run` both do it by way of Run.
//
// What it guarantees:
//
//   - The lines of one node run one after the other, in the order of the file; the first
//     that fails ends the build. Nodes are built beside each other. Their output goes out
//     live, every line marked with its node.
//   - A node is built again only if something it is made of has changed: its lines, its
//     variables, its commit, a file of the source tree, or if what it runs is gone. What
//     was seen is kept in a stamp, .dora/build/<dataflow file>/<node>.json beside the
//     dataflow file (see stamp.go for what is compared, and what is not).
//   - Two builds in one folder take turns. A build that is interrupted leaves no stamp, and
//     no process of its own.
//
// Start reading at Run.
package build
