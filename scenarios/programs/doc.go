// Package programs builds the programs of this repository that end-to-end tests run, once
// for a package of tests.
package programs
