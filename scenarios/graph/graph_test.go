package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/dataflow/graph"
)

// mermaidFile is the script that the page loads, as the task setup installs it.
func mermaidFile(t *testing.T) string {
	t.Helper()
	file := os.Getenv("DORA_TEST_MERMAID")
	if file == "" {
		file = "../../.cache/npm/node_modules/mermaid/dist/mermaid.min.js"
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%v: run `task setup`", err)
	}
	return file
}

func load(t *testing.T, file string) *graph.Graph {
	t.Helper()
	d, _, diags := dataflow.Load(file)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return graph.New(d)
}

// chromium runs the browser, without any name resolution, and gives what it prints.
func chromium(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	profile, err := os.MkdirTemp("", "dora-graph-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { // the browser's last helpers may still write
		for range 50 {
			if os.RemoveAll(profile) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("%s is still in use", profile)
	}()
	cmd := exec.CommandContext(ctx, "chromium", append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--no-first-run", "--disable-background-networking", "--user-data-dir=" + profile,
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1300,1000"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			t.Fatal("chromium is not installed: run `task setup`")
		}
		t.Fatalf("chromium: %v\n%s", err, errOut.String())
	}
	return out.String()
}

// TestMermaidReadsTheText: Mermaid draws what --mermaid prints, whatever the ids and
// names are.
func TestMermaidReadsTheText(t *testing.T) {
	var texts []string
	files := []string{"testdata/robot.yml", "testdata/hostile.yml", "../quickstart/dataflow.yml", "../python/dataflow.yml", "../mixed/dataflow.yml"}
	for _, file := range files {
		texts = append(texts, load(t, file).Mermaid())
	}
	texts = append(texts, "flowchart TB\n  a[/wrong")
	script, err := os.ReadFile(mermaidFile(t))
	if err != nil {
		t.Fatal(err)
	}
	list, err := json.Marshal(texts) // escapes < and >
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	page := filepath.Join(dir, "page.html")
	body := `<!doctype html><meta charset=utf-8><body><pre id=out></pre><script src="mermaid.js"></script><script>
		(async () => {
			mermaid.initialize({startOnLoad: false, securityLevel: "strict"});
			const out = [];
			for (const [i, text] of ` + string(list) + `.entries()) {
				try { out.push("drawn " + (await mermaid.render("g" + i, text)).svg.includes("<script")); }
				catch (e) { out.push("failed " + String(e).split("\n").slice(0, 3).join(" ")); }
			}
			document.getElementById("out").textContent = out.join("|");
		})();
	</script>`
	for name, data := range map[string][]byte{"page.html": []byte(body), "mermaid.js": script} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dom := chromium(t, "--virtual-time-budget=60000", "--dump-dom", "file://"+page)
	_, rest, _ := strings.Cut(dom, `<pre id="out">`)
	result, _, _ := strings.Cut(rest, "</pre>")
	got := strings.Split(html.UnescapeString(result), "|")
	if len(got) != len(texts) {
		t.Fatalf("got %q of\n%.3000s", got, dom)
	}
	for i, file := range files {
		if got[i] != "drawn false" {
			t.Errorf("%s: %s\n%s", file, got[i], texts[i])
		}
	}
	if !strings.HasPrefix(got[len(files)], "failed") {
		t.Errorf("a wrong text is %s: this test cannot fail", got[len(files)])
	}
}

func writePage(t *testing.T, file string) string {
	t.Helper()
	page, err := load(t, file).HTML()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "graph.html")
	if err := os.WriteFile(path, page, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPageWithoutNetwork: the picture is there, names are text, and our script runs under
// the page's own policy.
func TestPageWithoutNetwork(t *testing.T) {
	for _, file := range []string{"testdata/robot.yml", "testdata/hostile.yml"} {
		page := writePage(t, file)
		dom := chromium(t, "--virtual-time-budget=20000", "--dump-dom", "file://"+page)
		for _, part := range []string{`data-page="ready"`, `data-mermaid="absent"`, `class="vertex`} {
			if !strings.Contains(dom, part) {
				t.Errorf("%s: %s is not in the page", file, part)
			}
		}
		if strings.Contains(dom, "<script>alert") || strings.Contains(dom, "<img") {
			t.Errorf("%s: markup got through", file)
		}
		shot := filepath.Join(t.TempDir(), "shot.png")
		chromium(t, "--screenshot="+shot, "file://"+page)
		if n := colours(t, shot); n < 20 {
			t.Errorf("%s: the picture has %d colours only", file, n)
		}
	}
}

// colours counts those of a picture below the heading of the page.
func colours(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for y := 80; y < img.Bounds().Dy(); y += 2 {
		for x := 0; x < img.Bounds().Dx(); x += 2 {
			seen[fmt.Sprint(img.At(x, y))] = true
		}
	}
	return len(seen)
}

// TestPageWithMermaid: with a network, the pinned script passes the check of its content
// and draws; a changed one does not.
func TestPageWithMermaid(t *testing.T) {
	script, err := os.ReadFile(mermaidFile(t))
	if err != nil {
		t.Fatal(err)
	}
	page, err := load(t, "testdata/hostile.yml").HTML()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script []byte
		want   string
	}{"pinned": {script, `data-mermaid="ready"`}, "changed": {append([]byte("/**/"), script...), `data-mermaid="absent"`}} {
		t.Run(name, func(t *testing.T) {
			var s *httptest.Server
			s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Access-Control-Allow-Origin", "*")
				if strings.HasSuffix(r.URL.Path, ".js") {
					w.Header().Set("Content-Type", "text/javascript")
					_, _ = w.Write(c.script)
					return
				}
				w.Header().Set("Content-Type", "text/html")
				_, _ = w.Write(bytes.ReplaceAll(page, []byte("https://cdn.jsdelivr.net"), []byte(s.URL)))
			}))
			defer s.Close()
			dom := chromium(t, "--virtual-time-budget=60000", "--dump-dom", s.URL+"/graph.html")
			if !strings.Contains(dom, c.want) {
				t.Errorf("%s is not in the page:\n%.1500s", c.want, dom)
			}
			if strings.Contains(dom, "<script>alert") || strings.Contains(dom, "<img") {
				t.Error("markup got through")
			}
		})
	}
}
