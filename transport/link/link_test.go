package link

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	a, b := net.Pipe()
	up, down := NewConn(a), NewConn(b)
	defer up.Close()
	defer down.Close()
	cmd := Command{ID: 7, Epoch: 3, Spawn: &Spawn{Node: "n", Generation: 2, Token: "t",
		Plan: ExitPlan{OnSuccess: Close, OnFailure: Hold, HoldFor: time.Second}}}
	go up.Send(&cmd)
	got, err := down.ReadCommand()
	if err != nil || !reflect.DeepEqual(*got, cmd) {
		t.Errorf("%+v, %v", got, err)
	}
	msgs := []Message{
		{Fact: &Fact{Seq: 1, Exited: &Exited{Code: -1, Signal: 9, Stderr: []string{"x"}}}},
		{Reply: &Reply{ID: 7, Error: "no"}},
		{LogGap: &LogGap{Count: 3}},
	}
	go down.SendAll(msgs)
	for i := range msgs {
		got, err := up.ReadMessage()
		if err != nil || !reflect.DeepEqual(*got, msgs[i]) {
			t.Errorf("message %d: %+v, %v", i, got, err)
		}
	}
}

// TestUnknownFieldsAreIgnored: an older shim works under a newer daemon.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	var c Command
	if err := readFrame(bytes.NewReader(frame(`{"id":1,"tomorrow":{"x":1},"release":{"how":"gently"}}`)), &c); err != nil || c.Release == nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func frame(body string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestBadFrames(t *testing.T) {
	var m Message
	if err := readFrame(bytes.NewReader([]byte{0, 0, 0, 0xff}), &m); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := readFrame(bytes.NewReader(frame(`{"fact":{}}`)[:9]), &m); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
	if err := readFrame(bytes.NewReader(frame(`{"fact":`)), &m); err == nil || !strings.Contains(err.Error(), "Message") {
		t.Errorf("malformed: %v", err)
	}
	if err := readFrame(bytes.NewReader(nil), &m); err != io.EOF {
		t.Errorf("end: %v", err)
	}
	big := Message{Log: &LogLine{Message: strings.Repeat("x", MaxFrame)}}
	if err := writeFrame(io.Discard, &big); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("writing too large: %v", err)
	}
}

// endless sends a large length and then little: a hostile length must cost no memory.
type endless struct{ head []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.head) > 0 {
		n := copy(p, e.head)
		e.head = e.head[n:]
		return n, nil
	}
	return 0, io.ErrUnexpectedEOF
}

func TestHostileLengthCostsNothing(t *testing.T) {
	head := binary.LittleEndian.AppendUint32(nil, MaxFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 50
	for range rounds {
		var m Message
		if readFrame(&endless{head: head}, &m) == nil {
			t.Fatal("accepted")
		}
	}
	runtime.ReadMemStats(&after)
	allocated := (after.TotalAlloc - before.TotalAlloc) / rounds
	if allocated > 256<<10 {
		t.Errorf("%d bytes allocated for a frame that never comes", allocated)
	}
}

func FuzzCommand(f *testing.F) {
	f.Add(frame(`{"id":1,"epoch":2,"stop":{"nodes":["a"],"grace":1,"kill":2,"force":true}}`))
	f.Add(frame(`{"id":1,"load":{"dataflow":"x","nodes":[{"id":"n","kind":"shell","env":[{"name":"A","value":"1"}]}]}}`))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) { roundTrip[Command](t, data) })
}

func FuzzMessage(f *testing.F) {
	f.Add(frame(`{"hello":{"protocol":1,"token":"t"}}`))
	f.Add(frame(`{"fact":{"seq":1,"at":"2026-01-01T00:00:00Z","exited":{"code":1,"stderr":["a"]}}}`))
	f.Add(frame(`{"log":{"at":"2026-01-01T00:00:00Z","level":"info","fields":{"a":"b"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) { roundTrip[Message](t, data) })
}

// roundTrip: whatever was accepted can be sent on, and means the same.
func roundTrip[T any](t *testing.T, data []byte) {
	var v, again T
	if readFrame(bytes.NewReader(data), &v) != nil {
		return
	}
	var buf bytes.Buffer
	if err := writeFrame(&buf, &v); err != nil {
		t.Fatalf("accepted, but cannot be written: %v", err)
	}
	if err := readFrame(&buf, &again); err != nil {
		t.Fatalf("written, but cannot be read: %v", err)
	}
	x, _ := json.Marshal(v)
	y, _ := json.Marshal(again)
	if !bytes.Equal(x, y) {
		t.Fatalf("%s became %s", x, y)
	}
}
