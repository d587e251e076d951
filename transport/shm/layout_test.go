//go:build linux

package shm

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// table reads one table of doc.go: name to offset and type.
func table(t *testing.T, section string) map[string]struct {
	off  uint64
	kind string
} {
	t.Helper()
	b, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "// # "+section+"\n")
	if !ok {
		t.Fatalf("doc.go has no section %s", section)
	}
	text, _, _ = strings.Cut(text, "\n// # ")
	out := make(map[string]struct {
		off  uint64
		kind string
	})
	name := -1
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(line, "//"), "both, CAS", "both"))
		if len(f) > 3 && f[0] == "offset" && f[1] == "type" {
			name = 2
			if f[2] == "writer" {
				name = 3
			}
			continue
		}
		if name < 0 || len(f) <= name || !strings.HasPrefix(line, "//\t") {
			continue
		}
		off, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			t.Fatalf("doc.go, section %s: %q", section, line)
		}
		out[f[name]] = struct {
			off  uint64
			kind string
		}{off, f[1]}
	}
	return out
}

// TestLayoutIsAsDocumented writes through the code and reads the bytes where doc.go
// says they are.
func TestLayoutIsAsDocumented(t *testing.T) {
	geo, err := geometryFor(10)
	if err != nil {
		t.Fatal(err)
	}
	small, fd, err := newEdge(7, geo, Backpressure)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	small.close()
	e, err := openEdge(fd, 7, geo)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	*e.head, *e.dropped, *e.withheld, *e.heldBytes, *e.heldSlots = 101, 102, 103, 104, 105
	*e.flushed, *e.newest, *e.received = 111, 112, 113
	*e.tail, *e.releaseHead, *e.want, *e.producerState, *e.consumerState = 106, 107, 108, 109, 110
	want := map[string]uint64{
		"magic": 'd' | 's'<<8 | 'h'<<16 | 'm'<<24, "version": 1, "entries": 16, "stride": 4160, "cap": 10, "policy": 1,
		"inlinemax": 4096, "release": 4096, "edge": 7, "releasering": 73728, // 16 entries of 4160 bytes end at 70656; the next page begins there
		"head": 101, "dropped": 102,
		"withheld": 103, "heldbytes": 104, "heldslots": 105, "tail": 106, "releasehead": 107, "want": 108,
		"flushed": 111, "newest": 112, "received": 113,
		"producerstate": 109, "consumerstate": 110,
	}
	compare(t, "Edge", e.mem, want, "ring")
	if off := table(t, "Edge")["ring"].off; off != e.geo.entryOffset(0) || e.geo.entryOffset(17) != off+4160 {
		t.Errorf("the ring begins at %d, doc.go says %d", e.geo.entryOffset(0), off)
	}
	if e.geo.size() != 73728+4096*8 || int64(len(e.mem)) != e.geo.size() {
		t.Errorf("size %d", e.geo.size())
	}

	d := descriptor{length: 1, flags: 2, segment: 3, slot: 4, offset: 5, generation: 6, meta: 7, time: 8, seq: 9}
	d.store(e.entry(0))
	compare(t, "Entry", e.entry(0), map[string]uint64{
		"len": 1, "flags": 2, "segment": 3, "slot": 4, "offset": 5, "generation": 6, "metalen": 7, "time": 8, "seq": 9,
	}, "bytes")
	if off := table(t, "Entry")["bytes"].off; off != entBytes {
		t.Errorf("inline bytes at %d, doc.go says %d", entBytes, off)
	}
	var back descriptor
	if back.load(e.entry(0)); back != d {
		t.Errorf("%+v", back)
	}
	if token(4, 6) != 6<<32|4 {
		t.Error("token")
	}
	if flagInline != 1 || flagArena != 2 || flagEnd != 4 || flagMetaSlot != 8 || flagProtected != 16 {
		t.Error("flags")
	}

	b, bfd, err := newBell()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(bfd)
	defer b.close()
	*b.sleep, *b.room = 11, 12
	compare(t, "Bell", b.mem, map[string]uint64{"sleep": 11, "room": 12}, "")
}

func compare(t *testing.T, section string, mem []byte, want map[string]uint64, without string) {
	t.Helper()
	rows := table(t, section)
	for name, v := range want {
		row, ok := rows[name]
		if !ok {
			t.Errorf("doc.go, section %s, does not have %s", section, name)
			continue
		}
		got := uint64(*word32(mem, row.off))
		if row.kind == "u64" {
			got = *word64(mem, row.off)
		}
		if got != v {
			t.Errorf("%s.%s at %d: %d, expected %d", section, name, row.off, got, v)
		}
	}
	for name := range rows {
		if _, ok := want[name]; !ok && name != without {
			t.Errorf("doc.go, section %s, has a row %s that nothing writes", section, name)
		}
	}
}

func TestGeometry(t *testing.T) {
	for _, q := range []int{-1, 0, MaxQueue + 1} {
		if _, err := geometryFor(q); err == nil {
			t.Errorf("a queue of %d", q)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		g, err := geometryFor(rapid.IntRange(1, MaxQueue).Draw(t, "queue"))
		if err != nil {
			t.Fatal(err)
		}
		if g.Entries <= g.Cap || g.Entries&(g.Entries-1) != 0 || g.Release&(g.Release-1) != 0 || g.Release <= g.Entries || g.Release < minRelease {
			t.Fatalf("%+v", g)
		}
		if g.check() != nil || g.releaseOffset() < g.entryOffset(uint64(g.Entries-1))+entryStride {
			t.Fatalf("%+v", g)
		}
		g.Entries *= 2
		if g.check() == nil {
			t.Fatalf("%+v passed", g)
		}
	})
}

func TestSlotClasses(t *testing.T) {
	for _, c := range []struct{ n, class int }{{1, 0}, {8192, 0}, {8193, 1}, {16384, 1}, {16385, 2}, {1 << 20, 7}, {1<<20 + 1, 8}, {MaxMessage, slotClasses - 1}} {
		if got := classOf(c.n); got != c.class {
			t.Errorf("%d bytes: class %d, expected %d", c.n, got, c.class)
		}
		if slotSize(c.class) < int64(c.n) {
			t.Errorf("%d bytes do not fit", c.n)
		}
	}
	for class := range slotClasses {
		end := uint64(0)
		for i := range slotsPer(class) {
			off := slotOffset(class, i)
			if off < end || off%payloadUnit != 0 {
				t.Errorf("class %d: slot %d at %d", class, i, off)
			}
			end = off + uint64(slotSize(class))
		}
		if size := segmentSize(class); end > uint64(size) || size > maxSegment || size%pageSize != 0 {
			t.Errorf("class %d: a segment of %d bytes", class, size)
		}
	}
}
