package graph

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// MaxDrawn bounds the picture: vertices and edges together. Beyond it nobody can read
// it, and the layout takes its time.
const MaxDrawn = 4000

// Widths of one character, for the sans-serif fonts that browsers have.
const (
	charName  = 7.6 // 13 px, bold
	charSmall = 6.4 // 11 px
	charLabel = 6.2 // 11 px
)

// SVG is the graph as a picture, or "" if it has more than MaxDrawn parts. Every text is
// escaped; the picture has no script and loads nothing.
func (g *Graph) SVG() string {
	if len(g.Vertices)+len(g.Edges) > MaxDrawn {
		return ""
	}
	d := newDrawing(g)
	w, h := d.level(nil)
	d.absolute(nil, margin, margin)
	return d.svg(w+2*margin, h+2*margin)
}

const margin = 16.0

// drawing knows where everything stands.
type drawing struct {
	g        *Graph
	vertices map[*Vertex]*item
	groups   map[*Group]*item
	lines    []*line
	members  map[*Group][]*item // items of a level, nil: the outermost
	links    map[*Group][]*link
	children map[*Group][]*Group
	inside   map[*Group][]*Vertex
	b        bytes.Buffer
}

// line is all edges from one vertex to another.
type line struct {
	from, to *Vertex
	labels   []string
	link     *link
	level    *Group
}

func newDrawing(g *Graph) *drawing {
	d := &drawing{g: g, vertices: map[*Vertex]*item{}, groups: map[*Group]*item{}, members: map[*Group][]*item{},
		links: map[*Group][]*link{}, children: map[*Group][]*Group{}, inside: map[*Group][]*Vertex{}}
	loops := map[*Vertex]float64{}
	type pair struct{ from, to *Vertex }
	known := map[pair]*line{}
	for _, e := range g.Edges {
		l := known[pair{e.From, e.To}]
		if l == nil {
			l = &line{from: e.From, to: e.To}
			known[pair{e.From, e.To}] = l
			d.lines = append(d.lines, l)
		}
		l.labels = append(l.labels, shorten(e.Label))
		if e.From == e.To {
			loops[e.From] = max(loops[e.From], textWidth(shorten(e.Label), charLabel)+34)
		}
	}
	for _, v := range g.Vertices {
		w := textWidth(v.Label, charName) + 34
		h := 38.0
		for _, sub := range subtitles(v) {
			w = max(w, textWidth(sub, charSmall)+30)
			h += 15
		}
		d.vertices[v] = &item{w: max(w, 70) + loops[v], h: h}
		d.inside[v.Group] = append(d.inside[v.Group], v)
		d.members[v.Group] = append(d.members[v.Group], d.vertices[v])
	}
	for _, group := range g.Groups {
		d.groups[group] = &item{}
		d.children[group.Parent] = append(d.children[group.Parent], group)
		d.members[group.Parent] = append(d.members[group.Parent], d.groups[group])
	}
	for _, l := range d.lines {
		d.connect(l)
	}
	return d
}

// subtitles are the small lines of a vertex.
func subtitles(v *Vertex) []string {
	var out []string
	if v.Name != "" && v.Name != v.Label {
		out = append(out, shorten(v.Name))
	}
	if v.Description != "" {
		out = append(out, shorten(v.Description))
	}
	return out
}

func textWidth(text string, char float64) float64 {
	return float64(utf8.RuneCountInString(text)) * char
}

// connect makes a line a link of the innermost level that has both ends.
func (d *drawing) connect(l *line) {
	if l.from == l.to {
		return
	}
	fromPath, toPath := pathOf(l.from.Group), pathOf(l.to.Group)
	common := 0
	for common < len(fromPath) && common < len(toPath) && fromPath[common] == toPath[common] {
		common++
	}
	if common > 0 {
		l.level = fromPath[common-1]
	}
	end := func(v *Vertex, path []*Group) *item {
		if common < len(path) {
			return d.groups[path[common]]
		}
		return d.vertices[v]
	}
	label := &item{h: float64(len(l.labels))*14 + 4}
	for _, text := range l.labels {
		label.w = max(label.w, textWidth(text, charLabel)+10)
	}
	l.link = &link{from: end(l.from, fromPath), to: end(l.to, toPath), label: label}
	d.links[l.level] = append(d.links[l.level], l.link)
}

// pathOf lists the groups around a vertex, outermost first.
func pathOf(g *Group) []*Group {
	if g == nil {
		return nil
	}
	return append(pathOf(g.Parent), g)
}

// level lays out what is in a group, the inner groups first.
func (d *drawing) level(g *Group) (w, h float64) {
	for _, child := range d.children[g] {
		it := d.groups[child]
		it.w, it.h = d.level(child)
		it.w = max(it.w, textWidth(child.Label, charSmall)+10) + 2*groupPad
		it.h += groupHeading + groupPad
	}
	return arrange(d.members[g], d.links[g])
}

// absolute moves a level from its own coordinates to those of the picture.
func (d *drawing) absolute(g *Group, x, y float64) {
	for _, it := range d.members[g] {
		it.x, it.y = it.x+x, it.y+y
	}
	for _, l := range d.links[g] {
		if len(l.bends) == 0 {
			l.label.x, l.label.y = l.label.x+x, l.label.y+y
		}
		for _, bend := range l.bends {
			bend.x, bend.y, bend.top, bend.bottom = bend.x+x, bend.y+y, bend.top+y, bend.bottom+y
		}
	}
	for _, child := range d.children[g] {
		it := d.groups[child]
		d.absolute(child, it.x+groupPad, it.y+groupHeading)
	}
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.b, format, args...) }

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(strings.ToValidUTF8(text, "?"))) // a Builder does not fail
	return b.String()
}

func (d *drawing) svg(w, h float64) string {
	w, h = max(w, 120), max(h, 60)
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" class="dataflow" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`+"\n", w, h, w, h, escape("dataflow "+d.g.Title))
	d.printf("<style>%s</style>\n", svgStyle)
	d.printf(`<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path class="head" d="M0,0L10,5L0,10z"/></marker></defs>` + "\n")
	for _, g := range d.g.Groups {
		it := d.groups[g]
		d.printf(`<g class="group %s"><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="10"/>%s</g>`+"\n",
			g.Kind, it.x, it.y, it.w, it.h, title(g.Description))
	}
	index := map[*Vertex]int{}
	for i, v := range d.g.Vertices {
		index[v] = i
	}
	for _, l := range d.lines {
		d.printf(`<g class="edge" data-from="%d" data-to="%d">`, index[l.from], index[l.to])
		d.line(l)
		d.printf("</g>\n")
	}
	for _, g := range d.g.Groups { // above the lines
		it := d.groups[g]
		d.printf(`<text class="heading" x="%.1f" y="%.1f">%s</text>`+"\n", it.x+12, it.y+17, escape(g.Label))
	}
	for _, v := range d.g.Vertices {
		d.printf(`<g class="vertex %s" data-id="%d">`, v.Kind, index[v])
		d.vertex(v)
		d.printf("</g>\n")
	}
	d.printf("</svg>\n")
	return d.b.String()
}

func title(text string) string {
	if text == "" {
		return ""
	}
	return "<title>" + escape(text) + "</title>"
}

// box is the drawn part of a vertex: without the room for lines back to itself.
func (d *drawing) box(v *Vertex) (x, y, w, h float64) {
	it := d.vertices[v]
	w = it.w
	for _, l := range d.lines {
		if l.from == v && l.to == v {
			for _, text := range l.labels {
				w = min(w, it.w-textWidth(text, charLabel)-34)
			}
		}
	}
	return it.x, it.y, w, it.h
}

func (d *drawing) vertex(v *Vertex) {
	x, y, w, h := d.box(v)
	const slant = 10.0
	tl, tr, bl, br := 0.0, 0.0, 0.0, 0.0
	switch v.Kind {
	case KindSource: // wide at the top
		bl, br = slant, slant
	case KindSink: // wide at the bottom
		tl, tr = slant, slant
	case KindTimer, KindLogs:
		tr, bl = slant, slant
	}
	d.printf(`<path class="shape" d="M%.1f,%.1fL%.1f,%.1fL%.1f,%.1fL%.1f,%.1fz"/>`, x+tl, y, x+w-tr, y, x+w-br, y+h, x+bl, y+h)
	at := y + 24
	d.printf(`<text class="name" x="%.1f" y="%.1f">%s</text>`, x+w/2, at, escape(v.Label))
	for i, sub := range subtitles(v) {
		at += 15
		class := "sub"
		if v.Description != "" && i == len(subtitles(v))-1 {
			class = "sub description"
		}
		d.printf(`<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x+w/2, at, escape(sub))
	}
	d.b.WriteString(title(strings.TrimSpace(v.ID + "\n" + v.Name + "\n" + v.Description)))
}

// line draws the way from one vertex through the bends to the other.
func (d *drawing) line(l *line) {
	fx, fy, fw, fh := d.box(l.from)
	if l.from == l.to {
		d.printf(`<path class="way" marker-end="url(#arrow)" d="M%.1f,%.1fC%.1f,%.1f %.1f,%.1f %.1f,%.1f"/>`,
			fx+fw-6, fy+fh*0.3, fx+fw+26, fy+fh*0.2, fx+fw+26, fy+fh*0.8, fx+fw-6, fy+fh*0.7)
		d.labels(l, fx+fw+20, fy+fh/2, "start")
		return
	}
	tx, ty, tw, _ := d.box(l.to)
	above, below := fy+fh, ty
	if l.link.reversed { // upwards: from the upper edge to the lower one
		above, below = fy, ty+d.vertices[l.to].h
	}
	x, y := fx+fw/2, above
	d.printf(`<path class="way" marker-end="url(#arrow)" d="M%.1f,%.1f`, x, y)
	curve := func(toX, toY float64) {
		k := (toY - y) * 0.5
		if math.Abs(k) < 8 {
			k = math.Copysign(8, toY-y)
		}
		d.printf("C%.1f,%.1f %.1f,%.1f %.1f,%.1f", x, y+k, toX, toY-k, toX, toY)
		x, y = toX, toY
	}
	for i := range l.link.bends {
		bend := l.link.bends[i]
		near, far := &bend.top, &bend.bottom
		if l.link.reversed {
			bend = l.link.bends[len(l.link.bends)-1-i]
			near, far = &bend.bottom, &bend.top
		}
		curve(bend.x+bend.w/2, *near)
		d.printf("L%.1f,%.1f", x, *far)
		y = *far
	}
	curve(tx+tw/2, below)
	d.printf(`"/>`)
	d.labels(l, l.link.label.x+l.link.label.w/2, l.link.label.y+l.link.label.h/2, "middle")
}

func (d *drawing) labels(l *line, x, y float64, anchor string) {
	w, left := 0.0, x
	for _, text := range l.labels {
		w = max(w, textWidth(text, charLabel)+8)
	}
	if anchor == "middle" {
		left = x - w/2
	}
	h := float64(len(l.labels))*14 + 2
	d.printf(`<rect class="back" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="4"/>`, left, y-h/2, w, h)
	for i, text := range l.labels {
		at := y - h/2 + 12 + float64(i)*14
		tx := x
		if anchor == "start" {
			tx += 4
		}
		d.printf(`<text class="label" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`, anchor, tx, at, escape(text))
	}
}
