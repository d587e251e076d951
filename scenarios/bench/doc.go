// Command bench compares dora with its peers on this machine and says by how much it is
// faster or slower, and how sure that is.
//
//	go run ./scenarios/bench                      all rows, 15 rounds each: 20 minutes at most
//	go run ./scenarios/bench --docs docs          the same, and the page and plots of docs/
//	go run ./scenarios/bench --short --check 3    under three minutes, exit 1 beyond 3 x a limit
//
// # What it guarantees
//
//   - Rounds are interleaved: every round runs each contender of a row once, one after the
//     other, so that what else the machine does falls on all of them alike. A contender's
//     figure is the median over the rounds of each round's median. The interval of a ratio
//     is the 95 % percentile bootstrap over rounds; a round's contenders stay together when
//     rounds are resampled. A limit is exceeded only if the whole interval lies above it.
//   - One-way latency: t0 is read when the payload is complete, right before the send call:
//     in the sender's own memory, or for a loan in shared memory; t1 when the receiver's code
//     holds the message. Both clocks are CLOCK_MONOTONIC.
//   - A figure counts only if the run ended with exit code 0 and what arrived is what was
//     sent, once: byte for byte between Python nodes, by both ends and a word of each cache
//     line between native ones. Losses and changes of order, which official nodes allow themselves,
//     are counted. Where there are many of them, or messages queue up behind one another, it is
//     no latency of single messages: the row starts over at half the rate for all contenders.
//   - Every run has a folder and a DORA_HOME of its own, which are gone afterwards, and an
//     environment without anyone's DORA_* and ZENOH_* settings. Processes that outlive their
//     run are found by a mark in their environment, ended by pid, and reported.
//
// # Where to start reading
//
// rows.go and rows_flow.go list what is measured and the limits; measure.go is the loop over
// rounds, stats.go the arithmetic, run.go one `dora run`. latency.go (official Python nodes),
// flow.go (native nodes: latency, round trips, rates), native.go (programs without dora),
// cpu.go and startup.go are the kinds of contender; another kind is another function that
// returns samples. report.go prints, page.go and plot.go publish.
//
// The other ends are in python/, rust/ (the official crate), gonode/ (our node API), peers/
// (Unix socket and NATS, a module of its own), iceoryx/ and floor/ (what C can do).
package main
