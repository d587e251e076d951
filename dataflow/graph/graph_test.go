package graph

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/dataflow"
)

func parse(t testing.TB, text string) *dataflow.Descriptor {
	t.Helper()
	d, diags := dataflow.Parse("flow.yml", []byte(text))
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return d
}

const robot = `
nodes:
  - {id: camera, name: Front, description: in colour, path: c, inputs: {tick: dora/timer/hz/30}, outputs: [image], output_types: {image: "std/media/v1/Image[encoding=rgb8]"}}
  - {id: view, path: v, inputs: {frame: camera/image, value: ops/two/data, log: dora/logs}, deploy: {machine: B}}
  - id: ops
    operators:
      - {id: one, python: o.py, outputs: [data]}
      - {id: two, python: o.py, inputs: {data: ops/one/data}, outputs: [data]}
  - {id: single, operator: {python: o.py, inputs: {image: camera/image}, outputs: [data]}}
  - {id: end, path: e, inputs: {data: single/data}}
`

func TestMermaid(t *testing.T) {
	want := `flowchart TB
  camera["**camera**<br/>Front<br/><i>in colour</i>"]
  n_656e64[/"**end**"\]
  single/op["**single**"]
  subgraph g_machine_42 ["machine B"]
    view[/"**view**"\]
  end
  subgraph g_operators_6f7073 ["ops"]
    ops/one[\"**one**"/]
    ops/two["**two**"]
  end
  subgraph g_dora_646f7261 ["dora"]
    dora/logs[\"logs"\]
    dora/timer/hz/30[\"hz/30"\]
  end
  dora/timer/hz/30 -- tick --> camera
  single/op -- data --> n_656e64
  ops/one -- data --> ops/two
  camera -- image [Image] --> single/op
  camera -- image as frame [Image] --> view
  ops/two -- data as value --> view
  dora/logs -- log --> view
`
	if got := New(parse(t, robot)).Mermaid(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestIDsStayApart: no two vertices get one id in Mermaid.
func TestIDsStayApart(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{"end", "n_656e64", "END", "a-b", "a--b", "a.b", "a/b", "a_b", "g_x", "_a", "a-", "call", "x", "n_", "default.x"} {
		m := mermaidID(id)
		if other, twice := seen[m]; twice || !plainID.MatchString(m) {
			t.Errorf("%s and %s are both %s", id, other, m)
		}
		seen[m] = id
	}
}

// checkXML reads a document to its end.
func checkXML(t testing.TB, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
	}
}

func TestSVG(t *testing.T) {
	svg := New(parse(t, robot)).SVG()
	checkXML(t, svg)
	for _, part := range []string{">camera<", ">Front<", ">in colour<", ">machine B<", ">ops<", ">one<", ">hz/30<", ">image as frame [Image]<", `class="vertex source"`, `class="vertex sink"`, `class="group operators"`} {
		if !strings.Contains(svg, part) {
			t.Errorf("%s is not in the picture", part)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Error("a coordinate is no number")
	}
	checkXML(t, New(parse(t, "nodes: []\n")).SVG())
}

// TestNothingOverlaps: no box of a vertex stands on another one, and every vertex stands
// in its group.
func TestNothingOverlaps(t *testing.T) {
	var b strings.Builder
	b.WriteString("nodes:\n")
	for i := range 40 {
		fmt.Fprintf(&b, "  - {id: n%d, path: x, outputs: [o], deploy: {machine: m%d}, inputs: {a: n%d/o, b: n%d/o}}\n", i, i%3, i*7%40, i*i%40)
	}
	g := New(parse(t, b.String()))
	d := newDrawing(g)
	d.level(nil)
	d.absolute(nil, 0, 0)
	for i, v := range g.Vertices {
		a := d.vertices[v]
		for _, w := range g.Vertices[:i] {
			if o := d.vertices[w]; a.x < o.x+o.w && o.x < a.x+a.w && a.y < o.y+o.h && o.y < a.y+a.h {
				t.Errorf("%s and %s overlap: %+v %+v", v.ID, w.ID, *a, *o)
			}
		}
		box := d.groups[v.Group]
		if a.x < box.x || a.y < box.y || a.x+a.w > box.x+box.w || a.y+a.h > box.y+box.h {
			t.Errorf("%s lies outside of %s", v.ID, v.Group.ID)
		}
	}
}

const attack = `"><script>alert(1)</script>'</style></svg><img src=x onerror=alert(1)> {{.}} ` + "`" + ` é日本 ]] -->`

// TestHostileTexts: names and descriptions are text in every form.
func TestHostileTexts(t *testing.T) {
	d := parse(t, fmt.Sprintf("nodes:\n  - {id: a, path: x, name: %q, description: %q, deploy: {machine: %q}}\n", attack, attack, attack))
	d.File = attack
	g := New(d)
	checkXML(t, g.SVG())
	page, err := g.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{"SVG": g.SVG(), "HTML": string(page)} {
		if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img") || strings.Count(text, "<script") > 2 {
			t.Errorf("%s: markup got through\n%s", form, text)
		}
	}
	if strings.ContainsAny(strings.ReplaceAll(g.Mermaid(), "<br/>", ""), "`{}") || strings.Contains(g.Mermaid(), "<script") {
		t.Errorf("marks got through\n%s", g.Mermaid())
	}
}

// TestPageLoadsOneScript: the page names no other host, and its policy allows no other
// script.
func TestPageLoadsOneScript(t *testing.T) {
	page, err := New(parse(t, robot)).HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range regexp.MustCompile(`https?://[^"'\s;]+`).FindAllString(string(page), -1) {
		if url != mermaidURL && url != "http://www.w3.org/2000/svg" {
			t.Errorf("the page names %s", url)
		}
	}
	if !strings.Contains(string(page), "default-src &#39;none&#39;") && !strings.Contains(string(page), "default-src 'none'") {
		t.Error("no policy")
	}
}

// TestLargeGraphs: what is too large has no picture; what is just small enough has one
// within seconds.
func TestLargeGraphs(t *testing.T) {
	large := func(n int) *Graph {
		var b strings.Builder
		b.WriteString("nodes:\n")
		for i := range n {
			fmt.Fprintf(&b, "  - {id: n%d, path: x, outputs: [o], inputs: {a: n%d/o, b: n%d/o}}\n", i, max(0, i-1), i/2)
		}
		return New(parse(t, b.String()))
	}
	if svg := large(MaxDrawn).SVG(); svg != "" {
		t.Error("drew a graph that is too large")
	}
	start := time.Now()
	g := large(MaxDrawn / 3)
	if svg := g.SVG(); svg == "" {
		t.Error("drew nothing")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzTexts(f *testing.F) {
	for _, s := range []string{attack, "", "\x00", "\xff", "#quot;", "a\nb", "end"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d := parse(t, robot)
		n := d.Node("camera")
		n.Name, n.Description = text, text
		n.Deploy = &dataflow.Deploy{Machine: text}
		g := New(d)
		checkXML(t, g.SVG())
		if _, err := g.HTML(); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(g.Mermaid(), "\n"); lines > 26 {
			t.Fatalf("%q breaks lines", text)
		}
	})
}
