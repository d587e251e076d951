// Package actors is the control plane of one machine.
package actors
