package dataflow

import (
	"slices"
	"strings"
	"unicode"
)

// refusedEnv are variables that belong to dora or to the loader: letting a descriptor
// set them would break the connection of a node, or load code into it.
var refusedEnv = []string{
	"DORA_NODE_CONFIG", "DORA_RUNTIME_CONFIG", "DORA_ZENOH_LISTEN", "DORA_ZENOH_CONNECT", "DORA_ZENOH_MULTICAST",
	"ZENOH_CONFIG", "DORA_RUN_PARENT_PID", "LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH",
	"DORA_AUTH_TOKEN", "DORA_ALLOW_SHELL_NODES",
}

// RefusedEnv reports whether a descriptor may not set the variable; it is dropped
// with a warning.
func RefusedEnv(name string) bool {
	return slices.Contains(refusedEnv, name) || strings.HasPrefix(name, "DYLD_")
}

// hostEnvKey reads a variable of the machine the node runs on.
const hostEnvKey = "__dora_env"

// env reads an `env` section.
func (s scope) env(v *value) []EnvVar {
	var list []EnvVar
	for _, e := range s.entries(v, "variable names to values") {
		if !s.envName(e) {
			continue
		}
		if RefusedEnv(e.key) {
			s.warnf(e.keyPos, CodeEnvRefused, "remove it; set it in the environment of dora itself if you need it", "%s sets `%s`, which dora or the loader uses itself: it is dropped", s.ownerOr("the dataflow"), e.key)
		}
		if val, ok := s.envValue(e); ok {
			list = append(list, EnvVar{Name: e.key, Value: val, Pos: e.keyPos})
		}
	}
	return byName(list, func(e EnvVar) string { return e.Name })
}

func (s scope) envName(e entry) bool {
	bad := ""
	switch {
	case e.keyKind != kindString:
		s.idKind(e.keyPos, e.keyKind, e.key, "a name in "+s.of())
		return false
	case e.key == "":
		bad = "is empty"
	case strings.Contains(e.key, "="):
		bad = "holds `=`"
	case strings.ContainsFunc(e.key, func(r rune) bool { return r == 0 || unicode.IsSpace(r) }):
		bad = "holds white space"
	default:
		return true
	}
	s.errorf(e.keyPos, CodeInvalidEnv, "", "%s sets an environment variable whose name %s: %q", s.ownerOr("the dataflow"), bad, excerpt(e.key))
	return false
}

func (s scope) envValue(e entry) (EnvValue, bool) {
	at := e.val.posOr(e.keyPos)
	name := "variable `" + excerpt(e.key) + "` of " + s.ownerOr("the dataflow")
	switch e.val.kind {
	case kindString:
		if strings.ContainsRune(e.val.text, 0) {
			s.errorf(at, CodeInvalidEnv, "", "%s holds a NUL character", name)
			return EnvValue{}, false
		}
		return EnvValue{Text: e.val.text}, true
	case kindBool, kindInt, kindFloat:
		return EnvValue{Text: renderScalar(e.val), Literal: true}, true
	case kindMap:
		return s.hostEnv(e.val, name)
	case kindNull:
		s.errorf(at, CodeInvalidEnv, `write "" for an empty text`, "%s has no value", name)
	default:
		s.errorf(at, CodeInvalidEnv, "join the items into one text", "%s is %s, not a text", name, e.val.kind)
	}
	return EnvValue{}, false
}

// hostEnv reads {__dora_env: NAME}.
func (s scope) hostEnv(v *value, name string) (EnvValue, bool) {
	ref := v.child(hostEnvKey)
	if ref == nil || len(v.entries) != 1 {
		s.errorf(v.pos, CodeInvalidEnv, "write {"+hostEnvKey+": HOST_VARIABLE}", "%s is a mapping with other keys than `%s`", name, hostEnvKey)
		return EnvValue{}, false
	}
	if ref.kind != kindString || ref.text == "" || strings.ContainsFunc(ref.text, func(r rune) bool { return r == '=' || r == 0 || unicode.IsSpace(r) }) {
		s.errorf(ref.posOr(v.pos), CodeInvalidEnv, "write {"+hostEnvKey+": HOST_VARIABLE}", "%s: `%s` must name an environment variable, not %s", name, hostEnvKey, show(ref))
		return EnvValue{}, false
	}
	return EnvValue{FromHost: ref.text}, true
}

// mergeEnv puts a node's variables on top of the dataflow's; both are sorted.
func mergeEnv(base, own []EnvVar) []EnvVar {
	if len(base) == 0 {
		return own
	}
	out := make([]EnvVar, 0, len(base)+len(own))
	for len(base) > 0 || len(own) > 0 {
		switch {
		case len(own) == 0 || len(base) > 0 && base[0].Name < own[0].Name:
			out, base = append(out, base[0]), base[1:]
		default:
			if len(base) > 0 && base[0].Name == own[0].Name {
				base = base[1:]
			}
			out, own = append(out, own[0]), own[1:]
		}
	}
	return out
}
