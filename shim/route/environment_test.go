package route

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/dora-go/dora/dataflow"
	"github.com/dora-go/dora/dataflow/types"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/nodewire"
)

// environ of a node as a map.
func (g *rig) environ(id string) map[string]string {
	g.t.Helper()
	list, err := g.Environment(id, 1, 3)
	if err != nil {
		g.t.Fatal(err)
	}
	m := map[string]string{}
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		m[k] = v
	}
	return m
}

func (g *rig) configOf(id string) *nodewire.Config {
	g.t.Helper()
	c, err := nodewire.ParseConfig(g.environ(id)["DORA_NODE_CONFIG"])
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

func TestEnvironment(t *testing.T) {
	load := flow(t, "a: tick=dora/timer/millis/10 -> x", "b: p=a/x q=c/z", "c: p=a/x -> z")
	in := inputOf(load, "b", "p")
	in.QueueSize, in.HasQueueSize = 7, true
	g := start(t, load)
	env := g.environ("b")
	if env["PYTHONUNBUFFERED"] != "1" || env["DORA_RUN_PARENT_PID"] != fmt.Sprint(os.Getpid()) || env["DORA_ZENOH_MULTICAST"] != "off" {
		t.Fatalf("environment %v", env)
	}
	connect := g.environ("a")["DORA_ZENOH_LISTEN"] + "," + g.environ("c")["DORA_ZENOH_LISTEN"]
	if env["DORA_ZENOH_CONNECT"] != connect || !strings.HasPrefix(connect, "tcp/127.0.0.1:") {
		t.Fatalf("b connects to %q, want its producers %q", env["DORA_ZENOH_CONNECT"], connect)
	}
	if c, ok := g.environ("a")["DORA_ZENOH_CONNECT"]; ok {
		t.Fatalf("a source connects to %q", c)
	}
	c := g.configOf("b")
	if c.Addr != g.nodes["b"].addr || c.Node != "b" || c.RestartCount != 3 || c.Dataflow.String() != testDataflow || c.Dynamic {
		t.Fatalf("config %+v", c)
	}
	if want := (nodewire.InputConfig{ID: "p", Source: "a/x", QueueSize: 7, HasQueueSize: true}); c.Inputs[0] != want {
		t.Fatalf("input %+v", c.Inputs[0])
	}
	if got := fmt.Sprint(g.configOf("a").Routing); got != "map[x:{false [{b p} {c p}]}]" {
		t.Fatalf("routing of a: %s", got)
	}
	if _, err := g.Environment("nobody", 1, 0); err == nil {
		t.Fatal("an environment for nobody")
	}
	overlay, err := readOverlay(env["DORA_ZENOH_CONFIG_OVERLAY"])
	if err != nil || fmt.Sprint(overlay) != "map[connect:map[retry:map[period_increase_factor:1.5 period_init_ms:10 period_max_ms:50]]]" {
		t.Fatalf("overlay %v, %v", overlay, err)
	}
	g.Close()
	if _, err := os.Stat(env["DORA_ZENOH_CONFIG_OVERLAY"]); !os.IsNotExist(err) {
		t.Fatalf("the overlay is left behind: %v", err)
	}
}

// Types go to nodes that check them, and nobody else: an environment is small.
func TestTypesInTheEnvironment(t *testing.T) {
	const types = `{"outputs":{"x":{"urn":"std/core/v1/Int8","arrow":{"name":"Int8"}}}}`
	for value, want := range map[string]bool{"warn": true, "error": true, "1": true, "off": false, "0": false, "": false} {
		load := flow(t, "a: tick=dora/timer/millis/10 -> x", "b: p=a/x")
		load.Nodes[0].Types = json.RawMessage(types)
		load.Env = []string{"DORA_RUNTIME_TYPE_CHECK=" + value}
		g := start(t, load)
		got, has := g.environ("a")[nodewire.TypesVariable]
		if has != want || has && got != types {
			t.Errorf("with %q: %q, %v", value, got, has)
		}
		if _, has := g.environ("b")[nodewire.TypesVariable]; has {
			t.Error("a node without types got some")
		}
	}
	load := flow(t, "a: tick=dora/timer/millis/10 -> x")
	load.Nodes[0].Types = json.RawMessage(`{"outputs":{"x":{"arrow":{"name":"Int9"}}}}`)
	load.Nodes[0].Env = []link.EnvVar{{Name: "DORA_RUNTIME_TYPE_CHECK", Value: "warn"}}
	if _, err := start(t, load).Environment("a", 1, 0); err == nil || !strings.Contains(err.Error(), "Int9") || !strings.Contains(err.Error(), "`a`") {
		t.Errorf("types that are none: %v", err)
	}
}

func TestRoutingPolicy(t *testing.T) {
	lines := []string{"a: -> x", "b: p=a/x", "c: q=a/x"}
	pinned := "map[x:{true []}]"
	for name, c := range map[string]struct {
		change func(*link.Load, *rig)
		want   string
	}{
		"official":     {func(*link.Load, *rig) {}, "map[x:{false [{b p} {c q}]}]"},
		"backpressure": {func(l *link.Load, _ *rig) { inputOf(l, "b", "p").Backpressure = true }, pinned},
		"debug":        {func(l *link.Load, _ *rig) { l.Debug = true }, pinned},
		"dynamic":      {func(l *link.Load, _ *rig) { l.Nodes[1].Kind = link.KindDynamic }, pinned},
		"shell":        {func(l *link.Load, _ *rig) { l.Nodes[1].Kind = link.KindShell }, "map[x:{false [{b p} {c q}]}]"},
		"Go consumer":  {func(_ *link.Load, g *rig) { g.nodes["b"].isGo.Store(true) }, pinned},
		"Go producer":  {func(_ *link.Load, g *rig) { g.nodes["a"].isGo.Store(true) }, pinned},
		"stdout":       {func(l *link.Load, _ *rig) { l.Nodes[0].SendStdoutAs = "x" }, pinned},
	} {
		load := flow(t, lines...)
		c.change(load, &rig{Router: &Router{nodes: map[string]*node{"a": {}, "b": {}}}})
		g := start(t, load)
		c.change(load, g)
		if got := fmt.Sprint(g.configOf("a").Routing); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		g.Close()
	}
}

// A program built with our module is seen to be, and others are not.
func TestProgramThatLinksNodeAPI(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{self: true, sh: false, "/nonexistent": false, os.TempDir(): false} {
		if got := linksNodeAPI(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	load := flow(t, "a: -> x", "b: p=a/x")
	inputOf(load, "b", "p").Backpressure = true // through the router in every build
	r, err := New(Config{Load: load, Programs: map[string]string{"b": self}, Report: func(link.Fact) {}, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{Router: r, t: t}
	defer r.Close()
	if env := g.environ("b"); env["DORA_ZENOH_LISTEN"] != "" || env[poolVariable] != "" {
		t.Errorf("a Go node is told of Zenoh: %v", env)
	}
	if env := g.environ("a"); env[poolVariable] != fmt.Sprint(poolConsumer) {
		t.Errorf("a node without direct consumers takes %s bytes", env[poolVariable])
	}
}

// What a node says when it registers counts for the next start of its producers.
func TestNodeSaysItIsGo(t *testing.T) {
	g := start(t, flow(t, "a: -> x", "b: p=a/x"))
	if g.configOf("a").Routing["x"].DaemonOnly {
		t.Fatal("pinned before anything is known")
	}
	g.spawn("b", 1)
	if !g.configOf("a").Routing["x"].DaemonOnly {
		t.Fatal("b said that it is a Go node")
	}
}

func TestNotDirectIsReportedOnce(t *testing.T) {
	g := start(t, flow(t, "a: -> x y", "b: p=a/x q=a/y"))
	g.configOf("a")
	n := g.running("a", "b")
	n[0].outputSent("y") // y is direct: what comes here was too large
	n[0].send("y", "1")
	n[0].send("x", "2")
	n[0].send("x", "3")
	n[1].expect("input q 1", "input p 2", "input p 3")
	isWarning := func(f link.Fact) bool {
		return f.Warning != nil && strings.Contains(f.Warning.Text, "output a/x goes through")
	}
	f := g.fact("warning", isWarning)
	if !strings.Contains(f.Warning.Text, "b/p") || g.count(func(f link.Fact) bool { return f.Warning != nil }) != 1 {
		t.Fatalf("warnings: %s", g.dump())
	}
}

func TestUserOverlay(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		path := filepath.Join(dir, "user.json5")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load := flow(t, "a: -> x", "b: p=a/x")
	load.Env = []string{"DORA_ZENOH_CONFIG_OVERLAY=" + write(`// mine
{ connect: { endpoints: ['tcp/10.0.0.1:7447',], retry: { period_max_ms: 0x64 } }, scouting: {delay: .5}, }`)}
	g := start(t, load)
	got, err := readOverlay(g.environ("a")["DORA_ZENOH_CONFIG_OVERLAY"])
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	want := `{"connect":{"endpoints":["tcp/10.0.0.1:7447"],"retry":{"period_increase_factor":1.5,"period_init_ms":10,"period_max_ms":100}},"scouting":{"delay":0.5}}`
	if string(text) != want {
		t.Fatalf("merged %s, want %s", text, want)
	}
	for name, bad := range map[string]string{"not JSON5": write("{ a: "), "a list": write("[]"), "nothing there": filepath.Join(dir, "none")} {
		if name != "nothing there" {
			write(map[string]string{"not JSON5": "{ a: ", "a list": "[]"}[name])
		}
		load := flow(t, "a: -> x", "b: p=a/x")
		load.Env = []string{"DORA_ZENOH_CONFIG_OVERLAY=" + bad}
		g := start(t, load)
		g.fact("warning", func(f link.Fact) bool {
			return f.Warning != nil && strings.Contains(f.Warning.Text, "handed on unchanged")
		})
		if v, ok := g.environ("a")["DORA_ZENOH_CONFIG_OVERLAY"]; ok {
			t.Errorf("%s: replaced by %s", name, v)
		}
		g.Close()
	}
	load = flow(t, "a: -> x", "b: p=a/x")
	load.Env = []string{"ZENOH_CONFIG=/etc/zenoh.json5", "DORA_ZENOH_CONFIG_OVERLAY=" + dir}
	g = start(t, load)
	if v, ok := g.environ("a")["DORA_ZENOH_CONFIG_OVERLAY"]; ok || g.count(func(f link.Fact) bool { return f.Warning != nil }) != 0 {
		t.Fatalf("with ZENOH_CONFIG: %q, %s", v, g.dump())
	}
}

// A reserved port is given to nobody, but who knows it may listen there.
func TestReservation(t *testing.T) {
	v, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer v.release()
	ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", v.port))
	if err != nil {
		t.Fatalf("the reserved port cannot be used: %v", err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestPoolBudget(t *testing.T) {
	free, known := freeSharedMemory()
	if !known {
		t.Skip("no /dev/shm here")
	}
	g := start(t, flow(t, "a: -> x", "b: p=a/x -> y", "c: q=b/y", "d: -> unused"))
	share := min(poolMax, (free-free/4-poolReserve-2*poolConsumer)/2)
	share = max(poolMin, share&^(poolConsumer-1))
	sizes := map[string]int64{"a": share, "b": share, "c": poolConsumer, "d": poolConsumer}
	for id, want := range sizes {
		if got := g.environ(id)[poolVariable]; got != fmt.Sprint(want) {
			t.Errorf("%s takes %s, want %d of %d free", id, got, want, free)
		}
	}
	load := flow(t, "a: -> x", "b: p=a/x -> y", "c: q=b/y")
	load.Nodes[0].PoolSize = 12 << 20
	load.Nodes[1].Env = []link.EnvVar{{Name: poolVariable, Value: "HOST_POOL", FromHost: true}}
	load.Env = []string{"HOST_POOL=16MB"}
	g = start(t, load)
	for _, id := range []string{"a", "b"} {
		if v, ok := g.environ(id)[poolVariable]; ok {
			t.Errorf("%s has a size of its own, and gets %s", id, v)
		}
	}
	if g.configOf("a").PoolSize != 12<<20 || g.pools.size(g.nodes["b"]) != 16<<20 {
		t.Errorf("sizes %d, %d", g.configOf("a").PoolSize, g.pools.size(g.nodes["b"]))
	}
	load.Env = []string{"HOST_POOL=much"}
	g = start(t, load)
	g.fact("warning", func(f link.Fact) bool { return f.Warning != nil && strings.Contains(f.Warning.Text, `"much"`) })
}

func TestPoolShares(t *testing.T) {
	for _, c := range []struct {
		free    int64
		nodes   int
		share   int64
		warning bool
	}{
		{24 << 30, 2, poolMax, false},
		{64 << 20, 1, 40 << 20, false},
		{64 << 20, 2, 20 << 20, false},
		{64 << 20, 9, (40 << 20) / 9 &^ (poolConsumer - 1), true},
		{64 << 20, 100, poolMin, true},
		{0, 1, poolMin, true},
	} {
		share, warn := poolShare(c.free-c.free/4-poolReserve, c.nodes)
		if share != c.share || warn != c.warning {
			t.Errorf("%d nodes in %d MiB: %d, %v; want %d", c.nodes, c.free>>20, share, warn, c.share)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "64kb": 64 << 10, "128MB": 128 << 20, "2 G": 2 << 30, " 7b ": 7} {
		if got, ok := parseSize(text); !ok || got != want {
			t.Errorf("%q = %d, %v", text, got, ok)
		}
	}
	for _, bad := range []string{"", "x", "-1", "1.5MB", "99999999999999G", "MB"} {
		if got, ok := parseSize(bad); ok {
			t.Errorf("%q = %d", bad, got)
		}
	}
}

func TestJSON5(t *testing.T) {
	for text, want := range map[string]string{
		`null`:                          `null`,
		`{}`:                            `{}`,
		`{a:1,'b c':-0x1F,"d":[true,]}`: `{"a":1,"b c":-31,"d":[true]}`,
		"/* c */ [ // d\n +1.5e3, .5, 5., 'it\\'s', \"\\u00e9\\x41\\\n!\" ]": `[1500,0.5,5,"it's","éA!"]`,
		`{$x_1: "\ud83d\ude00"}`:              `{"$x_1":"😀"}`,
		"\ufeff{ü: {deep: {er: null}}}\u2028": `{"ü":{"deep":{"er":null}}}`,
	} {
		v, err := parseJSON5(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("%s = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "{", "[", "{a}", "{a:}", "[1 2]", "{a:1 b:2}", "1 2", "'a", "'a\nb'", "nope", "NaN", "Infinity",
		"-Infinity", "+-1", "--1", "0x", "0xg", "1e999", "1p3", `"\u12"`, `"\xzz"`, "/* open", strings.Repeat("[", 200), "{:1}", "{1:1}"} {
		if v, err := parseJSON5(bad); err == nil {
			t.Errorf("%q = %v", bad, v)
		}
	}
}

func FuzzJSON5(f *testing.F) {
	f.Add(`{a:1,'b':[+.5,0xF,"\u00e9",],/* c */d:{e:null}} // end`)
	f.Add("{ connect: { endpoints: ['tcp/10.0.0.1:7447'] } }")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := parseJSON5(text)
		if err != nil {
			return
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("%q became %v, which is not JSON: %v", text, v, err)
		}
		again, err := parseJSON5(string(out))
		if err != nil {
			t.Fatalf("%s is not read again: %v", out, err)
		}
		if out2, _ := json.Marshal(again); string(out) != string(out2) {
			t.Fatalf("%s became %s", out, out2)
		}
	})
}

// Everything JSON can say, JSON5 says alike.
func FuzzJSON5ReadsJSON(f *testing.F) {
	f.Add(`{"a":[1,-2.5e3,"x\u00e9\n",true,false,null],"b":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil || strings.Count(text, "[")+strings.Count(text, "{") > 90 {
			return
		}
		got, err := parseJSON5(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if a, b := keys(v), keys(got); a != b {
			t.Fatalf("%q: %s, want %s", text, b, a)
		}
	})
}

// keys lists the names of an object.
func keys(v any) string {
	m, _ := v.(map[string]any)
	var list []string
	for k := range m {
		list = append(list, k)
	}
	sort.Strings(list)
	return strings.Join(list, ",")
}

// What package dataflow resolves is what nodes read: the same JSON on both sides.
func TestEveryStandardTypeReachesNodes(t *testing.T) {
	all := types.Standard().Names()
	if len(all) != 27 {
		t.Fatalf("%d standard types", len(all))
	}
	nt := dataflow.NodeTypes{Outputs: map[string]dataflow.PortType{}}
	for _, text := range all {
		urn, err := types.ParseURN(text)
		if err != nil {
			t.Fatal(err)
		}
		arrow, err := types.Standard().Resolve(urn)
		if err != nil {
			t.Fatal(err)
		}
		nt.Outputs[text] = dataflow.PortType{URN: text, Arrow: arrow, From: "a/b", Metadata: []string{"request_id"}}
	}
	sent, err := json.Marshal(nt)
	if err != nil {
		t.Fatal(err)
	}
	got, err := nodewire.ParseNodeTypes(string(sent))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(got); err != nil || string(again) != string(sent) {
		t.Errorf("%s became %s (%v)", sent, again, err)
	}
	for urn, p := range got.Outputs {
		if want := nt.Outputs[urn].Arrow.String(); p.Arrow.String() != want {
			t.Errorf("%s is %s, want %s", urn, p.Arrow, want)
		}
	}
}
