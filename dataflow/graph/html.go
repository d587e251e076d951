package graph

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
)

// The one script that the page may load: pinned by version and content.
const (
	mermaidURL       = "https://cdn.jsdelivr.net/npm/mermaid@11.17.2/dist/mermaid.min.js"
	mermaidIntegrity = "sha384-EOXBFmc3gx5mb+vn0vPvvGqACToJD24hhacX5Yx+8NUUQrHIle/Qi5Bg9o3zKwW2"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.js
	pageScript string
	//go:embed page.css
	pageStyle string
	//go:embed svg.css
	svgStyle string

	page = template.Must(template.New("page").Parse(pageText))
)

// HTML is a page that shows the graph: the picture at once and without a network, and
// Mermaid's own drawing if its script can be loaded.
func (g *Graph) HTML() ([]byte, error) {
	hash := sha256.Sum256([]byte(pageScript))
	counted := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	nodes := 0
	for _, v := range g.Vertices {
		if v.Kind != KindTimer && v.Kind != KindLogs {
			nodes++
		}
	}
	var b bytes.Buffer
	err := page.Execute(&b, map[string]any{
		"Title":     g.Title,
		"Counts":    counted(nodes, "node") + ", " + counted(len(g.Edges), "edge"),
		"Policy":    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; script-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "' " + mermaidURL,
		"Style":     template.CSS(pageStyle),
		"Script":    template.JS(pageScript),
		"SVG":       template.HTML(g.SVG()), // escaped where it is made
		"Mermaid":   g.Mermaid(),
		"URL":       mermaidURL,
		"Integrity": mermaidIntegrity,
		"MaxDrawn":  MaxDrawn,
	})
	return b.Bytes(), err
}
