package cli

import (
	"archive/zip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/scenarios/leftovers"
)

// ownCopy is a copy of dora in a folder of its own.
func ownCopy(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "dora")
	copyFile(t, filepath.Join(bin, "dora"), program)
	return program
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestUninstallAsks: on a terminal it asks, and takes only yes for an answer.
func TestUninstallAsks(t *testing.T) {
	w := leftovers.New(t)
	h := &host{t: t, w: w, dir: t.TempDir(), env: append(w.Env(), "NO_COLOR=1", "TERM=xterm")}
	program := ownCopy(t, filepath.Join(h.dir, "own"))
	state := filepath.Join(w.Home(), ".dora")
	if err := os.MkdirAll(filepath.Join(state, "runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		answer string
		code   int
		says   string
		stays  bool
	}{
		{"n\r", 0, "nothing was removed", true},
		{"\r", 0, "nothing was removed", true},
		{"\x04", 1, "no answer; nothing was removed", true}, // end of file
		{"yes\r", 0, "removed " + program, false},
	} {
		term := h.terminalOf(program, "self", "uninstall")
		term.await("[y/N]")
		term.keys(c.answer)
		text := term.end(c.code)
		if _, err := os.Stat(program); (err == nil) != c.stays || !strings.Contains(text, c.says) {
			t.Errorf("after %q: %v, and on the terminal:\n%s", c.answer, err, text)
		}
	}
	if list, err := os.ReadDir(state); err == nil {
		t.Errorf("the state is still there: %v", list)
	}
}

// halfServer is a release whose program comes to a halt in the middle, until it may go on.
func halfServer(t *testing.T, version string) (url, key string, reached <-chan struct{}, goOn func()) {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	program := []byte("#!/bin/sh\necho dora " + version + "\n#" + strings.Repeat("x", 1<<20) + "\n")
	sum := sha256.Sum256(program)
	manifest := fmt.Appendf(nil, `{"version": %q, "files": {"%s/%s": {"name": "dora-x", "sha256": %q}}}`, version, runtime.GOOS, runtime.GOARCH, hex.EncodeToString(sum[:]))
	half, open := make(chan struct{}, 10), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/release.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(manifest) })
	mux.HandleFunc("/release.json.sig", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, base64.StdEncoding.EncodeToString(ed25519.Sign(secret, manifest)))
	})
	mux.HandleFunc("/dora-x", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(program[:len(program)/2])
		_ = http.NewResponseController(w).Flush()
		half <- struct{}{}
		select {
		case <-open:
			_, _ = w.Write(program[len(program)/2:])
		case <-r.Context().Done():
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, base64.StdEncoding.EncodeToString(public), half, func() { close(open) }
}

// TestUpdateSurvivesItsDeath: an update that is killed half-way has changed nothing, and
// the next one does not mind.
func TestUpdateSurvivesItsDeath(t *testing.T) {
	w := leftovers.New(t)
	dir := t.TempDir()
	program := ownCopy(t, dir)
	url, key, reached, goOn := halfServer(t, "9.9.9")
	update := w.Command(dir, program, "self", "update", "--from", url, "--key", key)
	update.Env = w.Env()
	if err := update.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reached:
	case <-time.After(20 * time.Second):
		t.Fatal("the download did not begin")
	}
	_ = update.Process.Kill()
	_ = update.Wait()
	if out, err := exec.Command(program, "--version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "dora 0.1.0") {
		t.Fatalf("after the death: %s %v", out, err)
	}
	goOn()
	again := w.Command(dir, program, "self", "update", "--from", url, "--key", key)
	again.Env = w.Env()
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "dora 9.9.9 is installed (was 0.1.0)") {
		t.Fatalf("the next update: %s %v", out, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
}

// TestUpdateNeedsTheRight: a user who may not write there is told so.
func TestUpdateNeedsTheRight(t *testing.T) {
	w := leftovers.New(t)
	dir, err := os.MkdirTemp("/tmp", "dora-own-") // open to others, as the folders of tests are not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700); _ = os.RemoveAll(dir) })
	program := ownCopy(t, dir)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	url, key, _, goOn := halfServer(t, "9.9.9")
	goOn()
	cmd := w.Command("/", program, "self", "update", "--from", url, "--key", key)
	cmd.Env = w.Env()
	if os.Geteuid() == 0 { // root may always
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "the program cannot be replaced: open "+program+".new: permission denied") ||
		!strings.Contains(string(out), "fix: run it as a user who may write into "+dir) {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

// TestPackageOwnsTheProgram: what pip or uv installed is updated and removed by them.
func TestPackageOwnsTheProgram(t *testing.T) {
	python := os.Getenv("DORA_TEST_PYTHON")
	w := leftovers.New(t)
	dir := t.TempDir()
	wheel := filepath.Join(dir, "robot_dora-1.0-py3-none-any.whl")
	makeWheel(t, wheel)
	run := func(prog string, args ...string) (string, int) {
		t.Helper()
		cmd := w.Command(dir, prog, args...)
		cmd.Env = append(w.Env(), "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"), "UV_NO_CACHE=1", "UV_OFFLINE=1", "PIP_NO_INDEX=1", "PIP_DISABLE_PIP_VERSION_CHECK=1")
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, by := range []string{"pip", "uv"} {
		env := filepath.Join(dir, by)
		install := []string{python, "-m", "pip", "--python", filepath.Join(env, "bin/python"), "install", "-q", wheel}
		create := []string{python, "-m", "venv", env}
		remove := env + "/bin/python -m pip install --upgrade robot-dora"
		if by == "uv" {
			create = append(create, "--without-pip")
			install = []string{"uv", "pip", "install", "-q", "--python", filepath.Join(env, "bin/python"), wheel}
			remove = "uv pip install --upgrade --python " + env + "/bin/python robot-dora"
		}
		for _, words := range [][]string{create, install} {
			if words[0] == "uv" {
				words[0] = filepath.Join(filepath.Dir(python), "uv")
			}
			if out, code := run(words[0], words[1:]...); code != 0 {
				t.Fatalf("%v: %s", words, out)
			}
		}
		program := filepath.Join(env, "bin/dora")
		url, key, _, goOn := halfServer(t, "9.9.9")
		goOn()
		if out, code := run(program, "self", "update", "--from", url, "--key", key); code != 1 || !strings.Contains(out, "belongs to the Python package robot-dora") || !strings.Contains(out, remove) {
			t.Errorf("%s: update: exit code %d: %s", by, code, out)
		}
		if out, code := run(program, "self", "uninstall", "--force"); code != 0 || !strings.Contains(out, "removed "+program) {
			t.Errorf("%s: uninstall: exit code %d: %s", by, code, out)
		}
		if left, _ := filepath.Glob(filepath.Join(env, "lib/python*/site-packages/robot_dora*")); len(left) > 0 {
			t.Errorf("%s: the package is still there: %v", by, left)
		}
		if _, err := os.Stat(program); err == nil {
			t.Errorf("%s: the program is still there", by)
		}
	}
}

// makeWheel packs dora as the program of a Python package.
func makeWheel(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	const info = "robot_dora-1.0.dist-info/"
	program, err := os.ReadFile(filepath.Join(bin, "dora"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct{ name, text string }{
		{"robot_dora-1.0.data/scripts/dora", string(program)},
		{info + "METADATA", "Metadata-Version: 2.1\nName: robot-dora\nVersion: 1.0\n"},
		{info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
		{info + "RECORD", "robot_dora-1.0.data/scripts/dora,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n"},
	} {
		h := &zip.FileHeader{Name: file.name, Method: zip.Store}
		h.SetMode(0o755)
		w, err := z.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(w, file.text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}
