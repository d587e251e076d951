package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"
)

// Errors of [Open]. The text names the type, the version and the place.
var (
	// ErrUnknown: the catalogue has no event of this type; a newer dora may have.
	ErrUnknown = errors.New("events: unknown event type")
	// ErrNewer: the event has a version above the one this dora knows.
	ErrNewer = errors.New("events: written by a newer version")
	// ErrMalformed: the data does not fit the type.
	ErrMalformed = errors.New("events: malformed event")
)

// Meta is what an event does not know of itself: when, by whom and why.
type Meta struct {
	// At is the wall clock of the writer. It must be set.
	At time.Time
	// HLC is the hybrid logical clock as NTP64 (0: none).
	HLC uint64
	// Epoch of the writer.
	Epoch uint64
	// Command is the id of the command that led to the event, Cause a short text,
	// Trace a trace id. All may be empty.
	Command, Cause, Trace string
	// SourceSeq is the number of the fact that the event was made from (0: none).
	SourceSeq uint64
}

// Upcaster turns the JSON of version N of a type into the JSON of version N+1.
type Upcaster func(old json.RawMessage) (json.RawMessage, error)

// Registry maps type names to decoders. [Catalogue] is the one that is used; others
// exist for tests of the mechanism. A Registry is immutable once built.
type Registry struct {
	kinds map[string]Kind
}

// Kind is what a Registry knows of one event type.
type Kind struct {
	name    string
	version int
	decode  func(json.RawMessage) (Event, error)
	sample  func() Event
	ups     []Upcaster
}

// KindOf describes the event type E. E's version is the newest one; ups lead there from
// version 1: ups[0] from 1 to 2, ups[1] from 2 to 3, and so on, without a gap.
func KindOf[E Event](ups ...Upcaster) Kind {
	var zero E
	return Kind{
		name:    zero.EventType(),
		version: zero.EventVersion(),
		ups:     ups,
		sample:  func() Event { var e E; return e },
		decode: func(data json.RawMessage) (Event, error) {
			e, err := unmarshal[E](data)
			if err != nil {
				return nil, err
			}
			return e, nil
		},
	}
}

// NewRegistry checks that every type is there once, with an upcaster for each of its
// older versions.
func NewRegistry(kinds ...Kind) (*Registry, error) {
	r := &Registry{kinds: make(map[string]Kind, len(kinds))}
	for _, k := range kinds {
		switch _, twice := r.kinds[k.name]; {
		case k.name == "":
			return nil, fmt.Errorf("events: a type (%T) has no name", k.sample())
		case twice:
			return nil, fmt.Errorf("events: type %s is registered twice", k.name)
		case k.version < 1:
			return nil, fmt.Errorf("events: type %s has version %d; versions start at 1", k.name, k.version)
		case len(k.ups) != k.version-1:
			return nil, fmt.Errorf("events: type %s is at version %d and needs %d upcasters, has %d",
				k.name, k.version, k.version-1, len(k.ups))
		}
		r.kinds[k.name] = k
	}
	return r, nil
}

// Types lists the names of the known types, sorted.
func (r *Registry) Types() []string {
	names := make([]string, 0, len(r.kinds))
	for name := range r.kinds {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Version is the newest version of a type (0: unknown type).
func (r *Registry) Version(eventType string) int { return r.kinds[eventType].version }

// Seal encodes an event for a journal. Stream, Seq and Pos stay empty: the store fills
// them in.
func (r *Registry) Seal(e Event, meta Meta) (Envelope, error) {
	if e == nil {
		return Envelope{}, fmt.Errorf("%w: no event to seal", ErrMalformed)
	}
	name, version := e.EventType(), e.EventVersion()
	k, ok := r.kinds[name]
	switch {
	case !ok:
		return Envelope{}, fmt.Errorf("%w: %q (%T) is not in the catalogue; add it to events/types.go", ErrUnknown, name, e)
	case version != k.version:
		return Envelope{}, fmt.Errorf("%w: %s version %d cannot be written, the catalogue is at %d",
			ErrMalformed, name, version, k.version)
	case meta.At.IsZero():
		return Envelope{}, fmt.Errorf("%w: %s has no time; set Meta.At", ErrMalformed, name)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return Envelope{}, fmt.Errorf("%w: encode %s: %w", ErrMalformed, name, err)
	}
	return Envelope{
		Type: name, Version: version, Data: data,
		// Round drops the monotonic reading, which no journal keeps.
		At: meta.At.Round(0), HLC: meta.HLC, Epoch: meta.Epoch,
		Command: meta.Command, Cause: meta.Cause, Trace: meta.Trace,
		SourceSeq: meta.SourceSeq,
	}, nil
}

// Open decodes the event of an envelope, bringing older versions up to the newest one.
func (r *Registry) Open(env Envelope) (Event, error) {
	k, ok := r.kinds[env.Type]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w %q%s", ErrUnknown, env.Type, where(env))
	case env.Version > k.version:
		return nil, fmt.Errorf("%w: %s version %d%s, this dora knows version %d; use a newer dora",
			ErrNewer, env.Type, env.Version, where(env), k.version)
	case env.Version < 1:
		return nil, fmt.Errorf("%w: %s has version %d%s; versions start at 1",
			ErrMalformed, env.Type, env.Version, where(env))
	}
	data := env.Data
	for v := env.Version; v < k.version; v++ {
		up, err := k.ups[v-1](data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s%s from version %d to %d: %w", ErrMalformed, env.Type, where(env), v, v+1, err)
		}
		data = up
	}
	e, err := k.decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s version %d%s: %w", ErrMalformed, env.Type, env.Version, where(env), err)
	}
	return e, nil
}

// Seal encodes an event of the catalogue: it fills in Type, Version and Data, and from
// meta At, HLC, Epoch, Command, Cause, Trace and SourceSeq. Pos, Stream and Seq are the
// store's to fill in.
func Seal(e Event, meta Meta) (Envelope, error) { return Catalogue.Seal(e, meta) }

// Open decodes the event of an envelope: always the newest shape of its type, by value
// (a NodeExited, not a *NodeExited). Errors wrap [ErrUnknown], [ErrNewer] or
// [ErrMalformed].
func Open(env Envelope) (Event, error) { return Catalogue.Open(env) }

// where names the place of an envelope for an error text.
func where(env Envelope) string {
	if env.Stream == "" {
		return ""
	}
	return fmt.Sprintf(" (stream %q seq %d, pos %d)", env.Stream, env.Seq, env.Pos)
}
