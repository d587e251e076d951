package graph

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// longestText is how much of a name or description is drawn; the page has the rest as a
// tooltip.
const longestText = 60

// Mermaid is the graph as a Mermaid flowchart (version 10 or newer).
func (g *Graph) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart TB\n")
	m := mermaid{g, &b}
	m.level(nil, 1)
	for _, e := range g.Edges {
		label := e.Label
		if !plainLabel.MatchString(label) {
			label = `"` + mermaidText(label) + `"`
		}
		fmt.Fprintf(&b, "  %s -- %s --> %s\n", mermaidID(e.From.ID), label, mermaidID(e.To.ID))
	}
	return b.String()
}

type mermaid struct {
	g *Graph
	b *strings.Builder
}

func (m mermaid) level(parent *Group, depth int) {
	indent := strings.Repeat("  ", depth)
	for _, v := range m.g.Vertices {
		if v.Group == parent {
			fmt.Fprintf(m.b, "%s%s%s\n", indent, mermaidID(v.ID), shape(v))
		}
	}
	for _, group := range m.g.Groups {
		if group.Parent == parent {
			fmt.Fprintf(m.b, "%ssubgraph %s [\"%s\"]\n", indent, subgraphID(group), mermaidText(group.Label))
			m.level(group, depth+1)
			fmt.Fprintf(m.b, "%send\n", indent)
		}
	}
}

// shape draws a source wide at the top, a sink wide at the bottom, and built-ins as
// slanted boxes.
func shape(v *Vertex) string {
	text := "**" + mermaidText(v.Label) + "**"
	if v.Kind == KindTimer || v.Kind == KindLogs {
		return `[\"` + mermaidText(v.Label) + `"\]`
	}
	if v.Name != "" && v.Name != v.Label {
		text += "<br/>" + mermaidText(shorten(v.Name))
	}
	if v.Description != "" {
		text += "<br/><i>" + mermaidText(shorten(v.Description)) + "</i>"
	}
	switch v.Kind {
	case KindSource:
		return `[\"` + text + `"/]`
	case KindSink:
		return `[/"` + text + `"\]`
	}
	return `["` + text + `"]`
}

// plainID are ids that Mermaid reads as they are.
var (
	plainID    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_]*([./-][A-Za-z0-9_]+)*$`)
	plainLabel = regexp.MustCompile(`^[A-Za-z0-9_]+([./-]?[A-Za-z0-9_]+)*( as [A-Za-z0-9_]+([./-]?[A-Za-z0-9_]+)*)?( \[[A-Za-z0-9_]+\])?$`)
	// Words of Mermaid, which it also finds as parts of ids.
	reserved = []string{"end", "graph", "flowchart", "subgraph", "style", "linkstyle", "classdef", "class", "click", "href", "call", "default", "direction", "interpolate"}
)

func mermaidID(id string) string {
	parts := strings.FieldsFunc(strings.ToLower(id), func(r rune) bool { return strings.ContainsRune("./-", r) })
	word := slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(reserved, p) })
	encoded := strings.HasPrefix(id, "n_") || strings.HasPrefix(id, "g_") // so that no two are the same
	if plainID.MatchString(id) && !word && !encoded {
		return id
	}
	return "n_" + hex.EncodeToString([]byte(id))
}

func subgraphID(g *Group) string {
	id := "g_" + g.Kind + "_" + hex.EncodeToString([]byte(g.ID))
	if g.Parent != nil { // one module may lie on several machines
		id = subgraphID(g.Parent) + "_" + id
	}
	return id
}

// mermaidText makes a text safe inside of double quotes: Mermaid's own marks, markup and
// line ends become entities.
func mermaidText(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			b.WriteByte(' ')
		case r < ' ' || r == 0x7F:
		case strings.ContainsRune("\"<>&#`;\\{}|%$", r):
			fmt.Fprintf(&b, "#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	runes := []rune(text)
	if len(runes) <= longestText {
		return text
	}
	return string(runes[:longestText-1]) + "…"
}
