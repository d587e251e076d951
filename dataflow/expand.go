package dataflow

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// moduleInput is the node that stands for the inputs of a module inside of it:
// `_mod/<port>`.
const moduleInput = "_mod"

// expander replaces module nodes by the nodes of their files.
type expander struct {
	*checker
	// root is the folder that nothing may lead out of, real is root without symlinks. Both
	// are empty if there is no such folder.
	root, real string
	files      map[string]*moduleFile // by path
	uses       []ModuleUse
	total      int
	full       bool // maxExpandedNodes was reported
}

// moduleFile is one file; it is read once, and made into nodes for every use.
type moduleFile struct {
	path     string
	real     string // without symlinks
	checker  *checker
	tree     *value
	reported bool
}

// level is where a list of nodes stands.
type level struct {
	prefix string // of ids: "" or "outer.inner."
	dir    string // of the file that the nodes are written in
	params []Param
	caller *Node // the module node, nil for the dataflow itself
	header *moduleHeader
	stack  []*moduleFile
}

// outputs are the declared outputs of a module: to the full id of their producer and its
// output. nil: the module could not be read, so nothing is known.
type moduleOutputs map[string]Source

func newExpander(c *checker, root string) *expander {
	real, err := filepath.EvalSymlinks(root)
	if err != nil {
		real = root
	}
	return &expander{checker: c, root: root, real: real, files: map[string]*moduleFile{}}
}

// expandModules replaces all module nodes of a dataflow.
func (c *checker) expandModules(d *Descriptor) {
	if !slices.ContainsFunc(d.Nodes, func(n *Node) bool { return n.Kind == KindModule }) {
		return
	}
	x := newExpander(c, d.Dir())
	d.Nodes, _ = x.expand(d.Nodes, level{dir: d.Dir()})
	d.Modules = x.uses
}

// expand gives the flat list of what nodes of one level become, and the outputs of those
// that were modules.
func (x *expander) expand(nodes []*Node, at level) ([]*Node, map[string]moduleOutputs) {
	var flat []*Node
	siblings := make(map[string]bool, len(nodes))
	modules := map[string]moduleOutputs{}
	for _, n := range nodes {
		siblings[n.ID] = true
		if n.Kind != KindModule {
			x.count(n)
			n.ID = at.prefix + n.ID
			flat = append(flat, n)
			continue
		}
		local := n.ID
		n.ID = at.prefix + n.ID
		list, outputs := x.use(n, at)
		flat = append(flat, list...)
		modules[local] = outputs
	}
	if x.full {
		return nil, modules
	}
	for _, n := range flat {
		x.wire(n, &n.Ports, n.ID, at, siblings, modules)
		for _, op := range n.Operators {
			x.wire(n, &op.Ports, n.ID+"/"+op.ID, at, siblings, modules)
		}
	}
	return flat, modules
}

func (x *expander) count(n *Node) {
	if x.total++; x.total > maxExpandedNodes && !x.full {
		x.full = true
		x.errorf(n.Pos, CodeModuleLimit, "", "the modules of this dataflow expand to more than %d nodes", maxExpandedNodes)
	}
}

// use expands one module node.
func (x *expander) use(n *Node, at level) ([]*Node, moduleOutputs) {
	if x.full {
		return nil, nil
	}
	f := x.find(n, at)
	if f == nil {
		return nil, nil
	}
	pos := n.Keys.At("module")
	for i, above := range at.stack {
		if above.real == f.real {
			names := ""
			for _, s := range at.stack[i:] {
				names += s.path + " -> "
			}
			x.errorf(pos, CodeModuleCycle, "module files must not use each other in a circle", "circular module reference: %s%s (node `%s`)", names, f.path, excerpt(n.ID))
			return nil, nil
		}
	}
	if len(at.stack) >= MaxModuleDepth {
		x.errorf(pos, CodeModuleLimit, "", "modules are nested more than %d levels deep (node `%s`)", MaxModuleDepth, excerpt(n.ID))
		return nil, nil
	}
	doc := x.document(f)
	if !doc.keys.Has("module") || !doc.keys.Has("nodes") {
		return nil, nil // reported; nothing is known of it
	}
	return x.module(n, f, doc, at)
}

// module expands what a module file holds, for one use.
func (x *expander) module(n *Node, f *moduleFile, doc *moduleDoc, at level) ([]*Node, moduleOutputs) {
	x.checkInputs(n, doc)
	x.uses = append(x.uses, ModuleUse{ID: n.ID, Name: firstOf(n.Name, doc.header.name), Description: n.Description, File: f.path})
	inner := level{dir: filepath.Dir(f.path), params: n.Params, caller: n, header: &doc.header, stack: append(slices.Clone(at.stack), f)}
	if n.ID != "" { // a module that is checked by itself has no prefix
		inner.prefix = n.ID + "."
	}
	for _, in := range doc.nodes {
		x.inherit(in, n, doc, inner)
	}
	direct := slices.Clone(doc.nodes)
	names := make([]string, len(direct))
	for i, d := range direct {
		names[i] = d.ID
	}
	flat, modules := x.expand(doc.nodes, inner)
	return flat, x.outputs(doc, direct, names, modules)
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// checkInputs compares what a module declares with what its node provides.
func (x *expander) checkInputs(n *Node, doc *moduleDoc) {
	h := &doc.header
	for _, p := range h.required {
		if n.Input(p.id) == nil {
			x.errorf(n.Keys.At("module"), CodeModulePort, "add `"+p.id+": <source_node>/<output>` to the inputs of the node", "module `%s` declares required input `%s` but node `%s` does not provide it", h.name, p.id, n.ID)
		}
	}
	for _, in := range n.Inputs {
		if required, optional := h.declares(in.ID); required || optional {
			continue
		}
		x.errorf(in.Pos, CodeModulePort, x.nearPort(in.ID, "inputs", h.inputNames()), "module `%s` does not declare input `%s` provided by node `%s`", h.name, excerpt(in.ID), n.ID)
	}
}

// nearPort says which port was meant, or which ones the module declares.
func (x *expander) nearPort(id, what string, declared []string) string {
	if len(declared) == 0 {
		return "the module declares no " + what
	}
	return x.didYouMean(id, declared, "declared "+what+" are: "+quoteList(declared))
}

// outputs finds the producer of every declared output among the nodes of the module
// itself; of modules inside of it, only declared outputs are seen.
func (x *expander) outputs(doc *moduleDoc, direct []*Node, names []string, modules map[string]moduleOutputs) moduleOutputs {
	out := moduleOutputs{}
	for _, p := range doc.header.outputs {
		var producers []Source
		unknown := false
		for i, n := range direct {
			if n.Kind == KindModule {
				outputs := modules[names[i]]
				unknown = unknown || outputs == nil
				if src, ok := outputs[p.id]; ok {
					producers = append(producers, src)
				}
				continue
			}
			if n.HasOutput(p.id) {
				producers = append(producers, Source{Kind: SourceNode, Node: n.ID, Output: p.id})
			}
			for _, op := range n.Operators {
				if op.HasOutput(p.id) {
					producers = append(producers, Source{Kind: SourceNode, Node: n.ID, Output: op.ID + "/" + p.id})
				}
			}
			unknown = unknown || n.Kind == KindHub || n.Kind == ""
		}
		switch {
		case len(producers) == 1:
			out[p.id] = producers[0]
		case len(producers) > 1:
			var list []string
			for _, src := range producers {
				list = append(list, src.String())
			}
			x.errorf(p.pos, CodeModulePort, "rename all but one of them", "module `%s` declares output `%s` but multiple inner nodes produce it: %s", doc.header.name, p.id, strings.Join(list, ", "))
			out[p.id] = Source{}
		case unknown:
			out[p.id] = Source{}
		default:
			x.errorf(p.pos, CodeModulePort, "add it to the `outputs` of a node, or remove it from the module", "module `%s` declares output `%s` but no inner node produces it", doc.header.name, p.id)
			out[p.id] = Source{}
		}
	}
	return out
}

// wire settles the sources that are written at this level.
func (x *expander) wire(n *Node, p *Ports, owner string, at level, siblings map[string]bool, modules map[string]moduleOutputs) {
	kept := p.Inputs[:0]
	for _, in := range p.Inputs {
		if x.source(in, owner, at, siblings, modules) {
			kept = append(kept, in)
			continue
		}
		p.InputTypes = slices.DeleteFunc(p.InputTypes, func(t PortText) bool { return t.Port == in.ID })
	}
	p.Inputs = kept
}

// source settles one source; false: the input goes, its optional port is not wired.
func (x *expander) source(in *Input, owner string, at level, siblings map[string]bool, modules map[string]moduleOutputs) bool {
	src := &in.Source
	switch {
	case src.settled:
		return true
	case src.Kind == SourceLogs:
		if siblings[src.LogNode] {
			src.LogNode, src.settled = at.prefix+src.LogNode, true
		}
		return true
	case src.Kind != SourceNode:
		return true
	case src.Node == moduleInput && at.caller != nil && !siblings[moduleInput]:
		return x.fromCaller(in, owner, at)
	case !siblings[src.Node]:
		return true // a node further out, or none
	}
	outputs, isModule := modules[src.Node]
	switch {
	case !isModule:
		src.Node = at.prefix + src.Node
	case outputs == nil:
		src.Kind = "" // the module is broken: that was reported
	default:
		x.fromModule(src, outputs, owner, at)
	}
	src.settled = true
	return true
}

func (x *expander) fromModule(src *Source, outputs moduleOutputs, owner string, at level) {
	to, ok := outputs[src.Output]
	if !ok {
		var names []string
		for name := range outputs {
			names = append(names, name)
		}
		slices.Sort(names)
		x.errorf(src.Pos, CodeUnknownOutput, x.nearPort(src.Output, "outputs", names), "the module node `%s%s` does not declare the output `%s` mapped to `%s`", at.prefix, src.Node, excerpt(src.Output), excerpt(owner))
		src.Kind = ""
		return
	}
	src.Kind, src.Node, src.Output = to.Kind, to.Node, to.Output
}

// fromCaller replaces `_mod/<port>` by what the module node wired to the port. Options
// that the inner input does not set come from there, too.
func (x *expander) fromCaller(in *Input, owner string, at level) bool {
	name := in.Source.Output
	required, optional := at.header.declares(name)
	if !required && !optional {
		x.errorf(in.Source.Pos, CodeModulePort, x.nearPort(name, "inputs", at.header.inputNames()), "input `%s` refers to `_mod/%s`, but the module does not declare the input `%s`", excerpt(owner+"/"+in.ID), excerpt(name), excerpt(name))
		in.Source = Source{settled: true}
		return true
	}
	outer := at.caller.Input(name)
	if outer == nil {
		in.Source = Source{settled: true}
		return required // reported; an optional port drops the input
	}
	in.Source = outer.Source
	for _, key := range outer.Keys {
		if in.Keys.Has(key.Name) {
			continue
		}
		switch key.Name {
		case "queue_size":
			in.QueueSize, in.HasQueueSize = outer.QueueSize, outer.HasQueueSize
		case "queue_policy":
			in.QueuePolicy = outer.QueuePolicy
		case "input_timeout":
			in.Timeout = outer.Timeout
		default:
			continue
		}
		in.Keys = append(in.Keys, key)
	}
	return true
}

// find gives the file of a module node.
func (x *expander) find(n *Node, at level) *moduleFile {
	pos := n.Keys.At("module")
	bad := func(code, fix, why string) *moduleFile {
		x.errorf(pos, code, fix, "module path `%s` %s (node `%s`)", excerpt(n.Module), why, excerpt(n.ID))
		return nil
	}
	const inside = "a module lies below the folder of the dataflow file"
	if filepath.IsAbs(n.Module) || IsURL(n.Module) {
		return bad(CodeModulePath, inside, "must be relative")
	}
	path := filepath.Join(at.dir, n.Module)
	if _, ok := below(x.root, path); !ok {
		return bad(CodeModulePath, inside, "escapes the project directory")
	}
	if _, known := x.files[path]; known {
		return x.read(path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bad(CodeFileUnreadable, "the path starts at the folder of the file that it is written in", "leads to no file: there is no `"+path+"`")
	case err != nil:
		return bad(CodeFileUnreadable, "", "cannot be read: "+reason(err))
	case !info.Mode().IsRegular():
		return bad(CodeFileUnreadable, "", "is not a file")
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return bad(CodeFileUnreadable, "", "cannot be read: "+reason(err))
	}
	if _, ok := below(x.real, real); !ok {
		return bad(CodeModulePath, inside, "escapes the project directory by a symbolic link")
	}
	return x.read(path)
}

// read reads a file once; nil if it is no YAML, which is reported.
func (x *expander) read(path string) *moduleFile {
	f, ok := x.files[path]
	if !ok {
		f = &moduleFile{path: path, real: path}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			f.real = real
		}
		f.checker, f.tree = sideFile(path, "module", "a module file starts with `module:`")
		x.files[path] = f
	}
	if f.tree != nil {
		return f
	}
	if !f.reported {
		f.reported = true
		x.adopt(f.checker.finish())
	}
	return nil
}

// document makes nodes of a file. Its mistakes are reported once.
func (x *expander) document(f *moduleFile) *moduleDoc {
	c := &checker{file: f.path, text: f.checker.text, lineStart: f.checker.lineStart}
	doc := c.moduleDocument(f.tree)
	if !f.reported {
		f.reported = true
		x.adopt(c.finish())
	}
	return doc
}

// below gives path relative to root, if it does not lead out of it.
func below(root, path string) (string, bool) {
	if root == "" {
		return path, true
	}
	rel, err := filepath.Rel(root, path)
	return rel, err == nil && filepath.IsLocal(rel)
}
