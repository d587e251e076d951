package nodewire

import (
	"encoding/binary"
	"fmt"
)

// RequestKind says what a node asks for. The values are the wire tags, in the order of
// the protocol.
type RequestKind uint8

const (
	Register RequestKind = iota // first on every connection; answered by Result
	// Subscribe is answered by Result once the start barrier opens or fails.
	Subscribe
	SendMessage        // not answered
	OutputSent         // a message went by the direct path; not answered
	CloseOutputs       // Result
	OutputsDone        // Result
	NextEvent          // Events, when there is one
	EventStreamDropped // Result
	GetConfig          // dynamic nodes, local listen port only; answered in JSON
	ExtensionStore     // Result
	ExtensionLoad      // Value
	ExtensionDrop      // Result
	ExtensionRequest   // Extension, or Result with an error
)

var requestNames = [...]string{"Register", "Subscribe", "SendMessage", "OutputSent", "CloseOutputs", "OutputsDone",
	"NextEvent", "EventStreamDropped", "NodeConfig", "ExtensionStore", "ExtensionLoad", "ExtensionDrop", "ExtensionRequest"}

func (k RequestKind) String() string {
	if int(k) < len(requestNames) {
		return requestNames[k]
	}
	return fmt.Sprintf("unknown request %d", uint8(k))
}

// Answered says whether a request of this kind gets a (binary) reply.
func (k RequestKind) Answered() bool {
	return k != SendMessage && k != OutputSent && k != GetConfig
}

// Request is one request of a node with the reading of its clock. Which fields are set
// depends on Kind; after DecodeRequest all byte slices alias the frame.
type Request struct {
	Kind RequestKind
	Time Timestamp

	// Register; Node also for GetConfig.
	Dataflow        UUID
	Node            string
	Version         string
	MetadataVersion uint16

	// SendMessage, OutputSent (its Message has no data).
	Output  []byte
	Message Message

	// CloseOutputs.
	Outputs []string

	// Extension...; Payload is the value stored or the request sent.
	Namespace string
	Key       string
	Payload   []byte
	Remove    bool
}

// DecodeRequest reads the body of a frame from a node.
func DecodeRequest(frame []byte) (Request, error) {
	d := decoder{b: frame}
	var r Request
	tag := d.tag("request")
	if d.err == nil && tag > uint32(ExtensionRequest) {
		d.fail("unknown request %d (is the node newer than dora %s?)", tag, ProtocolVersion)
	}
	r.Kind = RequestKind(tag)
	if d.err == nil {
		d.requestBody(&r)
	}
	r.Time = d.timestamp("request timestamp")
	if err := d.end(); err != nil {
		return Request{}, err
	}
	return r, nil
}

func (d *decoder) requestBody(r *Request) {
	switch r.Kind {
	case Register:
		if n := d.varint("dataflow id", 1<<16-1); d.err == nil && n != 16 {
			d.fail("dataflow id has %d bytes instead of 16", n)
		}
		copy(r.Dataflow[:], d.take("dataflow id", 16))
		r.Node = d.string("node id")
		r.Version = d.string("dora version")
		r.MetadataVersion = d.u16("metadata version")
	case SendMessage:
		r.Output = d.text("output id")
		r.Message = d.message(true)
	case OutputSent:
		r.Output = d.text("output id")
		r.Message = d.message(false)
	case CloseOutputs:
		r.Outputs = d.strings("output ids")
	case GetConfig:
		r.Node = d.string("node id")
	case ExtensionStore:
		r.Namespace = d.string("namespace")
		r.Key = d.string("key")
		r.Payload = d.bytes("value")
	case ExtensionLoad:
		r.Namespace = d.string("namespace")
		r.Key = d.string("key")
		r.Remove = d.bool("remove")
	case ExtensionDrop:
		r.Namespace = d.string("namespace")
		r.Key = d.string("key")
	case ExtensionRequest:
		r.Namespace = d.string("namespace")
		r.Payload = d.bytes("payload")
	}
}

// AppendRequest encodes r (the node's side). Of a SendMessage, Message.Raw is written as
// it is: see AppendMessage, or AppendSendHead for large payloads.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = append(dst, byte(r.Kind))
	switch r.Kind {
	case Register:
		dst = append(dst, 16)
		dst = append(dst, r.Dataflow[:]...)
		dst = appendText(dst, r.Node)
		dst = appendText(dst, r.Version)
		dst = binary.AppendUvarint(dst, uint64(r.MetadataVersion))
	case SendMessage, OutputSent:
		dst = appendBytes(dst, r.Output)
		dst = append(dst, r.Message.Raw...)
	case CloseOutputs:
		dst = appendStrings(dst, r.Outputs)
	case GetConfig:
		dst = appendText(dst, r.Node)
	case ExtensionStore:
		dst = appendText(dst, r.Namespace)
		dst = appendText(dst, r.Key)
		dst = appendBytes(dst, r.Payload)
	case ExtensionLoad:
		dst = appendText(dst, r.Namespace)
		dst = appendText(dst, r.Key)
		dst = appendBool(dst, r.Remove)
	case ExtensionDrop:
		dst = appendText(dst, r.Namespace)
		dst = appendText(dst, r.Key)
	case ExtensionRequest:
		dst = appendText(dst, r.Namespace)
		dst = appendBytes(dst, r.Payload)
	}
	return AppendTimestamp(dst, r.Time)
}

// AppendSendHead encodes a SendMessage up to its payload of the given length in bytes
// (negative: no data). The body of the frame is then this, the payload, and an
// AppendTimestamp: Conn.Write sends the three without joining them.
func AppendSendHead(dst []byte, output string, m Metadata, payload int) []byte {
	dst = append(dst, byte(SendMessage))
	dst = appendText(dst, output)
	dst = AppendMetadata(dst, m)
	if payload < 0 {
		return append(dst, 0)
	}
	dst = append(dst, 1, 0)
	return binary.AppendUvarint(dst, uint64(payload))
}

// NewRegister is the request that opens every connection of a Go node.
func NewRegister(dataflow UUID, node string, at Timestamp) *Request {
	return &Request{Kind: Register, Time: at, Dataflow: dataflow, Node: node,
		Version: GoVersion, MetadataVersion: MetadataVersion}
}
