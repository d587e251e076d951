package dataflow

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// unpack writes the files of an archive, without `want`, into a folder.
func unpack(t *testing.T, a *txtar.Archive, dir string) {
	t.Helper()
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "want") {
			continue
		}
		path := filepath.Join(dir, f.Name)
		if from, to, ok := strings.Cut(strings.TrimSpace(f.Name), " -> "); ok { // a symbolic link
			if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCases reads the dataflow of every testdata/cases/*.txtar with the files beside it,
// and compares what Load says with the section `want`.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("testdata is missing: %v %v", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			file, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			unpack(t, a, dir)
			t.Chdir(dir)
			got := caseText()
			setWant(t, file, a, "want", got)
			if d, _, diags := Load("dataflow.yml"); len(d.modules()) > 0 && !diags.HasErrors() {
				flat, err := d.Flat()
				if err != nil {
					t.Fatal(err)
				}
				setWant(t, file, a, "want.yml", flat)
				roundTrip(t, d)
			}
		})
	}
}

func (d *Descriptor) modules() []ModuleUse {
	if d == nil {
		return nil
	}
	return d.Modules
}

// caseText is all that Load says of dataflow.yml: findings, what strict types add, what
// was inferred.
func caseText() []byte {
	var b bytes.Buffer
	d, _, diags := Load("dataflow.yml")
	for _, x := range diags {
		fmt.Fprintln(&b, x)
	}
	if d == nil {
		return b.Bytes()
	}
	if !d.StrictTypes {
		for _, x := range d.Unannotated {
			fmt.Fprintf(&b, "strict: %s\n", x)
		}
	}
	for _, i := range d.Inferred {
		fmt.Fprintln(&b, i)
	}
	return b.Bytes()
}

// setWant compares a section of the archive, or rewrites it with -update.
func setWant(t *testing.T, file string, a *txtar.Archive, name string, got []byte) {
	t.Helper()
	for i := range a.Files {
		f := &a.Files[i]
		if f.Name != name {
			continue
		}
		if bytes.Equal(f.Data, got) {
			return
		}
		if !*update {
			t.Errorf("got\n%s\nwant\n%s", got, f.Data)
			return
		}
		f.Data = got
	}
	if *update {
		found := false
		for _, f := range a.Files {
			found = found || f.Name == name
		}
		if !found {
			a.Files = append(a.Files, txtar.File{Name: name, Data: got})
		}
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s has no section %s", file, name)
}
