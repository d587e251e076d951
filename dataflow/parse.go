package dataflow

import (
	"fmt"

	"github.com/dora-go/dora/dataflow/types"
)

// Load reads and checks the descriptor at path, the modules that it uses and the types
// beside it. It gives the text as read, too. The Descriptor is nil if the file could not
// be read as YAML; if Diagnostics.HasErrors, it is incomplete and good for messages only.
func Load(path string) (*Descriptor, []byte, Diagnostics) {
	src, bad := readFile(path)
	if bad != nil {
		return nil, nil, Diagnostics{*bad}
	}
	d, diags := check(path, src, true)
	return d, src, diags
}

// Parse checks a descriptor; file is the name used in findings. See Load for what it
// gives. No other file is read: types beside the descriptor are taken to exist.
func Parse(file string, src []byte) (*Descriptor, Diagnostics) { return check(file, src, false) }

func check(file string, src []byte, others bool) (d *Descriptor, diags Diagnostics) {
	c := &checker{file: file}
	defer func() {
		if r := recover(); r != nil {
			d, diags = nil, Diagnostics{defect(file, r)}
		}
	}()
	root := c.tree(src, "a dataflow starts with `nodes:`")
	if root == nil {
		return nil, c.finish()
	}
	d = c.descriptor(root)
	lib := types.Standard()
	if others {
		c.expandModules(d)
		lib = c.typeFiles(d.Dir())
	}
	c.index(d)
	c.checkWiring(d)
	c.checkCycles(d)
	c.checkTypes(d, lib, others)
	return d, c.finish()
}

// defect is the finding that a panic of ours becomes.
func defect(file string, r any) Diagnostic {
	return Diagnostic{Severity: SeverityError, Code: CodeInternal, File: file, Message: fmt.Sprintf("checking this file failed: %v", r), Fix: "this is a defect of dora; please report it with the file"}
}

// tree reads YAML; nil if there is none, which is reported. starts says what such a file
// begins with.
func (c *checker) tree(src []byte, starts string) *value {
	text, bad := cleanText(src)
	var root *value
	if bad == nil {
		c.text = text
		root, bad = buildTree(text)
	}
	if bad == nil && root == nil {
		bad = &finding{code: CodeFileEmpty, msg: "the file is empty", fix: starts}
	}
	if bad != nil {
		c.errorf(bad.pos, bad.code, bad.fix, "%s", bad.msg)
		return nil
	}
	return root
}

// maxSideFile bounds modules and files of types, in bytes.
const maxSideFile = 1 << 20

// sideFile reads a file that belongs to the dataflow. Its findings are in the checker,
// whose places name the file; the tree is nil if there is none.
func sideFile(path, what, starts string) (*checker, *value) {
	c := &checker{file: path}
	src, bad := readLimited(path, what, maxSideFile)
	if bad != nil {
		c.adopt(Diagnostics{*bad})
		return c, nil
	}
	root := c.tree(src, starts)
	root.placeIn(&c.file)
	return c, root
}

// placeIn makes the places of a tree those of a file.
func (v *value) placeIn(file *string) {
	if v == nil || v.pos.file != nil { // the latter: shared by an alias
		return
	}
	v.pos.file = file
	for _, item := range v.items {
		item.placeIn(file)
	}
	for i := range v.entries {
		v.entries[i].keyPos.file = file
		v.entries[i].val.placeIn(file)
	}
}
