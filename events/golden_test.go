package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files of the newest versions")

var sampleTime = time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC)

// sample returns an event of the kind with every field, at every depth, set to a value
// that depends on nothing but its name and type: a new, renamed or retyped field always
// changes its golden file.
func sample(t testing.TB, k Kind) Event {
	t.Helper()
	v := reflect.New(reflect.TypeOf(k.sample())).Elem()
	fill(t, v, k.name)
	return v.Interface().(Event)
}

func fill(t testing.TB, v reflect.Value, name string) {
	t.Helper()
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(sampleTime))
		return
	case time.Duration:
		v.SetInt(int64(1500 * time.Millisecond))
		return
	case json.RawMessage:
		v.SetBytes([]byte(strconv.Quote("some " + strings.ToLower(name))))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("some " + strings.ToLower(name))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(len(name)))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(len(name)))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), fmt.Sprintf("%s %d", name, i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), name)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, name+" key")
		fill(t, value, name)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), v.Type().Field(i).Name)
		}
	default:
		t.Fatalf("no sample value for a field of type %s (%s); add a case to fill", v.Type(), name)
	}
}

func goldenPath(eventType string, version int) string {
	return filepath.Join("testdata", "golden", fmt.Sprintf("%s.v%d.json", eventType, version))
}

// TestGolden pins the written form of every type at its newest version.
func TestGolden(t *testing.T) {
	for _, name := range Catalogue.Types() {
		t.Run(name, func(t *testing.T) {
			want := sample(t, Catalogue.kinds[name])
			env, err := Seal(want, Meta{At: sampleTime})
			if err != nil {
				t.Fatal(err)
			}
			path := goldenPath(name, env.Version)
			got := indent(t, env.Data)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			golden, err := os.ReadFile(path)
			if err != nil {
				t.Fatalf("%s version %d has no golden file; run go test ./events -update and commit it: %v", name, env.Version, err)
			}
			if !bytes.Equal(got, golden) {
				t.Errorf("the shape of %s version %d changed. Old journals hold the golden shape: raise EventVersion and add an upcaster.\n got: %s\nwant: %s",
					name, env.Version, got, golden)
			}
			env.Data = golden
			back, err := Open(env)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, want) {
				t.Errorf("read back\n got %#v\nwant %#v", back, want)
			}
		})
	}
}

// TestEveryGoldenFileOpens keeps old versions readable: their files stay for good.
func TestEveryGoldenFileOpens(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string][]int{}
	for _, path := range files {
		var name string
		var version int
		base := strings.TrimSuffix(filepath.Base(path), ".json")
		name, v, ok := strings.Cut(base, ".v")
		if _, err := fmt.Sscanf(v, "%d", &version); !ok || err != nil {
			t.Errorf("%s: not of the form Type.vN.json", path)
			continue
		}
		seen[name] = append(seen[name], version)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Envelope{Type: name, Version: version, Data: data}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, name := range Catalogue.Types() {
		sort.Ints(seen[name])
		for v := 1; v <= Catalogue.Version(name); v++ {
			if len(seen[name]) < v || seen[name][v-1] != v {
				t.Errorf("the golden file of %s version %d is gone: %v", name, v, seen[name])
				break
			}
		}
	}
}

// nested are types that carry the methods of an event but only ever stand inside one.
var nested = map[string]string{"NodeFailure": "an element of DataflowFinished.Failures"}

// TestCatalogueIsComplete reads the source: a type with an EventType method that nobody
// added to types.go would be written by no one and missed by everyone.
func TestCatalogueIsComplete(t *testing.T) {
	parsed, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != "EventType" {
			continue
		}
		found++
		name := f.Recv.List[0].Type.(*ast.Ident).Name
		if _, ok := nested[name]; ok {
			continue
		}
		if Catalogue.Version(name) == 0 {
			t.Errorf("%s is an event but not in types.go", name)
		}
	}
	if want := len(Catalogue.Types()) + len(nested); found != want {
		t.Errorf("names.go has %d event types, the catalogue with nested types %d", found, want)
	}
	for _, name := range Catalogue.Types() {
		if got := reflect.TypeOf(Catalogue.kinds[name].sample()).Name(); got != name {
			t.Errorf("the struct %s calls itself %q", got, name)
		}
	}
}

func indent(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}
