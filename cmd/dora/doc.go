// Command dora runs dataflows: directed graphs of processes that exchange Apache Arrow
// data. main.go starts it, root.go gathers the commands, and every command has a file of
// its own name. This is the only place that may import every room; it wires effects
// (shims, stores, clocks) into actors and holds no rules of its own.
package main
