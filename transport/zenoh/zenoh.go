package zenoh

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// ErrAbsent says that the program was built without the engine.
var ErrAbsent = errors.New("this program was built without Zenoh; build it with the tag zenoh (task build-zenoh)")

// Options of a session.
type Options struct {
	// Listen is a locator, such as tcp/127.0.0.1:0; empty for none.
	Listen string
	// Connect are the locators of peers. A peer that is not there is tried again.
	Connect []string
}

// config is the JSON5 configuration of a session.
func (o Options) config() string {
	list := func(s []string) map[string]any { return map[string]any{"endpoints": s} }
	listen := []string{}
	if o.Listen != "" {
		listen = append(listen, o.Listen)
	}
	off := map[string]any{"enabled": false}
	c := map[string]any{
		"mode":     "peer",
		"scouting": map[string]any{"multicast": off, "gossip": off},
		// Nothing goes into shared memory unasked.
		"transport": map[string]any{"shared_memory": map[string]any{"enabled": true, "transport_optimization": off}},
		"listen":    list(listen),
		"connect":   list(append([]string{}, o.Connect...)),
	}
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and booleans
	}
	return string(text)
}

// Session talks to its peers from Open to Close.
type Session struct{ engineSession }

// Open opens a session, in 1 to 5 ms.
func Open(o Options) (*Session, error) {
	s := &Session{}
	if err := s.open(o.config()); err != nil {
		return nil, fmt.Errorf("zenoh: open a session: %w", err)
	}
	return s, nil
}

// Locator is where the session listens.
func (s *Session) Locator() (string, error) {
	at, err := s.locator()
	if err != nil {
		return "", fmt.Errorf("zenoh: %w", err)
	}
	return at, nil
}

// Segment is a file with shared memory of a peer that a [Sample] named by its Segment, and
// its size in bytes; fd is -1 if there is none. The session closes the file at its end.
func (s *Session) Segment(number uint64) (fd int, size int64) { return s.segment(number) }

// Close ends the session. Publishers and subscriptions must be closed before.
func (s *Session) Close() { s.close() }

// Publisher sends on one key.
type Publisher struct{ enginePublisher }

// Publisher declares a publisher.
func (s *Session) Publisher(key string) (*Publisher, error) {
	p := &Publisher{}
	if err := p.declare(&s.engineSession, key); err != nil {
		return nil, fmt.Errorf("zenoh: publish on %s: %w", key, err)
	}
	return p, nil
}

// Put sends a payload, which is copied, with metadata beside it.
func (p *Publisher) Put(payload, attachment []byte) error {
	if err := p.put(payload, attachment); err != nil {
		return fmt.Errorf("zenoh: send: %w", err)
	}
	return nil
}

// PutShared copies a payload into shared memory and sends that. It is false, and nothing
// was sent, if the pool has no room or its readers still hold most payloads. One call at
// a time per pool.
func (p *Publisher) PutShared(pool *Pool, most int, payload, attachment []byte) (bool, error) {
	return p.PutFilled(pool, most, len(payload), func(room []byte) error {
		copy(room, payload) // not by the engine: Go's copy of a large payload leaves the caches alone
		return nil
	}, attachment)
}

// PutFilled is [Publisher.PutShared] for a payload of length bytes that fill writes. If that
// fails, nothing is sent.
func (p *Publisher) PutFilled(pool *Pool, most, length int, fill func([]byte) error, attachment []byte) (bool, error) {
	if length == 0 {
		return false, errors.New("zenoh: a payload in shared memory has at least one byte")
	}
	room := pool.take(length, most)
	if room == nil {
		return false, nil
	}
	if err := fill(room); err != nil {
		return false, err
	}
	if err := p.putTaken(&pool.enginePool, attachment); err != nil {
		return false, fmt.Errorf("zenoh: send through shared memory: %w", err)
	}
	return true, nil
}

// Place says where a payload is that lies in a file which Zenoh did not make.
type Place struct {
	Segment uint32 // the file is the segment with this number: see [Segment]
	Offset  int64  // of the payload in the file, in bytes
	Memory  []byte // the same bytes, mapped here; not read if the peer has shared memory
}

// Segment is where peers look for shared memory that is known by number.
func Segment(number uint32) string { return fmt.Sprintf("/dev/shm/%d.zenoh", number) }

// PutPlace sends a payload where it lies, and returns its number in the pool, which is told by
// [Pool.Returned] when no reader holds it any more: until then, or until the pool is closed,
// it must not change. One call at a time per pool.
func (p *Publisher) PutPlace(pool *Pool, at Place, attachment []byte) (number uint64, err error) {
	return p.putPlace(pool, at, true, attachment)
}

// PutAside is [Publisher.PutPlace] for a payload that is not one of those that are counted:
// it may change at any time.
func (p *Publisher) PutAside(pool *Pool, at Place, attachment []byte) error {
	_, err := p.putPlace(pool, at, false, attachment)
	return err
}

func (p *Publisher) putPlace(pool *Pool, at Place, count bool, attachment []byte) (uint64, error) {
	if len(at.Memory) == 0 || at.Offset < 0 || at.Offset > math.MaxUint32 {
		return 0, fmt.Errorf("zenoh: %d bytes at %d are no place for a payload", len(at.Memory), at.Offset)
	}
	number, err := p.putOutside(&pool.enginePool, at, count, attachment)
	if err != nil {
		return 0, fmt.Errorf("zenoh: send from shared memory: %w", err)
	}
	return number, nil
}

// Close undeclares the publisher.
func (p *Publisher) Close() { p.free() }

// Pool is shared memory to send from. It takes its whole size of /dev/shm at once. It also
// counts what is sent of other memory (PutPlace).
type Pool struct{ enginePool }

// NewPool makes a pool of some bytes.
func NewPool(size int) (*Pool, error) {
	p := &Pool{}
	if err := p.make(size); err != nil {
		return nil, fmt.Errorf("zenoh: a pool of %d bytes of shared memory: %w", size, err)
	}
	return p, nil
}

// Held is how many payloads of the pool its readers hold, and the number (from 1, in the
// order of sending) of the newest that they gave back. One call at a time per pool.
func (p *Pool) Held() (held int, back uint64) { return p.held() }

// Returned is the number of a payload of PutPlace that no reader held any more at the latest
// Held, each once; 0 if there is none. One call at a time per pool.
func (p *Pool) Returned() uint64 { return p.returned() }

// Close gives the pool up. What was sent from it stays until its readers let it go.
func (p *Pool) Close() { p.free() }

// Subscription calls back for every sample on one key.
type Subscription struct{ engineSubscription }

// Subscribe has take called with every sample, in the order in which each peer sent them,
// from a thread of the engine: it must not block. take owns the sample.
func (s *Session) Subscribe(key string, take func(*Sample)) (*Subscription, error) {
	sub := &Subscription{}
	if err := sub.declare(&s.engineSession, key, take); err != nil {
		return nil, fmt.Errorf("zenoh: subscribe to %s: %w", key, err)
	}
	return sub, nil
}

// Close ends the subscription and waits for take to return.
func (s *Subscription) Close() { s.end() }

// Sample is one payload that was received.
type Sample struct {
	// Payload is valid until Release. Attachment is the metadata beside it.
	Payload, Attachment []byte
	// Shared: the payload lies in memory of its sender.
	Shared bool
	// Segment is the number of that memory in [Session.Segment], 0 if it is not known, and
	// Offset is where the payload begins in it.
	Segment uint64
	Offset  int64

	engineSample
}

// Valid says whether what was read of the payload until now is its content: Zenoh takes
// shared memory back from a reader that did not move for about 100 ms.
func (s *Sample) Valid() bool { return s.valid() }

// Release gives the sample up, once.
func (s *Sample) Release() { s.release() }
