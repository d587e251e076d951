// Package native has an operator as a shared library (Rust), which the tests of
// scenarios/cli run in the official runtime.
//
// Start reading at src/lib.rs.
package native
