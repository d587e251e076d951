package factlog

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"

	"github.com/dora-go/dora/transport/link"
)

// content is what a file holds.
type content struct {
	acked   uint64
	last    uint64
	unacked []link.Fact
	good    int64 // length of the part that could be read
}

// decode reads records until the end or the first one that is torn, damaged or out of
// order. It accepts any bytes.
func decode(data []byte) content {
	var c content
	for {
		kind, body, n := record(data[c.good:])
		if n == 0 || !c.add(kind, body) {
			return c
		}
		c.good += int64(n)
	}
}

// record splits off the first record; n is 0 if there is none that is whole and sound.
func record(b []byte) (kind byte, body []byte, n int) {
	if len(b) < headSize {
		return 0, nil, 0
	}
	size := binary.LittleEndian.Uint32(b)
	if size == 0 || size > maxRecord || int(size) > len(b)-headSize {
		return 0, nil, 0
	}
	rec := b[headSize : headSize+int(size)]
	if crc32.Checksum(rec, crcTable) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, 0
	}
	return rec[0], rec[1:], headSize + int(size)
}

func (c *content) add(kind byte, body []byte) bool {
	switch kind {
	case kindAck:
		if len(body) != 8 {
			return false
		}
		seq := binary.LittleEndian.Uint64(body)
		if seq < c.acked || (c.good > 0 && seq > c.last) {
			return false
		}
		for len(c.unacked) > 0 && c.unacked[0].Seq <= seq {
			c.unacked = c.unacked[1:]
		}
		c.acked, c.last = seq, max(c.last, seq)
		return true
	case kindFact:
		var f link.Fact
		if c.good == 0 || json.Unmarshal(body, &f) != nil || f.Seq != c.last+1 {
			return false
		}
		c.last = f.Seq
		c.unacked = append(c.unacked, f)
		return true
	default:
		return false
	}
}
