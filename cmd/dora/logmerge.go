package main

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dora-go/dora/shim/nodelog"
	"github.com/dora-go/dora/transport/link"
	"github.com/dora-go/dora/transport/ws"
)

// parseLogFileLine reads both known schemas: ts/level/node/stream/msg and
// timestamp/level/node_id/message. Anything else is shown raw, attributed to the node
// whose file it stands in.
func parseLogFileLine(node, raw string) *link.LogLine {
	if l, ok := nodelog.ReadLine(raw); ok && slices.Contains(logLevels, l.Level) && l.Stream != "" {
		l.Node = node
		return &l
	}
	return parseAnyLogLine(node, raw)
}

func parseAnyLogLine(node, raw string) *link.LogLine {
	var j struct {
		TS        string                     `json:"ts"`
		Timestamp string                     `json:"timestamp"`
		Level     string                     `json:"level"`
		Stream    string                     `json:"stream"`
		Msg       *string                    `json:"msg"`
		Message   *string                    `json:"message"`
		Target    string                     `json:"target"`
		Module    string                     `json:"module_path"`
		File      string                     `json:"file"`
		Line      int                        `json:"line"`
		Fields    map[string]json.RawMessage `json:"fields"`
	}
	l := &link.LogLine{Node: node, Level: "stdout", Stream: "stdout", Message: strings.TrimRight(raw, "\r\n")}
	if json.Unmarshal([]byte(raw), &j) != nil || (j.Msg == nil && j.Message == nil) {
		return l
	}
	if j.TS == "" {
		j.TS = j.Timestamp
	}
	if at, err := time.Parse(time.RFC3339Nano, j.TS); err == nil {
		l.At = at
	}
	if j.Msg == nil {
		j.Msg = j.Message
	}
	l.Message, l.Target, l.Module, l.File, l.Line = *j.Msg, j.Target, j.Module, j.File, j.Line
	if level := strings.ToLower(j.Level); slices.Contains(logLevels, level) {
		l.Level = level
	}
	if j.Stream != "" {
		l.Stream = j.Stream
	}
	if len(j.Fields) > 0 {
		l.Fields = make(map[string]string, len(j.Fields))
		for k, v := range j.Fields {
			var s string
			if json.Unmarshal(v, &s) != nil {
				s = string(v)
			}
			l.Fields[k] = s
		}
	}
	return l
}

// mergedLogs yields the lines of several nodes in order of time, also where the clock was
// set back; lines of one node keep their order.
type mergedLogs struct {
	readers []*logReader
	heads   headHeap                // whose next line is known
	ask     []*logReader            // whose is not
	dry     []*logReader            // had none
	from    map[string]ws.LogCursor // where a node that is added begins
	cursor  map[string]ws.LogCursor // behind the lines returned
	raw     string                  // the line returned last
	// caughtUp: the last page had all there was.
	caughtUp bool
}

// headHeap has the reader with the oldest line first.
type headHeap []*logReader

func (h headHeap) Len() int      { return len(h) }
func (h headHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h headHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].turn, h[j].turn), h[i].head.At.Compare(h[j].head.At), h[i].index-h[j].index) < 0
}
func (h *headHeap) Push(x any) { *h = append(*h, x.(*logReader)) }
func (h *headHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newMergedLogs(dir string, nodes []string) *mergedLogs {
	m := &mergedLogs{cursor: map[string]ws.LogCursor{}}
	for _, n := range nodes {
		m.add(dir, n)
	}
	return m
}

func (m *mergedLogs) add(dir, node string) {
	for _, r := range m.readers {
		if r.node == node {
			return
		}
	}
	r := &logReader{dir: dir, node: node, index: len(m.readers)}
	if at, ok := m.from[node]; ok {
		_ = r.resume(at)
		m.cursor[node] = at
	}
	m.readers, m.ask = append(m.readers, r), append(m.ask, r)
}

// next returns the oldest line at hand, or io.EOF when there is none. A node that had none
// is asked again only after that: asking costs more than reading a line.
func (m *mergedLogs) next() (*link.LogLine, error) {
	for len(m.ask) > 0 {
		r := m.ask[len(m.ask)-1]
		line, err := r.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		m.ask = m.ask[:len(m.ask)-1]
		if err != nil {
			m.dry = append(m.dry, r)
			continue
		}
		r.head = line
		heap.Push(&m.heads, r)
	}
	if len(m.heads) == 0 {
		m.ask, m.dry = m.dry, m.ask
		return nil, io.EOF
	}
	r := heap.Pop(&m.heads).(*logReader)
	line := r.head
	r.head = nil
	m.ask = append(m.ask, r)
	m.raw, m.cursor[r.node] = r.raw, r.at
	return line, nil
}

func (m *mergedLogs) close() {
	for _, r := range m.readers {
		r.close()
	}
}
