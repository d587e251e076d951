//go:build linux

package shm

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// foreignFile is memory with a name, as others share it.
func foreignFile(t *testing.T, size int) (*os.File, []byte) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "dora-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f, err := os.Create(filepath.Join(dir, "memory"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(int64(size)); err != nil {
		t.Fatal(err)
	}
	mem, err := mapMemfd(int(f.Fd()), int64(size), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmap(mem) })
	return f, mem
}

// A lent payload is read where it lies, by all receivers, and given back when the last one is
// done with it, or is gone. After that nobody has the memory mapped.
func TestLentMemoryIsReadInPlaceAndGivenBack(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, c := r.join("camera"), r.join("planner"), r.join("viewer")
	r.connect(a, "image", b, "view", 8, DropOldest)
	r.connect(a, "image", c, "view", 8, DropOldest)
	ea, eb, ec := r.open(a), r.open(b), r.open(c)
	const size, at, n = 1 << 20, 4096, 100_000
	file, mem := foreignFile(t, size)
	f, err := ea.Writer.Adopt(int(file.Fd()), size)
	if err != nil {
		t.Fatal(err)
	}
	want := pattern(n, 7)
	copy(mem[at:], want)
	var given atomic.Int32
	lend := func() bool {
		t.Helper()
		ok, err := ea.Writer.Lend(context.Background(), "image", f, at, n, Header{Meta: []byte("meta"), Time: 3}, func() { given.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for range 2 {
		if !lend() {
			t.Fatal("nothing was lent")
		}
	}
	// Half of a quarter is out twice: more would be too much.
	if lend() {
		t.Fatal("more was lent than receivers may hold")
	}
	first, second, other := r.recv(eb), r.recv(eb), r.recv(ec)
	if !bytes.Equal(first.Payload, want) || string(first.Meta) != "meta" || first.Time != 3 {
		t.Fatal("another message arrived")
	}
	mem[at]++
	if first.Payload[0] != mem[at] || second.Payload[0] != mem[at] || other.Payload[0] != mem[at] {
		t.Fatal("it was copied")
	}
	first.Release()
	second.Release()
	if ea.Writer.Stats(); given.Load() != 0 {
		t.Fatal("given back while another receiver has it")
	}
	other.Release()
	ec.Close() // with one message in its queue
	r.eventually("both to be given back", func() bool { ea.Writer.Stats(); return given.Load() == 2 })
	if st := ea.Writer.Stats(); st.Slots != 0 || st.Loans != 0 {
		t.Fatalf("%+v", st)
	}
	if !lend() {
		t.Fatal("nothing can be lent any more")
	}
	last := r.recv(eb)
	f.Retire()
	if !bytes.Equal(last.Payload[8:], want[8:]) {
		t.Fatal("what is on loan changed when the memory was retired")
	}
	last.Release()
	r.eventually("the last to be given back", func() bool { ea.Writer.Stats(); return given.Load() == 3 })
	r.eventually("everybody to unmap it", func() bool { return mappings(t, file.Name()) == 1 })
	if lend() {
		t.Fatal("retired memory was lent")
	}
}

func mappings(t *testing.T, file string) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(maps), file)
}

// What cannot be lent is not, and the caller keeps it.
func TestLendRefusesWhatMustBeCopied(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	ea, _, _ := r.pair(8, DropOldest)
	const size = 1 << 20
	file, _ := foreignFile(t, size)
	f, err := ea.Writer.Adopt(int(file.Fd()), size)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   int64
		n    int
		meta int
	}{
		{0, InlineMax, 0}, {1, 100_000, 0}, {-64, 100_000, 0}, {size - 64, 100_000, 0}, {0, size, 0}, {0, 100_000, InlineMax + 1},
	} {
		ok, err := ea.Writer.Lend(context.Background(), "image", f, c.at, c.n, Header{Meta: make([]byte, c.meta)}, func() { t.Error("given back") })
		if ok || err != nil {
			t.Errorf("%+v: %v, %v", c, ok, err)
		}
	}
}

// Memory without seals can be cut off by its owner; only the supervisor's own process may
// have others map it.
func TestNodesMustNotAnnounceForeignMemory(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	m := r.join("camera")
	here, there, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	r.sup.Serve(there)
	ep, err := open(here, m.Token(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ep.Close()
	file, _ := foreignFile(t, 1<<20)
	if _, err := ep.Writer.Adopt(int(file.Fd()), 1<<20); err == nil {
		t.Fatal("a node may hand out memory that it can cut off")
	}
	if x := <-r.trouble; x.Node != "camera" || !strings.Contains(x.Text, "not its own") {
		t.Fatalf("%+v", x)
	}
}
