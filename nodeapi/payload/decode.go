package payload

import (
	"errors"
	"fmt"
	"io"
	"runtime"
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
	return decodeWith(data, free, false)
}

// DecodeLoan is Decode for memory that the garbage collector does not know. If the array
// is not released, free is called when the collector finds that nothing refers to it any
// more. Slices of its values do not count as references; free may come more than once.
func DecodeLoan(data []byte, free func()) (arrow.Array, error) {
	return decodeWith(data, free, true)
}

func decodeWith(data []byte, free func(), loan bool) (arrow.Array, error) {
	if len(data) <= MaxSize {
		if arr := decodeNumeric(data[:len(data):len(data)], free, loan); arr != nil {
			return arr, nil
		}
	}
	if free != nil {
		free = sync.OnceFunc(free)
	}
	arr, err := decode(data, free, loan)
	if err != nil && free != nil {
		free()
	}
	return arr, err
}

func decode(data []byte, free func(), loan bool) (arrow.Array, error) {
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
	body := wrap(data, free, loan)
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
// reference. Without free the garbage collector does the counting; with loan it is asked
// to notice a buffer that is forgotten.
func wrap(data []byte, free func(), loan bool) *memory.Buffer {
	if free == nil {
		return memory.NewBufferBytes(data)
	}
	r := &releaser{free: free}
	b := memory.NewBufferWithAllocator(data, r)
	if loan {
		r.loan = true
		r.cleanup = runtime.AddCleanup(b, func(free func()) { free() }, free)
	}
	return b
}

// releaser is an allocator that only ever frees.
type releaser struct {
	memory.GoAllocator
	free    func()
	loan    bool
	cleanup runtime.Cleanup
}

func (r *releaser) Free([]byte) {
	if r.loan {
		r.cleanup.Stop()
	}
	r.free()
}
