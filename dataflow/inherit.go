package dataflow

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inherit gives a node of a module what comes from the module and from the node that
// uses it: parameters, variables, build lines, placement, and the folder of its paths.
func (x *expander) inherit(n, outer *Node, doc *moduleDoc, at level) {
	x.substitute(n, at.params)
	n.Env = mergeEnv(mergeEnv(outer.Env, n.Env), paramEnv(at.params))
	if n.Deploy == nil {
		n.Deploy = outer.Deploy
	}
	before := slices.Concat(outer.Build, doc.build)
	if len(n.Operators) == 0 {
		n.Build = slices.Concat(before, n.Build)
	}
	for _, op := range n.Operators {
		op.Build = slices.Concat(before, op.Build)
		op.Location = x.relocate(op.Location, op.Source == OperatorPython || len(op.Build) > len(before), n, op.Keys, string(op.Source), at)
	}
	if n.Kind == KindExecutable {
		n.Path = x.relocate(n.Path, len(n.Build) > len(before), n, n.Keys, "path", at)
	}
}

// relocate makes a path that is relative to the module file one that is relative to the
// dataflow. made: the file need not exist yet. A bare name that is no file beside the
// module stays as it is: it is a program on PATH.
func (x *expander) relocate(path string, made bool, n *Node, keys Keys, key string, at level) string {
	if path == "" || IsURL(path) || strings.HasPrefix(path, "$") {
		return path
	}
	bad := func(why string) string {
		x.errorf(keys.At(key), CodeModulePath, "programs of a module lie below the folder of the dataflow file", "`%s` of node `%s` %s: `%s`", key, excerpt(n.ID), why, excerpt(path))
		return path
	}
	if filepath.IsAbs(path) {
		return bad("must be relative, as it stands in a module")
	}
	file := filepath.Join(at.dir, path)
	rel, ok := below(x.root, file)
	if !ok {
		return bad("leads out of the project directory")
	}
	_, err := os.Lstat(file)
	if bare := !strings.ContainsRune(path, filepath.Separator); bare && err != nil && !made && filepath.Ext(path) == "" {
		return path
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		if _, ok := below(x.real, real); !ok {
			return bad("leads out of the project directory by a symbolic link")
		}
	}
	if !strings.ContainsRune(rel, filepath.Separator) && strings.ContainsRune(path, filepath.Separator) {
		rel = "." + string(filepath.Separator) + rel // not a name to look up on PATH
	}
	return rel
}

// paramEnv are the parameters as variables; their text is not expanded again.
func paramEnv(params []Param) []EnvVar {
	var list []EnvVar
	for _, p := range params {
		list = append(list, EnvVar{Name: paramVariable(p.Name), Value: EnvValue{Text: p.Value, Literal: true}, Pos: p.Pos})
	}
	return byName(list, func(e EnvVar) string { return e.Name })
}

func paramVariable(name string) string { return "PARAM_" + strings.ToUpper(name) }

// substitute puts parameters into args, variables and the parameters of inner modules.
func (x *expander) substitute(n *Node, params []Param) {
	if len(params) == 0 {
		return
	}
	if args := replaceParams(n.Args, params, false); args != n.Args {
		n.Args = args
		if _, err := SplitArgs(args); err != nil && n.Kind != KindShell {
			x.errorf(n.Keys.At("args"), CodeInvalidArgs, "put the parameter into an `env` variable, or correct its value", "node `%s` has `args` that cannot be split once parameters are in: %s", excerpt(n.ID), err)
		}
	}
	for i := range n.Env {
		if v := &n.Env[i].Value; v.FromHost == "" && !v.Literal {
			v.Text = replaceParams(v.Text, params, true)
		}
	}
	for i := range n.Params {
		n.Params[i].Value = replaceParams(n.Params[i].Value, params, false)
	}
}

// replaceParams replaces `$PARAM_<KEY>`, the key being the longest run of letters, digits
// and `_`, and `${_param.<key>}`. What was put in is not looked at again. With escape, a
// `$` in a value becomes `$$`, which variables read as `$`. Unknown keys stay.
func replaceParams(text string, params []Param, escape bool) string {
	var b strings.Builder
	put := func(key string, upper bool) bool {
		for _, p := range params {
			if !upper && p.Name == key || upper && paramVariable(p.Name) == key {
				value := p.Value
				if escape {
					value = strings.ReplaceAll(value, "$", "$$")
				}
				b.WriteString(value)
				return true
			}
		}
		return false
	}
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		text = text[i:]
		if rest, ok := strings.CutPrefix(text, "${_param."); ok {
			if key, after, closed := strings.Cut(rest, "}"); closed && put(key, false) {
				text = after
				continue
			}
		} else if n := paramNameLen(text[1:]); n > 0 && put(text[1:1+n], true) {
			text = text[1+n:]
			continue
		}
		b.WriteByte('$')
		text = text[1:]
	}
}

// paramNameLen is the length of the run of letters, digits and `_` at the start of s.
func paramNameLen(s string) int {
	n := 0
	for n < len(s) && isParamByte(s[n]) {
		n++
	}
	return n
}

func isParamByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
