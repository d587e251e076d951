package shm

import "fmt"

// heldSegment is a duplicate of a producer's segment: receivers that come to a message
// after its sender has died get the memory from here.
type heldSegment struct {
	fd      int
	size    int64
	foreign bool
	export  *Export                  // nil: not exportable
	users   map[segmentUser]struct{} // members that asked for it
}

// segmentUser has mapped a segment for messages from a member, mostly its owner.
type segmentUser struct{ reader, from MemberID }

// announced takes a duplicate of a new segment and gives it its id.
func (m *Member) announced(p *packet, fd int) error {
	if len(m.segments) >= maxSegments {
		m.tell(&packet{Kind: kindRefused, Req: p.Req, Error: fmt.Sprintf("it has %d segments already", maxSegments)})
		return nil
	}
	if p.Foreign && !m.local {
		return fmt.Errorf("it announces memory that is not its own")
	}
	if p.Exportable && !m.mayExport {
		return fmt.Errorf("it announces memory to be handed on, which nobody asked for")
	}
	if err := p.memory().check(fd, p.Size); err != nil {
		return err
	}
	seg := &heldSegment{size: p.Size, foreign: p.Foreign, users: make(map[segmentUser]struct{})}
	var err error
	if seg.fd, err = dupFD(fd); err == nil && p.Exportable {
		if seg.export, err = m.newExport(fd, p.Size); err != nil {
			closeFD(seg.fd)
		}
	}
	if err != nil {
		m.tell(&packet{Kind: kindRefused, Req: p.Req, Error: err.Error()})
		return nil
	}
	m.s.lastSegment++
	id := m.s.lastSegment
	m.segments[id] = seg
	if seg.export != nil {
		m.s.exports[id] = seg.export
	}
	m.tell(&packet{Kind: kindSegment, Req: p.Req, Segment: id})
	return nil
}

// resolve hands out a segment to somebody who has an edge from its owner.
func (m *Member) resolve(p *packet) {
	refuse := func(format string, args ...any) {
		m.tell(&packet{Kind: kindRefused, Req: p.Req, Error: fmt.Sprintf(format, args...)})
	}
	e := m.in[p.Edge]
	if e == nil {
		refuse("edge %d does not lead here", p.Edge)
		return
	}
	owner := e.route.From
	seg := owner.segments[p.Segment]
	passed := false
	if seg == nil && m.local && e.route.Export > 0 {
		var err error
		if seg, err = m.s.passed(p.Segment); err != nil {
			refuse("%v", err)
			return
		}
		passed = seg != nil
	}
	if seg == nil {
		refuse("node %s has no such segment", owner.node)
		return
	}
	exportable := seg.export != nil && (passed || !seg.foreign)
	if exportable && !(m.local && e.route.Export > 0) {
		refuse("the segment is not for edge %d", p.Edge)
		return
	}
	seg.users[segmentUser{m.id, owner.id}] = struct{}{}
	m.tell(&packet{Kind: kindSegment, Req: p.Req, Segment: p.Segment, Size: seg.size, Foreign: seg.foreign && !passed, Exportable: exportable}, seg.fd)
}

// drop closes the duplicate of a segment and has receivers unmap theirs.
func (m *Member) drop(id uint32) {
	seg := m.segments[id]
	delete(m.segments, id)
	closeFD(seg.fd)
	if seg.export != nil {
		delete(m.s.exports, id)
		seg.export.retire()
	}
	delete(m.s.lent, id)
	for user := range seg.users {
		if u := m.s.members[user.reader]; u != nil && !u.left {
			u.tell(&packet{Kind: kindRetired, Segment: id, Member: user.from})
		}
	}
}
