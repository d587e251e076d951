package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/journal/journaltest"
)

// quick are options for tests of what is on the disk, not of when it gets there.
var quick = journal.OpenOptions{NoSync: true, Reserve: -1, Ballast: -1}

// wholeFile makes a file store with everything in it and returns its bytes and the
// number of its events.
func wholeFile(t testing.TB) ([]byte, int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), journal.RunFileName)
	st, err := journal.OpenFile(path, quick)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		err := st.Append(t.Context(),
			journal.Append{Stream: fmt.Sprintf("s/%d", i%3), Expected: journal.Any, Events: journaltest.Events(i, 1)},
			journal.Append{Stream: "shared", Expected: uint64(2 * i), Events: journaltest.Events(100*i, 2)})
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 1 {
			if _, err := st.RaiseEpoch(); err != nil {
				t.Fatal(err)
			}
			if err := st.SaveSnapshot("shared", uint64(2*i), []byte("state")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := st.Truncate(t.Context(), "s/1", 3, "old", journaltest.At); err != nil {
		t.Fatal(err)
	}
	n := 0
	for range st.ReadAll(t.Context(), 0) {
		n++
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, n
}

// openBytes opens a file with the given content, as its owner and as a reader.
func openBytes(t testing.TB, dir string, content []byte) (r journal.Recovery, events int, owner, reader error) {
	t.Helper()
	path := filepath.Join(dir, journal.RunFileName)
	os.Remove(path) // writing over it would make ext4 write at once
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	rd, reader := journal.OpenFileReadOnly(path)
	if reader == nil {
		for _, err := range rd.Events(t.Context()) {
			if reader = err; err == nil {
				events++
			}
		}
		rd.Close()
	}
	st, owner := journal.OpenFile(path, quick)
	if owner != nil {
		return r, events, owner, reader
	}
	if err := st.Verify(t.Context()); err != nil {
		t.Errorf("opened, but: %v", err)
	}
	n := 0
	for _, err := range st.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	if reader == nil && n != events {
		t.Errorf("the owner finds %d events, a reader %d", n, events)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
	return st.Recovery(), n, nil, reader
}

// TestDamagedFile changes a file that was closed in good order: all of it was
// acknowledged, so every change must be told.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	whole, n := wholeFile(t)
	dir := t.TempDir()
	if _, got, owner, reader := openBytes(t, dir, whole); owner != nil || reader != nil || got != n {
		t.Fatalf("the undamaged file: %d events of %d, %v, %v", got, n, owner, reader)
	}
	const slots, frames = 512, 1536
	t.Run("flipped", func(t *testing.T) {
		for off := 0; off < len(whole); off += 1 + off/200 {
			b := bytes.Clone(whole)
			b[off] ^= 1 << (off % 8)
			r, got, owner, reader := openBytes(t, dir, b)
			switch {
			case off >= slots && off < frames && owner == nil && reader == nil:
				// One of two marks: everything is there, and it is told.
				if len(r.Warnings) != 1 || got != n {
					t.Errorf("offset %d: %d events, warnings %q", off, got, r.Warnings)
				}
			case !errors.Is(owner, journal.ErrDamaged) && !errors.Is(owner, journal.ErrNewer):
				t.Errorf("offset %d: accepted by the owner: %v", off, owner)
			case !errors.Is(reader, journal.ErrDamaged) && !errors.Is(reader, journal.ErrNewer):
				t.Errorf("offset %d: accepted by a reader: %v", off, reader)
			case off >= frames && !strings.Contains(owner.Error(), "offset"):
				t.Errorf("offset %d: the error names no offset: %v", off, owner)
			}
			if after, err := os.ReadFile(filepath.Join(dir, journal.RunFileName)); owner != nil && (err != nil || !bytes.Equal(after, b)) {
				t.Errorf("offset %d: the refused file was changed", off)
			}
		}
	})
	t.Run("cut", func(t *testing.T) {
		for size := 0; size < len(whole); size += 1 + size/100 {
			_, got, owner, reader := openBytes(t, dir, whole[:size])
			if !errors.Is(owner, journal.ErrDamaged) || !errors.Is(reader, journal.ErrDamaged) {
				t.Errorf("cut at %d of %d: %v, %v", size, len(whole), owner, reader)
			}
			if got > n {
				t.Errorf("cut at %d: %d events of %d", size, got, n)
			}
		}
	})
	t.Run("cut behind every frame", func(t *testing.T) {
		for _, off := range frameOffsets(whole) {
			if off == len(whole) {
				continue
			}
			if _, _, owner, reader := openBytes(t, dir, whole[:off]); !errors.Is(owner, journal.ErrDamaged) || !errors.Is(reader, journal.ErrDamaged) {
				t.Errorf("cut at %d of %d: %v, %v", off, len(whole), owner, reader)
			}
		}
	})
	t.Run("frames", func(t *testing.T) { damagedFrames(t, dir, whole) })
	t.Run("grown", func(t *testing.T) { grownFile(t, dir, whole, n) })
}

// frameOffsets are the offsets behind each frame.
func frameOffsets(b []byte) []int {
	var list []int
	for off := 1536; off < len(b); {
		off += 9 + int(binary.LittleEndian.Uint32(b[off:]))
		list = append(list, off)
	}
	return list
}

func damagedFrames(t *testing.T, dir string, whole []byte) {
	ends := append([]int{1536}, frameOffsets(whole)...)
	frame := func(i int) []byte { return whole[ends[i]:ends[i+1]] }
	last := len(ends) - 2
	for name, order := range map[string][]int{
		"one is missing":      {0, 1, 3, 4},
		"one is there twice":  {0, 1, 1, 2},
		"two are exchanged":   {0, 2, 1, 3},
		"the first is gone":   {1, 2, 3},
		"all but the last":    {last},
		"nothing but headers": {},
		"a whole one again":   append(upTo(last+1), 0),
	} {
		b := bytes.Clone(whole[:1536])
		for _, i := range order {
			b = append(b, frame(i)...)
		}
		if len(order) > 1 && len(order) < last {
			b = append(b, whole[ends[order[len(order)-1]+1]:]...)
		}
		if _, _, owner, reader := openBytes(t, dir, b); !errors.Is(owner, journal.ErrDamaged) || !errors.Is(reader, journal.ErrDamaged) {
			t.Errorf("%s: %v, %v", name, owner, reader)
		}
	}
	zeros := bytes.Clone(whole)
	clear(zeros[ends[3]:ends[5]])
	if _, _, owner, _ := openBytes(t, dir, zeros); !errors.Is(owner, journal.ErrDamaged) {
		t.Errorf("zeros in the middle: %v", owner)
	}
	for what, b := range map[string][]byte{"empty": {}, "text": []byte("hello, this is not a journal at all"), "an ELF": []byte("\x7fELF\x02\x01\x01\x00")} {
		if _, _, owner, reader := openBytes(t, dir, b); !errors.Is(owner, journal.ErrDamaged) || !errors.Is(reader, journal.ErrDamaged) {
			t.Errorf("%s: %v, %v", what, owner, reader)
		}
	}
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// grownFile: what stands behind the mark was never acknowledged. It is cut off, and told.
func grownFile(t *testing.T, dir string, whole []byte, n int) {
	random := make([]byte, 5000)
	for i := range random {
		random[i] = byte(rand.IntN(256))
	}
	ends := frameOffsets(whole)
	for name, tail := range map[string][]byte{
		"one byte": {1}, "zeros": make([]byte, 4096), "random": random,
		"half a frame":           whole[1536 : ends[0]-1],
		"a huge length":          {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0},
		"the start of an append": openEnded(whole[1536:ends[0]]),
	} {
		r, got, owner, reader := openBytes(t, dir, append(bytes.Clone(whole), tail...))
		if owner != nil || reader != nil || got != n {
			t.Errorf("%s: %d events of %d, %v, %v", name, got, n, owner, reader)
			continue
		}
		if r.Cut != int64(len(tail)) || r.CutAt != int64(len(whole)) {
			t.Errorf("%s: cut %d at %d, want %d at %d", name, r.Cut, r.CutAt, len(tail), len(whole))
		}
		if after, err := os.Stat(filepath.Join(dir, journal.RunFileName)); err != nil || after.Size() != int64(len(whole)) {
			t.Errorf("%s: %d bytes, %v", name, after.Size(), err)
		}
	}
}

// openEnded turns the frame of an event into one that is not the last of its append.
func openEnded(frame []byte) []byte {
	b := bytes.Clone(frame)
	b[4] &^= 0x80
	table := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(b[5:], crc32.Update(crc32.Checksum(b[:5], table), table, b[9:]))
	return b
}

// TestNewerFile: a file of a later schema is left alone.
func TestNewerFile(t *testing.T) {
	whole, _ := wholeFile(t)
	b := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(b[8:], 2)
	journal.SealBlock(b[:512])
	_, _, owner, reader := openBytes(t, t.TempDir(), b)
	if !errors.Is(owner, journal.ErrNewer) || !errors.Is(reader, journal.ErrNewer) {
		t.Errorf("%v, %v", owner, reader)
	}
}

// TestNewerBadger: so is a Badger store.
func TestNewerBadger(t *testing.T) {
	dir := t.TempDir()
	st, err := kinds["badger"](dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "mark")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[8:], 2)
	journal.SealBlock(b[:512])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kinds["badger"](dir); !errors.Is(err, journal.ErrNewer) {
		t.Errorf("want ErrNewer, got %v", err)
	}
}
