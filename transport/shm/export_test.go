//go:build linux

package shm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// exportRoute connects camera/image to relay/view, where payloads are handed on.
func (r *rig) exportPair(export int64) (a, b *Endpoint, e *Edge) {
	r.t.Helper()
	from, to := r.join("camera"), r.join("relay")
	e, err := r.sup.Connect(Route{From: from, Output: "image", To: to, Input: "view", Queue: 100, Policy: DropOldest, Export: export})
	if err != nil {
		r.t.Fatal(err)
	}
	a, b = r.open(from), r.open(to)
	r.wait("the edge", e.Attached())
	return a, b, e
}

// names are the files that a test gives exportable memory.
func names(t *testing.T) (choose func() (string, error), left func() []string) {
	t.Helper()
	dir, err := os.MkdirTemp(namesFolder, "dora-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := 0
	choose = func() (string, error) {
		n++
		return filepath.Join(dir, fmt.Sprint(n/2)), nil // the first name twice
	}
	return choose, func() []string {
		list, _ := filepath.Glob(dir + "/*")
		return list
	}
}

func exported(t *testing.T, m *Message) []byte {
	t.Helper()
	if m.Export == nil || m.Payload != nil || m.Offset%128 != 0 || !m.Export.Holds(m) {
		t.Fatalf("message %d is not in memory that can be handed on: export %v, at %d, %d bytes here", m.Seq, m.Export != nil, m.Offset, len(m.Payload))
	}
	b := make([]byte, m.Length)
	if err := m.ReadExport(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// Payloads for one receiver that hands them on lie in files that others find by name, and
// are gone with their producer, also where somebody still has the file open.
func TestExportedPayloadsAreFoundByName(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.exportPair(maxExport)
	choose, left := names(t)
	var held []Message
	var file *os.File
	for i, n := range []int{exportMin, 70_000, 1 << 20, 1<<20 + 500, exportRoom(exportMax)} {
		want := pattern(n, uint64(i))
		parts := [][]byte{want[:1000], want[1000:]}
		if err := a.Writer.SendParts(t.Context(), "image", parts, n, Header{Meta: []byte("meta"), Time: 7}); err != nil {
			t.Fatal(err)
		}
		m := r.recv(b)
		if !bytes.Equal(exported(t, &m), want) || string(m.Meta) != "meta" || m.Time != 7 || m.Length != n {
			t.Fatalf("%d bytes: another message arrived", n)
		}
		path, err := m.Export.Link(choose)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := m.Export.Link(choose); again != path || err != nil {
			t.Fatalf("another name: %s, %v", again, err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got := make([]byte, n)
		if _, err := f.ReadAt(got, m.Offset); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("the file holds something else: %v", err)
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			t.Fatal("nobody has locked the file: others may remove it")
		}
		file = f
		held = append(held, m)
	}
	if st := a.Writer.Stats(); st.Slots != len(held) || st.Edges[0].HeldSlots != len(held) {
		t.Fatalf("%+v", st)
	}
	a.Close()
	if m := r.recv(b); m.End != Gone {
		t.Fatalf("%+v", m)
	}
	r.eventually("the names to go", func() bool { return len(left()) == 0 })
	if !bytes.Equal(exported(t, &held[1]), pattern(70_000, 1)) {
		t.Fatal("what is held changed when its producer ended")
	}
	for i := range held {
		held[i].Release()
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || st.Blocks != 0 {
		t.Fatalf("%d blocks are taken by memory that nobody needs: %v", st.Blocks, err)
	}
}

// A process that is about to end leaves no names, and gives none.
func TestNamesOfAProcessThatEnds(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, _ := r.exportPair(maxExport)
	choose, left := names(t)
	var last *Export
	for range 2 {
		r.send(a, "image", pattern(70_000, 8), Header{})
		m := r.recv(b)
		defer m.Release()
		last = m.Export
		if path, err := last.Link(choose); err != nil || len(left()) != 1 {
			t.Fatalf("%s, %v: %q", path, err, left())
		}
	}
	r.sup.Unname()
	if names := left(); len(names) > 0 {
		t.Fatalf("%q are left", names)
	}
	if path, err := last.Link(choose); err == nil {
		t.Fatalf("it gives the name %s", path)
	}
}

// Everything that is not for such a receiver alone, or does not fit there, lies in sealed
// memory.
func TestWhatIsNotExported(t *testing.T) {
	for _, c := range []struct {
		name         string
		export       int64
		others       int
		length, meta int
	}{
		{"short", maxExport, 0, exportMin - 1, 0},
		{"long", maxExport, 0, exportRoom(exportMax) + 1, 0},
		{"much metadata", maxExport, 0, 100_000, InlineMax + 1},
		{"two receivers", maxExport, 1, 100_000, 4},
		{"not allowed", 0, 0, 100_000, 4},
		{"no room", 1 << 20, 0, 1 << 20, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, SupervisorOptions{})
			a, b, e := r.exportPair(c.export)
			for range c.others {
				r.wait("the other", r.connect(e.route.From, "image", r.join("viewer"), "in", 4, DropOldest).Attached())
			}
			want := pattern(c.length, 3)
			r.send(a, "image", want, Header{Meta: pattern(c.meta, 4)})
			m := r.recv(b)
			defer m.Release()
			if m.Export != nil || !bytes.Equal(m.Payload, want) || !bytes.Equal(m.Meta, pattern(c.meta, 4)) {
				t.Fatalf("export %v, %d bytes", m.Export, len(m.Payload))
			}
			if l, err := a.Writer.Reserve(t.Context(), 100_000); err != nil || isExport(a.Writer.arena.slots[l.slot].class) {
				t.Fatalf("room for any output is exportable: %v", err)
			} else {
				l.Discard()
			}
		})
	}
}

// The smallest class whose slots hold a message is the one that is taken, and what it is made
// for fits.
func TestExportClasses(t *testing.T) {
	for class := slotClasses; class < allClasses; class++ {
		values := exportMin << (class - slotClasses)
		size := int(slotSize(class))
		if size < values+values/8+1000 || exportClassOf(values+values/8+1000) != class || exportClassOf(size) != class {
			t.Errorf("a message of %d bytes goes to class %d, one of %d to %d; %d has %d", values, exportClassOf(values+values/8+1000), size, exportClassOf(size), class, size)
		}
		if next := exportClassOf(size + 1); class+1 < allClasses && next != class+1 || class+1 == allClasses && next != -1 {
			t.Errorf("a message of %d bytes goes to class %d", size+1, next)
		}
		last := slotOffset(class, slotsPer(class)-1)
		if slotsPer(class) < 1 || int64(last)+slotSize(class) > segmentSize(class) || segmentSize(class) > exportSegment {
			t.Errorf("class %d: %d slots of %d in %d bytes", class, slotsPer(class), size, segmentSize(class))
		}
	}
	if exportClassOf(exportMin-1) != -1 {
		t.Error("a short message has a class")
	}
}

// A producer has its share of exportable memory, and sends from sealed memory beyond it.
// What came back is used again; the memory stays as long as somebody may have mapped it.
func TestShareOfExportableMemory(t *testing.T) {
	const may = 9 << 20
	r := newRig(t, SupervisorOptions{})
	a, b, e := r.exportPair(may)
	send := func() Message {
		t.Helper()
		r.send(a, "image", pattern(1<<20, 5), Header{})
		return r.recv(b)
	}
	var held []Message
	for range 20 {
		m := send()
		if held = append(held, m); m.Export == nil {
			break
		}
	}
	if n := slotsPer(exportClassOf(1 << 20)); len(held) != n+1 || held[n].Export != nil {
		t.Fatalf("%d messages, of which there should be room for %d", len(held), n)
	}
	for i := range held {
		held[i].Release()
	}
	m := send()
	exported(t, &m)
	m.Release()
	a.Writer.Trim()
	a.Writer.Trim()
	a.Writer.Trim()
	segments := func() (n int, all int) {
		r.sup.mu.Lock()
		defer r.sup.mu.Unlock()
		return len(r.sup.exports), a.Writer.Stats().Segments
	}
	if n, all := segments(); n != 1 || all != 1 {
		t.Fatalf("%d exportable of %d segments are left", n, all)
	}
	e.Close()
	r.eventually("the memory to be given back", func() bool {
		a.Writer.Trim()
		n, all := segments()
		return n == 0 && all == 0
	})
	if a.Writer.arena.exported != 0 || a.Writer.arena.committed != 0 {
		t.Fatalf("%d bytes exportable, %d committed", a.Writer.arena.exported, a.Writer.arena.committed)
	}
}

// An output may get another receiver while a message is made.
func TestReceiverThatComesWhileAMessageIsMade(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, e := r.exportPair(maxExport)
	const n = 100_000
	l, err := a.Writer.room(t.Context(), "image", n, 4)
	if err != nil || !isExport(a.Writer.arena.slots[l.slot].class) {
		t.Fatal(err)
	}
	copy(l.Bytes(), pattern(n, 9))
	viewer := r.join("viewer")
	tap, err := r.sup.Tap(e.route.From, "image", viewer, "in", 4)
	if err != nil {
		t.Fatal(err)
	}
	ev := r.open(viewer)
	r.wait("the tap", tap.Attached())
	if err := l.Publish(context.Background(), "image", Header{Meta: []byte("meta")}); err != nil {
		t.Fatal(err)
	}
	for _, ep := range []*Endpoint{b, ev} {
		m := r.recv(ep)
		if !bytes.Equal(m.Payload, pattern(n, 9)) || string(m.Meta) != "meta" {
			t.Fatalf("%d bytes with %q", len(m.Payload), m.Meta)
		}
		m.Release()
	}
	if st := a.Writer.Stats(); st.Slots != 0 || st.Loans != 0 {
		t.Fatalf("%+v", st)
	}
}

// distant is an endpoint as in another process.
func (r *rig) distant(m *Member) *Endpoint {
	r.t.Helper()
	here, there, err := socketPair()
	if err != nil {
		r.t.Fatal(err)
	}
	r.sup.Serve(there)
	ep, err := open(here, m.Token(), Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(ep.Close)
	return ep
}

// Memory that its producer can cut off is not handed to other processes.
func TestExportableMemoryStaysWithTheSupervisor(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	from, to := r.join("camera"), r.join("relay")
	e, err := r.sup.Connect(Route{From: from, Output: "image", To: to, Input: "view", Queue: 4, Export: maxExport})
	if err != nil {
		t.Fatal(err)
	}
	a, b := r.distant(from), r.distant(to)
	r.wait("the edge", e.Attached())
	r.send(a, "image", pattern(100_000, 1), Header{})
	if m := r.recv(b); m.End != Broken || !strings.Contains(m.Err.Error(), "not for edge") {
		t.Fatalf("%+v", m)
	}
}

// Who announces what nobody asked for, or what is not nameless memory, loses its connection.
func TestBadExportsAreRefused(t *testing.T) {
	nameless := func(t *testing.T) int {
		fd, err := newNameless(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	for _, c := range []struct {
		name   string
		export int64
		size   int64
		file   func(*testing.T) int
		says   string
	}{
		{"not asked for", 0, 1 << 20, nameless, "nobody asked for"},
		{"too small", maxExport, 2 << 20, nameless, "were announced"},
		{"named", maxExport, 1 << 20, func(t *testing.T) int {
			f, _ := foreignFile(t, 1<<20)
			fd, err := dupFD(int(f.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			return fd
		}, "has a name"},
		{"not memory", maxExport, 1, func(t *testing.T) int {
			fd, err := unix.Open("/proc/self/maps", unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			return fd
		}, "not memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, SupervisorOptions{})
			from, to := r.join("camera"), r.join("relay")
			if _, err := r.sup.Connect(Route{From: from, Output: "image", To: to, Input: "view", Queue: 4, Export: c.export}); err != nil {
				t.Fatal(err)
			}
			ep := r.distant(from)
			fd := c.file(t)
			defer closeFD(fd)
			if _, err := ep.announce(fd, c.size, exportable); err == nil {
				t.Fatal("it was taken")
			}
			if x := <-r.trouble; x.Node != "camera" || !strings.Contains(x.Text, c.says) {
				t.Fatalf("%+v", x)
			}
		})
	}
	r := newRig(t, SupervisorOptions{})
	a, _, _ := r.exportPair(1 << 20)
	for want := range 2 { // the second is one too many
		fd := nameless(t)
		_, err := a.announce(fd, 1<<20, exportable)
		closeFD(fd)
		if (err != nil) != (want == 1) {
			t.Fatalf("announcement %d: %v", want, err)
		}
	}
}

// A producer that cuts off its memory ends its own edge, and is named.
func TestProducerThatCutsOffItsMemory(t *testing.T) {
	r := newRig(t, SupervisorOptions{})
	a, b, e := r.exportPair(maxExport)
	small := r.connect(e.route.From, "other", e.route.To, "other", 4, DropOldest)
	r.wait("the edge", small.Attached())
	r.send(a, "image", pattern(1<<20, 1), Header{})
	r.send(a, "image", pattern(1<<20, 2), Header{})
	m := r.recv(b)
	if err := unix.Ftruncate(m.Export.fd, 4096); err != nil {
		t.Fatal(err)
	}
	if m.Export.Holds(&m) {
		t.Error("the message is still there")
	}
	err := m.ReadExport(make([]byte, m.Length))
	if err == nil {
		t.Fatal("the payload was read")
	}
	b.Reader.Break(&m, err)
	if x := <-r.trouble; x.Node != "camera" || x.Edge != e.ID() || !strings.Contains(x.Text, ErrCutOff.Error()) {
		t.Fatalf("%+v", x)
	}
	r.eventually("the producer to forget the edge", func() bool { return len(a.Writer.Stats().Edges) == 1 })
	r.send(a, "other", []byte("hello"), Header{})
	if m := r.recv(b); m.Input != "other" || string(m.Payload) != "hello" {
		t.Fatalf("%+v", m)
	}
	if st := a.Writer.Stats(); st.Slots != 0 {
		t.Fatalf("%+v", st)
	}
}
