package journal

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
)

// TestChecker feeds records that are whole one by one but not as a journal: what a lost
// table, a lost end or a misplaced file leaves. "a1@3" is event 1 of stream a at
// position 3; "a4@5-2" is a summary that stands for events 1 to 2.
func TestChecker(t *testing.T) {
	for _, tc := range []struct {
		name, records string
		head          uint64
		want          []string // parts of the damages, in order
	}{
		{"nothing", "", 0, nil},
		{"whole", "a1@1 b1@2 a2@3 a3@4", 4, nil},
		{"a hole in a stream", "a1@1 b1@2 a3@4 b2@5", 5, []string{`events 2 to 2 of stream "a" are missing (before position 4)`}},
		{"two holes", "a2@2 b1@3 b4@6", 6, []string{`events 1 to 1 of stream "a"`, `events 2 to 3 of stream "b"`}},
		{"the beginning is gone", "a3@3", 3, []string{`events 1 to 2 of stream "a"`}},
		{"the end is gone", "a1@1 b1@2", 4, []string{"2 events are missing altogether, none is found at position 3; the journal ends at 4"}},
		{"the end of one stream is gone", "a1@1 b1@3", 3, []string{"1 events are missing altogether, none is found at position 2"}},
		{"a whole stream is gone", "a1@1 a2@2 a3@5", 5, []string{"2 events are missing altogether, none is found at position 3"}},
		{"everything is gone", "", 7, []string{"7 events are missing altogether, none is found at position 1"}},
		{"a hole and an end", "a1@1 a3@3", 5, []string{`events 2 to 2 of stream "a"`, "3 events are missing altogether"}},
		{"an event twice", "a1@1 a1@2 a2@3", 3, []string{"holds event 1 of stream \"a\" a second time", "1 events are missing"}},
		{"positions fall", "a1@2 a2@1", 2, []string{"holds event 1 after event 2", "1 events are missing"}},
		{"more than the head says", "a1@1 a2@2", 1, []string{"there is an event at position 2, the journal ends at 1"}},
		{"more events than positions", "a1@1 b7@2-6", 2, []string{"streams count 8 events, the journal has 2 positions"}},
		{"removed by retention", "b1@3 a3@4 a4@5-2", 5, nil},
		{"all but the summary removed", "a4@5-3 b1@6", 6, []string{"1 events are missing altogether"}},
		{"removal was interrupted", "a1@1 a2@2 a3@3 a4@4-2", 4, nil},
		{"removal was interrupted in the middle", "a2@2 a3@3 a4@4-2", 4, nil},
		{"more is gone than was summarized", "a4@4 a5@5-2", 5, []string{`events 1 to 3 of stream "a"`}},
		{"a hole within what was summarized", "a1@1 a3@3 a4@4 a5@5-3", 5, nil},
	} {
		at := ""
		c := newChecker(func() string { return at })
		for _, at = range strings.Fields(tc.records) {
			env := parseRecord(t, at)
			c.event(&env)
		}
		damages := c.finish(tc.head)
		if len(damages) != len(tc.want) {
			t.Errorf("%s: %d damages, want %d: %v", tc.name, len(damages), len(tc.want), damages)
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(damages[i].Error(), want) || !errors.Is(damages[i], ErrDamaged) {
				t.Errorf("%s: damage %d is %q, want %q", tc.name, i, damages[i], want)
			}
		}
	}
}

func parseRecord(t *testing.T, text string) events.Envelope {
	t.Helper()
	env := events.Envelope{Stream: text[:1], Type: "DaemonStopped", Version: 1, Data: []byte("{}")}
	var upTo uint64
	n, _ := fmt.Sscanf(text[1:], "%d@%d-%d", &env.Seq, &env.Pos, &upTo)
	if n < 2 {
		t.Fatalf("record %q", text)
	}
	if n == 3 {
		sum, err := events.Seal(events.HistorySummarized{FirstSeq: 1, LastSeq: upTo}, events.Meta{At: time.Unix(1, 0)})
		if err != nil {
			t.Fatal(err)
		}
		env.Type, env.Data = sum.Type, sum.Data
	}
	return env
}

// TestManyDamagesAreCounted: a report of a lost disk stays readable.
func TestManyDamagesAreCounted(t *testing.T) {
	c := newChecker(func() string { return "here" })
	for i := range uint64(500) {
		env := parseRecord(t, fmt.Sprintf("a1@%d", 500-i))
		c.event(&env)
	}
	damages := c.finish(500)
	if len(damages) != maxDamages+1 || !strings.Contains(damages[maxDamages].Error(), "450 more damages") {
		t.Errorf("%d damages, the last is %v", len(damages), damages[len(damages)-1])
	}
}
