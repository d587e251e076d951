package release

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Bounds of what is read, in bytes: a program has about 40 MB.
const (
	maxManifest  = 64 << 10
	maxSignature = 1 << 10
	maxProgram   = 1 << 30
	// patience bounds the wait for an answer of a server.
	patience = 30 * time.Second
)

// Manifest is release.json.
type Manifest struct {
	Version string `json:"version"` // as in semantic versioning, without a `v`
	// Files by platform, as "linux/amd64".
	Files map[string]File `json:"files"`
}

// File is the program of one platform.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Source is one release that may be installed.
type Source struct {
	Manifest Manifest
	at       string
	client   *http.Client
}

// ParseKey reads a public key: 32 bytes in base64.
func ParseKey(text string) (ed25519.PublicKey, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a public key is %d bytes in base64", ed25519.PublicKeySize)
	}
	return raw, nil
}

// Open reads the manifest of a folder or an address and checks its signature.
func Open(ctx context.Context, at string, key ed25519.PublicKey) (*Source, error) {
	s := &Source{at: strings.TrimRight(at, "/"), client: &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: patience, TLSHandshakeTimeout: patience}}}
	raw, err := s.read(ctx, "release.json", maxManifest)
	if err != nil {
		return nil, err
	}
	text, err := s.read(ctx, "release.json.sig", maxSignature)
	if err != nil {
		return nil, err
	}
	sig, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, raw, sig) {
		return nil, fmt.Errorf("release.json of %s is not signed by the key that was given; nothing was changed\n  fix: check the source and the key", at)
	}
	if s.Manifest, err = parseManifest(raw); err != nil {
		return nil, fmt.Errorf("release.json of %s: %w", at, err)
	}
	return s, nil
}

var (
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	isSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func parseManifest(raw []byte) (Manifest, error) {
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, err
	}
	if !semver.IsValid("v" + m.Version) {
		return m, fmt.Errorf("%q is no version", m.Version)
	}
	for platform, f := range m.Files {
		if !fileName.MatchString(f.Name) || !isSHA256.MatchString(f.SHA256) {
			return m, fmt.Errorf("the file of %s has no proper name and SHA-256", platform)
		}
	}
	return m, nil
}

// Newer reports whether the release is newer than a version.
func (s *Source) Newer(than string) bool {
	return semver.Compare("v"+s.Manifest.Version, "v"+than) > 0
}

// read reads a small file of the source.
func (s *Source) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	r, err := s.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", name, s.at, err)
	}
	return raw, nil
}

func (s *Source) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if !strings.HasPrefix(s.at, "http://") && !strings.HasPrefix(s.at, "https://") {
		f, err := os.Open(filepath.Join(s.at, name))
		if err != nil {
			return nil, fmt.Errorf("release source: %w\n  fix: name a folder or an http(s) address that has release.json", err)
		}
		return f, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.at+"/"+name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("release source: %w\n  fix: check the address, and that its server can be reached", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("release source: %s/%s: the server answers %s", s.at, name, resp.Status)
	}
	return resp.Body, nil
}

// fetch writes the program of this platform into a file and checks its checksum.
func (s *Source) fetch(ctx context.Context, to *os.File) error {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	file, ok := s.Manifest.Files[platform]
	if !ok {
		return fmt.Errorf("release %s has no program for %s", s.Manifest.Version, platform)
	}
	r, err := s.open(ctx, file.Name)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(r, maxProgram+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s of %s: %w", file.Name, s.at, err)
	case n > maxProgram:
		return errors.New("the program is larger than any of ours")
	case hex.EncodeToString(h.Sum(nil)) != file.SHA256:
		return fmt.Errorf("%s of %s does not have the checksum that release.json names; nothing was changed", file.Name, s.at)
	}
	return to.Sync()
}
