package nodewire

import (
	"encoding/binary"
	"fmt"
)

// EventKind says what a node is told. The values are the wire tags.
type EventKind uint8

const (
	Stop             EventKind = iota
	Reload                     // Operator, may be empty
	Input                      // ID, Message
	InputClosed                // ID
	InputRecovered             // ID
	NodeRestarted              // Node
	AllInputsClosed            // no input is left; the node should end
	ParamUpdate                // Key, Value (JSON)
	ParamDeleted               // Key
	NodeFailed                 // Inputs, Error, Node
	ExtensionDropped           // Namespace, Key
)

var eventNames = [...]string{"Stop", "Reload", "Input", "InputClosed", "InputRecovered", "NodeRestarted",
	"AllInputsClosed", "ParamUpdate", "ParamDeleted", "NodeFailed", "ExtensionDropped"}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return fmt.Sprintf("unknown event %d", uint8(k))
}

// Event is one event for a node. Which fields are set depends on Kind; after DecodeReply
// Message and Value alias the frame.
type Event struct {
	Kind EventKind
	Time Timestamp

	ID        string // of the input
	Node      string // that restarted or failed
	Message   Message
	Operator  string
	Key       string
	Value     []byte
	Inputs    []string
	Error     string
	Namespace string
}

// AppendEvent encodes e with its timestamp, as it stands in the list of an Events reply.
func AppendEvent(dst []byte, e *Event) []byte {
	dst = append(dst, byte(e.Kind))
	switch e.Kind {
	case Reload:
		dst = appendBool(dst, e.Operator != "")
		if e.Operator != "" {
			dst = appendText(dst, e.Operator)
		}
	case Input:
		dst = appendText(dst, e.ID)
		dst = append(dst, e.Message.Raw...)
	case InputClosed, InputRecovered:
		dst = appendText(dst, e.ID)
	case NodeRestarted:
		dst = appendText(dst, e.Node)
	case ParamUpdate:
		dst = appendText(dst, e.Key)
		dst = appendBytes(dst, e.Value)
	case ParamDeleted:
		dst = appendText(dst, e.Key)
	case NodeFailed:
		dst = appendStrings(dst, e.Inputs)
		dst = appendText(dst, e.Error)
		dst = appendText(dst, e.Node)
	case ExtensionDropped:
		dst = appendText(dst, e.Namespace)
		dst = appendText(dst, e.Key)
	}
	return AppendTimestamp(dst, e.Time)
}

// AppendInputHead encodes an Input event up to its message. The event is then this, a
// Message.Raw and that message's Time.
func AppendInputHead(dst []byte, input string) []byte {
	dst = append(dst, byte(Input))
	return appendText(dst, input)
}

func (d *decoder) event() Event {
	var e Event
	tag := d.tag("event")
	if d.err == nil && tag > uint32(ExtensionDropped) {
		d.fail("unknown event %d", tag)
	}
	if d.err != nil {
		return e
	}
	e.Kind = EventKind(tag)
	switch e.Kind {
	case Reload:
		if d.option("operator id") {
			e.Operator = d.string("operator id")
		}
	case Input:
		e.ID = d.string("input id")
		e.Message = d.message(true)
	case InputClosed, InputRecovered:
		e.ID = d.string("input id")
	case NodeRestarted:
		e.Node = d.string("node id")
	case ParamUpdate:
		e.Key = d.string("parameter key")
		e.Value = d.bytes("parameter value")
	case ParamDeleted:
		e.Key = d.string("parameter key")
	case NodeFailed:
		e.Inputs = d.strings("input ids")
		e.Error = d.string("error")
		e.Node = d.string("node id")
	case ExtensionDropped:
		e.Namespace = d.string("namespace")
		e.Key = d.string("key")
	}
	e.Time = d.timestamp("event timestamp")
	return e
}

// DecodeEvent reads one event that stands alone. The result aliases b.
func DecodeEvent(b []byte) (Event, error) {
	d := decoder{b: b}
	e := d.event()
	return e, d.end()
}

// ReplyKind says how a request was answered. The values are the wire tags.
type ReplyKind uint8

const (
	Result    ReplyKind = 0 // Error is empty on success
	Events    ReplyKind = 1
	Value     ReplyKind = 3
	Extension ReplyKind = 5
)

// Reply answers one request. Replies carry no timestamp.
type Reply struct {
	Kind   ReplyKind
	Failed bool   // Result only
	Error  string // why it failed
	Events []Event
	// Payload of Value (if Found) and Extension; aliases the frame.
	Payload []byte
	Found   bool
}

// minEvent is the shortest encoding of an event: a tag, one byte of time, a clock id.
const minEvent = 1 + 1 + 16

// DecodeReply reads the body of a frame for a node.
func DecodeReply(frame []byte) (Reply, error) {
	d := decoder{b: frame}
	tag := d.tag("reply")
	r := Reply{Kind: ReplyKind(tag)}
	switch {
	case d.err != nil:
	case tag == uint32(Result):
		if r.Failed = d.option("result"); r.Failed {
			r.Error = d.string("error")
		}
	case tag == uint32(Events):
		n := d.count("events", minEvent)
		// An Event in memory is some ten times its shortest encoding.
		r.Events = make([]Event, 0, min(n, 64))
		for i := 0; i < n && d.err == nil; i++ {
			r.Events = append(r.Events, d.event())
		}
	case tag == uint32(Value):
		if r.Found = d.option("value"); r.Found {
			r.Payload = d.bytes("value")
		}
	case tag == uint32(Extension):
		r.Payload = d.bytes("extension reply")
	default:
		d.fail("unknown reply %d", tag)
	}
	if err := d.end(); err != nil {
		return Reply{}, err
	}
	return r, nil
}

// AppendResult encodes a Result: success if reason is empty.
func AppendResult(dst []byte, reason string) []byte {
	if reason == "" {
		return append(dst, byte(Result), 0)
	}
	dst = append(dst, byte(Result), 1)
	return appendText(dst, reason)
}

// AppendEventsHead encodes an Events reply up to its n events.
func AppendEventsHead(dst []byte, n int) []byte {
	dst = append(dst, byte(Events))
	return binary.AppendUvarint(dst, uint64(n))
}

// AppendValueHead encodes a Value reply up to the value of the given length in bytes.
func AppendValueHead(dst []byte, length int, found bool) []byte {
	dst = append(dst, byte(Value))
	if !found {
		return append(dst, 0)
	}
	return binary.AppendUvarint(append(dst, 1), uint64(length))
}

// AppendValue encodes a Value reply.
func AppendValue(dst, value []byte, found bool) []byte {
	return append(AppendValueHead(dst, len(value), found), value...)
}
