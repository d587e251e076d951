package source

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

type entry struct {
	name, text string
	mode       fs.FileMode
}

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(e.text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: int64(e.mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(e.text))}
		switch {
		case e.mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.text, 0
		case e.mode&fs.ModeDevice != 0:
			h.Typeflag, h.Size = tar.TypeChar, 0
		case e.mode&fs.ModeIrregular != 0:
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, e.text, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = w.Write([]byte(e.text))
		}
	}
	_ = w.Close()
	return b.Bytes()
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// server serves files by name and counts the bodies it sent.
type server struct {
	*httptest.Server
	files map[string][]byte
	sent  atomic.Int32
}

func serve(t *testing.T, files map[string][]byte) *server {
	s := &server{files: files}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := s.files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		tag := `"` + sum(body)[:8] + `"`
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		s.sent.Add(1)
		w.Header().Set("ETag", tag)
		if strings.HasPrefix(r.URL.Path, "/short") {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)+5))
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestDownload(t *testing.T) {
	script := []byte("print('hello')")
	s := serve(t, map[string][]byte{"node.py": script})
	dir := t.TempDir()
	url := "path: " + s.URL + "/node.py"
	for _, c := range []struct {
		o    Options
		sent int32 // bodies until now
	}{
		{Options{}, 1}, {Options{}, 1}, {Options{Update: true}, 1}, // the server says that it has nothing newer
	} {
		n, err := fetchNode(t, dir, c.o, url)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(n.Path); err != nil || !bytes.Equal(got, script) || filepath.Base(n.Path) != "node.py" {
			t.Errorf("%s: %q, %v", n.Path, got, err)
		}
		if s.sent.Load() != c.sent {
			t.Errorf("%+v: %d bodies were sent, want %d", c.o, s.sent.Load(), c.sent)
		}
	}
	s.files["node.py"] = []byte("print('newer')")
	if n, err := fetchNode(t, dir, Options{}, url); err != nil || read(t, n.Path) != string(script) {
		t.Errorf("a run has %q, %v", read(t, n.Path), err)
	}
	if n, err := fetchNode(t, dir, Options{Update: true}, url); err != nil || read(t, n.Path) != "print('newer')" {
		t.Errorf("a build has %q, %v", read(t, n.Path), err)
	}
	// With a checksum the old one is found without asking, and a wrong one is refused.
	s.Close()
	if n, err := fetchNode(t, dir, Options{Update: true}, url, "path_sha256: "+strings.ToUpper(sum(script))); err != nil || read(t, n.Path) != string(script) {
		t.Errorf("by checksum: %v", err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestDownloadErrors(t *testing.T) {
	s := serve(t, map[string][]byte{"node": []byte("x"), "short": []byte("x"), "large": make([]byte, 2000),
		"bad.zip": []byte("no zip"), "bad.tgz": []byte("no gzip"), "half.tar.gz": gz(tarOf(t, entry{"a", strings.Repeat("x", 3000), 0o755}))[:60]})
	for _, c := range []struct {
		file, sum, want string
	}{
		{"missing", "", "/missing: the server answers 404 Not Found"},
		{"node", strings.Repeat("0", 64), "has the SHA-256 " + sum([]byte("x")) + ", wanted is 000"},
		{"short", "", "/short: "},
		{"large", "", "more than the 1.0 kB that a download may have"},
		{"bad.zip", "", "/bad.zip: not a zip file"},
		{"bad.tgz", "", "/bad.tgz: not a gzip file"},
		{"half.tar.gz", "", "/half.tar.gz: not a whole tar file"},
	} {
		dir := t.TempDir()
		lines := []string{"path: " + s.URL + "/" + c.file}
		if c.sum != "" {
			lines = append(lines, "path_sha256: \""+c.sum+"\"")
		}
		_, err := fetchNode(t, dir, Options{Update: true, Limits: Limits{Download: 1000}}, lines...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "flow.yml:3:11: download for node \"n\"") {
			t.Errorf("%s: %v, want %q", c.file, err, c.want)
		}
		left, _ := filepath.Glob(filepath.Join(dir, ".dora", "downloads", "*", "*"))
		if len(left) > 0 {
			t.Errorf("%s: left %v", c.file, left)
		}
	}
	// Nobody listens.
	s.Close()
	if _, err := fetchNode(t, t.TempDir(), Options{}, "path: "+s.URL+"/node"); err == nil || !strings.Contains(err.Error(), "fix: check the address") {
		t.Errorf("no server: %v", err)
	}
}

func TestNoRedirectFromTLS(t *testing.T) {
	plain := serve(t, map[string][]byte{"node": []byte("x")})
	tls := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/node", http.StatusFound))
	defer tls.Close()
	client := defaultClient()
	client.Transport = tls.Client().Transport
	_, err := fetchNode(t, t.TempDir(), Options{Client: client}, "path: "+tls.URL+"/node")
	if err == nil || !strings.Contains(err.Error(), "refusing the redirect") {
		t.Errorf("%v", err)
	}
}

func TestArchive(t *testing.T) {
	files := []entry{{"pkg/bin/tool", "#!/bin/sh", 0o755}, {"pkg/README", "text", 0o644}, {"pkg/lib", "bin", fs.ModeSymlink | 0o777}}
	s := serve(t, map[string][]byte{"one.zip": zipOf(t, files...), "one.tar.gz": gz(tarOf(t, files...)), "one.tgz": gz(tarOf(t, files...)), "one.tar": tarOf(t, files...),
		"two.zip":  zipOf(t, entry{"a", "1", 0o755}, entry{"n", "2", 0o755}),
		"many.zip": zipOf(t, entry{"a", "1", 0o755}, entry{"b.py", "2", 0o644}),
		"none.zip": zipOf(t, entry{"a", "1", 0o644})})
	for _, name := range []string{"one.zip", "one.tar.gz", "one.tgz", "one.tar", "two.zip"} {
		n, err := fetchNode(t, t.TempDir(), Options{}, "path: "+s.URL+"/"+name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		info, err := os.Stat(n.Path)
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v %v", name, info, err)
		}
		if want := map[bool]string{true: "tool", false: "n"}[strings.HasPrefix(name, "one")]; filepath.Base(n.Path) != want {
			t.Errorf("%s: runs %s", name, n.Path)
		}
	}
	for name, want := range map[string]string{"many.zip": "it has a, b.py", "none.zip": "holds no program"} {
		if _, err := fetchNode(t, t.TempDir(), Options{}, "path: "+s.URL+"/"+name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// hostile archives must not write outside of their folder, nor without bound.
func hostile(t testing.TB) map[string][]byte {
	link := fs.ModeSymlink | 0o777
	return map[string][]byte{
		"up.zip":          zipOf(t, entry{"../evil", "x", 0o644}),
		"deepup.zip":      zipOf(t, entry{"a/../../evil", "x", 0o644}),
		"absolute.zip":    zipOf(t, entry{"/evil", "x", 0o644}),
		"backslash.zip":   zipOf(t, entry{`..\evil`, "x", 0o644}),
		"link.zip":        zipOf(t, entry{"l", "../..", link}, entry{"l/evil", "x", 0o644}),
		"links.zip":       zipOf(t, entry{"a/b", "x", 0o644}, entry{"l", "a", link}, entry{"l/m", "../..", link}, entry{"l/m/evil", "x", 0o644}),
		"abslink.tar":     tarOf(t, entry{"l", "/tmp", link}),
		"hardlink.tar":    tarOf(t, entry{"l", "/etc/passwd", fs.ModeIrregular}),
		"device.tar":      tarOf(t, entry{"d", "", fs.ModeDevice}),
		"twice.tar":       tarOf(t, entry{"a", "1", 0o644}, entry{"a", "2", 0o644}),
		"throughlink.tar": tarOf(t, entry{"x/y", "1", 0o644}, entry{"x/z", "y", link}, entry{"x/z", "2", 0o644}),
		"bomb.zip":        zipOf(t, entry{"a", strings.Repeat("\x00", 1<<20), 0o644}),
		"bomb.tar.gz":     gz(tarOf(t, entry{"a", strings.Repeat("\x00", 1<<20), 0o644})),
		"entries.tar":     tarOf(t, make20()...),
	}
}

func make20() []entry {
	var list []entry
	for i := range 20 {
		list = append(list, entry{fmt.Sprint(i), "", 0o644})
	}
	return list
}

var testLimits = Limits{Unpacked: 64 << 10, Entries: 10}

func TestHostileArchives(t *testing.T) {
	for name, raw := range hostile(t) {
		outer := t.TempDir()
		file := filepath.Join(outer, name)
		if err := os.WriteFile(file, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		err := unpack(context.Background(), file, filepath.Join(outer, "in"), testLimits)
		if err == nil {
			t.Errorf("%s was unpacked", name)
		}
		assertInside(t, name, outer)
	}
}

// assertInside: nothing but the archive and its folder is there, and no link leads out.
func assertInside(t *testing.T, name, outer string) {
	t.Helper()
	list, _ := os.ReadDir(outer)
	if len(list) > 2 {
		t.Errorf("%s: wrote outside: %v", name, list)
	}
	in := filepath.Join(outer, "in")
	var total int64
	_ = filepath.WalkDir(in, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if e.Type()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			rel, err := filepath.Rel(in, filepath.Join(filepath.Dir(path), target))
			if filepath.IsAbs(target) || err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%s: link %s to %s", name, path, target)
			}
			return nil
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	if total > testLimits.Unpacked+1 {
		t.Errorf("%s: %d bytes were written", name, total)
	}
}

func FuzzArchive(f *testing.F) {
	for name, raw := range hostile(f) {
		f.Add(archiveEnding(name), raw)
	}
	f.Add(".zip", zipOf(f, entry{"a/b", "text", 0o755}))
	f.Fuzz(func(t *testing.T, ending string, raw []byte) {
		if !isArchive("x" + ending) {
			return
		}
		outer := t.TempDir()
		file := filepath.Join(outer, "x"+archiveEnding("x"+ending))
		if err := os.WriteFile(file, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = unpack(context.Background(), file, filepath.Join(outer, "in"), testLimits)
		assertInside(t, ending, outer)
	})
}
