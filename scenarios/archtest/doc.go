// Package archtest holds the rules of who may import whom, as a test. The drawing in
// ARCHITECTURE.md and the table in this test say the same thing; change both together.
package archtest
