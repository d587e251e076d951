// Package graph draws dataflows: as Mermaid text, as an SVG picture, and as an HTML page
// that holds both.
//
// What it guarantees:
//
//   - Functions are pure: a descriptor in, text out.
//   - Ids, names and descriptions are data wherever they go. The page allows no script
//     but its own and the one pinned file of Mermaid, and shows the picture without a
//     network.
//   - Time and memory are bounded: above MaxDrawn vertices and edges the picture is left
//     out, and the page says so.
//
// Start reading at graph.go (what is drawn), then mermaid.go, layout.go, svg.go, html.go.
package graph
