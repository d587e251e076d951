package dataflow

import (
	"path/filepath"

	"github.com/dora-go/dora/dataflow/types"
)

// Limits of modules.
const (
	// MaxModuleDepth is how many modules may lie inside each other, as in dora 1.1.
	MaxModuleDepth = 8
	// maxExpandedNodes bounds what modules that use modules grow to. Ten times of the
	// largest dataflow that this package is measured with.
	maxExpandedNodes = 100_000
)

// ModuleUse is one node of a dataflow that was a module. It is kept for those who show
// the dataflow: the nodes of the module are among the others, as `<id>.<inner id>`.
type ModuleUse struct {
	ID          string // with the ids of the modules around it: `outer.inner`
	Name        string // of the module node, or else of the module
	Description string
	File        string
}

// moduleDoc is a module file.
type moduleDoc struct {
	keys   Keys
	header moduleHeader
	build  []BuildLine
	nodes  []*Node
}

// moduleHeader is `module:`, what a module promises.
type moduleHeader struct {
	keys     Keys
	name     string
	required []port
	optional []port
	outputs  []port
}

// port is a declared input or output.
type port struct {
	id  string
	pos Pos
}

var (
	moduleFields = newObject(
		field[moduleDoc]{"module", func(s scope, m *moduleDoc, v *value) {
			m.header.keys = moduleHeaderFields.into(scope{s.checker, "the module", ""}, &m.header, v, "`module`")
			if v.kind == kindMap && !m.header.keys.Has("name") {
				s.errorf(v.pos, CodeMissingKey, "add `name: some-name`", "`module` has no `name`")
			}
		}},
		field[moduleDoc]{"build", func(s scope, m *moduleDoc, v *value) {
			m.build = scope{s.checker, "the module", "build"}.build(v)
		}},
		field[moduleDoc]{"nodes", func(s scope, m *moduleDoc, v *value) { m.nodes = scope{checker: s.checker, key: "nodes"}.nodes(v) }},
	)
	moduleHeaderFields = newObject(
		field[moduleHeader]{"name", func(s scope, h *moduleHeader, v *value) { h.name = s.nonEmpty(v) }},
		field[moduleHeader]{"inputs", func(s scope, h *moduleHeader, v *value) { h.required = s.modulePorts(v, "input ids") }},
		field[moduleHeader]{"inputs_optional", func(s scope, h *moduleHeader, v *value) { h.optional = s.modulePorts(v, "input ids") }},
		field[moduleHeader]{"outputs", func(s scope, h *moduleHeader, v *value) { h.outputs = s.modulePorts(v, "output ids") }},
	)
)

func (s scope) modulePorts(v *value, what string) []port {
	var list []port
	seen := map[string]Pos{}
	for _, item := range s.list(v, what) {
		id := s.itemID(item)
		if id == "" {
			continue
		}
		if first, twice := seen[id]; twice {
			s.errorf(item.pos, CodeModulePort, "remove one of them", "the module has a duplicate `%s` entry `%s`; first in line %d", s.key, excerpt(id), first.Line)
			continue
		}
		seen[id] = item.pos
		list = append(list, port{id, item.pos})
	}
	return list
}

// moduleDocument reads the tree of a module file.
func (c *checker) moduleDocument(root *value) *moduleDoc {
	m := &moduleDoc{}
	s := scope{checker: c, owner: "the module"}
	m.keys = moduleFields.into(s, m, root, "a module file")
	for _, key := range []string{"module", "nodes"} {
		if root.kind == kindMap && root.child(key) == nil {
			fix := "add `module: {name: some-name}`"
			if key == "nodes" {
				fix = "add `nodes:` with a list of nodes"
			}
			c.errorf(root.pos, CodeMissingKey, fix, "missing field `%s` in a module file", key)
		}
	}
	for _, opt := range m.header.optional {
		for _, req := range m.header.required {
			if req.id == opt.id {
				c.errorf(opt.pos, CodeModulePort, "keep it in `inputs` or in `inputs_optional`", "the module input `%s` is declared as both required and optional", excerpt(opt.id))
			}
		}
	}
	return m
}

// declares reports whether the module has this input.
func (h *moduleHeader) declares(input string) (required, optional bool) {
	for _, p := range h.required {
		required = required || p.id == input
	}
	for _, p := range h.optional {
		optional = optional || p.id == input
	}
	return required, optional
}

// inputNames are all inputs, for messages.
func (h *moduleHeader) inputNames() []string {
	var names []string
	for _, p := range h.required {
		names = append(names, p.id)
	}
	for _, p := range h.optional {
		names = append(names, p.id)
	}
	return names
}

// CheckModule checks a module file by itself, with the modules that it uses. Which folder
// its files must not lead out of is known only to a dataflow that uses it.
func CheckModule(path string) (diags Diagnostics) {
	defer func() {
		if r := recover(); r != nil {
			diags = Diagnostics{defect(path, r)}
		}
	}()
	c := &checker{file: path}
	x := &expander{checker: c, files: map[string]*moduleFile{}}
	// All inputs count as wired, to something that is not looked at.
	caller := &Node{Kind: KindModule}
	f := x.read(path)
	if f == nil {
		return c.finish()
	}
	doc := x.document(f)
	for _, id := range doc.header.inputNames() {
		caller.Inputs = append(caller.Inputs, &Input{ID: id})
	}
	list, _ := x.module(caller, f, doc, level{dir: filepath.Dir(path)})
	d := &Descriptor{File: path, Nodes: list}
	c.index(d)
	c.checkWiring(d)
	c.checkCycles(d)
	c.checkTypes(d, types.Standard(), false)
	return c.finish()
}
