package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/dora-go/dora/events"
)

// followEvery is how often Follow looks for more.
const followEvery = 100 * time.Millisecond

// Reader reads a file store that another process may be writing. It takes no lock,
// changes nothing and never disturbs the writer.
type Reader struct {
	path     string
	f        *os.File
	head     header
	warnings []string
}

// OpenFileReadOnly opens the file store at path for reading. Errors: the file system's
// (fs.ErrNotExist), ErrDamaged if it has no whole header, ErrNewer.
func OpenFileReadOnly(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	r := &Reader{path: path, f: f}
	if _, err = r.mark(); err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// ID is the id of the journal.
func (r *Reader) ID() string { return r.head.id.String() }

// Created is when the journal was made.
func (r *Reader) Created() time.Time { return r.head.created }

// Warnings are damages that cost nothing so far.
func (r *Reader) Warnings() []string { return slices.Clone(r.warnings) }

// Close ends reading.
func (r *Reader) Close() error { return r.f.Close() }

// mark reads the newest mark. The writer may be writing one: a slot that is altered at
// the first look may be whole at the next.
func (r *Reader) mark() (mark, error) {
	for tries := 0; ; tries++ {
		h, m, warning, err := readMark(r.f, r.path, magicFile)
		again := warning != "" || errors.Is(err, errMarks)
		if !again || tries == 3 {
			if warning != "" && !slices.Contains(r.warnings, warning) {
				r.warnings = append(r.warnings, warning)
			}
			if err == nil {
				r.head = h
			}
			return m, err
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// Events yields all events in order, up to the last whole append: what the next owner
// of the journal would find. It begins at the beginning whenever it is called. Damage
// ends the iteration with an error, after the events before it.
func (r *Reader) Events(ctx context.Context) iter.Seq2[events.Envelope, error] {
	return func(yield func(events.Envelope, error) bool) {
		m, err := r.mark()
		if err != nil {
			yield(events.Envelope{}, err)
			return
		}
		size, err := r.f.Seek(0, io.SeekEnd)
		if err != nil {
			yield(events.Envelope{}, err)
			return
		}
		c := newCursor(r.f, r.path)
		c.w.limit = size
		c.check = newChecker(func() string { return place(r.path, c.at) })
		more, err := c.deliver(ctx, int64(m.end), yield)
		if more && err == nil {
			err = joinDamages(r.path, c.check.finish(m.pos))
		}
		if more && err == nil {
			err = c.beyond(ctx, yield)
		}
		if err != nil {
			yield(events.Envelope{}, err)
		}
	}
}

// Follow yields all events in order and then new ones as they are acknowledged, until
// ctx ends (which is no error) or the file is gone.
func (r *Reader) Follow(ctx context.Context) iter.Seq2[events.Envelope, error] {
	return func(yield func(events.Envelope, error) bool) {
		c := newCursor(r.f, r.path)
		for {
			m, err := r.mark()
			if err != nil {
				yield(events.Envelope{}, err)
				return
			}
			c.w.limit = int64(m.end)
			more, err := c.deliver(ctx, int64(m.end), yield)
			if ctx.Err() != nil || !more {
				return
			}
			if err != nil {
				yield(events.Envelope{}, err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(followEvery):
			}
			if c, err = r.renewed(c); err != nil {
				yield(events.Envelope{}, err)
				return
			}
		}
	}
}

// renewed looks whether the file was written anew (old events were removed) and goes on
// in the new one then.
func (r *Reader) renewed(c *cursor) (*cursor, error) {
	mine, err := r.f.Stat()
	if err != nil {
		return nil, err
	}
	there, err := os.Stat(r.path)
	if err != nil {
		return nil, fmt.Errorf("the journal was taken away: %w", err)
	}
	if os.SameFile(mine, there) {
		return c, nil
	}
	f, err := os.Open(r.path)
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	id := r.head.id
	r.f.Close()
	r.f = f
	if _, err := r.mark(); err != nil {
		return nil, err
	}
	if r.head.id != id {
		return nil, fmt.Errorf("%s was replaced by another journal", r.path)
	}
	next := newCursor(f, r.path)
	next.last = c.last
	return next, nil
}

// cursor walks over the frames of a file.
type cursor struct {
	path  string
	w     window
	in    interner
	off   int64
	at    int64    // of the event at hand
	last  uint64   // position delivered last
	seen  uint64   // position read last in this file
	check *checker // nil: only that positions ascend
}

func newCursor(f io.ReaderAt, path string) *cursor {
	return &cursor{path: path, w: window{f: f}, in: interner{}, off: markSize}
}

// deliver yields events up to an offset. It tells whether the receiver wants more.
func (c *cursor) deliver(ctx context.Context, to int64, yield func(events.Envelope, error) bool) (more bool, err error) {
	c.w.buf = c.w.buf[:0] // read before the file grew
	for c.off < to {
		if ctx.Err() != nil {
			return true, ctx.Err()
		}
		fr, err := c.w.frame(c.off)
		if err != nil {
			return true, damaged(c.path, c.off, err)
		}
		if more, err := c.frame(fr, yield); !more || err != nil {
			return more, err
		}
	}
	return true, nil
}

// frame yields the event of a frame, if it has one that was not delivered yet.
func (c *cursor) frame(fr frame, yield func(events.Envelope, error) bool) (more bool, err error) {
	c.off = fr.next
	if fr.kind != eventFrame {
		return true, nil
	}
	env, err := decodeEvent(fr, c.in)
	if err != nil {
		return true, damaged(c.path, fr.off, err)
	}
	if env.Pos <= c.seen {
		return true, fmt.Errorf("%w: %s holds event %d after event %d", ErrDamaged, place(c.path, fr.off), env.Pos, c.seen)
	}
	c.seen, c.at = env.Pos, fr.off
	if c.check != nil {
		c.check.event(&env)
	}
	if env.Pos <= c.last {
		return true, nil // delivered from the file as it was before
	}
	c.last = env.Pos
	env.Data = slices.Clone(env.Data)
	return yield(env, nil), nil
}

// beyond yields what stands beyond the mark, whole appends only.
func (c *cursor) beyond(ctx context.Context, yield func(events.Envelope, error) bool) error {
	var pending []frame
	for off := c.off; off < c.w.limit; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fr, err := c.w.frame(off)
		if errors.Is(err, errFrame) {
			return nil
		}
		if err != nil {
			return err
		}
		off = fr.next
		fr.content = slices.Clone(fr.content)
		pending = append(pending, fr)
		if fr.kind == eventFrame && !fr.last {
			continue
		}
		for _, fr := range pending {
			if more, err := c.frame(fr, yield); !more || err != nil {
				return err
			}
		}
		pending = pending[:0]
	}
	return nil
}
