package events

import (
	"encoding/json"
	"time"
)

// Envelope is an event as it stands in a journal.
type Envelope struct {
	// Pos is the position in the whole journal, from 1 without a gap.
	Pos uint64 `json:"pos"`
	// Stream and Seq: the position in the stream, from 1 without a gap.
	Stream  string `json:"stream"`
	Seq     uint64 `json:"seq"`
	Type    string `json:"type"`
	Version int    `json:"version"`
	// At is the wall clock of the writer, HLC the hybrid logical clock as NTP64.
	At  time.Time `json:"at"`
	HLC uint64    `json:"hlc,omitempty"`
	// Epoch of the writer (raised by every DaemonStarted).
	Epoch uint64 `json:"epoch"`
	// Command is the id of the command that led to it, Cause a short text.
	Command string `json:"command,omitempty"`
	Cause   string `json:"cause,omitempty"`
	Trace   string `json:"trace,omitempty"`
	// SourceSeq numbers the shim's fact that it was made from; the actor that keeps the
	// cursor refuses to append the same fact twice.
	SourceSeq uint64          `json:"source_seq,omitempty"`
	Data      json.RawMessage `json:"data"`
}
