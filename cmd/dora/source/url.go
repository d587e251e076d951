package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dora-go/dora/dataflow"
)

const (
	// connectPatience bounds connecting and the wait for an answer; stallPatience how
	// long nothing may come in the middle of a download.
	connectPatience = 30 * time.Second
	stallPatience   = time.Minute
	maxRedirects    = 10
)

// defaultClient follows redirects, but not from https to http.
func defaultClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: connectPatience}).DialContext,
			TLSHandshakeTimeout:   connectPatience,
			ResponseHeaderTimeout: connectPatience,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // the checksum is of what the server holds
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return fmt.Errorf("refusing the redirect from https to %s", redact(req.URL.String()))
			}
			return nil
		},
	}
}

// url gives the program of a node that is downloaded.
func (f *fetcher) url(ctx context.Context, n *dataflow.Node) (string, error) {
	wanted := strings.ToLower(n.PathSHA256)
	key := n.Path + "\x00" + wanted
	if isArchive(n.Path) {
		key += "\x00" + n.ID // another node may run another file of it
	}
	if known, ok := f.urls[key]; ok {
		return known.file, known.err
	}
	res := &urlResult{}
	f.urls[key] = res
	res.file, res.err = f.download(ctx, n, wanted)
	return res.file, res.err
}

func (f *fetcher) download(ctx context.Context, n *dataflow.Node, wanted string) (string, error) {
	sum := sha256.Sum256([]byte(n.Path))
	parent := filepath.Join(f.dir, ".dora", "downloads", baseName(n.Path)+"-"+hex.EncodeToString(sum[:4]))
	have := f.lock.download(n.Path)
	if wanted != "" && have.SHA256 != wanted {
		have = urlLock{URL: n.Path, SHA256: wanted}
	}
	dir := filepath.Join(parent, folderName(have.SHA256))
	here := have.SHA256 != "" && exists(dir)
	switch {
	case f.opts.Locked && have.SHA256 == "":
		return "", fmt.Errorf("%s is not in the lock file %s\n  fix: build without --locked once", redact(n.Path), f.lockPath)
	case here && (!f.opts.Update || f.opts.Locked || wanted != ""):
		f.lock.setDownload(have)
		return programIn(dir, n)
	case f.opts.Offline:
		return "", f.errNotHere(n.Path)
	case !f.opts.Update || f.opts.Locked:
		wanted = have.SHA256 // what the lock file names, or anything
	}
	etag := ""
	if here {
		etag = have.ETag
	}
	got := urlLock{URL: n.Path}
	dir, err := makeWhole(parent, func(tmp string) (string, error) {
		var err error
		if got, err = f.get(ctx, n.Path, etag, tmp); err != nil {
			return "", err
		}
		if got.SHA256 == "" { // it is the one we have
			got = have
			return folderName(have.SHA256), nil
		}
		if wanted != "" && got.SHA256 != wanted {
			return "", fmt.Errorf("%s has the SHA-256 %s, wanted is %s\n  fix: if the new file is right, change `path_sha256` (without one: run `dora build`); nothing of it was kept", redact(n.Path), got.SHA256, wanted)
		}
		file := filepath.Join(tmp, baseName(n.Path))
		if isArchive(n.Path) {
			if err := unpack(ctx, file, filepath.Join(tmp, filesName), f.opts.Limits); err != nil {
				return "", fmt.Errorf("%s: %w", redact(n.Path), err)
			}
			return folderName(got.SHA256), os.Remove(file)
		}
		return folderName(got.SHA256), os.Chmod(file, 0o755)
	})
	if err != nil {
		if ctx.Err() != nil {
			return "", errors.New(redact(n.Path) + ": interrupted")
		}
		return "", err
	}
	f.lock.setDownload(got)
	return programIn(dir, n)
}

// filesName is the folder of an archive's files.
const filesName = "files"

// get downloads into the folder tmp. If the server says that the version etag is still the
// newest, SHA256 of the result is empty.
func (f *fetcher) get(ctx context.Context, url, etag, tmp string) (urlLock, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return urlLock{}, fmt.Errorf("%s: %w", redact(url), hidden{err})
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	f.out.printf("downloading %s", redact(url))
	resp, err := f.opts.Client.Do(req)
	if err != nil {
		return urlLock{}, fmt.Errorf("%w\n  fix: check the address, and that its server can be reached", hidden{err})
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		return urlLock{}, nil
	case resp.StatusCode != http.StatusOK:
		return urlLock{}, fmt.Errorf("%s: the server answers %s\n  fix: check the address", redact(url), resp.Status)
	case resp.ContentLength > f.opts.Limits.Download:
		return urlLock{}, tooLarge(url, f.opts.Limits.Download)
	}
	file, err := os.Create(filepath.Join(tmp, baseName(url)))
	if err != nil {
		return urlLock{}, err
	}
	defer file.Close()
	h := sha256.New()
	p := &transfer{out: f.out, shown: redact(url), total: resp.ContentLength, started: time.Now()}
	stop := p.watchStall(cancel)
	n, err := io.Copy(io.MultiWriter(file, h, p), io.LimitReader(resp.Body, f.opts.Limits.Download+1))
	stop()
	switch {
	case err != nil && context.Cause(ctx) != nil:
		return urlLock{}, fmt.Errorf("%s: %w", redact(url), context.Cause(ctx))
	case err != nil:
		return urlLock{}, fmt.Errorf("%s: broken off after %s: %w", redact(url), size(n), hidden{err})
	case n > f.opts.Limits.Download:
		return urlLock{}, tooLarge(url, f.opts.Limits.Download)
	case resp.ContentLength >= 0 && n != resp.ContentLength:
		return urlLock{}, fmt.Errorf("%s: %d bytes came, %d were announced", redact(url), n, resp.ContentLength)
	}
	if err := file.Close(); err != nil {
		return urlLock{}, err
	}
	tag := resp.Header.Get("ETag")
	if len(tag) > 200 {
		tag = ""
	}
	return urlLock{URL: url, SHA256: hex.EncodeToString(h.Sum(nil)), ETag: tag}, nil
}

func tooLarge(url string, limit int64) error {
	return fmt.Errorf("%s: more than the %s that a download may have", redact(url), size(limit))
}

// transfer shows how far a download is, and ends one that stands still.
type transfer struct {
	out     *lines
	shown   string
	total   int64
	started time.Time

	got  atomic.Int64
	last time.Time
}

func (t *transfer) Write(b []byte) (int, error) {
	t.got.Add(int64(len(b)))
	if t.last.IsZero() {
		t.last = t.started
	}
	if time.Since(t.last) >= progressEvery {
		t.last = time.Now()
		of := ""
		if t.total > 0 {
			of = " of " + size(t.total)
		}
		t.out.printf("  %s: %s%s", t.shown, size(t.got.Load()), of)
	}
	return len(b), nil
}

func (t *transfer) watchStall(cancel context.CancelCauseFunc) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(stallPatience)
		defer tick.Stop()
		before := int64(-1)
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				now := t.got.Load()
				if now == before {
					cancel(fmt.Errorf("nothing came for %v (after %s)", stallPatience, size(now)))
					return
				}
				before = now
			}
		}
	}()
	return func() { close(done); <-ended }
}

func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}
