// Command bench compares dora with its peers on this machine and says by how much it is
// faster or slower, and how sure that is.
//
//	go run ./scenarios/bench                      all rows, 15 rounds each
//	go run ./scenarios/bench --short --check 3    under three minutes, exit 1 beyond 3 x a limit
//
// # What it guarantees
//
//   - Rounds are interleaved: every round runs each contender of a row once, one after the
//     other, so that what else the machine does falls on all of them alike. A contender's
//     figure is the median over the rounds of each round's median. The interval of a ratio
//     is the 95 % percentile bootstrap over rounds; a round's contenders stay together when
//     rounds are resampled. A limit is exceeded only if the whole interval lies above it.
//   - One-way latency: t0 is read when the payload is complete in the sender's memory, right
//     before the send call; t1 when the receiver's code holds the message. Both clocks are
//     CLOCK_MONOTONIC.
//   - A figure counts only if the run ended with exit code 0 and what arrived is byte for byte
//     what was sent, once. Losses and changes of order, which official nodes allow themselves,
//     are counted. Where there are many of them, or messages queue up behind one another, it is
//     no latency of single messages: the row starts over at half the rate for all contenders.
//   - Every run has a folder and a DORA_HOME of its own, which are gone afterwards, and an
//     environment without anyone's DORA_* and ZENOH_* settings. Processes that outlive their
//     run are found by a mark in their environment, ended by pid, and reported.
//
// # Where to start reading
//
// rows.go lists what is measured and the limits; measure.go is the loop over rounds, stats.go
// the arithmetic, run.go one `dora run`. latency.go and startup.go are the kinds of contender;
// another kind (another protocol, another language, throughput) is another function that
// returns samples. The other ends are in python/, rust/ and gonode/.
package main
