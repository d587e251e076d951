package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/dora-go/dora/"

// mayImport says for each room which other rooms of ours it may import. A room is the
// longest prefix in this table; what is below it belongs to it.
var mayImport = map[string][]string{
	"actors":             {"events", "journal", "dataflow", "transport/ws", "transport/link"},
	"events":             {},
	"journal":            {"events"},
	"dataflow":           {},
	"transport/ws":       {},
	"transport/link":     {},
	"transport/nodewire": {},
	"transport/shm":      {},
	"transport/zenoh":    {},
	"shim":               {"dataflow", "transport/link", "transport/nodewire", "transport/shm", "transport/zenoh"},
	"nodeapi":            {"transport/nodewire", "transport/shm"},
	"cmd/dora":           {"*"},
	"scenarios":          {"*"},
}

// onlyIn says where alone an outside package may be imported.
var onlyIn = map[string][]string{
	"github.com/asynkron/protoactor-go": {"actors"},
	"github.com/dgraph-io/badger":       {"journal"},
	"github.com/gorilla/websocket":      {"transport/ws"},
	"github.com/goccy/go-yaml":          {"dataflow", "transport/nodewire", "scenarios"},
}

// exporter is the one package that may link gRPC: the OTLP exporter brings it along.
const exporter, grpc = "github.com/dora-go/dora/cmd/dora", "google.golang.org/grpc"

// never must not be linked into any program of ours.
var never = []string{"k8s.io/", grpc, "github.com/asynkron/protoactor-go/cluster", "github.com/asynkron/protoactor-go/remote"}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImportsFollowTheArchitecture(t *testing.T) {
	pkgs := list(t)
	if len(pkgs) < len(mayImport) {
		t.Fatalf("only %d packages found", len(pkgs))
	}
	for _, p := range pkgs {
		from := room(p.ImportPath)
		if from == "" {
			t.Errorf("%s is in no room of the table", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if strings.HasPrefix(imp, grpc) {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
			checkImport(t, p.ImportPath, from, imp)
		}
		for _, dep := range p.Deps {
			for _, n := range never {
				if strings.HasPrefix(dep, n) && (n != grpc || p.ImportPath != exporter) {
					t.Errorf("%s links %s", p.ImportPath, dep)
				}
			}
		}
	}
}

func checkImport(t *testing.T, path, from, imp string) {
	for outside, rooms := range onlyIn {
		if strings.HasPrefix(imp, outside) && !contains(rooms, from) {
			t.Errorf("%s imports %s, which belongs into %v alone", path, imp, rooms)
		}
	}
	if !strings.HasPrefix(imp, module) {
		return
	}
	to := room(imp)
	if to == from || contains(mayImport[from], "*") || contains(mayImport[from], to) {
		return
	}
	t.Errorf("%s (%s) imports %s (%s), which the table forbids", path, from, imp, to)
}

func room(importPath string) string {
	path := strings.TrimPrefix(importPath, module)
	best := ""
	for r := range mayImport {
		if (path == r || strings.HasPrefix(path, r+"/")) && len(r) > len(best) {
			best = r
		}
	}
	return best
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
