// Package scenarios holds dataflows as a user writes them, and the tests that run them
// with the real dora binary:
//
//   - quickstart: three Go nodes show the live state of the machine
//   - python: unmodified official Python nodes exchange arrays of up to 40 MB
//   - mixed: Go -> Python -> Go, every value and parameter checked
//   - patterns: Go and Python are client and server of each other: services, actions,
//     streams
//
// Each test runs in a private home, and fails if a process, port, socket, memory file
// or temporary file is left afterwards (package leftovers). The same scenarios also run
// under the original dora, so that a difference shows which side is wrong.
//
// The tests need DORA_TEST_PYTHON: the interpreter of an environment with
// scenarios/requirements.txt. The other folders hold tests of one subject each; see
// their doc.go.
package scenarios
