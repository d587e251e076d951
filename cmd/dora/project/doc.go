// Package project writes new projects: a dataflow of two talkers and a listener, or a
// single node, in Rust, Python, Go, C or C++.
//
// What it guarantees: a project is there as a whole or not at all, nothing that exists is
// touched, and what is written builds and runs (the tests do both with every template).
//
// Start reading at Create.
package project
