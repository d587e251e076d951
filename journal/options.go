package journal

import (
	"errors"
	"io"

	"github.com/sirupsen/logrus"
)

// ErrInvalid: the arguments cannot be stored (an empty stream name, data that is not
// JSON, an event above the size limit). Nothing was written.
var ErrInvalid = errors.New("journal: invalid argument")

// ErrFailed: an earlier write failed in a way that leaves open what is on the disk (the
// disk reported an error while syncing). Reading goes on; writing needs a new open,
// which verifies everything.
var ErrFailed = errors.New("journal: an earlier write failed, reopen the journal")

// RunFileName is the name of the event log in the folder of a run (out/<uuid>/).
const RunFileName = "events.journal"

// Limits. They bound what a reader allocates for a record of a damaged file.
const (
	// MaxStreamName is the longest name of a stream in bytes.
	MaxStreamName = 512
	// MaxEventBytes is the largest encoded event, MaxSnapshotBytes the largest state.
	MaxEventBytes    = 15 << 20
	MaxSnapshotBytes = 15 << 20
)

// OpenOptions of OpenBadger and OpenFile. The zero value is right for production.
type OpenOptions struct {
	// NoSync leaves syncing to the operating system: an acknowledged event then
	// survives SIGKILL, but not a power failure.
	NoSync bool
	// Reserve is the free disk space in bytes below which only urgent appends are
	// written. 0: 64 MiB for Badger, 8 MiB for a file; negative: none.
	Reserve int64
	// Ballast is the size in bytes of a file that only takes up space; it is deleted
	// when urgent appends would find none, and made again later. 0: 32 MiB for
	// Badger, none for a file; negative: none.
	Ballast int64
	// MaxBatch is the most events of one group commit (0: 4096). An append of more
	// is still one group.
	MaxBatch int
	// Log gets warnings (nil: none).
	Log logrus.FieldLogger
}

func (o OpenOptions) withDefaults(reserve, ballast int64) OpenOptions {
	if o.Reserve == 0 {
		o.Reserve = reserve
	}
	if o.Ballast == 0 {
		o.Ballast = ballast
	}
	o.Reserve, o.Ballast = max(o.Reserve, 0), max(o.Ballast, 0)
	if o.MaxBatch <= 0 {
		o.MaxBatch = 4096
	}
	if o.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		o.Log = quiet
	}
	return o
}

// Recovery is what an open found and dealt with. None of it concerns an acknowledged
// event: that would have been an error.
type Recovery struct {
	// Cut is the number of bytes removed from the end of a file at offset CutAt:
	// an append that was under way when its writer was killed.
	Cut, CutAt int64
	// Resumed are the streams whose interrupted truncation was finished.
	Resumed []string
	// Retried: the first attempt to open Badger failed with this error.
	Retried error
	// Warnings are damages that cost nothing, each naming its place.
	Warnings []string
}
