package dataflow

import "fmt"

// Load reads and checks the descriptor at path. It gives the text as read, too. The
// Descriptor is nil if the file could not be read as YAML; if Diagnostics.HasErrors,
// it is incomplete and good for messages only.
func Load(path string) (*Descriptor, []byte, Diagnostics) {
	src, bad := readFile(path)
	if bad != nil {
		return nil, nil, Diagnostics{*bad}
	}
	d, diags := Parse(path, src)
	return d, src, diags
}

// Parse checks a descriptor; file is the name used in findings. See Load for what it
// gives.
func Parse(file string, src []byte) (d *Descriptor, diags Diagnostics) {
	defer func() {
		if r := recover(); r != nil {
			d = nil
			diags = Diagnostics{{Severity: SeverityError, Code: CodeInternal, File: file, Message: fmt.Sprintf("checking this file failed: %v", r), Fix: "this is a defect of dora; please report it with the file"}}
		}
	}()
	c := &checker{file: file}
	text, bad := cleanText(src)
	var root *value
	if bad == nil {
		c.text = text
		root, bad = buildTree(text)
	}
	if bad == nil && root == nil {
		bad = &finding{code: CodeFileEmpty, msg: "the file is empty", fix: "a dataflow starts with `nodes:`"}
	}
	if bad != nil {
		c.errorf(bad.pos, bad.code, bad.fix, "%s", bad.msg)
		return nil, c.finish()
	}
	d = c.descriptor(root)
	c.checkWiring(d)
	c.checkCycles(d)
	return d, c.finish()
}
