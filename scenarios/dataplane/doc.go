// Package dataplane runs Go nodes, and official Python nodes between them, as real
// processes on shared memory: what is published arrives, in order, whoever is killed,
// stopped or misbehaves; who is at fault is named; nothing of the dead stays with the
// living. The Python parts need DORA_TEST_PYTHON.
package dataplane
