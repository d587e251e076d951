package nodeapi

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/nodeapi/payload"
	"github.com/dora-go/dora/transport/nodewire"
	"github.com/dora-go/dora/transport/shm"
)

// official stands for an official node that sends from memory of its own, in a file.
type official struct {
	t     *testing.T
	ep    *shm.Endpoint
	lent  *shm.Foreign
	mem   []byte
	at    int64
	given atomic.Int32
}

func newOfficial(w *world, m *shm.Member) *official {
	w.t.Helper()
	t := w.t.(*testing.T)
	dir, err := os.MkdirTemp("/dev/shm", "dora-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f, err := os.Create(filepath.Join(dir, "pool"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 16 << 20
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(mem) })
	o := &official{t: t, mem: mem}
	if o.ep, err = w.sup.Local(m, shm.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.ep.Close)
	<-o.ep.Ready()
	if o.lent, err = o.ep.Writer.Adopt(int(f.Fd()), size); err != nil {
		t.Fatal(err)
	}
	return o
}

// send lends an array; it returns where its stream lies.
func (o *official) send(data arrow.Array) (offset int64, stream []byte) {
	o.t.Helper()
	e, err := payload.Encode(data)
	if err != nil {
		o.t.Fatal(err)
	}
	at := o.at
	stream = o.mem[at : at+int64(e.Size())]
	e.AppendTo(stream[:0])
	o.at += (int64(len(stream)) + 4095) &^ 4095
	h := shm.Header{Meta: nodewire.AppendPlainMetadata(nil, nodewire.Timestamp{Time: 1, ID: [16]byte{1}}), Time: 1}
	ok, err := o.ep.Writer.Lend(context.Background(), "out", o.lent, at, len(stream), h, func() { o.given.Add(1) })
	if !ok || err != nil {
		o.t.Fatal(ok, err)
	}
	return at, stream
}

// A node that sends a large message of an official node on to one, unchanged, does not copy it.
func TestUnchangedMessagesAreNotCopied(t *testing.T) {
	w := newWorld(t)
	one, router, relay := w.join("one"), w.join("router"), w.join("relay")
	in := w.connect(one, "out", router, "a", 8, shm.DropOldest)
	on, err := w.sup.Connect(shm.Route{From: router, Output: "out", To: relay, Input: "in", Queue: 8, Export: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	o := newOfficial(w, one)
	n, _ := w.node(router)
	to, err := w.sup.Local(relay, shm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.Close)
	<-in.Attached()
	<-on.Attached()
	receive := func() *Input {
		t.Helper()
		ev, err := n.Recv(t.Context())
		in, ok := ev.(*Input)
		if err != nil || !ok {
			t.Fatal(ev, err)
		}
		return in
	}
	// arrives says where the message lies that the relay gets, and what is in it.
	arrives := func() (m shm.Message, data arrow.Array) {
		t.Helper()
		m, err := to.Reader.Recv(t.Context())
		if err != nil || m.Export == nil {
			t.Fatal(m, err)
		}
		b := make([]byte, m.Length)
		if err := m.ReadExport(b); err != nil {
			t.Fatal(err)
		}
		if data, err = payload.Decode(b, nil); err != nil {
			t.Fatal(err)
		}
		return m, data
	}
	values := make([]int64, 20_000)
	for i := range values {
		values[i] = int64(i * i)
	}
	sent := int64s(values...)
	at, _ := o.send(sent)
	first := receive()
	for i := range 2 { // also twice
		if err := n.SendOutput("out", first.Data, WithParameters(Parameters{"turn": Int(i)})); err != nil {
			t.Fatal(err)
		}
	}
	first.Release()
	if o.ep.Writer.Stats(); o.given.Load() != 0 {
		t.Fatal("given back before it arrived")
	}
	var held []shm.Message
	var outer *shm.Export
	for i := range 2 {
		m, data := arrives()
		md, err := nodewire.DecodeMetadata(m.Meta)
		if err != nil || md.Parameters["turn"].Int != int64(i) {
			t.Fatalf("%+v, %v", md, err)
		}
		if m.Offset != at || !array.Equal(data, sent) || outer != nil && m.Export != outer {
			t.Fatalf("message %d lies at %d, where the official node did not write it", i, m.Offset)
		}
		outer, held = m.Export, append(held, m)
	}

	// Everything else is copied, as it must be: a part, another array, and a message that is
	// not the latest.
	o.send(sent)
	old := receive()
	_, stream := o.send(sent)
	latest := receive()
	part := array.NewSlice(latest.Data, 0, 19_999)
	for name, data := range map[string]arrow.Array{"part": part, "other": sent, "old": old.Data} {
		if err := n.SendOutput("out", data); err != nil {
			t.Fatal(err)
		}
		m, got := arrives()
		if m.Export == outer || !array.Equal(got, data) {
			t.Fatalf("%s: passed on as it lies, or damaged", name)
		}
		m.Release()
	}
	part.Release()
	old.Release()
	if err := n.SendOutput("out", latest.Data); err != nil {
		t.Fatal(err)
	}
	latest.Release()
	m, _ := arrives()
	clear(stream[len(stream)/2 : len(stream)/2+8])
	b := make([]byte, m.Length)
	if err := m.ReadExport(b); err != nil || m.Export != outer || !bytes.Equal(b, stream) {
		t.Fatal("the latest is not passed on where it lies")
	}

	if o.ep.Writer.Stats(); o.given.Load() != 1 {
		t.Fatalf("%d messages were given back, of one released", o.given.Load())
	}
	for _, m := range append(held, m) {
		m.Release()
	}
	for end := time.Now().Add(10 * time.Second); o.given.Load() != 3; time.Sleep(time.Millisecond) {
		n.shared.ep.Writer.Stats() // collects
		if o.ep.Writer.Stats(); time.Now().After(end) {
			t.Fatalf("%d of 3 messages were given back", o.given.Load())
		}
	}
}
