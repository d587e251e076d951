package nodeapi

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/dora-go/dora/transport/nodewire"
)

func TestSendOutputArrivesWithItsParameters(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	b.AppendValues([]float64{1, 2.5}, nil)
	sent := b.NewArray()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	err := n.SendOutput("result", sent,
		With("b", Bool(true)), With("i", Int(-7)), With("f", Float(0.25)), With("s", Text("ü")),
		WithParameters(Parameters{"is": Ints{1, -2}, "fs": Floats{3.5}, "ss": Texts{"x", ""}, "t": Time(at), paramSchemaHash: Int(1)}))
	if err != nil {
		t.Fatal(err)
	}
	d.waitFor("the message", func() bool { return len(d.sent) == 1 })
	got := d.sent[0]
	if got.output != "result" || !array.Equal(got.data, sent) {
		t.Errorf("got %s %v", got.output, got.data)
	}
	p := got.md.Parameters
	if len(p) != 9 || !p["b"].Bool || p["i"].Int != -7 || p["f"].Float != 0.25 || p["s"].Str != "ü" ||
		!slices.Equal(p["is"].Ints, []int64{1, -2}) || !slices.Equal(p["fs"].Floats, []float64{3.5}) ||
		!slices.Equal(p["ss"].Strings, []string{"x", ""}) || !p["t"].Time.Equal(at) ||
		p[paramFraming].Str != framingArrowIPC {
		t.Errorf("parameters %v", p)
	}
	if time.Until(got.md.Time.At()).Abs() > time.Minute {
		t.Errorf("timestamp %v", got.md.Time.At())
	}
}

func TestSendOrderHoldsAndManyMaySend(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	const senders, each = 4, 100
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				data := bytes.Repeat([]byte{byte(s)}, 1+(i%3)*3000)
				if err := n.SendBytes("result", data, With("sender", Int(s)), With("n", Int(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d.waitFor("all messages", func() bool { return len(d.sent) == senders*each })
	next := make([]int64, senders)
	for _, m := range d.sent {
		s := m.md.Parameters["sender"].Int
		if got := m.md.Parameters["n"].Int; got != next[s] {
			t.Fatalf("sender %d: message %d after %d", s, got, next[s]-1)
		}
		next[s]++
		if v := m.data.(*array.Uint8).Value(0); int64(v) != s {
			t.Fatalf("sender %d: data of %d", s, v)
		}
	}
	for i := 1; i < len(d.sent); i++ {
		if d.sent[i].md.Time == d.sent[i-1].md.Time {
			t.Fatal("two messages have one timestamp")
		}
	}
}

// The array may be changed as soon as SendOutput has returned.
func TestSendBytesDoesNotKeepTheBytes(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	data := bytes.Repeat([]byte{1}, 1<<20)
	if err := n.SendBytes("result", data); err != nil {
		t.Fatal(err)
	}
	clear(data)
	d.waitFor("the message", func() bool { return len(d.sent) == 1 })
	if got := d.sent[0].data.(*array.Uint8); got.Len() != 1<<20 || bytes.Contains(got.Uint8Values(), []byte{0}) {
		t.Error("the receiver saw the change")
	}
}

func TestUnknownOutputIsIgnored(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	for range 3 {
		if err := n.SendBytes("reslt", []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.SendBytes("result", []byte{1}); err != nil {
		t.Fatal(err)
	}
	d.waitFor("the message", func() bool { return len(d.sent) == 1 })
	if d.sent[0].output != "result" {
		t.Errorf("sent %s", d.sent[0].output)
	}
}

func TestCloseOutputs(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	if err := n.CloseOutputs("result", "nosuch"); !errors.Is(err, ErrUnknownOutput) || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("got %v", err)
	}
	if err := n.SendBytes("result", nil); err != nil {
		t.Errorf("a failed CloseOutputs closed something: %v", err)
	}
	for range 2 {
		if err := n.CloseOutputs("result", "result"); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.SendBytes("result", nil); !errors.Is(err, ErrOutputClosed) {
		t.Errorf("got %v", err)
	}
	if err := n.SendBytes("extra", nil); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	log := d.requests()
	before(t, log, "C CloseOutputs result", "C CloseOutputs extra", "C OutputsDone")
	if n := slices.Index(log, "C CloseOutputs result"); slices.Contains(log[n+1:], "C CloseOutputs result") {
		t.Errorf("closed twice: %q", log)
	}
}

func TestTooLargeMessageIsRefusedAndTheNodeGoesOn(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	err := n.SendBytes("result", make([]byte, nodewire.MaxFrame))
	if !errors.Is(err, ErrMessageTooLarge) || !strings.Contains(err.Error(), "result") || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("got %v", err)
	}
	if err := n.SendBytes("result", []byte{1}); err != nil {
		t.Fatal(err)
	}
	d.waitFor("the small message", func() bool { return len(d.sent) == 1 })
}

func TestSendAfterLossOfTheDaemon(t *testing.T) {
	d := newDaemon(t)
	n := d.node(t.Context())
	d.cut()
	var err error
	for deadline := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(deadline); {
		err = n.SendBytes("result", make([]byte, 1<<16))
	}
	if err == nil || !strings.Contains(err.Error(), "result") || !strings.Contains(err.Error(), "lost the connection") {
		t.Errorf("got %v", err)
	}
}
