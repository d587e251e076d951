package shm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// takeSlot returns a slot for n bytes with one reference, which is the caller's.
func (w *Writer) takeSlot(ctx context.Context, n int) (uint32, []byte, error) {
	class := classOf(n)
	deadline := time.Time{}
	w.mu.Lock()
	defer w.mu.Unlock()
	if size := slotSize(class); size > w.arena.limit {
		return 0, nil, fmt.Errorf("node %s: a message of %s needs %s of shared memory, more than the limit of %s: raise the limit", w.node, bytesText(int64(n)), bytesText(size), bytesText(w.arena.limit))
	}
	for {
		if w.closed {
			return 0, nil, ErrClosed
		}
		w.collectAll()
		h, ok := w.arena.take(class)
		if !ok && w.arena.mayGrow(class) {
			if err := w.addSegment(class); err != nil {
				return 0, nil, err
			}
			continue
		}
		if !ok && w.retire(true) {
			continue
		}
		if !ok {
			h, ok = w.arena.takeAny(class)
		}
		if ok {
			return h, w.arena.slots[h].bytes(), nil
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(w.timeout)
		}
		if err := w.waitForSlot(ctx, class, deadline); err != nil {
			return 0, nil, w.exhausted(n, err)
		}
	}
}

// waitForSlot sleeps until a message may have come back.
func (w *Writer) waitForSlot(ctx context.Context, class int, deadline time.Time) error {
	holders := slices.DeleteFunc(slices.Clone(w.edges), func(e *outEdge) bool { return e.slots == 0 })
	for _, e := range holders {
		e.wish(&e.forSlot, +1)
	}
	fault("want.set")
	armed := arm(w.own.room)
	used := w.arena.used
	w.collectAll()
	var err error
	if w.arena.used == used && !w.closed {
		err = w.sleep(ctx, armed, deadline)
	}
	for _, e := range holders {
		e.wish(&e.forSlot, -1)
	}
	return err
}

func (w *Writer) exhausted(n int, err error) error {
	x := &ExhaustedError{Node: w.node, Want: n, Limit: w.arena.limit, Loans: w.arena.own, Err: err}
	for _, e := range w.edges {
		if e.slots > 0 {
			x.Holders = append(x.Holders, Holder{Input: e.Peer + "/" + e.Input, Slots: e.slots, Bytes: e.bytes})
		}
	}
	slices.SortStableFunc(x.Holders, func(a, b Holder) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return x
}

// addSegment makes a segment and hands it to the supervisor. mu is held on entry and on
// return, but not in between: the answer comes over the same connection as new edges.
func (w *Writer) addSegment(class int) error {
	if w.lost != nil {
		return w.lost
	}
	w.arena.pending++
	w.mu.Unlock()
	id, mem, err := w.makeSegment(class)
	w.mu.Lock()
	w.arena.pending--
	if err != nil {
		return fmt.Errorf("node %s: more shared memory for messages: %w", w.node, err)
	}
	if w.closed {
		unmap(mem)
		return ErrClosed
	}
	if err := w.arena.add(id, mem, class); err != nil {
		unmap(mem)
		return fmt.Errorf("node %s: %w", w.node, err)
	}
	return nil
}

func (w *Writer) makeSegment(class int) (uint32, []byte, error) {
	w.grow.Lock()
	defer w.grow.Unlock()
	size := segmentSize(class)
	if size > math.MaxInt {
		return 0, nil, errors.New("the address space is too small")
	}
	if isExport(class) {
		return w.makeExport(size)
	}
	fd, err := newMemfd(size)
	if err != nil {
		return 0, nil, err
	}
	defer closeFD(fd)
	mem, err := mapMemfd(fd, size, true)
	if err != nil {
		return 0, nil, err
	}
	if wantsHuge(class) {
		adviseHuge(mem)
	}
	// From here on the kernel refuses every further writable mapping.
	if err := sealMemfd(fd, segmentSeals); err != nil {
		unmap(mem)
		return 0, nil, err
	}
	fault("segment.made")
	id, err := w.ctl.announce(fd, size, sealed)
	if err != nil {
		unmap(mem)
		return 0, nil, err
	}
	fault("segment.announced")
	return id, mem, nil
}
