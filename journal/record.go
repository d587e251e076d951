package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/dora-go/dora/events"
)

// The bytes of one event, the same in every store (little endian; uvarint and varint as
// in encoding/binary; text = uvarint length, bytes):
//
//	byte     layout of what follows: 1
//	uint64   Pos
//	uint64   Seq
//	uvarint  Version
//	uvarint  Epoch
//	varint   At: seconds since 1970, then uvarint nanoseconds
//	uvarint  HLC
//	uvarint  SourceSeq
//	text     Stream, Type, Command, Cause, Trace
//	...      Data to the end
//
// The checksum stands outside (see file.go and badger.go).
const recordLayout = 1

// recordFixed is the smallest record: layout, Pos, Seq, 6 numbers, 5 empty texts.
const recordFixed = 1 + 8 + 8 + 6 + 5

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(parts ...[]byte) uint32 {
	var c uint32
	for _, p := range parts {
		c = crc32.Update(c, castagnoli, p)
	}
	return c
}

// appendRecord encodes env behind dst.
func appendRecord(dst []byte, env *events.Envelope) []byte {
	dst = append(dst, recordLayout)
	dst = binary.LittleEndian.AppendUint64(dst, env.Pos)
	dst = binary.LittleEndian.AppendUint64(dst, env.Seq)
	dst = binary.AppendUvarint(dst, uint64(env.Version))
	dst = binary.AppendUvarint(dst, env.Epoch)
	dst = binary.AppendVarint(dst, env.At.Unix())
	dst = binary.AppendUvarint(dst, uint64(env.At.Nanosecond()))
	dst = binary.AppendUvarint(dst, env.HLC)
	dst = binary.AppendUvarint(dst, env.SourceSeq)
	for _, text := range [...]string{env.Stream, env.Type, env.Command, env.Cause, env.Trace} {
		dst = appendText(dst, text)
	}
	return append(dst, env.Data...)
}

// recordSize is an upper bound of the encoded length of env in a stream.
func recordSize(stream string, env *events.Envelope) int {
	return 1 + 8 + 8 + 6*binary.MaxVarintLen64 + 5*binary.MaxVarintLen32 +
		len(stream) + len(env.Type) + len(env.Command) + len(env.Cause) + len(env.Trace) + len(env.Data)
}

func appendText(dst []byte, text string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	return append(dst, text...)
}

// interner keeps one copy of texts that repeat (stream names, types).
type interner map[string]string

func (in interner) text(b []byte) string {
	if s, ok := in[string(b)]; ok {
		return s
	}
	s := string(b)
	if in != nil && len(in) < 4096 {
		in[s] = s
	}
	return s
}

// decodeRecord decodes the record b whole. Data of the result is a part of b; in may be
// nil.
func decodeRecord(b []byte, in interner) (events.Envelope, error) {
	var env events.Envelope
	if len(b) < recordFixed {
		return env, fmt.Errorf("a record of %d bytes is too short", len(b))
	}
	if b[0] > recordLayout {
		return env, fmt.Errorf("%w: a record has layout %d, this dora knows %d", ErrNewer, b[0], recordLayout)
	}
	if b[0] == 0 {
		return env, fmt.Errorf("a record has layout 0")
	}
	env.Pos = binary.LittleEndian.Uint64(b[1:])
	env.Seq = binary.LittleEndian.Uint64(b[9:])
	d := parser{b: b[17:]}
	version := d.uvarint("version")
	env.Epoch = d.uvarint("epoch")
	sec := d.varint("time")
	nsec := d.uvarint("time")
	env.HLC = d.uvarint("hlc")
	env.SourceSeq = d.uvarint("source sequence")
	env.Stream = in.text(d.text("stream", MaxStreamName))
	env.Type = in.text(d.text("type", MaxEventBytes))
	env.Command = string(d.text("command", MaxEventBytes))
	env.Cause = string(d.text("cause", MaxEventBytes))
	env.Trace = string(d.text("trace", MaxEventBytes))
	switch {
	case d.err != nil:
		return env, d.err
	case version < 1 || version > math.MaxInt32:
		return env, fmt.Errorf("event version %d", version)
	case nsec >= 1e9:
		return env, fmt.Errorf("a time with %d nanoseconds", nsec)
	case env.Pos == 0 || env.Seq == 0:
		return env, fmt.Errorf("position %d, sequence number %d; both start at 1", env.Pos, env.Seq)
	case env.Stream == "":
		return env, fmt.Errorf("an empty stream name")
	}
	env.Version = int(version)
	env.At = time.Unix(sec, int64(nsec)).UTC()
	env.Data = d.b
	return env, nil
}

// parser takes values from the front of b; the first error stays.
type parser struct {
	b   []byte
	err error
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = fmt.Errorf("the %s is cut or too long", what)
	}
	p.b = nil
}

func (p *parser) uvarint(what string) uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail(what)
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) varint(what string) int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.fail(what)
		return 0
	}
	p.b = p.b[n:]
	return v
}

func (p *parser) text(what string, most int) []byte {
	n := p.uvarint(what)
	if p.err != nil || n > uint64(len(p.b)) || n > uint64(most) {
		p.fail(what)
		return nil
	}
	text := p.b[:n]
	p.b = p.b[n:]
	return text
}
