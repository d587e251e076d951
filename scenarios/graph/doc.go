// Package graph shows the pages and texts of `dora graph` to a real browser: Chromium
// without a network, and Mermaid in the version that the page names.
package graph
