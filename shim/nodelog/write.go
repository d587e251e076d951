package nodelog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dora-go/dora/transport/link"
)

// write appends lines to the file and returns how many could not be written, those lost
// before included.
func (w *file) write(batch []byte, lost uint64) uint64 {
	if lost > 0 {
		batch = append(w.notice(lost), batch...)
	}
	for len(batch) > 0 {
		n := w.fits(batch)
		if err := w.append(batch[:n]); err != nil {
			w.complain(err)
			failed := uint64(bytes.Count(batch, []byte{'\n'}))
			if lost > 0 {
				failed += lost - 1 // the notice itself is no line of the node
			}
			return failed
		}
		w.failed = false
		lost = 0
		batch = batch[n:]
	}
	return 0
}

// fits returns how many bytes of whole lines may be written now, rotating first if not
// even one line fits.
func (w *file) fits(batch []byte) int {
	if w.limit <= 0 {
		return len(batch)
	}
	if w.f == nil && w.open() != nil {
		return len(batch) // append will fail the same way and tell
	}
	n := 0
	for n < len(batch) {
		line := bytes.IndexByte(batch[n:], '\n') + 1
		if w.size+int64(n+line) > w.limit && (n > 0 || w.size > 0) {
			break
		}
		n += line
	}
	if n > 0 {
		return n
	}
	w.rotate()
	return bytes.IndexByte(batch, '\n') + 1
}

func (w *file) open() error {
	f, err := os.OpenFile(w.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	w.f, w.size = f, fi.Size()
	return nil
}

// append writes whole lines. Half of one that did not fit is cut off again, and the file
// is opened anew next time: it may have been replaced meanwhile.
func (w *file) append(b []byte) error {
	if w.f == nil {
		if err := w.open(); err != nil {
			return err
		}
	}
	n, err := w.f.Write(b)
	if err != nil {
		if n > 0 {
			w.f.Truncate(w.size)
		}
		w.f.Close()
		w.f = nil
		return err
	}
	w.size += int64(n)
	return nil
}

// rotate makes room: log_n.4 becomes .5, ..., the file becomes .1. If the file cannot be
// renamed it goes on as it is: losing lines would be worse than a large file.
func (w *file) rotate() {
	w.f.Close()
	w.f = nil
	for i := w.rotated - 1; i >= 1; i-- {
		if err := os.Rename(w.numbered(i), w.numbered(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.complain(err)
		}
	}
	if err := os.Rename(w.path, w.numbered(1)); err != nil {
		w.complain(err)
	}
	w.size = 0
	w.open()
}

func (w *file) numbered(i int) string {
	return strings.TrimSuffix(w.path, ".jsonl") + "." + strconv.Itoa(i) + ".jsonl"
}

// complain warns once until a write succeeds again.
func (w *file) complain(err error) {
	if w.failed {
		return
	}
	w.failed = true
	w.warn(fmt.Sprintf("log file of node `%s`: %v; lines are counted until it can be written (free space, or check the folder's permissions)", w.node, err))
}

// notice is the line that tells of lost ones.
func (w *file) notice(lost uint64) []byte {
	return encode(&link.LogLine{At: time.Now(), Node: w.node, Level: "warn", Stream: "dora",
		Message: fmt.Sprintf("%d log lines before this one could not be written", lost),
		Fields:  map[string]string{"lost": strconv.FormatUint(lost, 10)}})
}

// record is a line of the file; the order of the keys is part of the format.
type record struct {
	TS     string            `json:"ts"`
	Level  string            `json:"level"`
	Node   string            `json:"node"`
	Stream string            `json:"stream"`
	Msg    string            `json:"msg"`
	Target *string           `json:"target"`
	Fields map[string]string `json:"fields"`
}

func encode(l *link.LogLine) []byte {
	r := record{TS: l.At.UTC().Format("2006-01-02T15:04:05.000Z"), Level: l.Level, Node: l.Node,
		Stream: l.Stream, Msg: l.Message, Fields: l.Fields}
	if l.Target != "" {
		r.Target = &l.Target
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&r); err != nil {
		return nil // strings always encode
	}
	return b.Bytes()
}
