package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// pack writes what there is of the names below root into a new file, mode 0600: environments
// and the token are secrets.
func pack(path, root string, names []string) (n int, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("%s is there already\n  fix: choose another file", path)
	}
	if err != nil {
		return 0, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(path)
		}
	}()
	gz := gzip.NewWriter(f)
	tw := tar.NewWriter(gz)
	for _, name := range names {
		err := filepath.WalkDir(filepath.Join(root, name), func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !d.Type().IsRegular() || d.Name() == "ballast" || d.Name() == "lock" {
				return err // a store makes those anew
			}
			n++
			return packFile(tw, root, p)
		})
		if err != nil {
			return n, err
		}
	}
	return n, errors.Join(tw.Close(), gz.Close(), f.Sync())
}

func packFile(tw *tar.Writer, root, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: st.Size(), ModTime: st.ModTime(), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.CopyN(tw, f, st.Size())
	return err
}

// unpack reads such a file into a folder. It takes regular files with the names of a
// backup only, and no path that leads elsewhere.
func unpack(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("this is no backup: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for tr := tar.NewReader(gz); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("this is no backup, or not a whole one: %w", err)
		}
		if err := unpackFile(root, h, tr); err != nil {
			return err
		}
	}
}

func unpackFile(root *os.Root, h *tar.Header, r io.Reader) error {
	top, _, _ := strings.Cut(h.Name, "/")
	known := top == tokenName || strings.HasSuffix(top, ".badger") || strings.HasSuffix(top, ".env")
	if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || !known {
		return fmt.Errorf("this is no backup: it holds %q", h.Name)
	}
	if d := filepath.Dir(h.Name); d != "." {
		if err := root.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	out, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	if err != nil {
		err = fmt.Errorf("this is no whole backup: %w", err)
	}
	return errors.Join(err, out.Sync(), out.Close())
}
