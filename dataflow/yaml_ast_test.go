package dataflow

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// astWriter renders a tree of go-yaml's parser the way renderTree renders ours.
type astWriter struct {
	anchors map[string]ast.Node
	sure    bool
	doubts  int
}

func (w *astWriter) node(n ast.Node) string {
	out := w.render(n)
	w.sure = w.doubts == 0
	return out
}

func (w *astWriter) render(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode:
		return w.mapping(n.Values)
	case *ast.MappingValueNode:
		return w.mapping([]*ast.MappingValueNode{n})
	case *ast.SequenceNode:
		var parts []string
		for _, v := range n.Values {
			parts = append(parts, w.render(v))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case *ast.StringNode:
		return fmt.Sprintf("%q", n.Value)
	case *ast.LiteralNode:
		return fmt.Sprintf("%q", n.Value.Value)
	case *ast.NullNode, nil:
		return "null"
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		out := w.render(n.Value)
		w.anchors[name] = n.Value
		return out
	case *ast.AliasNode:
		v, ok := w.anchors[n.Value.GetToken().Value]
		if !ok {
			w.doubts++ // the parser does not resolve aliases
			return "?"
		}
		return w.render(v)
	case *ast.TagNode:
		if tk := n.Value.GetToken(); n.Start.Value == "!!str" && tk != nil {
			if _, null := n.Value.(*ast.NullNode); !null {
				return fmt.Sprintf("%q", tk.Value)
			}
		}
		w.doubts++
		return "?"
	case *ast.DirectiveNode:
		w.doubts++
		return "?"
	}
	return n.GetToken().Value
}

func (w *astWriter) mapping(values []*ast.MappingValueNode) string {
	var parts []string
	for _, v := range values {
		if v.Key.Type() == ast.MergeKeyType {
			parts = append(parts, w.merge(v.Value)...)
			continue
		}
		key := v.Key.GetToken().Value
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.NullNode:
			key = "null"
		case *ast.AnchorNode:
			key = k.Value.GetToken().Value
			w.anchors[k.Name.GetToken().Value] = k.Value
		case *ast.MappingKeyNode, *ast.TagNode, *ast.AliasNode:
			w.doubts++
		}
		if v.Key.GetToken().Type == token.MappingKeyType {
			w.doubts++
		}
		parts = append(parts, fmt.Sprintf("%q:%s", key, w.render(v.Value)))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func (w *astWriter) merge(n ast.Node) []string {
	out := w.render(n)
	if !strings.HasPrefix(out, "{") || out == "{}" {
		w.doubts++
		return nil
	}
	return []string{out[1 : len(out)-1]}
}
