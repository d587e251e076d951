package scenarios

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v4/mem"

	"github.com/dora-go/dora/scenarios/leftovers"
)

// doraBinary is the program under test, built once.
var doraBinary string

// goEnv lets builds in a private home use the caches that are there already.
var goEnv []string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "scenarios")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	doraBinary = filepath.Join(dir, "dora")
	build := exec.Command("go", "build", "-o", doraBinary, "../cmd/dora")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 1, fmt.Errorf("build dora: %w", err)
	}
	for _, key := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", key).Output()
		if err != nil {
			return 1, fmt.Errorf("go env %s: %w", key, err)
		}
		goEnv = append(goEnv, key+"="+strings.TrimSpace(string(value)))
	}
	return m.Run(), nil
}

// python is the interpreter with the official packages.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("DORA_TEST_PYTHON")
	if p == "" {
		t.Fatal("DORA_TEST_PYTHON is not set: run `task setup`, then set DORA_TEST_PYTHON=$PWD/.venv/bin/python " +
			"(an interpreter with scenarios/requirements.txt)")
	}
	return p
}

// result is what a run of dora did.
type result struct {
	output string // standard output and error
	code   int
	took   time.Duration
	// live is the time between the first line that matched and the end.
	live time.Duration
}

// run is one run of a scenario.
type run struct {
	watch *leftovers.Watch
	dora  string
	path  string // put before PATH
	first string // text of the line at which live begins
}

func (r run) dataflow(t *testing.T, file string, args ...string) result {
	t.Helper()
	file, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	keepOut(t, filepath.Dir(file))
	cmd := r.watch.Command(filepath.Dir(file), r.dora, append([]string{"run", file}, args...)...)
	path := os.Getenv("PATH")
	if r.path != "" {
		path = r.path + string(os.PathListSeparator) + path
	}
	cmd.Env = append(append(cmd.Env, goEnv...), "PATH="+path, "NO_COLOR=1")
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	cmd.Stdout, cmd.Stderr = pw, pw
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = pw.Close()
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var out bytes.Buffer
	var first time.Time
	lines := bufio.NewScanner(pr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if first.IsZero() && r.first != "" && strings.Contains(lines.Text(), r.first) {
			first = time.Now()
		}
		out.WriteString(lines.Text() + "\n")
	}
	err = cmd.Wait()
	res := result{output: out.String(), took: time.Since(start)}
	if !first.IsZero() {
		res.live = time.Since(first)
	}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	if t.Failed() || testing.Verbose() {
		t.Logf("exit code %d after %v\n%s", res.code, res.took, res.output)
	}
	if strings.Contains(res.output, "panic:") || strings.Contains(res.output, "goroutine ") {
		t.Errorf("a stack trace:\n%s", res.output)
	}
	return res
}

// keepOut removes the log folders that the test adds beside a dataflow.
func keepOut(t *testing.T, dir string) {
	before := map[string]bool{}
	for _, f := range logFolders(dir) {
		before[f] = true
	}
	t.Cleanup(func() {
		for _, f := range logFolders(dir) {
			if !before[f] && !t.Failed() {
				_ = os.RemoveAll(f)
			}
		}
		_ = os.Remove(filepath.Join(dir, "out")) // if it is empty now
	})
}

func logFolders(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "out", "*"))
	return found
}

func (res result) mustHave(t *testing.T, code int, texts ...string) {
	t.Helper()
	missing := res.code != code
	for _, text := range texts {
		if !strings.Contains(res.output, text) {
			missing = true
			t.Errorf("%q is missing", text)
		}
	}
	if missing {
		t.Errorf("exit code %d, want %d, after %v:\n%s", res.code, code, res.took, res.output)
	}
}

// subjects are the programs that must be able to run the scenarios: ours, and the
// original, by which we know what nodes may expect.
func subjects(t *testing.T, test func(t *testing.T, dora string)) {
	// One after the other: both build the nodes into the same folder.
	t.Run("ours", func(t *testing.T) { test(t, doraBinary) })
	t.Run("original", func(t *testing.T) {
		test(t, filepath.Join(filepath.Dir(python(t)), "dora"))
	})
}

var liveLine = regexp.MustCompile(`printer: +cpu +([\d.]+) % +load +([\d.]+) +memory +([\d.]+) % +used +([\d.]+) GiB`)

func TestQuickstartShowsTheLiveStateOfTheMachine(t *testing.T) {
	t.Parallel()
	subjects(t, func(t *testing.T, dora string) {
		w := leftovers.New(t)
		if dora == doraBinary {
			w.PrivateShm(64<<20, 0)
		}
		res := run{watch: w, dora: dora, first: "printer: cpu"}.dataflow(t, "quickstart/dataflow.yml", "--stop-after", "3s")
		res.mustHave(t, 0)
		lines := liveLine.FindAllStringSubmatch(res.output, -1)
		// A tick every half second, the first at once.
		if len(lines) < 4 || len(lines) > 8 {
			t.Errorf("%d lines of readings in 3 s:\n%s", len(lines), res.output)
		}
		memory, err := mem.VirtualMemory()
		if err != nil {
			t.Fatal(err)
		}
		total := float64(memory.Total) / (1 << 30)
		for _, line := range lines {
			v := make([]float64, 5)
			for i := 1; i < 5; i++ {
				v[i], _ = strconv.ParseFloat(line[i], 64)
			}
			cpu, percent, used := v[1], v[3], v[4]
			if cpu < 0 || cpu > 100 || percent <= 0 || percent >= 100 || used <= 0 || used >= total {
				t.Errorf("implausible on a machine with %.1f GiB: %s", total, line[0])
			}
		}
		if res.live < 2*time.Second || res.live > 8*time.Second {
			t.Errorf("readings came for %v, want about 3 s", res.live)
		}
	})
}

func TestOfficialPythonNodesRunUnmodified(t *testing.T) {
	t.Parallel()
	subjects(t, func(t *testing.T, dora string) {
		w := leftovers.New(t)
		w.PrivateShm(512<<20, zenohFiles(dora))
		res := run{watch: w, dora: dora, path: filepath.Dir(python(t))}.dataflow(t, "python/dataflow.yml")
		res.mustHave(t, 0, "ok 8 bytes x 20", "ok 4096 bytes x 20", "ok 1048576 bytes x 10",
			"ok 16777216 bytes x 4", "ok 40000000 bytes x 3", "PASS python: 57 messages")
	})
}

// zenohFiles is how many files of Zenoh may stay in /dev/shm: the original leaves some
// after clean runs at times, ours none.
func zenohFiles(dora string) int {
	if dora == doraBinary {
		return 0
	}
	return 8
}

func TestGoAndPythonNodesUnderstandEachOther(t *testing.T) {
	t.Parallel()
	subjects(t, func(t *testing.T, dora string) {
		w := leftovers.New(t)
		w.PrivateShm(512<<20, zenohFiles(dora))
		res := run{watch: w, dora: dora, path: filepath.Dir(python(t))}.dataflow(t, "mixed/dataflow.yml")
		res.mustHave(t, 0, "ok 1048576 bytes", "ok 16777216 bytes", "ok 40000000 bytes", "ok struct<", "ok dictionary<",
			"PASS mixed: 15 messages")
	})
}

func TestGoAndPythonServeEachOther(t *testing.T) {
	t.Parallel()
	subjects(t, func(t *testing.T, dora string) {
		w := leftovers.New(t)
		w.PrivateShm(256<<20, zenohFiles(dora))
		res := run{watch: w, dora: dora, path: filepath.Dir(python(t))}.dataflow(t, "patterns/dataflow.yml")
		res.mustHave(t, 0, "PASS patterns: go", "PASS patterns: python")
	})
}

// The check of the mixed scenario is worth something only if it can fail.
func TestMixedNoticesWrongContent(t *testing.T) {
	t.Parallel()
	w := leftovers.New(t)
	w.PrivateShm(512<<20, zenohFiles(doraBinary))
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []string{"source", "check"} {
		build := w.Command(here, "go", "build", "-o", filepath.Join(dir, node), "./mixed/"+node)
		build.Env = append(build.Env, goEnv...) // marked, so that no other test takes it for a leftover
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	code, err := os.ReadFile("mixed/double.py")
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(code), "pa.scalar(2, kind)", "pa.scalar(3, kind)", 1)
	flow, err := os.ReadFile("mixed/dataflow.yml")
	if err != nil {
		t.Fatal(err)
	}
	local := regexp.MustCompile(`(?m)^    build: .*\n`).ReplaceAllString(string(flow), "")
	local = strings.ReplaceAll(local, "path: target/", "path: ")
	if wrong == string(code) || local == string(flow) {
		t.Fatal("nothing was changed")
	}
	for name, text := range map[string]string{"double.py": wrong, "dataflow.yml": local} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	res := run{watch: w, dora: doraBinary, path: filepath.Dir(python(t))}.dataflow(t, filepath.Join(dir, "dataflow.yml"))
	res.mustHave(t, 1, "message 0 (int64)", "check")
}
