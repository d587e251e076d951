package payload

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Decode reads one payload in place: the array's buffers are slices of data,
// which must not change until the array is released.
//
// Empty data is the payload of a message without one (a timer tick, say) and
// gives an empty array of type Null.
//
// free, if not nil, is called exactly once, when nothing refers to data any
// more: after the last Release of the array and of all arrays sliced from it, or
// before Decode returns if it fails.
func Decode(data []byte, free func()) (arrow.Array, error) {
	if free != nil {
		free = sync.OnceFunc(free)
	}
	arr, err := decode(data, free)
	if err != nil && free != nil {
		free()
	}
	return arr, err
}

func decode(data []byte, free func()) (arrow.Array, error) {
	if len(data) == 0 {
		if free != nil {
			free()
		}
		return array.NewNull(0), nil
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(data), MaxSize)
	}
	data = data[:len(data):len(data)] // damaged metadata must not reach beyond
	body := wrap(data, free)
	defer body.Release()
	s := &stream{rest: data, whole: data, body: body}
	r, err := ipc.NewReaderFromMessageReader(s)
	if err != nil {
		return nil, invalid(err)
	}
	defer r.Release()
	batch, err := r.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it holds no record batch", ErrInvalid)
		}
		return nil, invalid(err)
	}
	arr := batch.Column(0)
	if err := check(arr.Data(), maxDepth); err != nil {
		return nil, fmt.Errorf("%w: array of type %s: %w", ErrInvalid, arr.DataType(), err)
	}
	arr.Retain()
	// What follows must be the end marker and nothing else.
	if _, err := s.Message(); !errors.Is(err, io.EOF) {
		arr.Release()
		if err == nil {
			err = fmt.Errorf("%w: more messages after the record batch", ErrInvalid)
		}
		return nil, err
	}
	return arr, nil
}

func invalid(err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrInvalid, err)
}

// wrap makes data a reference counted buffer that calls free with the last
// reference. Without free the garbage collector does the counting.
func wrap(data []byte, free func()) *memory.Buffer {
	if free == nil {
		return memory.NewBufferBytes(data)
	}
	return memory.NewBufferWithAllocator(data, &releaser{free: free})
}

// releaser is an allocator that only ever frees.
type releaser struct {
	memory.GoAllocator
	free func()
}

func (r *releaser) Free([]byte) { r.free() }
