package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tarOf is a packed file with these entries, name and content in turn; a name that ends in
// "@" is a link to the content.
func tarOf(t testing.TB, entries ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for i := 0; i < len(entries); i += 2 {
		h := &tar.Header{Name: entries[i], Mode: 0o777, Size: int64(len(entries[i+1])), Typeflag: tar.TypeReg}
		if name, link := strings.CutSuffix(entries[i], "@"); link {
			h.Name, h.Size, h.Typeflag, h.Linkname = name, 0, tar.TypeSymlink, entries[i+1]
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := tw.Write([]byte(entries[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzUnpack: whatever a backup holds, only files of a state folder come out of it, below
// the folder, for their owner alone.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, "token", "secret", "coordinator.badger/mark", "m", "daemon-local.env/u", "[]"))
	f.Add(tarOf(f, "../token", "x"))
	f.Add(tarOf(f, "coordinator.badger@", "/tmp", "coordinator.badger/x", "y"))
	f.Add(tarOf(f, "a.badger/../../token", "x", "/token", "x"))
	f.Add(tarOf(f, "token", "x", "token", "y"))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<16 {
			return
		}
		base := t.TempDir()
		dir, file := filepath.Join(base, "state"), filepath.Join(base, "backup")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = unpack(file, dir)
		err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == base || path == dir || path == file {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			top, _, _ := strings.Cut(rel, "/")
			info, err := d.Info()
			if err != nil {
				return err
			}
			if top != tokenName && !strings.HasSuffix(top, ".badger") && !strings.HasSuffix(top, ".env") || info.Mode().Perm()&0o077 != 0 || !d.IsDir() && !d.Type().IsRegular() {
				t.Errorf("%s came out, %s", rel, info.Mode())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
