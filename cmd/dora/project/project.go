package project

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"
)

// Kinds and Langs are what can be made; the first is the default.
var (
	Kinds = []string{"dataflow", "node"}
	Langs = []string{"rust", "python", "c", "cxx", "go"}
)

//go:embed templates
var templates embed.FS

// parsed are the templates by their path below templates/, without .tmpl. The marks are
// not those of Go, which occur in the languages.
var parsed = sync.OnceValue(func() *template.Template {
	root := template.New("").Delims("[[", "]]").Option("missingkey=error")
	for _, lang := range Langs {
		dir := "templates/" + lang
		list, err := templates.ReadDir(dir)
		if err != nil {
			panic(err) // a template is missing in the program itself
		}
		for _, e := range list {
			raw, err := templates.ReadFile(dir + "/" + e.Name())
			if err != nil {
				panic(err)
			}
			template.Must(root.New(lang + "/" + strings.TrimSuffix(e.Name(), ".tmpl")).Parse(string(raw)))
		}
	}
	return root
})

// values are what a template may ask for.
type values struct {
	Project string // as the user named it
	Node    string // id of the node, as a program is called
	Folder  string // of the node, from the project's
	Package string // the node as a Python package
	Talker  bool   // sends; the others listen
	Single  bool   // a node without a dataflow
}

// file is one file of a project, and the template that it is made from.
type file struct{ path, from string }

// node is what every node of a language consists of, below its folder.
func node(lang, pkg string, single bool) []file {
	switch lang {
	case "rust":
		return []file{{"Cargo.toml", "node.toml"}, {"src/main.rs", "main.rs"}}
	case "python":
		return []file{{"README.md", "node.md"}, {"pyproject.toml", "node.toml"}, {pkg + "/__init__.py", "init.py"},
			{pkg + "/__main__.py", "run.py"}, {pkg + "/main.py", "main.py"}, {"tests/test_" + pkg + ".py", "test.py"}}
	case "c":
		return []file{{"CMakeLists.txt", "node.cmake"}, {"node.c", "node.c"}, {"node_api.h", "node_api.h"}}
	case "cxx":
		return []file{{"CMakeLists.txt", "node.cmake"}, {"node.cc", "node.cc"}}
	}
	files := []file{{"main.go", "main.go"}}
	if single {
		files = append(files, file{"go.mod", "go.mod"})
	}
	return files
}

// flow is what a dataflow has beside its nodes.
var flow = map[string][]file{
	"rust":   {{"Cargo.toml", "flow.toml"}, {"dataflow.yml", "dataflow.yml"}},
	"python": {{"README.md", "flow.md"}, {"pyproject.toml", "flow.toml"}, {"dataflow.yml", "dataflow.yml"}},
	"c":      {{"CMakeLists.txt", "flow.cmake"}, {"dataflow.yml", "dataflow.yml"}},
	"cxx":    {{"CMakeLists.txt", "flow.cmake"}, {"dataflow.yml", "dataflow.yml"}},
	"go":     {{"go.mod", "go.mod"}, {"dataflow.yml", "dataflow.yml"}},
}

// maxName leaves room for what is made of a name in paths and package names.
const maxName = 64

var goodName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// reserved are names that a node's program cannot have: keywords and packages of the
// language where the name is that of a package, targets of CMake where it is one.
var reserved = map[string][]string{
	"rust": strings.Fields("abstract alloc as async await become box break const continue core crate do dyn else enum extern false final fn for " +
		"gen if impl in let loop macro match mod move mut override priv proc_macro pub ref return Self self static std struct super test trait true try type " +
		"typeof unsafe unsized use virtual where while yield deps build examples incremental"),
	"python": strings.Fields("False None True and as assert async await break class continue def del elif else except finally for from global if " +
		"import in is lambda nonlocal not or pass raise return try while with yield dora tests pyarrow"),
	"c":   cmakeTargets,
	"cxx": cmakeTargets,
}

var cmakeTargets = strings.Fields("all clean depend edit_cache help install package rebuild_cache test dora_api_build dora_node_api")

var title = map[string]string{"rust": "Rust", "python": "Python", "c": "CMake", "cxx": "CMake"}

// CheckName says whether a name can be that of a project.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name has more than %d characters", maxName)
	case !goodName.MatchString(name):
		return fmt.Errorf("the name %q is not allowed: letters, digits, `_` and `-`, and a letter or `_` first", name)
	}
	return nil
}

// Create writes a new project into the folder parent/name and lists its files, relative to
// it. It refuses a folder that exists.
func Create(parent, name, kind, lang string) ([]string, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if !slices.Contains(Kinds, kind) || !slices.Contains(Langs, lang) {
		return nil, fmt.Errorf("there is no template for a %s in %s", kind, lang)
	}
	if kind == "node" && slices.Contains(reserved[lang], name) {
		return nil, fmt.Errorf("the name %q means something else in %s\n  fix: choose another name", name, title[lang])
	}
	dir := filepath.Join(parent, name)
	if _, err := os.Lstat(dir); err == nil {
		return nil, fmt.Errorf("%s exists already\n  fix: choose another name, or remove it", dir)
	}
	tmp, err := os.MkdirTemp(parent, ".new-")
	if err != nil {
		return nil, fmt.Errorf("%w\n  fix: make %s writable", err, parent)
	}
	defer os.RemoveAll(tmp)
	files, err := write(tmp, name, kind, lang)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, err
	}
	// A rename onto a folder fails, unless it is empty, which loses nothing.
	return files, os.Rename(tmp, dir)
}

func write(dir, name, kind, lang string) ([]string, error) {
	var out []string
	add := func(folder string, files []file, v values) error {
		for _, f := range files {
			path := filepath.Join(folder, f.path)
			if err := render(filepath.Join(dir, path), lang+"/"+f.from, v); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			out = append(out, path)
		}
		return nil
	}
	if kind == "node" {
		pkg := strings.ReplaceAll(name, "-", "_")
		err := add("", node(lang, pkg, true), values{Project: name, Node: name, Folder: ".", Package: pkg, Talker: true, Single: true})
		slices.Sort(out)
		return out, err
	}
	err := add("", flow[lang], values{Project: name})
	for _, id := range []string{"talker_1", "talker_2", "listener_1"} {
		folder := id
		if lang == "python" {
			folder = strings.ReplaceAll(id, "_", "-")
		}
		v := values{Project: name, Node: id, Folder: folder, Package: id, Talker: strings.HasPrefix(id, "talker")}
		err = errors.Join(err, add(folder, node(lang, id, false), v))
	}
	slices.Sort(out)
	return out, err
}

func render(path, name string, v values) error {
	var b bytes.Buffer
	if err := parsed().ExecuteTemplate(&b, name, v); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
