package source

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dora-go/dora/dataflow"
)

// archiveEndings are the archives that are unpacked.
var archiveEndings = []string{".zip", ".tar.gz", ".tgz", ".tar"}

// archiveEnding is the ending by which a URL names an archive; empty: it is none.
func archiveEnding(url string) string {
	name := strings.ToLower(baseName(url))
	for _, e := range archiveEndings {
		if strings.HasSuffix(name, e) {
			return e
		}
	}
	return ""
}

func isArchive(url string) bool { return archiveEnding(url) != "" }

// unpack unpacks an archive into a new folder.
func unpack(ctx context.Context, file, dir string, limits Limits) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{ctx: ctx, root: root, limits: limits.withDefaults()}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	switch archiveEnding(file) {
	case ".zip":
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return u.zip(f, info.Size())
	case ".tar":
		return u.tar(f)
	default:
		z, err := gzip.NewReader(f)
		if err != nil {
			return fmt.Errorf("not a gzip file: %w", err)
		}
		return u.tar(z)
	}
}

// unpacker writes the entries of one archive. Everything is opened below root, which
// follows no link that leads out of it.
type unpacker struct {
	ctx     context.Context
	root    *os.Root
	limits  Limits
	entries int
	bytes   int64
}

func (u *unpacker) zip(r io.ReaderAt, size int64) error {
	z, err := zip.NewReader(r, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are checked below
		return fmt.Errorf("not a zip file: %w", err)
	}
	for _, e := range z.File {
		if err := u.zipEntry(e); err != nil {
			return fmt.Errorf("entry %q: %w", excerpt(e.Name), err)
		}
	}
	return nil
}

func (u *unpacker) zipEntry(e *zip.File) error {
	mode := e.Mode()
	if mode&fs.ModeSymlink != 0 {
		r, err := e.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		target, err := io.ReadAll(io.LimitReader(r, maxLink+1))
		if err != nil {
			return err
		}
		return u.entry(e.Name, mode, string(target), nil)
	}
	if strings.HasSuffix(e.Name, "/") {
		return u.entry(e.Name, mode|fs.ModeDir, "", nil)
	}
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	return u.entry(e.Name, mode, "", r)
}

func (u *unpacker) tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return fmt.Errorf("not a whole tar file: %w", err)
		}
		if err := u.tarEntry(t, h); err != nil {
			return fmt.Errorf("entry %q: %w", excerpt(h.Name), err)
		}
	}
}

func (u *unpacker) tarEntry(t *tar.Reader, h *tar.Header) error {
	mode := fs.FileMode(h.Mode).Perm()
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg:
		return u.entry(h.Name, mode, "", t)
	case tar.TypeDir:
		return u.entry(h.Name, mode|fs.ModeDir, "", nil)
	case tar.TypeSymlink:
		return u.entry(h.Name, mode|fs.ModeSymlink, h.Linkname, nil)
	}
	return fmt.Errorf("is of type %q; only files, folders and symbolic links are unpacked", h.Typeflag)
}

// maxLink bounds the target of a symbolic link, maxName the name of an entry, in bytes
// (PATH_MAX of Linux).
const (
	maxLink = 4096
	maxName = 4096
)

// entry writes one entry; its type is that of mode.
func (u *unpacker) entry(name string, mode fs.FileMode, target string, content io.Reader) error {
	if u.ctx.Err() != nil {
		return u.ctx.Err()
	}
	if u.entries++; u.entries > u.limits.Entries {
		return fmt.Errorf("the archive has more than %d entries", u.limits.Entries)
	}
	local, err := localName(name)
	if err != nil || local == "." {
		return err
	}
	if mode.IsDir() {
		return u.root.MkdirAll(local, 0o755)
	}
	if dir := path.Dir(local); dir != "." {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch {
	case mode&fs.ModeSymlink != 0:
		if len(target) > maxLink || path.IsAbs(target) || strings.ContainsRune(target, 0) || !filepath.IsLocal(path.Join(path.Dir(local), target)) {
			return fmt.Errorf("is a link to %q, which is outside of the archive", excerpt(target))
		}
		return u.root.Symlink(target, local)
	case mode&fs.ModeType != 0:
		return fmt.Errorf("is neither a file, nor a folder, nor a symbolic link")
	}
	perm := fs.FileMode(0o644)
	if mode&0o111 != 0 {
		perm = 0o755
	}
	f, err := u.root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("is there twice")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(content, u.limits.Unpacked-u.bytes+1))
	if u.bytes += n; err != nil {
		return err
	}
	if u.bytes > u.limits.Unpacked {
		return fmt.Errorf("the archive unpacks to more than %s", size(u.limits.Unpacked))
	}
	return f.Close()
}

// localName is the name of an entry, below the folder that is unpacked into.
func localName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", errors.New("its name is too long")
	case strings.ContainsAny(name, "\x00\\"):
		return "", errors.New("its name holds a NUL or a backslash")
	case path.IsAbs(name):
		return "", errors.New("its name is absolute")
	}
	if name = path.Clean(name); !filepath.IsLocal(name) {
		return "", errors.New("its name leads outside of the archive")
	}
	return name, nil
}

func excerpt(text string) string {
	if len(text) > 80 {
		return text[:80] + "..."
	}
	return text
}

// programIn is what a node runs of a download: the file itself, or of an archive the
// only program, or the one that is called like the node or like the archive. Scripts
// ending in .py are programs, too.
func programIn(dir string, n *dataflow.Node) (string, error) {
	if !isArchive(n.Path) {
		return filepath.Join(dir, baseName(n.Path)), nil
	}
	root := filepath.Join(dir, filesName)
	like := strings.TrimSuffix(strings.ToLower(baseName(n.Path)), archiveEnding(n.Path))
	var all, named []string
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		ext := filepath.Ext(file)
		if info.Mode()&0o111 == 0 && ext != ".py" {
			return nil
		}
		all = append(all, file)
		if base := strings.TrimSuffix(e.Name(), ext); base == n.ID || e.Name() == n.ID || strings.EqualFold(base, like) {
			named = append(named, file)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(named) == 1:
		return named[0], nil
	case len(all) == 0:
		return "", fmt.Errorf("%s holds no program: no file is executable, none ends in .py", redact(n.Path))
	}
	var names []string
	for _, f := range all {
		rel, _ := filepath.Rel(root, f)
		names = append(names, rel)
	}
	slices.Sort(names)
	return "", fmt.Errorf("%s holds %d programs, and not one of them alone is called `%s` or `%s`\n  fix: rename one in the archive; it has %s", redact(n.Path), len(names), n.ID, like, strings.Join(names[:min(10, len(names))], ", "))
}
