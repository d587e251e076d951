//go:build linux

package shm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// exportSteps are those of a producer whose receiver hands payloads on.
var exportSteps = map[string]int{
	"export.made": 2, "export.announced": 2, "slot.taken": 20, "payload.written": 20, "entry.written": 20,
	"head.stored": 20, "token.read": 20, "end.published": 1,
}

// A producer of exportable memory may be killed at any step: what it had published arrives,
// and no name, memory or descriptor is left.
func TestKilledWhileExporting(t *testing.T) {
	g := newPlayground(t, faultyBinary(t), SupervisorOptions{})
	choose, left := names(t)
	to := g.rig.join("relay")
	relay := g.open(to)
	p := g.node("camera", "exporter")
	rnd := rand.New(rand.NewPCG(1, 2))
	handedOn := 0
	for step, most := range exportSteps {
		for died, tries := 0, 0; died < 3; tries++ {
			p.member = g.rig.join("camera")
			if _, err := g.sup.Connect(Route{From: p.member, Output: "image", To: to, Input: "view", Queue: 4, Policy: DropOldest, Export: maxExport}); err != nil {
				t.Fatal(err)
			}
			if err := g.spawn(p, fmt.Sprintf("%s:%d", step, 1+rnd.IntN(most))); err != nil {
				t.Fatal(err)
			}
			var held []Message
			for {
				m := g.recv(relay)
				if m.End != NotEnded {
					if m.End == Broken {
						t.Fatal(m.Err)
					}
					break
				}
				whole := m
				if m.Export != nil {
					handedOn++
					whole.Payload = exported(t, &m)
					if _, err := m.Export.Link(choose); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := checkStamp(&whole); err != nil {
					t.Fatal(err)
				}
				if held = append(held, m); len(held) > 3 {
					held[0].Release()
					held = held[1:]
				}
			}
			if dead, err := p.killed(p.cmd.Wait()); err != nil {
				t.Fatal(err)
			} else if dead {
				died++
			} else if tries > 20 {
				t.Fatalf("it never came to %s", step)
			}
			p.member.Leave()
			for i := range held {
				held[i].Release()
			}
			g.eventually("names and memory to go", func() bool {
				g.sup.mu.Lock()
				defer g.sup.mu.Unlock()
				return len(left()) == 0 && len(g.sup.exports) == 0
			})
			if n := mappings(t, namesFolder+"/"); n > 0 {
				t.Fatalf("after %s, %d files are still mapped", step, n)
			}
		}
	}
	if handedOn < 50 {
		t.Errorf("%d messages lay in exportable memory", handedOn)
	}
}

// namerChild is a supervisor's process that gives memory names, which it notes before.
func namerChild() int {
	dir := os.Getenv("DORA_SHM_TEST_NAMES")
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	sup, err := NewSupervisor(SupervisorOptions{})
	if err != nil {
		return fail(err)
	}
	from, _ := sup.Join("camera")
	to, _ := sup.Join("relay")
	if _, err := sup.Connect(Route{From: from, Output: "image", To: to, Input: "view", Queue: 4, Export: maxExport}); err != nil {
		return fail(err)
	}
	a, err := sup.Local(from, Options{})
	if err != nil {
		return fail(err)
	}
	b, err := sup.Local(to, Options{})
	if err != nil {
		return fail(err)
	}
	<-a.Ready()
	noted, err := os.Create(filepath.Join(dir, "noted"))
	if err != nil {
		return fail(err)
	}
	for n := exportMin; n <= exportMax; n *= 4 {
		if err := a.Writer.Send(context.Background(), "image", make([]byte, n), Header{}); err != nil {
			return fail(err)
		}
		m, err := b.Reader.Recv(context.Background())
		if err != nil || m.Export == nil {
			return fail(fmt.Errorf("not exportable: %w", err))
		}
		if _, err := m.Export.Link(func() (string, error) {
			path := filepath.Join(dir, fmt.Sprint(n))
			_, err := fmt.Fprintln(noted, path)
			return path, err
		}); err != nil {
			return fail(err)
		}
	}
	return fail(fmt.Errorf("it is still alive"))
}

// A supervisor's process that is killed leaves no names but those that were noted, and nobody
// has a lock on them any more.
func TestKilledWhileNaming(t *testing.T) {
	for step, names := range map[string]int{"export.named:2": 1, "export.linked:2": 2} {
		dir, err := os.MkdirTemp(namesFolder, "dora-test-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		cmd := exec.Command(faultyBinary(t))
		cmd.Env = append(os.Environ(), "DORA_SHM_TEST_ROLE=namer", "DORA_SHM_TEST_NAMES="+dir, "DORA_SHM_FAULT="+step)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("%s: it was not killed: %v: %s", step, cmd.ProcessState, out)
		}
		raw, err := os.ReadFile(filepath.Join(dir, "noted"))
		if err != nil {
			t.Fatal(err)
		}
		noted := strings.Fields(string(raw))
		left, _ := filepath.Glob(filepath.Join(dir, "[0-9]*"))
		if len(left) != names {
			t.Errorf("%s: %d names are left, not %d", step, len(left), names)
		}
		for _, path := range left {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil || !slices.Contains(noted, path) {
				t.Errorf("%s: nobody can remove %s: %v, noted are %q", step, path, err, noted)
			}
			f.Close()
		}
	}
}
