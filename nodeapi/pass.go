package nodeapi

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/dora-go/dora/transport/shm"
)

// A node that routes, filters or gates messages sends on what it received as it is. A large
// message of an official node lies in that node's memory; if it goes on to official nodes,
// they read it there, and it is not copied on the way.

// passable is a message that may be sent on where it lies, until the next one is asked for.
type passable struct {
	data arrow.Array
	at   shm.Place
}

// pass sends data on where it lies, if it is the latest message and unchanged, and its
// receivers can get it so.
func (s *shared) pass(output string, data arrow.Array, opts []SendOption) (bool, error) {
	from := s.passable.Load()
	if from == nil || from.data != data {
		return false, nil
	}
	b := scratches.Get().(*scratch)
	defer b.release()
	data.Retain()
	sent, err := s.ep.Writer.Pass(context.Background(), output, from.at, b.header(s.clock.Now(), options(opts)), data.Release)
	if !sent {
		data.Release()
	}
	if err != nil {
		return sent, sharedError(output, err)
	}
	return sent, nil
}
