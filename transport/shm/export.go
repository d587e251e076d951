package shm

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"sync"
	"time"
)

// Exportable memory is for consumers that hand payloads on to processes which find shared
// memory by name. A memfd has none; a file without a name in the folder of shared memory can
// be given one. Its slots have classes of their own.
const (
	// exportMin and exportMax are for which values there is room, in bytes. A slot has an
	// eighth more, for a bit for each byte that says whether it is there, and exportSlack for
	// what else a message has around its values.
	exportMin   = 64 << 10
	exportMax   = 4 << 20
	exportSlack = 8 << 10
	// exportSegment is the size of a segment at most, in bytes: whoever maps one by name may
	// lock all of it into memory.
	exportSegment = 8 << 20
	// maxExport is what one producer may have of it, in bytes.
	maxExport = 16 << 20
	// Some of those who map it want their payloads at multiples of 128. See slotSkew.
	exportSkew = 17 * 128
	exportGap  = 33 * 128

	exportClasses = 7
	allClasses    = slotClasses + exportClasses

	// exportPause is how long a producer does without after it failed to get more.
	exportPause = 10 * time.Second
)

func isExport(class int) bool { return class >= slotClasses }

// exportClassOf returns the smallest exportable class whose slots hold n bytes; -1: none.
func exportClassOf(n int) int {
	if n < exportMin || n > exportRoom(exportMax) {
		return -1
	}
	values := (8*(n-exportSlack) + 8) / 9
	return slotClasses + bits.Len64(uint64(max(1, values)-1)>>16)
}

// exportRoom is the size of the slot for so many bytes of values.
func exportRoom(values int) int { return values + values/8 + exportSlack }

// errNotForAll: the output has got a receiver that may not read exportable memory.
var errNotForAll = errors.New("exportable memory is not for all receivers")

// room is Reserve for a message on an output, in exportable memory if its only receiver
// hands payloads on.
func (w *Writer) room(ctx context.Context, output string, n, meta int) (*Loan, error) {
	if class := exportClassOf(n); class >= 0 && meta <= InlineMax {
		if l := w.takeExport(output, class, n); l != nil {
			fault("slot.taken")
			return l, nil
		}
	}
	return w.Reserve(ctx, n)
}

// takeExport returns nil if the ordinary memory has to do. It does not wait for messages to
// come back.
func (w *Writer) takeExport(output string, class, n int) *Loan {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.outputs[output]
	if w.closed || out == nil || len(out.edges) != 1 || out.edges[0].Export == 0 {
		return nil
	}
	w.collectAll()
	h, ok := w.arena.take(class)
	if !ok && w.growExport(class) {
		h, ok = w.arena.take(class)
	}
	if !ok {
		h, ok = w.arena.takeAny(class)
	}
	if !ok {
		return nil
	}
	return &Loan{w: w, buf: w.arena.slots[h].bytes()[:n], slot: h}
}

// growExport adds a segment of an exportable class, if there may be one more. mu is held,
// but not in between.
func (w *Writer) growExport(class int) bool {
	size := segmentSize(class)
	if !w.arena.mayGrow(class) || w.arena.exported+size > w.mayExport() || time.Now().Before(w.exportAgain) {
		return false
	}
	w.arena.exported += size
	if w.addSegment(class) != nil {
		w.arena.exported -= size
		w.exportAgain = time.Now().Add(exportPause)
		return false
	}
	return true
}

// mayExport is how many bytes of exportable memory this writer may have; 0: none.
func (w *Writer) mayExport() (n int64) {
	for _, e := range w.edges {
		n = max(n, e.Export)
	}
	return min(n, maxExport)
}

// makeExport makes an exportable segment; grow is held.
func (w *Writer) makeExport(size int64) (uint32, []byte, error) {
	fd, err := newNameless(size)
	if err != nil {
		return 0, nil, err
	}
	defer closeFD(fd)
	mem, err := mapMemfd(fd, size, true)
	if err != nil {
		return 0, nil, err
	}
	fault("export.made")
	id, err := w.ctl.announce(fd, size, exportable)
	if err != nil {
		unmap(mem)
		return 0, nil, err
	}
	fault("export.announced")
	return id, mem, nil
}

// notForAll: the message lies in exportable memory, and the output has got another receiver
// meanwhile, such as a tap.
func (w *Writer) notForAll(out *output, m *outgoing) bool {
	if m.flags&flagArena == 0 {
		return false
	}
	s := &w.arena.slots[m.slot]
	byName := s.passed || s.foreign == nil && isExport(s.class)
	return byName && !out.handsOn()
}

// handsOn says whether all receivers hand payloads on.
func (out *output) handsOn() bool {
	return !slices.ContainsFunc(out.edges, func(e *outEdge) bool { return e.Export == 0 })
}

// Export is exportable memory as the supervisor's process has it. Its producer can cut the
// file off at any time, and who then loads from a mapping is ended by the system: so it is
// read by Message.ReadExport alone.
type Export struct {
	fd   int // of its own: its lock ends with this process
	size int64
	mem  []byte

	mu      sync.Mutex
	users   int // the supervisor, and readers that know it
	retired bool
	path    string // its name, if it has one
	failed  error  // why it cannot have one
	outer   bool   // name and memory are somebody else's (pass.go)
}

// newExport takes over memory that the member announced. s.mu is held.
func (m *Member) newExport(fd int, size int64) (*Export, error) {
	may, have := int64(0), size
	for _, e := range m.out {
		may = max(may, e.route.Export)
	}
	for _, seg := range m.segments {
		if seg.export != nil {
			have += seg.size
		}
	}
	if have > may {
		return nil, fmt.Errorf("it may have %s of memory to be handed on", bytesText(may))
	}
	own, err := reopen(fd)
	if err != nil {
		return nil, err
	}
	return openExport(own, size)
}

// openExport takes over a file descriptor.
func openExport(fd int, size int64) (*Export, error) {
	mem, err := mapMemfd(fd, size, false)
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	return &Export{fd: fd, size: size, mem: mem, users: 1}, nil
}

// export returns what the segment is, for one more user; nil if it is no more.
func (s *Supervisor) export(id uint32) *Export {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.exports[id]
	if x == nil || !x.Acquire() {
		return nil
	}
	return x
}

// Unname takes all names of exportable memory away that are there, for a process that is about
// to end: nobody gets one any more. Who has opened such a file keeps it.
func (s *Supervisor) Unname() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.exports {
		x.mu.Lock()
		x.unname()
		x.failed = ErrClosed
		x.mu.Unlock()
	}
}

// unname: mu is held.
func (x *Export) unname() {
	if x.path != "" && !x.outer {
		_ = os.Remove(x.path)
	}
	x.path = ""
}

// Acquire keeps the memory mapped until Release, once for each call that is true. It is false
// if the segment was retired. A message keeps it by itself.
func (x *Export) Acquire() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.retired {
		x.users++
	}
	return !x.retired
}

// Link gives the memory a name in the file system, once, and returns it: the first one of
// choose that is free. As long as it has its name, or a payload that lies there is not
// released, this process holds a shared lock (flock) on the file.
func (x *Export) Link(choose func() (path string, err error)) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.retired {
		return "", errors.New("the memory is not in use any more")
	}
	if x.path != "" || x.failed != nil {
		return x.path, x.failed
	}
	x.path, x.failed = x.link(choose)
	return x.path, x.failed
}

func (x *Export) link(choose func() (string, error)) (string, error) {
	if err := lockShared(x.fd); err != nil {
		return "", err
	}
	for range 16 {
		path, err := choose()
		if err != nil {
			return "", err
		}
		fault("export.named")
		if err = linkFile(x.fd, path); err == nil {
			fault("export.linked")
			return path, nil
		} else if !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return "", errors.New("no free name for shared memory was found")
}

// Holds says whether the file still has the message's bytes: who would load from beyond its
// end would be ended by the system.
func (x *Export) Holds(m *Message) bool {
	size, err := fileSize(x.fd)
	return err == nil && m.Offset+int64(m.Length) <= size
}

// Memory is where the file is mapped, as long as the caller keeps it so. It is not to be read.
func (x *Export) Memory() []byte { return x.mem }

// retire takes the name away. Who has opened the file keeps it.
func (x *Export) retire() {
	x.mu.Lock()
	x.retired = true
	x.unname()
	x.mu.Unlock()
	x.Release()
}

// Release ends one use. The last one gives the memory back also where others still have the
// file mapped: nobody reads there any more.
func (x *Export) Release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.users--; x.users > 0 {
		return
	}
	unmap(x.mem)
	x.mem = nil
	if !x.outer {
		emptyFile(x.fd, x.size)
	}
	closeFD(x.fd)
}

// ReadExport copies the payload of a message in exportable memory into b, which has its
// length. It fails with ErrCutOff; see [Reader.Break].
func (m *Message) ReadExport(b []byte) error {
	if err := readFile(m.Export.fd, b, m.Offset); err != nil {
		return fmt.Errorf("%w: a message of %d bytes at %d: %w", ErrCutOff, m.Length, m.Offset, err)
	}
	return nil
}

// Break ends the edge of a message that turned out not to keep the rules, and releases it.
// Its producer is named. It is called by who calls Recv.
func (r *Reader) Break(m *Message, why error) {
	r.recv.Lock()
	defer r.recv.Unlock()
	id := m.Edge
	m.Release()
	for _, in := range r.inputs {
		if len(in.edges) > 0 && in.edges[0].ID == id {
			r.finish(in, new(Message), Broken, why)
			return
		}
	}
}
