package types

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// MaxDepth bounds how deep the types of fields are resolved: 8 levels of structs and
// lists, as dora 1.1 does.
const MaxDepth = 8

// MaxFields bounds the size of one resolved type, its nested fields included: 100 fields
// that each have 100 fields are no longer a type that anyone reads.
const MaxFields = 4096

// Definition is one type of a library.
type Definition struct {
	URN         string // without parameters
	Arrow       string // a primitive Arrow name, Struct or List<T>
	Description string
	Params      []ParamDef
	Fields      []FieldDef
	Metadata    []MetadataKey
}

// ParamDef declares a parameter. Matching does not need the declaration.
type ParamDef struct{ Name, Default string }

// FieldDef is a field of a struct: Type is a primitive Arrow name, List<T>, a URN, or the
// end of exactly one URN (`Vector3`).
type FieldDef struct {
	Name     string
	Type     string
	Nullable bool
}

// MetadataKey is a key that messages of a type carry in their metadata.
type MetadataKey struct{ Key, Description string }

// Library holds types by their URN.
type Library struct {
	parent *Library
	defs   map[string]*Definition
	byName map[string][]string // last part of the URN -> URNs

	mu   sync.Mutex
	memo map[string]resolved // by URN
}

// NewLibrary is an empty library on top of the standard one.
func NewLibrary() *Library {
	return &Library{parent: Standard(), defs: map[string]*Definition{}, byName: map[string][]string{}}
}

// Add puts a type into the library; of two with one URN the last one counts.
func (l *Library) Add(d Definition) *Definition {
	if _, there := l.defs[d.URN]; !there {
		name := URN{Base: d.URN}.Name()
		l.byName[name] = append(l.byName[name], d.URN)
	}
	l.defs[d.URN] = &d
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memo = nil
	return &d
}

// Len is the number of types that were added on top of the standard ones.
func (l *Library) Len() int { return len(l.defs) }

// Lookup gives the type with this base URN, or nil.
func (l *Library) Lookup(base string) *Definition {
	for ; l != nil; l = l.parent {
		if d := l.defs[base]; d != nil {
			return d
		}
	}
	return nil
}

// Names are all URNs, sorted.
func (l *Library) Names() []string {
	var all []string
	for ; l != nil; l = l.parent {
		all = slices.AppendSeq(all, maps.Keys(l.defs))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Find gives the types that a name in a field may stand for: the one with this URN, or
// all whose URN ends in it.
func (l *Library) Find(name string) []string {
	if l.Lookup(name) != nil {
		return []string{name}
	}
	last := URN{Base: name}.Name()
	var found []string
	for ; l != nil; l = l.parent {
		for _, urn := range l.byName[last] {
			if strings.HasSuffix(urn, "/"+name) {
				found = append(found, urn)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// UnresolvedError says why a type has no Arrow type.
type UnresolvedError struct {
	// Field is the way to it: `boxes.corner`; "" for the type itself.
	Field string
	Text  string // the type as written
	// Candidates are the types that an ambiguous name may stand for.
	Candidates []string
	// TooDeep: the fields are nested more than MaxDepth levels deep. TooLarge: there are
	// more than MaxFields.
	TooDeep, TooLarge bool
	// Malformed says what is wrong with the text, if that is it.
	Malformed string
}

func (e *UnresolvedError) Error() string {
	where := ""
	if e.Field != "" {
		where = fmt.Sprintf(" of field %q", e.Field)
	}
	switch {
	case e.TooDeep:
		return fmt.Sprintf("type %q%s is nested more than %d levels deep", e.Text, where, MaxDepth)
	case e.TooLarge:
		return fmt.Sprintf("type %q%s has more than %d fields", e.Text, where, MaxFields)
	case e.Malformed != "":
		return fmt.Sprintf("malformed type %q%s: %s", e.Text, where, e.Malformed)
	case len(e.Candidates) > 0:
		return fmt.Sprintf("type %q%s is ambiguous: it may be %s", e.Text, where, strings.Join(e.Candidates, " or "))
	}
	return fmt.Sprintf("unknown type %q%s", e.Text, where)
}

// Resolve gives the Arrow type behind a URN. The error is an *UnresolvedError.
func (l *Library) Resolve(u URN) (Arrow, error) {
	d := l.Lookup(u.Base)
	if d == nil {
		return Arrow{}, &UnresolvedError{Text: u.Base}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.define(d).result(u.Base)
}

// ResolveExpr gives the Arrow type behind the type of a field.
func (l *Library) ResolveExpr(text string) (Arrow, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expr(text).result(text)
}

// resolved is what became of one type. Types that were resolved before are shared, so
// that all of a library together take the time of reading it once.
type resolved struct {
	arrow  Arrow
	depth  int // levels, itself included
	fields int // itself and all below
	bad    *UnresolvedError
}

func (r resolved) result(text string) (Arrow, error) {
	if r = r.limited(text); r.bad != nil {
		return Arrow{}, r.bad
	}
	return r.arrow, nil
}

func (r resolved) limited(text string) resolved {
	switch {
	case r.bad != nil:
	case r.depth > MaxDepth:
		r.bad = &UnresolvedError{Text: text, TooDeep: true}
	case r.fields > MaxFields:
		r.bad = &UnresolvedError{Text: text, TooLarge: true}
	}
	return r
}

// in says that the error, if there is one, lies in a field.
func (r resolved) in(field string) resolved {
	if r.bad != nil {
		bad := *r.bad
		bad.Field = strings.TrimSuffix(field+"."+bad.Field, ".")
		r.bad = &bad
	}
	return r
}

func (l *Library) define(d *Definition) resolved {
	if r, ok := l.memo[d.URN]; ok {
		return r
	}
	if l.memo == nil {
		l.memo = map[string]resolved{}
	}
	// Whoever asks for it again before it is there goes in a circle.
	l.memo[d.URN] = resolved{bad: &UnresolvedError{Text: d.URN, TooDeep: true}}
	r := l.build(d)
	l.memo[d.URN] = r
	return r
}

func (l *Library) build(d *Definition) resolved {
	if d.Arrow != structName {
		return l.expr(d.Arrow)
	}
	out := resolved{arrow: Arrow{Name: structName}}
	for _, f := range d.Fields {
		r := l.expr(f.Type).limited(f.Type).in(f.Name)
		if r.bad != nil {
			return r
		}
		out.arrow.Fields = append(out.arrow.Fields, Field{Name: f.Name, Type: r.arrow, Nullable: f.Nullable})
		out.depth = max(out.depth, r.depth)
		out.fields += 1 + r.fields
	}
	out.depth++
	return out.limited(d.URN)
}

func (l *Library) expr(text string) resolved {
	text = strings.TrimSpace(text)
	fail := func(e UnresolvedError) resolved {
		e.Text = text
		return resolved{bad: &e}
	}
	name, levels := text, 0
	for strings.HasPrefix(name, "List<") {
		inner, ok := strings.CutSuffix(strings.TrimPrefix(name, "List<"), ">")
		if !ok {
			return fail(UnresolvedError{Malformed: "`<` is never closed"})
		}
		if levels++; levels >= MaxDepth {
			return fail(UnresolvedError{TooDeep: true})
		}
		name = strings.TrimSpace(inner)
	}
	r := l.item(name)
	for range levels {
		item := r.arrow
		r.arrow = Arrow{Name: listName, Item: &item}
		r.depth++
	}
	return r
}

// item resolves what is no list.
func (l *Library) item(text string) resolved {
	if IsPrimitive(text) {
		return resolved{arrow: Arrow{Name: text}, depth: 1}
	}
	fail := UnresolvedError{Text: text}
	u, err := ParseURN(text)
	if err != nil {
		fail.Malformed = err.Error()
		return resolved{bad: &fail}
	}
	switch found := l.Find(u.Base); len(found) {
	case 0:
	case 1:
		return l.define(l.Lookup(found[0]))
	default:
		fail.Candidates = found
	}
	return resolved{bad: &fail}
}
