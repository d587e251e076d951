"""Sends BENCH_COUNT messages of BENCH_BYTES random bytes, one per tick of its timer, or
fewer if its input `done` says that they are enough.

With an input `ack` it sends one at a time: a tick is skipped until the message before is
acknowledged, or BENCH_PATIENCE ticks have passed, for it may be lost.

The clock is read when the payload is complete in this process's memory, right before the
send call. time.perf_counter_ns is CLOCK_MONOTONIC, the same clock in every process.
"""

import os
import time

from dora import Node
from payload import Source


def main() -> None:
    count = int(os.environ["BENCH_COUNT"])
    # Ticks that a message may stay without acknowledgement; 0: acknowledgements do not matter.
    patience = int(os.environ.get("BENCH_PATIENCE", "0"))
    source = Source(int(os.environ["BENCH_BYTES"]))
    node = Node()
    sent, wait = 0, 0
    while sent < count:
        event = node.next()
        if event is None or event["type"] == "STOP":
            raise SystemExit(f"stopped after {sent} of {count} messages")
        if event["type"] != "INPUT":
            continue
        if event["id"] == "done":
            break
        if event["id"] == "ack":
            if event["metadata"]["seq"] == sent - 1:
                wait = 0
            continue
        if wait > 0:
            wait -= 1
            continue
        array, crc = source.message(sent)
        metadata = {"seq": sent, "crc": crc, "t0": 0}
        metadata["t0"] = time.perf_counter_ns()
        node.send_output("data", array, metadata)
        sent += 1
        wait = patience


if __name__ == "__main__":
    main()
