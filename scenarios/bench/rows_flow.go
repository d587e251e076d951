package main

import (
	"fmt"
	"strconv"
	"time"
)

// Names of contenders among native nodes and without dora.
const (
	oursLoan    = "ours, loan"
	oursUnread  = "ours, unread"
	oursAwake   = "ours, waiting awake"
	realInPlace = "real dora, in place"
	realBig     = "real dora, 128 MiB pool"
	realDaemon  = "real dora, through its daemon"
	futexFloor  = "C futex"
	spinFloor   = "C spin"
	memcpyFloor = "C memcpy"
	// placesFloor copies to where three messages are in turn: one is written, one waits, and
	// one is with the receiver.
	placesFloor = "C memcpy, 3 places"
	sharedFloor = "C memcpy, read between"
	unixSocket  = "Unix socket, Go"
	natsPeer    = "NATS"
	iceEvent    = "iceoryx2, event"
	icePoll     = "iceoryx2, busy poll"
)

// bigPool is what a user gives the real dora's nodes who sends large messages.
const bigPool = 128 << 20

// extent is how much a row measures in one round.
type extent struct {
	short bool
}

// of takes the first figure in full, the second in the short form.
func (e extent) of(full, short int) int {
	if e.short {
		return short
	}
	return full
}

func (e extent) time(full, short time.Duration) time.Duration {
	if e.short {
		return short
	}
	return full
}

// warmPaced is how many messages come before those that are measured: while the first
// ones are under way, official nodes still find each other, and memory is touched for the
// first time.
const warmPaced = 100

// pace300 is the load of the latency rows: 300 messages per second, as a camera or a
// controller sends them. Larger ones are sent one at a time.
func pace300(bytes, count int) pace {
	return pace{bytes: bytes, every: time.Second / 300, count: count, warmUp: warmPaced, acked: bytes > 1<<20}
}

// pacedRows compare one-way latencies.
func pacedRows(w *workshop, e extent) []row {
	n, large := e.of(200, 40), e.of(12, 6)
	at16 := pace300(16<<20, large)
	at4 := pace300(4<<20, large)
	at4.warmUp, at16.warmUp = 5, 5
	return []row{
		pacedRow(w, "paced-8B", pace300(8, n), 1.0/3, 0),
		pacedRow(w, "paced-4KiB", pace300(4<<10, n), 1.0/3, 0),
		pacedRow(w, "paced-64KiB", pace300(64<<10, n), 1.0/3, 1.0/3),
		pacedRow(w, "paced-1MiB", pace300(1<<20, n), 1.0/2, 1.0/3),
		pacedRow(w, "paced-4MiB", at4, 0, 0),
		pacedRow(w, "paced-16MiB", at16, 1.0/20, 1.0/3),
	}
}

// futexSlack is what 8 B may take beyond a paced futex in C, in microseconds.
const futexSlack = 15

// pacedRow: limit is for the copy against the default pool, inPlace for the loan against
// the real dora's own way to build a message in shared memory.
func pacedRow(w *workshop, name string, p pace, limit, inPlace float64) row {
	r := row{name: name, load: "native nodes, one way, " + p.String(), unit: "us", prepare: w.prepareFlows}
	slower := func() row { return pacedRow(w, name, p.slower(), limit, inPlace) }
	r.slower = slower
	large := p.bytes > 1<<20
	r.contenders = func() []contender {
		out := []contender{
			{ours, w.latency(w.oursFlow(), p, 1)},
			{realDora, w.latency(w.realFlow(), p, 1)},
		}
		inPlaceFlow := w.realFlow().inPlace()
		if large {
			out = append(out, contender{realBig, w.latency(w.realFlow().pool(bigPool), p, 1)})
			inPlaceFlow = inPlaceFlow.pool(bigPool)
		}
		if p.bytes >= 64<<10 {
			out = append(out, contender{oursLoan, w.latency(w.oursFlow().inPlace(), p, 1)},
				contender{realInPlace, w.latency(inPlaceFlow, p, 1)})
		}
		if p.bytes == 8 {
			every := strconv.FormatInt(p.every.Microseconds(), 10)
			out = append(out, contender{oursAwake, w.latency(w.oursFlow().awake(), p, 1)},
				contender{futexFloor, w.native(w.floorProgram(), "paced", strconv.Itoa(p.count), every)})
		}
		return out
	}
	r.comparisons = []comparison{{subject: ours, peer: realDora, limit: limit}}
	if large {
		over := 0.0
		if p.bytes == 16<<20 {
			over = 1 / 1.5
		}
		r.comparisons = append(r.comparisons, comparison{subject: ours, peer: realBig, limit: over})
	}
	if p.bytes >= 64<<10 {
		r.comparisons = append(r.comparisons, comparison{subject: oursLoan, peer: realInPlace, limit: inPlace})
	}
	if p.bytes == 8 {
		r.prepare = all(w.prepareFlows, w.prepareFloor)
		// Depending on where the kernel puts the sleeper, the futex alone takes 8 to 23 us from
		// one run to the next: no figure to hold a test to.
		r.comparisons = append(r.comparisons, comparison{subject: ours, peer: futexFloor, plus: futexSlack, limit: 1, tableOnly: true},
			comparison{subject: oursAwake, peer: futexFloor, plus: futexSlack, limit: 1, tableOnly: true})
	}
	return r
}

// roundTripRows compare half of the time to an answer of 8 bytes.
func roundTripRows(w *workshop, e extent) []row {
	small, mid, large := e.of(1500, 500), e.of(200, 100), e.of(20, 10)
	return []row{
		roundTripRow(w, "rtt-8B", 8, small),
		roundTripRow(w, "rtt-4KiB", 4<<10, small),
		roundTripRow(w, "rtt-64KiB", 64<<10, small),
		roundTripRow(w, "rtt-1MiB", 1<<20, mid),
		roundTripRow(w, "rtt-4MiB", 4<<20, large),
		roundTripRow(w, "rtt-16MiB", 16<<20, large),
		loanRow(w, small),
	}
}

// warmTrips come before the round trips that are measured.
const warmTrips = 50

func roundTripRow(w *workshop, name string, bytes, count int) row {
	size, n, warmUp := strconv.Itoa(bytes), strconv.Itoa(count), warmTrips
	if bytes > 1<<20 {
		warmUp = 10
	}
	r := row{name: name, load: "round trip / 2, " + sizeText(bytes) + ", answer 8 B", unit: "us",
		prepare: all(w.prepareFlows, w.prepareFloor, w.preparePeers, w.prepareIceoryx)}
	r.contenders = func() []contender {
		out := []contender{
			{ours, w.roundTrip(w.oursFlow(), bytes, count, warmUp)},
			{oursLoan, w.roundTrip(w.oursFlow().inPlace(), bytes, count, warmUp)},
			{realDora, w.roundTrip(w.realFlow().pool(bigPool), bytes, min(count, 300), warmUp)},
			{iceEvent, w.native(w.iceoryxProgram(), "event", size, n)},
			{icePoll, w.native(w.iceoryxProgram(), "poll", size, n)},
			{unixSocket, w.native(w.peerProgram(), "socket", size, n)},
			{natsPeer, w.native(w.peerProgram(), "nats", size, n)},
		}
		if bytes == 8 {
			out = append(out, contender{futexFloor, w.native(w.floorProgram(), "futex", n)},
				contender{spinFloor, w.native(w.floorProgram(), "spin", n)})
		}
		return out
	}
	if bytes == 8 {
		r.comparisons = append(r.comparisons, comparison{subject: ours, peer: futexFloor, limit: 1.5},
			comparison{subject: ours, peer: spinFloor})
	}
	for _, peer := range []string{iceEvent, icePoll, unixSocket, natsPeer, realDora} {
		r.comparisons = append(r.comparisons, comparison{subject: ours, peer: peer})
	}
	r.comparisons = append(r.comparisons, comparison{subject: oursLoan, peer: iceEvent})
	return r
}

// loanRow: a loan is not copied, so its size must not matter.
func loanRow(w *workshop, count int) row {
	const at16, at64 = "ours, loan of 16 MiB", "ours, loan of 64 KiB"
	return row{
		name: "rtt-loan", load: "round trip / 2 of loans, answer 8 B", unit: "us", prepare: all(w.preparePython, w.prepareGoNode),
		contenders: func() []contender {
			return []contender{
				{at16, w.roundTrip(w.oursFlow().inPlace(), 16<<20, count, warmTrips)},
				{at64, w.roundTrip(w.oursFlow().inPlace(), 64<<10, count, warmTrips)},
			}
		},
		comparisons: []comparison{{subject: at16, peer: at64, limit: 1.5}},
	}
}

// rateRows compare what gets through when the sender never pauses.
func rateRows(w *workshop, e extent) []row {
	return []row{
		messageRateRow(w, e),
		byteRateRow(w, e, "stream-4KiB", 4<<10, 0, 0),
		byteRateRow(w, e, "stream-64KiB", 64<<10, 0, 0),
		byteRateRow(w, e, "stream-1MiB", 1<<20, 1.5, 0.6),
		byteRateRow(w, e, "stream-4MiB", 4<<20, 2.5, 0.8),
		byteRateRow(w, e, "stream-16MiB", 16<<20, 0, 0.8),
	}
}

func (e extent) flood(bytes int) flood {
	return flood{bytes: bytes, length: e.time(300*time.Millisecond, 200*time.Millisecond), warm: 120 * time.Millisecond}
}

func messageRateRow(w *workshop, e extent) row {
	l := e.flood(8)
	return row{
		name: "stream-8B", load: "no pauses, 8 B", unit: "k/s", prepare: w.prepareFlows,
		contenders: func() []contender {
			return []contender{
				{ours, w.rate(w.oursFlow().queue(backpressure), l, false)},
				{realDora, w.rate(w.realFlow(), l, false)},
				{realDaemon, w.rate(w.realFlow().queue(backpressure), l, false)},
			}
		},
		comparisons: []comparison{
			{subject: ours, peer: realDora, limit: 10, atLeast: true},
			{subject: ours, peer: realDaemon, limit: 3, atLeast: true},
		},
	}
}

func byteRateRow(w *workshop, e extent, name string, bytes int, direct, memcpy float64) row {
	l := e.flood(bytes)
	large := bytes >= 1<<20 // what one copy costs is most of the rest
	size, n := strconv.Itoa(bytes), strconv.Itoa(min(2000, 1<<30/bytes))
	r := row{
		name: name, load: "no pauses, " + sizeText(bytes), unit: "GB/s", prepare: all(w.prepareFlows, w.prepareFloor),
		contenders: func() []contender {
			out := []contender{
				{ours, w.rate(w.oursFlow().queue(backpressure), l, true)},
				{realDora, w.rate(w.realFlow(), l, true)},
			}
			if large {
				out = append(out, contender{oursUnread, w.rate(w.oursFlow().queue(backpressure).glance(), l, true)},
					contender{realBig, w.rate(w.realFlow().pool(bigPool), l, true)},
					contender{memcpyFloor, w.nativeRate(bytes, w.floorProgram(), "memcpy", size, n, "1")},
					contender{placesFloor, w.nativeRate(bytes, w.floorProgram(), "memcpy", size, n, "3")},
					contender{sharedFloor, w.nativeRate(bytes, w.floorProgram(), "shared", size, n)})
			}
			return out
		},
	}
	r.comparisons = []comparison{{subject: ours, peer: realDora, limit: direct, atLeast: true}}
	if large {
		// From 4 MiB on, what the processor's caches make of a copy, read or not, differs four
		// times between two runs on one machine: no figure to hold a test to.
		floats := bytes >= 4<<20
		r.comparisons = append(r.comparisons,
			comparison{subject: ours, peer: realBig, atLeast: true},
			// Like with like: the copy that nobody reads, and the one that is read meanwhile.
			comparison{subject: oursUnread, peer: memcpyFloor, limit: memcpy, atLeast: true, tableOnly: floats},
			comparison{subject: oursUnread, peer: placesFloor, limit: memcpy, atLeast: true, tableOnly: true},
			comparison{subject: ours, peer: sharedFloor, limit: memcpy, atLeast: true, tableOnly: true},
			comparison{subject: ours, peer: memcpyFloor, atLeast: true})
	}
	return r
}

// fanOutRows send to several receivers at once.
func fanOutRows(w *workshop, e extent) []row {
	p := pace{bytes: 64 << 10, every: 10 * time.Millisecond, count: e.of(40, 20), warmUp: 20}
	return []row{fanOutRow(w, 1, p, 0), fanOutRow(w, 4, p, 0), fanOutRow(w, 16, p, 0.5)}
}

func fanOutRow(w *workshop, receivers int, p pace, limit float64) row {
	return row{
		name: fmt.Sprintf("fanout-%d", receivers), load: fmt.Sprintf("to %d receivers, the median one, %s", receivers, p), unit: "us",
		prepare: w.prepareFlows,
		contenders: func() []contender {
			return []contender{
				{ours, w.latency(w.oursFlow(), p, receivers)},
				{realDora, w.latency(w.realFlow(), p, receivers)},
			}
		},
		comparisons: []comparison{{subject: ours, peer: realDora, limit: limit}},
		slower:      func() row { return fanOutRow(w, receivers, p.slower(), limit) },
	}
}

// mixedRows put a Go node between official ones.
func mixedRows(w *workshop, e extent) []row {
	n := e.of(40, 30)
	small := pace{bytes: 8, every: 10 * time.Millisecond, count: n, warmUp: 20}
	large := pace{bytes: 1 << 20, every: 10 * time.Millisecond, count: n, warmUp: 20}
	return []row{mixedRow(w, "mixed-8B", small), mixedRow(w, "mixed-1MiB", large)}
}

func mixedRow(w *workshop, name string, p pace) row {
	r := row{
		name: name, load: "Python to Go to Python, " + p.String(), unit: "us", prepare: all(w.preparePython, w.prepareGoNode),
		slower: func() row { return mixedRow(w, name, p.slower()) },
	}
	subject, program := ours, &w.oursDora
	if p.bytes >= 1<<20 {
		// Shared memory between Go and Python is what this build is for.
		subject, program = oursZenoh, &w.zenohDora
		r.prepare = all(r.prepare, w.prepareZenohDora)
	}
	r.contenders = func() []contender {
		list := []contender{
			{subject, w.officialLatency(*program, w.relayGraph(p, w.goNode()), p, nil)},
			{realAllPython, w.officialLatency(w.realDora, w.relayGraph(p, w.script("relay.py")), p, nil)},
		}
		if subject == oursZenoh {
			list = append(list, contender{oursFresh, w.officialLatency(*program, fresh(w.relayGraph(p, w.goNode())), p, nil)})
		}
		return list
	}
	r.comparisons = []comparison{{subject: subject, peer: realAllPython, limit: 1}}
	if subject == oursZenoh {
		r.comparisons = append(r.comparisons, comparison{subject: oursFresh, peer: realAllPython})
	}
	return r
}

// oursZenoh is the program that `task build-zenoh` builds.
const oursZenoh = "ours, with Zenoh"

const oursFresh = "ours, a new array"

// chainPool is the pool of shared memory that the official nodes of a chain are given for
// large messages, on both sides, in bytes. With its own 8 MiB the real dora sends some
// messages the other way when the machine is busy, and these are overtaken.
const chainPool = 32 << 20

// realAllPython is the chain that the real dora's users have.
const realAllPython = "real dora, all Python"

// fresh is a chain whose Go node sends an array of its own instead of the one that it got, as
// a node does that computes something: that one is copied.
func fresh(g graph) graph {
	g.Nodes[len(g.Nodes)-1].Env["BENCH_HOW"] = "fresh"
	return g
}

// relayGraph leads from an official sender through a relay to an official receiver.
func (w *workshop) relayGraph(p pace, relay string) graph {
	g := w.pairGraph(p)
	middle := graphNode{ID: "relay", Path: relay, Outputs: []string{"data"},
		Inputs: map[string]graphInput{"data": input("sender/data", 100)}, Env: map[string]string{"BENCH_ROLE": "relay"}}
	g.Nodes[1].Inputs["data"] = input("relay/data", 100)
	g.Nodes = append(g.Nodes, middle)
	if p.bytes >= 1<<20 {
		for _, n := range g.Nodes {
			n.Env["DORA_NODE_SHM_POOL_SIZE"] = strconv.Itoa(chainPool)
		}
	}
	return g
}

// cpuRows: what an edge costs when nothing, or little, flows.
func cpuRows(w *workshop, e extent) []row {
	length, rounds := e.time(10*time.Second, 4*time.Second), e.of(2, 1)
	return []row{
		cpuRow(w, "cpu-idle", "connected, nothing flows, both nodes", "idle", 0, length, rounds, false, 0.1),
		cpuRow(w, "cpu-1kHz", "8 B every 1ms, the busier node", "send", time.Millisecond, length, rounds, true, 5),
	}
}
