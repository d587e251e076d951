package folder

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	state := t.TempDir()
	dir, err := Create(state, "d")
	if err != nil || dir != filepath.Join(state, "shims", "d") {
		t.Fatal(dir, err)
	}
	if held, err := Held(dir); held || err != nil {
		t.Error("an empty folder:", held, err)
	}
	if held, err := Held(filepath.Join(state, "none")); held || err != nil {
		t.Error("no folder:", held, err)
	}
	l, err := Acquire(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := Held(dir); !held || err != nil {
		t.Error("a held lock:", held, err)
	}
	if _, err := Acquire(dir, 10*time.Millisecond); !errors.Is(err, ErrHeld) {
		t.Error("a second owner:", err)
	}
	want := Owner{PID: 7, Token: strings.Repeat("long", 100), BootID: BootID(), Started: time.Now().UTC().Truncate(0)}
	for range 2 {
		if err := l.Publish(want); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadOwner(dir); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
		want.Token = "short"
	}
	fi, _ := os.Stat(filepath.Join(dir, LockName))
	if !l.Is(fi) {
		t.Error("the lock does not know itself")
	}
	os.Rename(filepath.Join(dir, LockName), filepath.Join(dir, "old"))
	os.WriteFile(filepath.Join(dir, LockName), nil, 0o600)
	if fi, _ = os.Stat(filepath.Join(dir, LockName)); l.Is(fi) {
		t.Error("another file is taken for the lock")
	}
	l.Close()
}

// TestAcquireIsPatient: those who only look hold the lock for an instant.
func TestAcquireIsPatient(t *testing.T) {
	dir, _ := Create(t.TempDir(), "d")
	first, err := Acquire(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(30*time.Millisecond, func() { first.Close() })
	second, err := Acquire(dir, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestWant(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadWant(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("no file:", err)
	}
	for _, w := range []Want{{Token: "a", Epoch: 3}, {Token: "b"}} {
		if err := WriteWant(dir, w); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadWant(dir); got != w || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if e, _ := os.ReadDir(dir); len(e) != 1 {
		t.Error("temporary files stay:", e)
	}
	os.WriteFile(filepath.Join(dir, WantName), []byte("{"), 0o600)
	if _, err := ReadWant(dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error("a damaged file:", err)
	}
}

func TestDirOfOddNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00"} {
		if _, err := Dir("/s", name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestSocketPath(t *testing.T) {
	base, err := os.MkdirTemp("/tmp", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	t.Setenv("XDG_RUNTIME_DIR", base)
	path, err := SocketPath()
	if err != nil || filepath.Dir(path) != filepath.Join(base, "dora") || len(filepath.Base(path)) != 16 {
		t.Fatal(path, err)
	}
	if fi, _ := os.Stat(filepath.Dir(path)); fi.Mode().Perm() != 0o700 {
		t.Error(fi.Mode())
	}
	if again, _ := SocketPath(); again == path {
		t.Error("the same name twice")
	}
	// A folder that others may enter is closed; one that is no folder is passed over.
	os.Chmod(filepath.Join(base, "dora"), 0o777)
	SocketPath()
	if fi, _ := os.Stat(filepath.Join(base, "dora")); fi.Mode().Perm() != 0o700 {
		t.Error(fi.Mode())
	}
	os.RemoveAll(filepath.Join(base, "dora"))
	os.Symlink("/tmp", filepath.Join(base, "dora"))
	for _, dir := range []string{base, "/" + strings.Repeat("long/", 30), "relative", "/no/such/folder"} {
		t.Setenv("XDG_RUNTIME_DIR", dir)
		path, err := SocketPath()
		if err != nil || strings.HasPrefix(path, base) || len(path) > maxSocketPath || !filepath.IsAbs(path) {
			t.Errorf("%s: %s, %v", dir, path, err)
		}
	}
}

// TestStraySockets: what nobody listens on goes when it is old enough; a socket that somebody
// listens on stays, and is not even dialled.
func TestStraySockets(t *testing.T) {
	base, err := os.MkdirTemp("/tmp", "sockets-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	t.Setenv("XDG_RUNTIME_DIR", base)
	old := time.Now().Add(-time.Hour)
	socket := func(close bool, age time.Time) (string, net.Listener) {
		t.Helper()
		path, err := SocketPath()
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if close {
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			l.Close()
		} else {
			t.Cleanup(func() { l.Close() })
		}
		if err := os.Chtimes(path, age, age); err != nil {
			t.Fatal(err)
		}
		return path, l
	}
	dead, _ := socket(true, old)
	fresh, _ := socket(true, time.Now())
	live, l := socket(false, old)
	other := filepath.Join(filepath.Dir(dead), "0123456789abcdef")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(other, old, old); err != nil {
		t.Fatal(err)
	}
	SweepSockets()
	for path, stays := range map[string]bool{dead: false, fresh: true, live: true, other: true} {
		if _, err := os.Lstat(path); (err == nil) != stays {
			t.Errorf("%s: %v, should stay: %v", path, err, stays)
		}
	}
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("a socket that somebody listens on was dialled")
	}
}
