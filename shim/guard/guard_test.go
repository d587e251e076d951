package guard

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestConfigSurvivesThePipe(t *testing.T) {
	c := Config{Dir: "/x y/\"z\"\n", Dataflow: "d", Token: "t", Version: "1.2", Socket: "/s", Mark: strings.Repeat("m", 9000),
		ParentPipe: true, IdleTimeout: time.Second, StarterSocket: "/t", GuardPID: 7, Cgroup: "/c"}
	r, w, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(r)
	for _, want := range []Config{c, {}} {
		if err := want.write(w); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadConfig(r); err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	syscall.Write(w, []byte(`"half`))
	syscall.Close(w)
	if _, err := ReadConfig(r); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("half a line: %v", err)
	}
	if _, err := ReadConfig(r); !errors.Is(err, ErrUnwanted) {
		t.Errorf("a closed pipe: %v", err)
	}
	for _, text := range []string{"", "x", `"a" "b"`, `"a`} {
		if _, err := Decode(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	null, _ := os.Open(os.DevNull)
	defer null.Close()
	if _, err := ReadConfig(int(null.Fd())); !errors.Is(err, ErrByHand) {
		t.Errorf("no pipe: %v", err)
	}
}

// A writer that never ends its line costs no memory without bound.
func TestConfigIsBounded(t *testing.T) {
	r, w, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(r)
	go func() {
		defer syscall.Close(w)
		for range 2 * maxConfig / 1000 {
			if _, err := syscall.Write(w, []byte(strings.Repeat("x", 1000))); err != nil {
				return
			}
		}
	}()
	if _, err := ReadConfig(r); err == nil {
		t.Error("it was accepted")
	}
	io.Copy(io.Discard, os.NewFile(uintptr(r), "pipe"))
}

// TestGuardStaysLean: a package that is initialised late, by its dependencies or by its
// name, would make every start of a dataflow several milliseconds longer.
func TestGuardStaysLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
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
	f.Add(Config{Dir: "/d", ParentPipe: true}.Encode())
	f.Add(`"a" "b`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Decode(text)
		if err != nil {
			return
		}
		again, err := Decode(c.Encode())
		if err != nil || again != c {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}
