package journal

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/dora-go/dora/events"
)

// Errors that a caller decides on. All stores wrap these.
var (
	// ErrConflict: the stream is not at the expected version. Nothing was written.
	ErrConflict = errors.New("journal: stream version differs from the expected one")
	// ErrNoSpace: free space is below the reserve. Nothing was written.
	ErrNoSpace = errors.New("journal: free disk space is below the reserve")
	// ErrDamaged: a record is missing, cut or altered. The text names the place.
	ErrDamaged = errors.New("journal: damaged")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrNewer: the store or an event was written by a newer dora.
	ErrNewer = errors.New("journal: written by a newer version")
	// ErrLocked: another process has the store open.
	ErrLocked = errors.New("journal: in use by another process")
	// ErrNoSnapshot: the stream has none.
	ErrNoSnapshot = errors.New("journal: no snapshot")
)

// Any as expected version appends whatever the version is.
const Any = ^uint64(0)

// Options of one append.
type Options struct {
	// Urgent lets a write use the reserve and then the ballast (stop, kill, exits).
	Urgent bool
}

// Append is one append to one stream.
type Append struct {
	Stream string
	// Expected is the Seq of the stream's last event (0: empty stream), or Any.
	Expected uint64
	// Events to append; Pos, Seq and Stream are filled in by the store. Type,
	// Version, At, Epoch and Data must be set (see events.Seal).
	Events []events.Envelope
	Options
}

// Store keeps streams of events. All methods may be called from any goroutine.
//
// Append is durable when it returns nil: the events survive SIGKILL at any moment,
// and with Sync also a power failure.
type Store interface {
	// Append writes all appends or none of them, and fills in Pos and Seq.
	Append(ctx context.Context, appends ...Append) error
	// Read yields the events of a stream with Seq >= from, in order. An error ends
	// the iteration.
	Read(ctx context.Context, stream string, from uint64) iter.Seq2[events.Envelope, error]
	// ReadAll yields the events of all streams with Pos >= from, in order.
	ReadAll(ctx context.Context, from uint64) iter.Seq2[events.Envelope, error]
	// Head is the highest Pos, Version the highest Seq of a stream (0: none).
	Head() uint64
	Version(stream string) (uint64, error)
	// Streams lists stream names with a prefix, sorted.
	Streams(prefix string) ([]string, error)
	// SaveSnapshot keeps the state of a stream at seq; the last two are kept.
	// LoadSnapshot returns the newest one that is whole.
	SaveSnapshot(stream string, seq uint64, state []byte) error
	LoadSnapshot(stream string) (seq uint64, state []byte, err error)
	// Epoch is the stored epoch; RaiseEpoch makes it one higher, durably, and
	// returns it.
	Epoch() uint64
	RaiseEpoch() (uint64, error)
	// ID identifies this journal for good.
	ID() string
	// Verify reads everything and reports every damage found (nil: whole).
	Verify(ctx context.Context) error
	// Truncate removes events of a stream with Seq < before, after appending a
	// HistorySummarized in their place.
	Truncate(ctx context.Context, stream string, before uint64, summary string, at time.Time) error
	Close() error
}
