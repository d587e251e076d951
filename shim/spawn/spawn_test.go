package spawn

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/shim/contain"
	"github.com/dora-go/dora/transport/link"
)

// TestMain: a Table owns all children of its process, so its tests run in processes of
// their own.
func TestMain(m *testing.M) {
	if role := os.Getenv("SPAWN_TEST_ROLE"); role != "" {
		roles[role]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var roles = map[string]func(){
	"threads":   roleThreads,
	"leftovers": roleLeftovers,
	"orphans":   roleOrphans,
	"affinity":  roleAffinity,
	"run":       roleRun,
	"errors":    roleErrors,
	"killall":   roleKillAll,
}

// play runs a role in a process of its own; a role that prints anything has failed.
func play(t *testing.T, role string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SPAWN_TEST_ROLE="+role, "SPAWN_TEST_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestChildrenSurviveThreads(t *testing.T) { t.Parallel(); play(t, "threads") }
func TestLeftoversAreKilled(t *testing.T)     { t.Parallel(); play(t, "leftovers") }
func TestOrphansAreReaped(t *testing.T)       { t.Parallel(); play(t, "orphans") }
func TestAffinity(t *testing.T)               { t.Parallel(); play(t, "affinity") }
func TestRun(t *testing.T)                    { t.Parallel(); play(t, "run") }
func TestErrorsOfStart(t *testing.T)          { t.Parallel(); play(t, "errors") }
func TestKillAll(t *testing.T)                { t.Parallel(); play(t, "killall") }

func newTestTable() *Table {
	t, err := NewTable("test-mark")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return t
}

func startSh(t *Table, token, script string) *Process {
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	p, err := t.Start(&Command{Program: "/bin/sh", Args: []string{"sh", "-c", script}, Dir: "/", Env: os.Environ()}, token, null, null, null)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return p
}

// roleThreads: children are started from many goroutines whose threads end at once. With
// the parent-death signal set from those threads, every child would die with them.
func roleThreads() {
	t := newTestTable()
	var children []*Process
	for range 20 {
		made := make(chan *Process)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			made <- startSh(t, "", "exec sleep 100")
		}()
		children = append(children, <-made)
	}
	for range 50 {
		go runtime.LockOSThread()
	}
	time.Sleep(200 * time.Millisecond)
	for _, p := range children {
		select {
		case <-p.Done():
			fmt.Printf("child %d died: %+v\n", p.PID, p.Status())
		default:
		}
		if st, err := contain.ReadStat(p.PID); err != nil || st.PGID != p.PID || st.StartTime != p.StartTime {
			fmt.Printf("child %d: %+v, %v\n", p.PID, st, err)
		}
	}
	t.KillAll(time.Second)
}

func roleLeftovers() {
	t := newTestTable()
	dir := os.Getenv("SPAWN_TEST_DIR")
	// One in the group, one in a session of its own, one twice orphaned; and another node
	// with the same kinds, which must not be touched.
	script := "sleep 100 & setsid sleep 100 & (setsid sh -c 'sleep 100 & sleep 100' &) ; sleep 0.2; : > " + dir + "/%s; %s"
	other := startSh(t, "other", fmt.Sprintf(script, "other", "sleep 100"))
	p := startSh(t, "token", fmt.Sprintf(script, "token", "exit 7"))
	<-p.Done()
	for _, err := os.Stat(dir + "/other"); err != nil; _, err = os.Stat(dir + "/other") {
		time.Sleep(time.Millisecond)
	}
	if p.Status() != (Status{Code: 7}) {
		fmt.Println(p.Status())
	}
	p.KillLeftovers(2 * time.Second)
	time.Sleep(20 * time.Millisecond)
	if n := count("token"); n != 0 {
		fmt.Println("left of the finished node:", n)
	}
	if n := count("other"); n < 6 { // sh, sleep, 2 sessions, sh's child, the sleep it ends with
		fmt.Println("of the other node:", n)
	}
	other.SignalGroup(syscall.SIGTERM)
	<-other.Done()
	if other.Status().Signal != int(syscall.SIGTERM) {
		fmt.Println(other.Status())
	}
	t.KillAll(time.Second)
}

func count(token string) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(env, []byte("\x00"+TokenEnv+"="+token+"\x00")) &&
			bytes.Contains(env, []byte("\x00"+contain.Mark+"=test-mark\x00")) {
			n++
		}
	}
	return n
}

// roleOrphans: whatever becomes a child of this process is reaped when it ends.
func roleOrphans() {
	t := newTestTable()
	p := startSh(t, "t", "for i in 1 2 3 4 5; do (setsid sleep 0.1 &); done; sleep 0.3")
	<-p.Done()
	time.Sleep(50 * time.Millisecond)
	if kids := contain.Children(); len(kids) != 0 {
		fmt.Println("children left:", kids)
	}
}

func roleAffinity() {
	t := newTestTable()
	ok, not := usable([]int{0, 4000})
	if !slices.Equal(ok, []int{0}) || !slices.Equal(not, []int{4000}) {
		fmt.Println(ok, not)
	}
	out := func(cpus []int) string {
		r, w, _ := os.Pipe()
		null, _ := os.Open(os.DevNull)
		p, err := t.Start(&Command{Program: "/bin/sh", Args: []string{"sh", "-c", "grep Cpus_allowed_list /proc/self/status"},
			Dir: "/", Env: os.Environ(), CPUs: cpus}, "", null, w, w)
		if err != nil {
			return err.Error()
		}
		w.Close()
		<-p.Done()
		b := make([]byte, 200)
		n, _ := r.Read(b)
		return strings.TrimSpace(strings.TrimPrefix(string(b[:n]), "Cpus_allowed_list:"))
	}
	all := out(nil)
	if got := out([]int{0}); got != "0" {
		fmt.Printf("bound to core 0: %q\n", got)
	}
	if got := out(nil); got != all {
		fmt.Printf("afterwards: %q, before: %q\n", got, all)
	}
}

func roleRun() {
	t := newTestTable()
	out, err := t.Run([]string{"/bin/sh", "-c", "echo out; echo err >&2"}, "/", os.Environ(), time.Second)
	if out != "out\nerr\n" || err != nil {
		fmt.Printf("%q, %v\n", out, err)
	}
	if _, err := t.Run([]string{"/bin/sh", "-c", "exit 3"}, "/", os.Environ(), time.Second); err == nil || !strings.Contains(err.Error(), "exit code 3") {
		fmt.Println(err)
	}
	begin := time.Now()
	if _, err := t.Run([]string{"/bin/sleep", "100"}, "/", os.Environ(), 50*time.Millisecond); err == nil || time.Since(begin) > time.Second {
		fmt.Println(err, time.Since(begin))
	}
}

func roleErrors() {
	t := newTestTable()
	dir := os.Getenv("SPAWN_TEST_DIR")
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	for text, body := range map[string]string{
		"needs a first line like":       "no program at all",
		"interpreter of its `#!` line":  "#!/no/such/interpreter\n",
		"check the permissions":         "#!/etc/passwd\n",
		"larger than the system allows": "#!/bin/sh\n",
	} {
		path := filepath.Join(dir, "prog")
		os.WriteFile(path, []byte(body), 0o755)
		c := &Command{Program: path, Args: []string{path}, Dir: "/", Env: os.Environ()}
		if strings.Contains(text, "larger") {
			c.Args = append(c.Args, strings.Repeat("x", 4<<20))
		}
		_, err := t.Start(c, "", null, null, null)
		if err == nil || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), path) {
			fmt.Printf("%q: %v\n", text, err)
		}
		os.Remove(path)
	}
}

func roleKillAll() {
	t := newTestTable()
	for range 5 {
		startSh(t, "x", "(setsid env -i sleep 100 &); setsid sleep 100 & sleep 100")
	}
	time.Sleep(100 * time.Millisecond)
	if !t.KillAll(2*time.Second) || len(contain.Children()) != 0 {
		fmt.Println("left:", contain.Children())
	}
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if _, err := t.Start(&Command{Program: "/bin/true", Args: []string{"true"}, Dir: "/"}, "", null, null, null); err != ErrClosed {
		fmt.Println(err)
	}
}

// fakeEnv is a folder of programs and an environment whose PATH is that contain.
func fakeEnv(t *testing.T, programs ...string) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(dir, p), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, []string{"PATH=" + dir, "HOME=/home/me", "USER=me"}
}

func noRunner(t *testing.T) Runner {
	return func(argv []string, _ string, _ []string, _ time.Duration) (string, error) {
		t.Errorf("ran %q", argv)
		return "", os.ErrInvalid
	}
}

func TestResolveExecutables(t *testing.T) {
	bin, env := fakeEnv(t, "tool", "node", "sh")
	wd := t.TempDir()
	for _, name := range []string{"local", "tool"} {
		os.WriteFile(filepath.Join(wd, name), []byte("#!/bin/sh\n"), 0o755)
	}
	os.WriteFile(filepath.Join(wd, "plain"), []byte("x"), 0o644)
	os.MkdirAll(filepath.Join(wd, "node"), 0o755)
	env = append(env, "PWD="+wd)
	r := NewResolver(&link.Load{Env: env, WorkingDir: wd}, noRunner(t))
	resolve := func(path, args string) (*Command, error) {
		return r.Resolve(&link.Node{ID: "n", Kind: link.KindExecutable, Path: path, Args: args, WorkingDir: wd}, nil)
	}
	for path, want := range map[string]string{
		"local":                              filepath.Join(wd, "local"),
		"./local":                            filepath.Join(wd, "local"),
		"$PWD/local":                         filepath.Join(wd, "local"),
		"${PWD}/local":                       filepath.Join(wd, "local"),
		wd + "/local":                        filepath.Join(wd, "local"),
		"tool":                               filepath.Join(wd, "tool"),  // the file before PATH
		"node":                               filepath.Join(bin, "node"), // a folder of that name does not count
		"../" + filepath.Base(wd) + "/local": filepath.Join(wd, "local"),
	} {
		c, err := resolve(path, `--x "a b" 'c d' $HOME e\ f`)
		if err != nil || c.Program != want {
			t.Errorf("%s: %+v, %v", path, c, err)
			continue
		}
		if args := []string{want, "--x", "a b", "c d", "$HOME", "e f"}; !slices.Equal(c.Args, args) {
			t.Errorf("%s: args %q", path, c.Args)
		}
		if p := Program(&link.Node{Kind: link.KindExecutable, Path: path, WorkingDir: wd}, env); p != want {
			t.Errorf("Program(%s) = %s", path, p)
		}
	}
	for path, want := range map[string]string{
		"missing":             "nor a program `missing` on PATH",
		"./tool2":             "build it first",
		"plain":               "chmod +x",
		"./node":              "is a folder",
		"$SHELL/x":            "$SHELL/x", // not expanded
		"https://x/y":         "is a URL",
		"":                    "no path",
		wd + "/local/nothing": "there is no file",
	} {
		_, err := resolve(path, "")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "`n`") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := resolve("local", `"open`); err == nil || !strings.Contains(err.Error(), "quote") {
		t.Errorf("open quote: %v", err)
	}
	_, err := r.Resolve(&link.Node{ID: "n", Kind: link.KindExecutable, Path: "local", WorkingDir: wd + "/gone"}, nil)
	if err == nil || !strings.Contains(err.Error(), "working directory") {
		t.Errorf("missing folder: %v", err)
	}
	_, err = r.Resolve(&link.Node{ID: "n", Kind: "wasm", WorkingDir: wd}, nil)
	if err == nil || !strings.Contains(err.Error(), "wasm") {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestResolveShell(t *testing.T) {
	wd := t.TempDir()
	n := &link.Node{ID: "n", Kind: link.KindShell, Args: "echo $HOME 'x", WorkingDir: wd}
	l := &link.Load{Env: os.Environ(), WorkingDir: wd}
	_, err := NewResolver(l, noRunner(t)).Resolve(n, nil)
	if err == nil || !strings.Contains(err.Error(), "Shell nodes are disabled by default") || !strings.Contains(err.Error(), "DORA_ALLOW_SHELL_NODES") {
		t.Errorf("refusal: %v", err)
	}
	l.AllowShell = true
	c, err := NewResolver(l, noRunner(t)).Resolve(n, nil)
	if err != nil || !slices.Equal(c.Args, []string{"sh", "-c", "echo $HOME 'x"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestResolvePython(t *testing.T) {
	wd := t.TempDir()
	script := filepath.Join(wd, "n.py")
	os.WriteFile(script, nil, 0o644)
	node := &link.Node{ID: "n", Kind: link.KindExecutable, Path: "n.py", Args: "-a", WorkingDir: wd}
	asked := 0
	answer := func(out string) Runner {
		return func([]string, string, []string, time.Duration) (string, error) { asked++; return out, nil }
	}
	check := func(name string, l *link.Load, run Runner, want ...string) *Command {
		t.Helper()
		l.WorkingDir = wd
		r := NewResolver(l, run)
		for range 2 {
			c, err := r.Resolve(node, nil)
			if err != nil || !slices.Equal(c.Args, want) || c.Display != script {
				t.Errorf("%s: %+v, %v", name, c, err)
			}
			if err != nil {
				return nil
			}
		}
		c, _ := r.Resolve(node, nil)
		return c
	}
	venv := t.TempDir()
	os.MkdirAll(venv+"/bin", 0o755)
	os.WriteFile(venv+"/bin/python", nil, 0o755)

	bin, env := fakeEnv(t, "uv", "python", "python3")
	// An active environment is what uv would answer.
	check("active", &link.Load{Env: append(env, "VIRTUAL_ENV="+venv)}, noRunner(t), venv+"/bin/python", "-u", script, "-a")
	check("uv", &link.Load{Env: env}, answer(bin+"/python3\n"), bin+"/python3", "-u", script, "-a")
	if asked != 1 {
		t.Errorf("uv was asked %d times", asked)
	}
	check("uv lies", &link.Load{Env: env}, answer("nonsense"), bin+"/python", "-u", script, "-a")
	check("uv run", &link.Load{Env: env, UV: true}, noRunner(t), "uv", "run", "python", "-u", script, "-a")

	private := filepath.Join(wd, ".dora/python-envs/n")
	os.MkdirAll(private+"/bin", 0o755)
	os.WriteFile(private+"/bin/python", nil, 0o755)
	node.HasBuild = true
	if c := check("private", &link.Load{Env: env, UV: true}, noRunner(t), private+"/bin/python", "-u", script, "-a"); c != nil {
		if !slices.Contains(c.Env, "VIRTUAL_ENV="+private) || !slices.Contains(c.Env, "PATH="+private+"/bin:"+bin) {
			t.Errorf("env %q", c.Env)
		}
	}
	node.HasBuild = false

	bin, env = fakeEnv(t, "python", "python3")
	asked = 0
	check("python 2", &link.Load{Env: env}, answer("Python 2.7.18\n"), bin+"/python3", "-u", script, "-a")
	check("python 3", &link.Load{Env: env}, answer("Python 3.12.1\n"), bin+"/python", "-u", script, "-a")
	if asked != 2 {
		t.Errorf("python was asked %d times", asked)
	}
	os.Rename(bin+"/python3", bin+"/python3.12")
	os.Remove(bin + "/python")
	os.Symlink("python3.12", bin+"/python")
	check("by its name", &link.Load{Env: env}, noRunner(t), bin+"/python", "-u", script, "-a")

	// A .venv near the script is uv's answer too.
	_, env = fakeEnv(t, "uv")
	os.MkdirAll(wd+"/.venv/bin", 0o755)
	os.WriteFile(wd+"/.venv/bin/python", nil, 0o755)
	os.WriteFile(wd+"/.venv/pyvenv.cfg", nil, 0o644)
	check(".venv", &link.Load{Env: env}, noRunner(t), wd+"/.venv/bin/python", "-u", script, "-a")

	_, env = fakeEnv(t)
	_, err := NewResolver(&link.Load{Env: env}, noRunner(t)).Resolve(node, nil)
	if err == nil || !strings.Contains(err.Error(), "no `python3` on PATH") {
		t.Errorf("no Python: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	wd := t.TempDir()
	base := []string{"PATH=/bin", "HOME=/h", "LD_PRELOAD=/evil.so", "DORA_AUTH_TOKEN=secret", "DORA_ALLOW_SHELL_NODES=true",
		"DORA_NODE_CONFIG=stale", "DORA_ZENOH_CONNECT=stale", "DORA_RUN_PARENT_PID=1", "LD_LIBRARY_PATH=/ros/lib",
		"ZENOH_CONFIG=/z.json5", "EMPTY=", "broken", "HOST=from here", contain.Mark + "=outer", TokenEnv + "=outer"}
	n := &link.Node{ID: "n", Kind: link.KindShell, WorkingDir: wd, Env: []link.EnvVar{
		{Name: "A", Value: "1"}, {Name: "HOME", Value: "/mine"}, {Name: "B", Value: "HOST", FromHost: true},
		{Name: "LD_PRELOAD", Value: "/evil2.so"}, {Name: "LD_LIBRARY_PATH", Value: "/x"}, {Name: "ZENOH_CONFIG", Value: "/x"},
		{Name: "DORA_NODE_CONFIG", Value: "forged"}, {Name: "LD_PRELOAD=/x", Value: "y"}, {Name: "", Value: "y"}, {Name: "a b", Value: "y"},
		{Name: "DORA_NODE_SHM_POOL_SIZE", Value: "7"},
	}}
	r := NewResolver(&link.Load{Env: base, AllowShell: true, WorkingDir: wd}, noRunner(t))
	c, err := r.Resolve(n, []string{"DORA_NODE_CONFIG=ours", "DORA_NODE_SHM_POOL_SIZE=8", "A=2"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=/bin", "HOME=/mine", "LD_LIBRARY_PATH=/ros/lib", "ZENOH_CONFIG=/z.json5", "EMPTY=", "HOST=from here",
		"PYTHONUNBUFFERED=1", "PWD=" + wd, "A=2", "B=from here", "DORA_NODE_SHM_POOL_SIZE=7", "DORA_NODE_CONFIG=ours"}
	if !slices.Equal(c.Env, want) {
		t.Errorf("got  %q\nwant %q", c.Env, want)
	}
	if len(c.Warnings) != 7 {
		t.Errorf("%d warnings: %q", len(c.Warnings), c.Warnings)
	}
	for _, w := range c.Warnings {
		if !strings.HasPrefix(w, "node `n`: environment variable ") {
			t.Errorf("warning %q", w)
		}
	}
	n.Env = []link.EnvVar{{Name: "B", Value: "NOT_SET", FromHost: true}}
	if _, err := r.Resolve(n, nil); err == nil || !strings.Contains(err.Error(), "`NOT_SET`") || !strings.Contains(err.Error(), "`n`") {
		t.Errorf("unset variable: %v", err)
	}
	n.Env = []link.EnvVar{{Name: "B", Value: "a\x00b"}}
	if _, err := r.Resolve(n, nil); err == nil || !strings.Contains(err.Error(), "NUL") {
		t.Errorf("NUL: %v", err)
	}
}
