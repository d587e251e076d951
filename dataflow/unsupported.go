package dataflow

import "fmt"

// Unsupported names what `dora run` does not run yet, with places. The descriptor may
// be valid all the same: validate accepts it.
func Unsupported(d *Descriptor) Diagnostics {
	c := &checker{file: d.File}
	refuse := func(keys Keys, key, fix, format string, args ...any) {
		if keys.Has(key) {
			c.errorf(keys.At(key), CodeUnsupported, fix, "%s: `dora run` does not support `%s` yet", fmt.Sprintf(format, args...), key)
		}
	}
	for _, n := range d.Nodes {
		c.checkRuntime(n)
		for _, key := range []string{"module", "hub", "ros2"} {
			refuse(n.Keys, key, "use a node with a local `path`", "node `%s`", n.ID)
		}
	}
	return c.finish()
}
