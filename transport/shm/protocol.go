package shm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// The control protocol: one JSON object per datagram of a SOCK_SEQPACKET Unix socket,
// with file descriptors beside it. The node speaks first.
//
//	node                                  supervisor
//	hello     version, token          →
//	                                  ←   welcome   version, node, incarnation, arena_limit, send_timeout_ms [bell]
//	                                  ←   edge      edge, role, ... [edge, bell of the other end], any number
//	                                  ←   ready     all edges of this moment were sent
//	attached  edge                    →             mapped, in use
//	                                  ←   edge, gone, retired at any time
//	announce  req, size, foreign, exportable [segment] →
//	                                                foreign: in the supervisor's process only;
//	                                                exportable: with an edge with export only
//	                                  ←   segment   req, segment
//	resolve   req, edge, segment      →
//	                                  ←   segment   req, segment, size, foreign, exportable [segment]
//	                                  ←   refused   req, error
//	retire    segment                 →             nobody refers to it any more
//	                                  ←   retired   segment, member: unmap it
//	drained   edge, reason, held      →             read to its end, or not wanted; with held,
//	                                                messages of it are not back yet, and it comes
//	                                                again when they are
//	broken    edge, error             →             the other end does not keep the rules
//	                                  ←   gone      edge, held: take back what it holds, forget it;
//	                                                with held, only send nothing more
//	                                  ←   heir      edge [bell]: another process takes over the
//	                                                other end
//	handed    edge                    →             what the one before held was taken back
//	                                  ←   notice    notice, inputs, waits: see Member.Tell
//
// The end of the connection is the end of the process for the supervisor: it marks the
// edges, rings the neighbours' bells and has them sweep.
const (
	protocolVersion = 2
	maxPacket       = 64 << 10
	maxNotice       = 24 << 10 // bytes of a notice
	maxPacketFDs    = 4
)

type kind string

const (
	kindHello    kind = "hello"
	kindWelcome  kind = "welcome"
	kindReady    kind = "ready"
	kindEdge     kind = "edge"
	kindAttached kind = "attached"
	kindGone     kind = "gone"
	kindAnnounce kind = "announce"
	kindResolve  kind = "resolve"
	kindSegment  kind = "segment"
	kindRefused  kind = "refused"
	kindRetire   kind = "retire"
	kindRetired  kind = "retired"
	kindDrained  kind = "drained"
	kindBroken   kind = "broken"
	kindNotice   kind = "notice"
	kindHeir     kind = "heir"
	kindHanded   kind = "handed"
)

// Roles in an edge message.
const (
	roleOut = "out" // the receiver of the message sends on this edge
	roleIn  = "in"
)

// packet is every message of the protocol; which fields count depends on the kind.
type packet struct {
	Kind    kind     `json:"kind"`
	Version int      `json:"version,omitempty"`
	Token   string   `json:"token,omitempty"`
	Req     uint64   `json:"req,omitempty"`
	Error   string   `json:"error,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Edge    EdgeID   `json:"edge,omitempty"`
	Segment uint32   `json:"segment,omitempty"`
	Size    int64    `json:"size,omitempty"`
	Foreign bool     `json:"foreign,omitempty"`
	Member  MemberID `json:"member,omitempty"`
	// A node that does not know Export sends from sealed memory, as one does whose
	// supervisor does not.
	Exportable bool `json:"exportable,omitempty"`
	// A supervisor or node that does not know Held takes messages back early.
	Held   bool  `json:"held,omitempty"`
	Export int64 `json:"export,omitempty"`

	Node          string `json:"node,omitempty"`
	Incarnation   uint32 `json:"incarnation,omitempty"`
	ArenaLimit    int64  `json:"arena_limit,omitempty"`
	SendTimeoutMS int64  `json:"send_timeout_ms,omitempty"`

	Role     string    `json:"role,omitempty"`
	Output   string    `json:"output,omitempty"`
	Input    string    `json:"input,omitempty"`
	Policy   Policy    `json:"policy,omitempty"`
	Tap      bool      `json:"tap,omitempty"`
	Geometry *geometry `json:"geometry,omitempty"`

	Notice []byte   `json:"notice,omitempty"`
	Inputs []string `json:"inputs,omitempty"`
	Waits  []waits  `json:"waits,omitempty"`
}

// waits says how much of an edge comes before a notice.
type waits struct {
	Edge  EdgeID `json:"edge"`
	Until uint64 `json:"until"` // entries
}

// rule is what a kind needs.
type rule struct {
	fds                                int
	fromNode                           bool
	req, edge, segment, size, geometry bool
}

// rules of every kind but segment, whose descriptor depends on the question.
var rules = map[kind]rule{
	kindHello:    {fromNode: true},
	kindAttached: {fromNode: true, edge: true},
	kindAnnounce: {fromNode: true, req: true, size: true, fds: 1},
	kindResolve:  {fromNode: true, req: true, edge: true, segment: true},
	kindRetire:   {fromNode: true, segment: true},
	kindDrained:  {fromNode: true, edge: true},
	kindBroken:   {fromNode: true, edge: true},
	kindWelcome:  {fds: 1},
	kindReady:    {},
	kindEdge:     {fds: 2, edge: true, geometry: true},
	kindGone:     {edge: true},
	kindNotice:   {},
	kindHeir:     {edge: true, fds: 1},
	kindHanded:   {fromNode: true, edge: true},
	kindSegment:  {req: true, segment: true},
	kindRefused:  {},
	kindRetired:  {segment: true},
}

// decodePacket reads one datagram. fds is how many file descriptors came with it.
func decodePacket(b []byte, fds int, fromNode bool) (*packet, error) {
	if len(b) > maxPacket {
		return nil, fmt.Errorf("a control message of %d bytes; at most %d are allowed", len(b), maxPacket)
	}
	p := new(packet)
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("a control message that is not JSON: %w", err)
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(b, " \n\r\t"))) {
		return nil, errors.New("a control message with something behind its JSON object")
	}
	return p, p.check(fds, fromNode)
}

func (p *packet) check(fds int, fromNode bool) error {
	r, ok := rules[p.Kind]
	if !ok || r.fromNode != fromNode {
		return fmt.Errorf("an unexpected control message %.40q", p.Kind)
	}
	if p.Kind == kindSegment && p.Size != 0 {
		r.fds = 1
	}
	bad := ""
	switch {
	case fds != r.fds:
		return fmt.Errorf("control message %s with %d file descriptors; it has %d", p.Kind, fds, r.fds)
	case r.req && p.Req == 0:
		bad = "req"
	case r.edge && p.Edge == 0:
		bad = "edge"
	case r.segment && p.Segment == 0:
		bad = "segment"
	case r.size && (p.Size < 1 || p.Size > maxSegment):
		bad = "size"
	case p.Size < 0 || p.Size > maxSegment:
		bad = "size"
	case p.Export < 0 || p.Exportable && p.Foreign:
		bad = "export"
	case p.ArenaLimit < 0:
		bad = "arena_limit"
	case p.SendTimeoutMS < 0:
		bad = "send_timeout_ms"
	case r.geometry && p.Geometry == nil:
		bad = "geometry"
	case p.Kind == kindEdge && p.Role != roleOut && p.Role != roleIn:
		bad = "role"
	case p.Policy > Backpressure:
		bad = "policy"
	case max(len(p.Node), len(p.Output), len(p.Input), len(p.Token), len(p.Error), len(p.Reason)) > maxName:
		bad = "length of a name"
	}
	if bad != "" {
		return fmt.Errorf("control message %s with a bad %s", p.Kind, bad)
	}
	if p.Geometry != nil {
		return p.Geometry.check()
	}
	return nil
}

// memory that an announce or segment message speaks of.
func (p *packet) memory() memory {
	switch {
	case p.Foreign:
		return foreign
	case p.Exportable:
		return exportable
	}
	return sealed
}

func (p *packet) encode() ([]byte, error) {
	if len(p.Error) > maxName {
		p.Error = p.Error[:maxName]
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("write a control message: %w", err)
	}
	if len(b) > maxPacket {
		return nil, fmt.Errorf("write a control message: %d bytes; at most %d are allowed", len(b), maxPacket)
	}
	return b, nil
}

// spec of the edge that an edge message speaks of.
func (p *packet) spec() edgeSpec {
	return edgeSpec{
		ID: p.Edge, Output: p.Output, Input: p.Input,
		Peer: p.Node, PeerIncarnation: p.Incarnation, PeerMember: p.Member,
		Geometry: *p.Geometry, Policy: p.Policy, Tap: p.Tap, Export: p.Export,
	}
}
