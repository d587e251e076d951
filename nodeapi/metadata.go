package nodeapi

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/dora-go/dora/transport/nodewire"
)

// Names of parameters with a meaning to dora. Messages that carry one of the first
// three are never dropped in favour of ordinary ones.
const (
	ParamRequestID  = "request_id"  // Text: which request a response answers
	ParamGoalID     = "goal_id"     // Text: which goal feedback or a result belongs to
	ParamGoalStatus = "goal_status" // Text: "succeeded", "aborted" or "canceled"
	ParamSessionID  = "session_id"  // Text: of a stream
	ParamSegmentID  = "segment_id"  // Int: of a stream
	ParamSequence   = "seq"         // Int: of a stream's chunk within its segment
	ParamFin        = "fin"         // Bool: last chunk of a segment
	// ParamFlush (Bool): older queued messages of the receiving input are obsolete
	// and dropped before this one is delivered.
	ParamFlush = "flush"
	// ParamTelemetry (Text): W3C trace context, "traceparent:...;tracestate:...;".
	ParamTelemetry = "open_telemetry_context"
)

// Parameters that the protocol itself puts on messages; nodes never see them.
const (
	paramFraming    = "_framing"
	framingArrowIPC = "arrow-ipc"
	paramSchemaHash = "_schema_hash"
)

// NewRequestID returns an id for ParamRequestID or ParamGoalID: a UUID of version
// 7, so that ids sort by the time they were made.
func NewRequestID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	return id.String(), nil
}

// Parameter is one metadata value of a message: a [Bool], [Int], [Float], [Text],
// [Ints], [Floats], [Texts] or [Time]. These are all the kinds that dora has.
type Parameter interface {
	wire() nodewire.Parameter
}

// The kinds of parameters.
type (
	Bool   bool
	Int    int64
	Float  float64
	Text   string // UTF-8
	Ints   []int64
	Floats []float64
	Texts  []string
	// Time travels in UTC with nanoseconds.
	Time time.Time
)

func (v Bool) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.Bool, Bool: bool(v)}
}
func (v Int) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.Integer, Int: int64(v)}
}
func (v Float) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.Float, Float: float64(v)}
}
func (v Text) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.String, Str: string(v)}
}
func (v Ints) wire() nodewire.Parameter { return nodewire.Parameter{Kind: nodewire.ListInt, Ints: v} }
func (v Floats) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.ListFloat, Floats: v}
}
func (v Texts) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.ListString, Strings: v}
}
func (v Time) wire() nodewire.Parameter {
	return nodewire.Parameter{Kind: nodewire.Time, Time: time.Time(v).UTC()}
}

func parameterOf(p nodewire.Parameter) (Parameter, bool) {
	switch p.Kind {
	case nodewire.Bool:
		return Bool(p.Bool), true
	case nodewire.Integer:
		return Int(p.Int), true
	case nodewire.Float:
		return Float(p.Float), true
	case nodewire.String:
		return Text(p.Str), true
	case nodewire.ListInt:
		return Ints(p.Ints), true
	case nodewire.ListFloat:
		return Floats(p.Floats), true
	case nodewire.ListString:
		return Texts(p.Strings), true
	case nodewire.Time:
		return Time(p.Time), true
	}
	return nil, false
}

// Parameters are the named values that travel beside the data of a message. The nil
// map is empty and may be read.
type Parameters map[string]Parameter

// Lookup returns the parameter called name if it is there and of kind P:
//
//	width, ok := nodeapi.Lookup[nodeapi.Int](input.Metadata.Parameters, "width")
func Lookup[P Parameter](p Parameters, name string) (P, bool) {
	v, ok := p[name].(P)
	return v, ok
}

// Names of the parameters, sorted.
func (p Parameters) Names() []string { return slices.Sorted(maps.Keys(p)) }

// Timestamp is a reading of a hybrid logical clock. Readings of all nodes of a
// dataflow, on all machines, are ordered: what was sent because of a message is later
// than that message.
type Timestamp struct {
	// NTP64 is seconds since 1970 in the upper 32 bits and fractions of 2^-32 s in the
	// lower ones, of which the lowest four count events.
	NTP64 uint64
	// ID of the clock, never all zero.
	ID [16]byte
}

// Wall returns the physical part, exact to about 4 ns.
func (t Timestamp) Wall() time.Time { return t.wire().At() }

// Before orders two readings, by time and then by clock.
func (t Timestamp) Before(u Timestamp) bool { return t.wire().Before(u.wire()) }

func (t Timestamp) wire() nodewire.Timestamp { return nodewire.Timestamp{Time: t.NTP64, ID: t.ID} }

func timestampOf(t nodewire.Timestamp) Timestamp { return Timestamp{NTP64: t.Time, ID: t.ID} }

// Metadata is what travels with every message.
type Metadata struct {
	// Timestamp of the sender when it sent the message.
	Timestamp Timestamp
	// Parameters as the sender gave them.
	Parameters Parameters
}

func metadataOf(m nodewire.Message) (Metadata, error) {
	md, err := m.Metadata()
	if err != nil {
		return Metadata{}, err
	}
	return publicMetadata(md), nil
}

func publicMetadata(md nodewire.Metadata) Metadata {
	out := Metadata{Timestamp: timestampOf(md.Time)}
	for name, v := range md.Parameters {
		if name == paramFraming || name == paramSchemaHash {
			continue
		}
		p, ok := parameterOf(v)
		if !ok {
			continue
		}
		if out.Parameters == nil {
			out.Parameters = make(Parameters, len(md.Parameters))
		}
		out.Parameters[name] = p
	}
	return out
}

// wireParameters prepares parameters for a message that carries Arrow data.
func wireParameters(p Parameters) map[string]nodewire.Parameter {
	out := make(map[string]nodewire.Parameter, len(p)+1)
	for name, v := range p {
		if v != nil && name != paramSchemaHash {
			out[name] = v.wire()
		}
	}
	out[paramFraming] = nodewire.Parameter{Kind: nodewire.String, Str: framingArrowIPC}
	return out
}
