package payload

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

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
	if free == nil {
		return decodeFor(data, nil)
	}
	return decodeFor(data, &Owner{To: returnFunc(free)})
}

// Owner is told when an array does not need the memory any more in which it lies.
type Owner struct {
	memory.GoAllocator // arrays only ever free
	// To is called exactly once, when nothing refers to the memory any more: see Decode.
	To interface{ Return() }
	// Foreign memory is unknown to the garbage collector: see Watch.
	Foreign bool

	buf     *memory.Buffer // of foreign memory that is not watched yet
	cleanup runtime.Cleanup
	watched atomic.Bool
	done    atomic.Bool
}

// Watch has the garbage collector call To for foreign memory, if the array is not released,
// when it finds that nothing refers to the array any more. Slices of its values do not
// count as references, and To must not refer to the array. Until then the owner keeps the
// array alive. It is for arrays that their user keeps: most are released at once, and
// watching costs more than decoding. It may be called while the array is released.
func (o *Owner) Watch() {
	b := o.buf
	o.buf = nil
	if b == nil || o.done.Load() {
		return
	}
	o.cleanup = runtime.AddCleanup(b, (*Owner).give, o)
	o.watched.Store(true)
}

type returnFunc func()

func (f returnFunc) Return() { f() }

// Free is part of memory.Allocator.
func (o *Owner) Free([]byte) {
	if o.watched.Load() {
		o.cleanup.Stop()
	}
	o.give()
}

func (o *Owner) give() {
	if o != nil && o.done.CompareAndSwap(false, true) {
		o.To.Return()
	}
}

// buffer makes data a reference counted buffer that tells o of the last reference. Without
// an owner the garbage collector does the counting.
func (o *Owner) buffer(data []byte) *memory.Buffer {
	if o == nil {
		return memory.NewBufferBytes(data)
	}
	b := memory.NewBufferWithAllocator(data, o)
	if o.Foreign {
		o.buf = b
	}
	return b
}

func decodeFor(data []byte, o *Owner) (arrow.Array, error) {
	if arr := decodeNumeric(data, o); arr != nil {
		return arr, nil
	}
	return decodeAny(data, o)
}

// decodeAny decodes whatever arrow allows.
func decodeAny(data []byte, o *Owner) (arrow.Array, error) {
	arr, err := decode(data, o)
	if err != nil {
		o.give()
	}
	return arr, err
}

func decode(data []byte, o *Owner) (arrow.Array, error) {
	if len(data) == 0 {
		o.give()
		return array.NewNull(0), nil
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(data), MaxSize)
	}
	data = data[:len(data):len(data)] // damaged metadata must not reach beyond
	body := o.buffer(data)
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
