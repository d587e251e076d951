package types

import (
	"fmt"
	"strings"
)

// MaxHops bounds a chain of widening rules.
const MaxHops = 3

// Rules say which base may flow into which other one. The zero value has no rules.
type Rules struct{ next map[string][]string }

// StandardRules are the widenings that always hold. Nothing else widens: there is no
// way from whole numbers to floating-point ones, nor for Int8, Int16 and UInt16.
func StandardRules() Rules {
	var r Rules
	for _, p := range [][2]string{{"UInt8", "UInt32"}, {"UInt32", "UInt64"}, {"Int32", "Int64"}, {"Float32", "Float64"}} {
		r.Add("std/core/v1/"+p[0], "std/core/v1/"+p[1])
	}
	return r
}

// Add lets type from flow into inputs of type to; parameters do not count.
func (r *Rules) Add(from, to string) {
	if r.next == nil {
		r.next = map[string][]string{}
	}
	f, _, _ := strings.Cut(from, "[")
	t, _, _ := strings.Cut(to, "[")
	r.next[f] = append(r.next[f], t)
}

// reach reports whether at most MaxHops rules lead from one base to the other.
func (r Rules) reach(from, to string) bool {
	seen := map[string]bool{from: true}
	level := []string{from}
	for range MaxHops {
		var following []string
		for _, base := range level {
			for _, n := range r.next[base] {
				if n == to {
					return true
				}
				if !seen[n] {
					seen[n] = true
					following = append(following, n)
				}
			}
		}
		level = following
	}
	return false
}

// Compatible reports whether an output of type from may feed an input of type to: `to`
// is Bytes, the bases are the same and no parameter that both sides have differs, or
// rules lead there. Two structs with equal fields and different names are not.
func (r Rules) Compatible(from, to URN) bool {
	switch {
	case to.Base == Bytes:
		return true
	case from.Base != to.Base:
		return r.reach(from.Base, to.Base)
	}
	for _, p := range to.Params {
		if v, ok := from.Param(p.Key); ok && v != p.Value {
			return false
		}
	}
	return true
}

// Differences lists why a struct does not have the shape of another one: fields that are
// missing or of another type. Additional fields do not matter. It is empty if one of
// them is no struct.
func (l *Library) Differences(from, to URN) []string {
	have, want := l.Lookup(from.Base), l.Lookup(to.Base)
	if have == nil || want == nil || have.Arrow != structName || want.Arrow != structName {
		return nil
	}
	fields := make(map[string]FieldDef, len(have.Fields))
	for _, f := range have.Fields {
		fields[f.Name] = f
	}
	var out []string
	for _, w := range want.Fields {
		h, ok := fields[w.Name]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("missing field %q", w.Name))
		case !l.sameType(h.Type, w.Type):
			out = append(out, fmt.Sprintf("field %q type mismatch: expected %s, got %s", w.Name, w.Type, h.Type))
		}
	}
	return out
}

func (l *Library) sameType(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := l.ResolveExpr(a)
	y, errY := l.ResolveExpr(b)
	return errX == nil && errY == nil && x.Equal(y)
}
