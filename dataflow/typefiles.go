package dataflow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dora-go/dora/dataflow/types"
)

// TypesFolder beside a dataflow holds its own types.
const TypesFolder = "types"

const (
	// maxTypeDirs is how many folders deep types may lie, as dora 1.1 reads them.
	maxTypeDirs = 8
	// maxTypeFiles bounds the reading of a folder that is something else than types.
	maxTypeFiles = 1000
	// maxTypeEntries bounds the looking for them: `types` may be a link to anything.
	maxTypeEntries = 10_000
)

// LoadTypes reads the types of a project: every .yml file in the folder `types` of dir,
// up to 8 folders deep. A file types/robot/v1.yml defines types named robot/v1/<Name>.
// Without the folder there are the standard types alone.
func LoadTypes(dir string) (lib *types.Library, diags Diagnostics) {
	c := &checker{file: filepath.Join(dir, TypesFolder)}
	defer func() {
		if r := recover(); r != nil {
			lib, diags = types.NewLibrary(), Diagnostics{defect(c.file, r)}
		}
	}()
	lib = c.typeFiles(dir)
	return lib, c.finish()
}

func (c *checker) typeFiles(dir string) *types.Library {
	r := &typeReader{lib: types.NewLibrary(), root: filepath.Join(dir, TypesFolder), at: map[string]typeKeys{}}
	r.folder("", 0)
	for _, file := range r.files {
		r.resolve(file)
		c.adopt(file.checker.finish())
	}
	c.adopt(r.diags)
	return r.lib
}

// typeReader fills a library from the files of a folder.
type typeReader struct {
	lib   *types.Library
	root  string
	files []*typeFile
	seen  int // files and folders
	diags Diagnostics
	at    map[string]typeKeys // by URN
}

// typeFile is one file; names are the URNs that it defines, in order.
type typeFile struct {
	checker *checker
	names   []string
}

// typeKeys remembers where a type was written, to report what does not resolve.
type typeKeys struct {
	file   *typeFile
	arrow  Pos
	fields []Pos
}

func (r *typeReader) report(sev Severity, path, code, fix, message string) {
	r.diags = append(r.diags, Diagnostic{Severity: sev, Code: code, File: path, Message: message, Fix: fix})
}

// folder reads the files of one folder below the root, then the folders in it.
func (r *typeReader) folder(rel string, depth int) {
	path := filepath.Join(r.root, rel)
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && rel == "":
		return
	case err != nil:
		if info, serr := os.Stat(path); serr == nil && !info.IsDir() {
			return // a program named `types` is nobody's mistake
		}
		r.report(SeverityError, path, CodeFileUnreadable, "", "cannot read the types: "+reason(err))
		return
	}
	if r.seen += len(entries); r.seen > maxTypeEntries {
		r.report(SeverityError, path, CodeTypesFile, "give the types a folder of their own", fmt.Sprintf("there are more than %d files and folders in `%s`", maxTypeEntries, TypesFolder))
		return
	}
	var folders []string
	for _, e := range entries { // sorted by name
		name := filepath.Join(rel, e.Name())
		switch {
		case e.IsDir():
			folders = append(folders, name)
		case filepath.Ext(name) == ".yaml":
			r.report(SeverityWarning, filepath.Join(r.root, name), CodeTypesFile, "rename it to .yml", "this file is not read: types stand in .yml files")
		case filepath.Ext(name) != ".yml":
		case len(r.files) >= maxTypeFiles:
			r.report(SeverityError, path, CodeTypesFile, "", "there are too many files with types; 1000 are read at most")
			return
		default:
			r.file(name)
		}
	}
	for _, f := range folders {
		if r.seen > maxTypeEntries {
			return
		}
		if depth+1 > maxTypeDirs {
			r.report(SeverityWarning, filepath.Join(r.root, f), CodeTypesFile, "move it up", "this folder is not read: types lie at most 8 folders deep")
			continue
		}
		r.folder(f, depth+1)
	}
}

// file reads the types of one file, named relative to the root.
func (r *typeReader) file(rel string) {
	path := filepath.Join(r.root, rel)
	prefix := filepath.ToSlash(strings.TrimSuffix(rel, ".yml"))
	switch _, err := types.ParseURN(prefix + "/X"); {
	case prefix == "std", strings.HasPrefix(prefix, types.StandardPrefix):
		r.report(SeverityError, path, CodeTypesFile, "move the file into a folder of another name", `user types cannot use the "std/" prefix`)
		return
	case err != nil:
		r.report(SeverityError, path, CodeTypesFile, "rename the file or its folder", "the types of this file have names that cannot be written: "+err.Error())
		return
	}
	c, root := sideFile(path, "file of types", "such a file starts with `types:`")
	f := &typeFile{checker: c}
	r.files = append(r.files, f)
	if root == nil {
		return
	}
	var doc typeDocument
	keys := typeDocumentFields.into(scope{checker: c}, &doc, root, "a file of types")
	if root.kind == kindMap && !keys.Has("types") && root.child("types") == nil {
		c.errorf(root.pos, CodeMissingKey, "write `types:` with a mapping from names to types", "missing field `types`")
	}
	for _, t := range doc.types {
		t.def.URN = prefix + "/" + t.name
		r.lib.Add(t.def)
		r.at[t.def.URN] = typeKeys{file: f, arrow: t.arrow, fields: t.fields}
		f.names = append(f.names, t.def.URN)
	}
}

// resolve warns of what the types of a file refer to and what is not there.
func (r *typeReader) resolve(f *typeFile) {
	c := f.checker
	for _, urn := range f.names {
		def, at := r.lib.Lookup(urn), r.at[urn]
		if at.file != f {
			continue // defined anew in a later file
		}
		exprs, places := []string{def.Arrow}, []Pos{at.arrow}
		if def.Arrow == "Struct" {
			exprs, places = nil, at.fields
			for _, field := range def.Fields {
				exprs = append(exprs, field.Type)
			}
		}
		for i, text := range exprs {
			_, err := r.lib.ResolveExpr(text)
			var bad *types.UnresolvedError
			if text == "" || !errors.As(err, &bad) {
				continue
			}
			fix := "write an Arrow type such as Int8, Float64 or Utf8, List<type>, or the URN of a type"
			if len(bad.Candidates) > 0 {
				fix = "write one of these in full"
			} else if bad.TooDeep || bad.TooLarge {
				fix = "a type must not contain itself"
			}
			if bad.Field != "" && !bad.TooDeep && !bad.TooLarge {
				continue // reported where it is written
			}
			c.warnf(places[i], CodeTypesFile, fix, "type \"%s\": %s", urn, err)
		}
	}
}
