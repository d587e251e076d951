package nodewire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sort"
	"time"
)

// MetadataVersion is the message format this package speaks. A node that speaks another
// one is refused when it registers.
const MetadataVersion = 2

// Metadata travels with every message.
type Metadata struct {
	Time       Timestamp
	Parameters map[string]Parameter
}

// ParameterKind is the type of a Parameter. The values are the wire tags.
type ParameterKind uint8

const (
	Bool       ParameterKind = 0
	Integer    ParameterKind = 1
	String     ParameterKind = 2
	ListInt    ParameterKind = 3
	Float      ParameterKind = 4
	ListFloat  ParameterKind = 5
	ListString ParameterKind = 6
	Time       ParameterKind = 7
)

// Parameter is one metadata value. Only the field that Kind names is set.
type Parameter struct {
	Kind    ParameterKind
	Bool    bool
	Int     int64
	Float   float64
	Str     string
	Ints    []int64
	Floats  []float64
	Strings []string
	Time    time.Time // UTC
}

// Reserved parameter names (node protocol of dora 1.1.0).
const (
	ParamFraming    = "_framing" // "arrow-ipc" on every message with Arrow data
	ParamRequestID  = "request_id"
	ParamGoalID     = "goal_id"
	ParamGoalStatus = "goal_status"
	ParamFlush      = "flush" // true: older queued messages of the input are obsolete
	// ParamStartupMarker marks probes of the direct path; they carry no data.
	ParamStartupMarker = "__dora_startup_marker"
	// What a consumer answers to a probe: true, and who it is.
	ParamStartupAck         = "__dora_startup_ack"
	ParamStartupAckConsumer = "__dora_startup_ack_consumer"
	ParamStartupAckInput    = "__dora_startup_ack_input"
)

// MessageFlags are the properties of a message that its router acts on.
type MessageFlags uint8

const (
	// Correlated messages belong to a request or goal (they have a request_id, goal_id
	// or goal_status) and are not dropped for being old.
	Correlated MessageFlags = 1 << iota
	// Flush: the message obsoletes older queued ones of its input.
	Flush
	// StartupMarker: a probe of the direct path.
	StartupMarker
)

// Message is the metadata and data of one message as they are on the wire. All slices
// alias the frame it was decoded from.
type Message struct {
	// Raw is the encoded Metadata followed by the optional data: what a SendMessage
	// request and an Input event have in common, byte for byte.
	Raw []byte
	// Time is the encoded Timestamp within Raw.
	Time []byte
	// Meta is the encoded Metadata alone, the first part of Raw.
	Meta []byte
	// Payload is one Arrow IPC stream, or nil when there is no data.
	Payload []byte
	HasData bool
	Flags   MessageFlags
}

// message scans a Metadata and, if withData, the optional data behind it, without
// allocating.
func (d *decoder) message(withData bool) Message {
	var m Message
	start := d.off
	if v := d.u16("metadata version"); d.err == nil && v != MetadataVersion {
		d.fail("metadata version %d instead of %d", v, MetadataVersion)
	}
	at := d.off
	d.timestamp("metadata timestamp")
	m.Time = d.b[at:d.off:d.off]
	n := d.count("metadata parameters", 3)
	for i := 0; i < n && d.err == nil; i++ {
		key := d.text("parameter name")
		m.Flags |= d.skipParameter(key)
	}
	meta := d.off
	if withData && d.option("message data") {
		m.HasData = true
		if t := d.tag("data kind"); d.err == nil && t != 0 {
			d.fail("unknown data kind %d", t)
		}
		m.Payload = d.bytes("message data")
	}
	if d.err != nil {
		return Message{}
	}
	m.Raw = d.b[start:d.off:d.off]
	m.Meta = d.b[start:meta:meta]
	return m
}

func (d *decoder) option(what string) bool {
	c := d.byte(what)
	if c > 1 {
		d.off--
		d.fail("%s is neither present nor absent", what)
	}
	return c == 1
}

// skipParameter checks one parameter value and says what its name means to a router.
func (d *decoder) skipParameter(key []byte) (flags MessageFlags) {
	if isCorrelation(key) {
		flags = Correlated
	}
	switch k := ParameterKind(d.tag("parameter type")); {
	case d.err != nil:
	case k == Bool:
		if d.bool("parameter") {
			switch string(key) {
			case ParamFlush:
				flags |= Flush
			case ParamStartupMarker:
				flags |= StartupMarker
			}
		}
	case k == Integer:
		d.i64("parameter")
	case k == String:
		d.text("parameter")
	case k == ListInt:
		for n := d.count("parameter", 1); n > 0 && d.err == nil; n-- {
			d.i64("parameter")
		}
	case k == Float:
		d.take("parameter", 8)
	case k == ListFloat:
		d.take("parameter", 8*d.count("parameter", 8))
	case k == ListString:
		for n := d.count("parameter", 1); n > 0 && d.err == nil; n-- {
			d.text("parameter")
		}
	case k == Time:
		if s := d.text("parameter"); d.err == nil {
			if _, err := parseTime(s); err != nil {
				d.fail("parameter is not a UTC time")
			}
		}
	default:
		d.fail("unknown parameter type %d", k)
	}
	return flags
}

func isCorrelation(key []byte) bool {
	switch string(key) {
	case ParamRequestID, ParamGoalID, ParamGoalStatus:
		return true
	}
	return false
}

// Metadata decodes the metadata of the message. The result does not alias the frame.
func (m Message) Metadata() (Metadata, error) {
	d := decoder{b: m.Raw}
	md := d.metadata()
	return md, d.err
}

// Timestamp of the message.
func (m Message) Timestamp() Timestamp {
	d := decoder{b: m.Time}
	return d.timestamp("metadata timestamp")
}

// ScanMetadata checks a Metadata that stands alone and returns it as a Message without
// data, whose slices alias b.
func ScanMetadata(b []byte) (Message, error) {
	d := decoder{b: b}
	m := d.message(false)
	return m, d.end()
}

// plainParameters are those of a message without parameters of its user's: one, that
// says that the payload is an Arrow stream.
var plainParameters = AppendMetadata(nil, Metadata{Parameters: map[string]Parameter{
	ParamFraming: {Kind: String, Str: "arrow-ipc"}}})[1+1+16:]

// AppendPlainMetadata is AppendMetadata for a message with Arrow data and no parameters.
func AppendPlainMetadata(dst []byte, t Timestamp) []byte {
	return append(AppendTimestamp(append(dst, MetadataVersion), t), plainParameters...)
}

// PlainMetadata reads what AppendPlainMetadata writes; ok is false for everything else.
func PlainMetadata(b []byte) (t Timestamp, ok bool) {
	n := len(b) - len(plainParameters)
	if n < 2 || b[0] != MetadataVersion || string(b[n:]) != string(plainParameters) {
		return t, false
	}
	d := decoder{b: b[1:n]}
	t = d.timestamp("metadata timestamp")
	return t, d.end() == nil
}

// PlainReader is PlainMetadata for messages of one sender: their metadata mostly differ in
// the time alone, and that is known. The zero value is ready. It is used by one goroutine.
type PlainReader struct {
	id   [16]byte
	rest []byte // what follows the time
}

// Read reads metadata with the time at.
func (p *PlainReader) Read(b []byte, at uint64) (Timestamp, bool) {
	if len(p.rest) > 0 && len(b) > len(p.rest) && string(b[len(b)-len(p.rest):]) == string(p.rest) &&
		len(b) == 1+uvarintLength(at)+len(p.rest) && b[0] == MetadataVersion {
		return Timestamp{Time: at, ID: p.id}, true
	}
	t, ok := PlainMetadata(b)
	if ok && t.Time == at {
		p.id = t.ID
		p.rest = append(p.rest[:0], b[1+uvarintLength(at):]...)
	}
	return t, ok
}

// uvarintLength is how many bytes a number takes.
func uvarintLength(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// AppendDataHead encodes what stands between a Metadata and a payload of the given length
// in bytes (0: no data) in the Raw form of a Message.
func AppendDataHead(dst []byte, payload int) []byte {
	if payload == 0 {
		return append(dst, 0)
	}
	return binary.AppendUvarint(append(dst, 1, 0), uint64(payload))
}

// DecodeMetadata reads a Metadata that stands alone, as in the attachment of a sample.
func DecodeMetadata(b []byte) (Metadata, error) {
	d := decoder{b: b}
	m := d.metadata()
	return m, d.end()
}

func (d *decoder) metadata() Metadata {
	var m Metadata
	if v := d.u16("metadata version"); d.err == nil && v != MetadataVersion {
		d.fail("metadata version %d instead of %d", v, MetadataVersion)
	}
	m.Time = d.timestamp("metadata timestamp")
	n := d.count("metadata parameters", 3)
	if n > 0 {
		m.Parameters = make(map[string]Parameter, min(n, 64))
	}
	for i := 0; i < n && d.err == nil; i++ {
		key := d.string("parameter name")
		m.Parameters[key] = d.parameter()
	}
	return m
}

func (d *decoder) parameter() Parameter {
	p := Parameter{Kind: ParameterKind(d.tag("parameter type"))}
	switch p.Kind {
	case Bool:
		p.Bool = d.bool("parameter")
	case Integer:
		p.Int = d.i64("parameter")
	case String:
		p.Str = d.string("parameter")
	case ListInt:
		n := d.count("parameter", 1)
		p.Ints = make([]int64, 0, min(n, 512))
		for i := 0; i < n && d.err == nil; i++ {
			p.Ints = append(p.Ints, d.i64("parameter"))
		}
	case Float:
		p.Float = d.f64("parameter")
	case ListFloat:
		n := d.count("parameter", 8)
		p.Floats = make([]float64, n)
		for i := range p.Floats {
			p.Floats[i] = d.f64("parameter")
		}
	case ListString:
		p.Strings = d.strings("parameter")
	case Time:
		s := d.text("parameter")
		t, err := parseTime(s)
		if err != nil {
			d.fail("parameter is not a UTC time")
		}
		p.Time = t
	default:
		d.fail("unknown parameter type %d", p.Kind)
	}
	return p
}

// parseTime reads a time as official nodes write it. They can write a leap second
// (":60"), which becomes the first instant of the next minute, as in Unix time.
func parseTime(s []byte) (time.Time, error) {
	leap := time.Duration(0)
	text := string(s)
	if len(text) > 19 && text[17:19] == "60" {
		text = text[:17] + "59" + text[19:]
		leap = time.Second
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, err
	}
	return t.Add(leap).UTC(), nil
}

// timeFormat is RFC 3339 in UTC with none, three, six or nine digits of a second, which
// is what official nodes write and read.
func timeFormat(t time.Time) string {
	t = t.UTC()
	switch ns := t.Nanosecond(); {
	case ns == 0:
		return t.Format("2006-01-02T15:04:05Z")
	case ns%1e6 == 0:
		return t.Format("2006-01-02T15:04:05.000Z")
	case ns%1e3 == 0:
		return t.Format("2006-01-02T15:04:05.000000Z")
	}
	return t.Format("2006-01-02T15:04:05.000000000Z")
}

// AppendMetadata encodes m. Parameters are written in ascending order of their names. A
// parameter of an unknown kind is an error of the caller and is left out.
func AppendMetadata(dst []byte, m Metadata) []byte {
	dst = append(dst, MetadataVersion)
	dst = AppendTimestamp(dst, m.Time)
	keys := make([]string, 0, len(m.Parameters))
	for k, p := range m.Parameters {
		if p.Kind <= Time {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for _, k := range keys {
		dst = appendText(dst, k)
		dst = appendParameter(dst, m.Parameters[k])
	}
	return dst
}

func appendParameter(dst []byte, p Parameter) []byte {
	dst = append(dst, byte(p.Kind))
	switch p.Kind {
	case Bool:
		return appendBool(dst, p.Bool)
	case Integer:
		return binary.AppendVarint(dst, p.Int)
	case String:
		return appendText(dst, p.Str)
	case ListInt:
		dst = binary.AppendUvarint(dst, uint64(len(p.Ints)))
		for _, v := range p.Ints {
			dst = binary.AppendVarint(dst, v)
		}
		return dst
	case Float:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(p.Float))
	case ListFloat:
		dst = binary.AppendUvarint(dst, uint64(len(p.Floats)))
		for _, v := range p.Floats {
			dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
		}
		return dst
	case ListString:
		return appendStrings(dst, p.Strings)
	}
	return appendText(dst, timeFormat(p.Time))
}

// String renders the value for people.
func (p Parameter) String() string {
	switch p.Kind {
	case Bool:
		return fmt.Sprint(p.Bool)
	case Integer:
		return fmt.Sprint(p.Int)
	case String:
		return p.Str
	case ListInt:
		return fmt.Sprint(p.Ints)
	case Float:
		return fmt.Sprint(p.Float)
	case ListFloat:
		return fmt.Sprint(p.Floats)
	case ListString:
		return fmt.Sprintf("%q", p.Strings)
	case Time:
		return timeFormat(p.Time)
	}
	return fmt.Sprintf("parameter of unknown kind %d", p.Kind)
}

// AppendMessage encodes metadata and, unless payload is nil, data: the Raw form of a
// Message.
func AppendMessage(dst []byte, m Metadata, payload []byte) []byte {
	dst = AppendMetadata(dst, m)
	if payload == nil {
		return append(dst, 0)
	}
	dst = append(dst, 1, 0)
	return appendBytes(dst, payload)
}
