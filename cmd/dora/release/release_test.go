package release

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// publish makes a release in a folder: a script that answers as dora does.
func publish(t *testing.T, version, says string) (dir string, key ed25519.PublicKey) {
	t.Helper()
	key, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	program := []byte("#!/bin/sh\necho " + says + "\n")
	sum := sha256.Sum256(program)
	m := Manifest{Version: version, Files: map[string]File{runtime.GOOS + "/" + runtime.GOARCH: {Name: "dora-x", SHA256: hex.EncodeToString(sum[:])}}}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"dora-x": program, "release.json": raw,
		"release.json.sig": []byte(base64.StdEncoding.EncodeToString(ed25519.Sign(secret, raw)) + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, key
}

func installed(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "dora")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho dora 0.1.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// check: the program is the old or the new one, whole, and nothing lies beside it.
func check(t *testing.T, program, says string) {
	t.Helper()
	raw, err := os.ReadFile(program)
	if err != nil || !strings.Contains(string(raw), "echo "+says+"\n") {
		t.Errorf("the program is %q, %v; want that which says %s", raw, err, says)
	}
	if info, err := os.Stat(program); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %v", info.Mode())
	}
	if list, _ := os.ReadDir(filepath.Dir(program)); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

func TestInstall(t *testing.T) {
	ctx := context.Background()
	dir, key := publish(t, "0.2.0", "dora 0.2.0")
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	for _, at := range []string{dir, server.URL, server.URL + "/"} {
		s, err := Open(ctx, at, key)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Newer("0.1.0") || s.Newer("0.2.0") || s.Newer("0.10.0") || s.Newer("1.0.0") {
			t.Error("versions are not compared by their numbers")
		}
		program := installed(t)
		link := filepath.Join(t.TempDir(), "dora")
		if err := os.Symlink(program, link); err != nil {
			t.Fatal(err)
		}
		// An update that was killed half-way left its file.
		if err := os.WriteFile(program+newSuffix, []byte("half"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := s.Install(ctx, link); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		check(t, program, "dora 0.2.0")
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Error("the link to the program was replaced")
		}
	}
}

func TestRefused(t *testing.T) {
	ctx := context.Background()
	_, other := publish(t, "9.0.0", "dora 9.0.0")
	for name, c := range map[string]struct {
		version, says string
		spoil         func(dir string) error
		want          string
	}{
		"signature": {"0.2.0", "dora 0.2.0", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "release.json.sig"), []byte("bm8="), 0o644)
		}, "is not signed by the key"},
		"manifest": {"0.2.0", "dora 0.2.0", func(dir string) error {
			raw, _ := os.ReadFile(filepath.Join(dir, "release.json"))
			return os.WriteFile(filepath.Join(dir, "release.json"), []byte(strings.Replace(string(raw), "0.2.0", "0.3.0", 1)), 0o644)
		}, "is not signed by the key"},
		"program": {"0.2.0", "dora 0.2.0", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "dora-x"), []byte("corrupt"), 0o644)
		}, "does not have the checksum"},
		"missing":       {"0.2.0", "dora 0.2.0", func(dir string) error { return os.Remove(filepath.Join(dir, "dora-x")) }, "dora-x"},
		"other version": {"0.2.0", "dora 0.1.9", nil, "it says \"dora 0.1.9\", not dora 0.2.0; nothing was changed"},
		"no version":    {"newest", "dora newest", nil, "\"newest\" is no version"},
		"does not run":  {"0.2.0", "; exit 1", nil, "nothing was changed"},
	} {
		dir, key := publish(t, c.version, c.says)
		if c.spoil != nil {
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
		}
		program := installed(t)
		s, err := Open(ctx, dir, key)
		if err == nil {
			err = s.Install(ctx, program)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		check(t, program, "dora 0.1.0")
	}
	dir, _ := publish(t, "0.2.0", "dora 0.2.0")
	if _, err := Open(ctx, dir, other); err == nil {
		t.Error("the key of somebody else was accepted")
	}
	if _, err := Open(ctx, dir, nil); err == nil {
		t.Error("no key was accepted")
	}
	if _, err := Open(ctx, filepath.Join(dir, "nothing"), other); err == nil || !strings.Contains(err.Error(), "fix:") {
		t.Errorf("no folder: %v", err)
	}
	if _, err := ParseKey("c2hvcnQ="); err == nil {
		t.Error("a short key was accepted")
	}
}

// A program that works beside, but not in its place, is taken back.
func TestRollBack(t *testing.T) {
	dir, key := publish(t, "0.2.0", `dora $(case "$0" in *.new) echo 0.2.0;; esac)`)
	s, err := Open(context.Background(), dir, key)
	if err != nil {
		t.Fatal(err)
	}
	program := installed(t)
	if err := s.Install(context.Background(), program); err == nil || !strings.Contains(err.Error(), "the one before is back") {
		t.Errorf("%v", err)
	}
	check(t, program, "dora 0.1.0")
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":"0.2.0","files":{"linux/amd64":{"name":"dora","sha256":"` + strings.Repeat("0a", 32) + `"}}}`))
	f.Add([]byte(`{"version":"v1"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseManifest(raw)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if filepath.Base(file.Name) != file.Name || len(file.SHA256) != 64 {
				t.Fatalf("accepted %+v", file)
			}
		}
	})
}
