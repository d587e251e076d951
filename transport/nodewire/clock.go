package nodewire

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Timestamp is a hybrid-logical-clock reading: Time is 64-bit NTP time (seconds since
// 1970 in the upper half, fractions of 2^-32 s in the lower; the lowest four bits are a
// logical counter), ID names the clock and is never zero.
type Timestamp struct {
	Time uint64
	ID   [16]byte
}

// At converts the physical part to wall-clock time (exact to about 4 ns).
func (t Timestamp) At() time.Time {
	nanos := (t.Time & math.MaxUint32) * uint64(time.Second) >> 32
	return time.Unix(int64(t.Time>>32), int64(nanos))
}

// Before orders two readings, by time and then by clock id.
func (t Timestamp) Before(u Timestamp) bool {
	if t.Time != u.Time {
		return t.Time < u.Time
	}
	// The id is a little-endian number.
	for i := len(t.ID) - 1; i >= 0; i-- {
		if t.ID[i] != u.ID[i] {
			return t.ID[i] < u.ID[i]
		}
	}
	return false
}

// MaxTimestamp is the longest encoding of a Timestamp in bytes.
const MaxTimestamp = 10 + 16

// AppendTimestamp encodes t: the time as an integer, the id as 16 raw bytes.
func AppendTimestamp(dst []byte, t Timestamp) []byte {
	dst = binary.AppendUvarint(dst, t.Time)
	return append(dst, t.ID[:]...)
}

func (d *decoder) timestamp(what string) Timestamp {
	var t Timestamp
	t.Time = d.varint(what, math.MaxUint64)
	copy(t.ID[:], d.take(what, 16))
	if d.err == nil && t.ID == ([16]byte{}) {
		d.fail("%s has a zero clock id", what)
	}
	return t
}

// counterMask covers the logical counter, as in the clocks of dora nodes (uhlc).
const counterMask = 0xF

// MaxAhead is how far a remote clock may be ahead before its reading is refused.
const MaxAhead = 500 * time.Millisecond

// ErrClockAhead is returned by Clock.Update for a reading too far in the future.
var ErrClockAhead = errors.New("remote clock is more than 500 ms ahead")

// Clock is a hybrid logical clock. It may be used from many goroutines; it takes no
// lock.
type Clock struct {
	id   [16]byte
	now  func() time.Time
	last atomic.Uint64
	seen atomic.Uint64 // what Saw was given and Settle has not looked at; 0 for nothing
}

// NewClock makes a clock with a random id.
func NewClock() *Clock {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] |= 1              // never zero
	return NewClockWith(id, time.Now)
}

// NewClockWith makes a clock with the given id (not all zero) and physical time.
func NewClockWith(id [16]byte, now func() time.Time) *Clock {
	return &Clock{id: id, now: now}
}

// ID of the clock.
func (c *Clock) ID() [16]byte { return c.id }

func ntp64(t time.Time) uint64 {
	return uint64(t.Unix())<<32 | (uint64(t.Nanosecond())<<32)/uint64(time.Second)
}

func (c *Clock) physical() uint64 { return ntp64(c.now()) &^ counterMask }

// Now returns a reading later than every earlier one of this clock and than every
// reading given to Update or Saw.
func (c *Clock) Now() Timestamp {
	c.Settle()
	now := c.physical()
	for {
		last := c.last.Load()
		next := last + 1
		if now > last&^counterMask {
			next = now
		}
		if c.last.CompareAndSwap(last, next) {
			return Timestamp{Time: next, ID: c.id}
		}
	}
}

// Update advances the clock past a remote reading, so that what happens next is later
// than what was received. A reading more than MaxAhead in the future is refused with
// ErrClockAhead and changes nothing.
func (c *Clock) Update(remote uint64) error {
	now := c.physical()
	if remote > now && remote-now > uint64(MaxAhead)<<32/uint64(time.Second) {
		return fmt.Errorf("%w (%v)", ErrClockAhead, Timestamp{Time: remote - now}.At().Sub(time.Unix(0, 0)).Round(time.Millisecond))
	}
	for {
		last := c.last.Load()
		next := last + 1
		switch max(now, remote, last) {
		case now:
			next = now
		case remote:
			next = remote + 1
		}
		if c.last.CompareAndSwap(last, next) {
			return nil
		}
	}
}

// Saw is Update for when nothing is to be done now: the clock advances when it is read, or
// by Settle, which has to come before the next Saw. Readings too far in the future are left
// out.
func (c *Clock) Saw(remote uint64) { c.seen.Store(remote) }

// Settle does what Saw has left.
func (c *Clock) Settle() {
	if remote := c.seen.Load(); remote != 0 {
		_ = c.Update(remote)
		c.seen.CompareAndSwap(remote, 0) // last, for those who read the clock meanwhile
	}
}
