package dataflow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dora-go/dora/dataflow/types"
)

// Inference says that the type of an input follows from the output it receives.
type Inference struct {
	URN   string
	Input string // node/input, or node/operator/input
	From  string // the output, as the input's source is written
}

func (i Inference) String() string {
	return fmt.Sprintf("inferred %s on %s (from %s)", i.URN, i.Input, i.From)
}

// Strictly gives the findings of Load as they count under strict types: type warnings
// are errors, and findings that only strict types make are added.
func (d *Descriptor) Strictly(diags Diagnostics) Diagnostics {
	out := slices.Clone(diags)
	if !d.StrictTypes { // else they are there already
		out = append(out, d.Unannotated...)
	}
	for i := range out {
		if out[i].IsTypeFinding() {
			out[i].Severity = SeverityError
		}
	}
	out.Sort(d.File)
	return out
}

// checkTypes checks the annotations of all ports and of the edges between them. All it
// finds are warnings.
func (c *checker) checkTypes(d *Descriptor, lib *types.Library, complete bool) {
	d.Types = lib
	t := newTyping(d)
	t.checker, t.complete = c, complete
	for _, rule := range d.TypeRules {
		t.rule(rule)
	}
	for _, p := range t.parts {
		t.keys(p)
		t.names(p)
		t.pattern(p)
	}
	strict := checker{file: c.file}
	for _, p := range t.parts {
		declared := make(map[string]PortText, len(p.ports.InputTypes))
		for _, x := range p.ports.InputTypes {
			declared[x.Port] = x
		}
		for _, in := range p.ports.Inputs {
			t.edge(p, in, declared[in.ID], &strict)
		}
	}
	d.Unannotated = strict.finish()
	if d.StrictTypes {
		c.adopt(d.Unannotated)
	}
}

// typing knows the annotations of a dataflow.
type typing struct {
	*checker
	d     *Descriptor
	lib   *types.Library
	rules types.Rules
	parts []typedPart
	// outputs are the annotated outputs: "node/output" or "node/operator/output".
	outputs map[string]annotation
	urns    map[string]annotation // by text
	known   []string              // names of the library, for suggestions
	// complete: the library has the types of the project, too.
	complete bool
}

// typedPart is a node, or an operator of a node.
type typedPart struct {
	// name stands in messages, address before the ids of ports.
	name, address string
	ports         *Ports
	keys          Keys
}

// annotation is the type of one port.
type annotation struct {
	text  string
	urn   types.URN
	err   error // malformed
	found bool  // in the library
	set   bool
}

func newTyping(d *Descriptor) *typing {
	t := &typing{d: d, lib: d.Types, rules: types.StandardRules(), outputs: map[string]annotation{}, urns: map[string]annotation{}}
	if t.lib == nil {
		t.lib = types.Standard()
	}
	for _, r := range d.TypeRules {
		t.rules.Add(r.From, r.To)
	}
	for _, n := range d.Nodes {
		if len(n.Operators) == 0 {
			t.parts = append(t.parts, typedPart{n.ID, n.ID, &n.Ports, n.Keys})
		}
		for _, op := range n.Operators {
			name := n.ID + "/" + op.ID
			if n.SingleOperator {
				name = n.ID
			}
			t.parts = append(t.parts, typedPart{name, n.ID + "/" + op.ID, &op.Ports, op.Keys})
		}
	}
	for _, p := range t.parts {
		for _, o := range p.ports.OutputTypes {
			t.outputs[p.address+"/"+o.Port] = t.annotation(o.Text)
		}
	}
	return t
}

func (t *typing) annotation(text string) annotation {
	a, ok := t.urns[text]
	if !ok {
		a.text, a.set = text, true
		a.urn, a.err = types.ParseURN(text)
		a.found = a.err == nil && t.lib.Lookup(a.urn.Base) != nil
		t.urns[text] = a
	}
	return a
}

// judged reports whether the library can tell that a type does not exist.
func (t *typing) judged(text string) bool {
	return t.complete || strings.HasPrefix(text, types.StandardPrefix)
}

// keys warns of annotations for ports that do not exist. The words are those that type
// warnings of dora have had all along.
func (t *typing) keys(p typedPart) {
	missing := func(key, list, port string, at Pos, known portSet) {
		if !known.has[port] {
			t.warnf(at, CodeTypeKey, t.didYouMean(port, known.ids, ""), "node \"%s\": %s key \"%s\" not found in %s list", p.name, key, excerpt(port), list)
		}
	}
	var inputs, outputs portSet
	if len(p.ports.InputTypes) > 0 {
		for _, in := range p.ports.Inputs {
			inputs.add(in.ID)
		}
	}
	if len(p.ports.OutputTypes)+len(p.ports.OutputFraming)+len(p.ports.OutputMetadata) > 0 {
		for _, out := range p.ports.Outputs {
			outputs.add(out.ID)
		}
	}
	for _, x := range p.ports.InputTypes {
		missing("input_types", "inputs", x.Port, x.Pos, inputs)
	}
	for _, x := range p.ports.OutputTypes {
		missing("output_types", "outputs", x.Port, x.Pos, outputs)
	}
	for _, x := range p.ports.OutputFraming {
		missing("output_framing", "outputs", x.Port, x.Pos, outputs)
	}
	for _, x := range p.ports.OutputMetadata {
		missing("output_metadata", "outputs", x.Port, x.Pos, outputs)
	}
}

// portSet are the ids of ports, in order and by id.
type portSet struct {
	ids []string
	has map[string]bool
}

func (s *portSet) add(id string) {
	if s.has == nil {
		s.has = map[string]bool{}
	}
	s.ids, s.has[id] = append(s.ids, id), true
}

// names warns of types that do not exist.
func (t *typing) names(p typedPart) {
	for _, x := range p.ports.OutputTypes {
		t.name(p, "output", x)
	}
	for _, x := range p.ports.InputTypes {
		t.name(p, "input", x)
	}
}

func (t *typing) name(p typedPart, side string, x PortText) {
	a := t.annotation(x.Text)
	switch {
	case x.Text == "": // was reported
	case a.found:
		if _, err := t.lib.Resolve(a.urn); err != nil {
			t.warnf(x.Value, CodeTypeUnresolved, "correct the type in the folder `types`", "node \"%s\": type \"%s\" on %s \"%s\" does not resolve: %s", p.name, excerpt(x.Text), side, excerpt(x.Port), err)
		}
	case a.err != nil:
		t.warnf(x.Value, CodeTypeUnknown, "write std/<category>/v<N>/<Name>, or std/<category>/v<N>/<Name>[key=value]", "node \"%s\": unknown type \"%s\" on %s \"%s\": %s", p.name, excerpt(x.Text), side, excerpt(x.Port), a.err)
	case t.judged(x.Text):
		t.warnf(x.Value, CodeTypeUnknown, t.suggestType(a.urn.Base), "node \"%s\": unknown type \"%s\" on %s \"%s\"", p.name, excerpt(x.Text), side, excerpt(x.Port))
	}
}

// suggestType gives the fix that names the type which was probably meant: the last part
// differs by two characters at most. Of several, one with the same prefix wins, then one
// with the nearest prefix.
func (t *typing) suggestType(base string) string {
	if t.known == nil {
		t.known = t.lib.Names()
	}
	if t.comparisons += len(t.known); t.comparisons > maxComparisons || len(base) > longestName {
		return ""
	}
	prefix, name := splitURN(base)
	best, bestScore := "", -1
	for _, known := range t.known {
		kp, kn := splitURN(known)
		if len(kn) > longestName || len(kp) > longestName || len(kn)-len(name) > 2 || len(name)-len(kn) > 2 {
			continue
		}
		d := editDistance(strings.ToLower(name), strings.ToLower(kn), 3)
		if d > 2 || d > 0 && 2*d >= len(name) {
			continue
		}
		score := 100*d + editDistance(prefix, kp, 99)
		if bestScore < 0 || score < bestScore {
			best, bestScore = known, score
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean \"" + best + "\"?"
}

func splitURN(base string) (prefix, name string) {
	i := strings.LastIndexByte(base, '/')
	return base[:i+1], base[i+1:]
}

func (t *typing) pattern(p typedPart) {
	if name := p.ports.Pattern; name != "" && types.PatternKeys(name) == nil {
		all := types.Patterns()
		t.warnf(p.keys.At("pattern"), CodeTypePattern, t.didYouMean(name, all, ""), "node \"%s\": unknown pattern \"%s\", expected one of: %s", p.name, excerpt(name), strings.Join(all, ", "))
	}
}

func (t *typing) rule(r TypeRule) {
	for _, text := range []string{r.From, r.To} {
		if a := t.annotation(text); text != "" && !a.found && t.judged(text) {
			t.warnf(r.Pos, CodeRuleType, t.suggestType(a.urn.Base), "the type rule names the unknown type \"%s\"", excerpt(text))
		}
	}
}

// edge checks that what flows into an input is what it expects.
func (t *typing) edge(p typedPart, in *Input, declared PortText, strict *checker) {
	var want annotation
	at := declared.Value
	if declared.Text != "" {
		want = t.annotation(declared.Text)
	}
	switch in.Source.Kind {
	case SourceTimer:
		tick := types.URN{Base: types.Tick}
		if want.found && !t.rules.Compatible(tick, want.urn) {
			t.warnf(at, CodeTypeMismatch, "", "node \"%s\": type mismatch on input \"%s\": timer provides \"%s\", but expected \"%s\"", p.name, in.ID, types.Tick, want.text)
		}
	case SourceNode:
		from := t.outputs[in.Source.Node+"/"+in.Source.Output]
		switch {
		case !want.set && from.found:
			t.d.Inferred = append(t.d.Inferred, Inference{URN: from.text, Input: p.address + "/" + in.ID, From: in.Source.Text})
		case want.found && from.found && !t.rules.Compatible(from.urn, want.urn):
			detail := ""
			if diffs := t.lib.Differences(from.urn, want.urn); len(diffs) > 0 {
				detail = " (" + strings.Join(diffs, "; ") + ")"
			}
			t.warnf(at, CodeTypeMismatch, "", "node \"%s\": type mismatch on input \"%s\": upstream %s declares \"%s\", but expected \"%s\"%s", p.name, in.ID, in.Source.Text, from.text, want.text, detail)
		case want.found && !from.set && t.declares(in.Source):
			strict.warnf(at, CodeTypeUnannotated, "add `"+portOf(in.Source.Output)+"` to `output_types` of `"+in.Source.vertex()+"`", "node \"%s\": input \"%s\" expects type \"%s\" but upstream %s has no type annotation", p.name, in.ID, want.text, in.Source.Text)
		}
	}
}

// portOf is the id of an output without its operator.
func portOf(output string) string { return output[strings.IndexByte(output, '/')+1:] }

// declares reports whether the outputs of the source are known: not those of a package
// or of a module that is not expanded.
func (t *typing) declares(s Source) bool {
	n := t.d.Node(s.Node)
	return n != nil && n.Kind != KindModule && n.Kind != KindHub
}
