package guard

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConfigSurvivesTheEnvironment(t *testing.T) {
	c := Config{Dir: "/x y/\"z\"\n", Dataflow: "d", Token: "t", Version: "1.2", Socket: "/s", Mark: "m", ParentPipe: true,
		NoCgroup: true, IdleTimeout: time.Second, GuardPID: 7, Cgroup: "/c"}
	for _, want := range []Config{c, {}} {
		text, _ := strings.CutPrefix(want.Encode(), ConfigEnv+"=")
		got, err := Decode(text)
		if err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	for _, text := range []string{"", "x", `"a" "b"`, `"a`} {
		if _, err := Decode(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	t.Setenv(ConfigEnv, "")
	if _, err := FromEnvironment(); err == nil || !strings.Contains(err.Error(), "not by hand") {
		t.Errorf("no configuration: %v", err)
	}
}

// TestGuardStaysLean: a package that is initialised late, by its dependencies or by its
// name, would make every start of a dataflow several milliseconds longer.
func TestGuardStaysLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skip("no go command here")
	}
	allowed := strings.Fields(`bytes cmp context errors io io/fs iter math math/bits os os/signal path reflect runtime slices
		strconv strings sync sync/atomic syscall time unicode unicode/utf8 unsafe
		github.com/dora-go/dora/shim/contain github.com/dora-go/dora/shim/guard`)
	for _, dep := range strings.Fields(string(out)) {
		if !strings.HasPrefix(dep, "internal/") && !slices.Contains(allowed, dep) {
			t.Errorf("package guard needs %s", dep)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(strings.TrimPrefix(Config{Dir: "/d", ParentPipe: true}.Encode(), ConfigEnv+"="))
	f.Add(`"a" "b`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Decode(text)
		if err != nil {
			return
		}
		again, err := Decode(strings.TrimPrefix(c.Encode(), ConfigEnv+"="))
		if err != nil || again != c {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}
