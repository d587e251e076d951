package dataflow

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ProcessPorts are the ports of the node's process. Those of operators are called
// <operator>/<port>.
func (n *Node) ProcessPorts() Ports {
	if n.Kind != KindOperators {
		return n.Ports
	}
	var p Ports
	for _, o := range n.Operators {
		prefix := o.ID + "/"
		for _, in := range o.Inputs {
			in := *in
			in.ID = prefix + in.ID
			p.Inputs = append(p.Inputs, &in)
		}
		for _, out := range o.Outputs {
			p.Outputs = append(p.Outputs, Output{ID: prefix + out.ID, Pos: out.Pos})
		}
		p.InputTypes = appendPrefixed(p.InputTypes, prefix, o.InputTypes)
		p.OutputTypes = appendPrefixed(p.OutputTypes, prefix, o.OutputTypes)
		p.OutputFraming = appendPrefixed(p.OutputFraming, prefix, o.OutputFraming)
	}
	return p
}

func appendPrefixed(list []PortText, prefix string, more []PortText) []PortText {
	for _, t := range more {
		t.Port = prefix + t.Port
		list = append(list, t)
	}
	return list
}

// ProcessLogging is what holds for the log lines of the node's process. Of the operators
// of a node at most one sets each of them.
func (n *Node) ProcessLogging() Logging {
	l := n.Logging
	for _, o := range n.Operators {
		if o.SendStdoutAs != "" {
			l.SendStdoutAs = o.ID + "/" + o.SendStdoutAs
		}
		if o.SendLogsAs != "" {
			l.SendLogsAs = o.ID + "/" + o.SendLogsAs
		}
		if o.MinLogLevel != "" {
			l.MinLogLevel = o.MinLogLevel
		}
		if o.MaxLogSize != 0 {
			l.MaxLogSize = o.MaxLogSize
		}
		if o.Keys.Has("max_rotated_files") {
			l.MaxRotatedFiles = o.MaxRotatedFiles
		}
	}
	return l
}

// checkRuntime says what the runtime of the official wheel does not run.
func (c *checker) checkRuntime(n *Node) {
	for i, o := range n.Operators {
		if o.Source == OperatorWasm {
			c.errorf(o.Keys.At("wasm"), CodeUnsupported, "use `python` or `shared-library`", "operator `%s` of node `%s`: there is no runtime for WebAssembly", excerpt(o.ID), n.ID)
		}
		if i == 1 {
			c.errorf(o.Pos, CodeUnsupported, "give each operator a node of its own, with `operators:` and one entry", "node `%s` has %d operators; the official runtime (dora-rs 1.1) runs one per node", n.ID, len(n.Operators))
		}
	}
}

// checkOperatorPaths looks for the code of operators that have nothing to build.
func (c *checker) checkOperatorPaths(n *Node, dir string) {
	if len(n.BuildLines()) > 0 {
		return
	}
	for _, o := range n.Operators {
		key := string(o.Source)
		file := o.Location
		if IsURL(file) || o.Source == OperatorWasm {
			continue
		}
		if o.Source == OperatorSharedLibrary {
			file = SharedLibraryFile(file)
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			c.errorf(o.Keys.At(key), CodePathNotFound, fmt.Sprintf("check `%s` (relative paths start at the folder of the dataflow file), or give the operator a `build:` command", key),
				"operator `%s` of node `%s` cannot start: there is no file `%s`", excerpt(o.ID), n.ID, file)
		}
	}
}

// SharedLibrary is the name of a shared library, with the folder in front, as the runtime
// takes it: without the prefix and the ending of the platform, which may be written.
func SharedLibrary(path string) string {
	dir, name := filepath.Split(path)
	return dir + strings.TrimPrefix(strings.TrimSuffix(name, libraryEnding()), "lib")
}

// SharedLibraryFile is the file that the name of a shared library stands for on this
// platform: lib<name>.so, or lib<name>.dylib on macOS.
func SharedLibraryFile(path string) string {
	dir, name := filepath.Split(SharedLibrary(path))
	return dir + "lib" + name + libraryEnding()
}

func libraryEnding() string {
	if runtime.GOOS == "darwin" {
		return ".dylib"
	}
	return ".so"
}
