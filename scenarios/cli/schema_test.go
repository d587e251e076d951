package cli

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dora-go/dora/dataflow"
)

// TestSchemaOfEditors: `dora schema` prints the schema that the tests of dataflow check with
// a library that is not ours, unchanged.
func TestSchemaOfEditors(t *testing.T) {
	text, err := exec.Command(filepath.Join(bin, "dora"), "schema").Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := dataflow.Schema()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(text), bytes.TrimSpace(want)) {
		t.Errorf("dora schema prints something else than dataflow.Schema:\n%s", text)
	}
}
