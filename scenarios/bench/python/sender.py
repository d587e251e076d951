"""Sends BENCH_COUNT messages of BENCH_BYTES random bytes, one per tick of its timer, or
fewer if its input `done` says that they are enough.

The clock is read when the payload is complete in this process's memory, right before the
send call. time.perf_counter_ns is CLOCK_MONOTONIC, the same clock in every process.
"""

import os
import time

from dora import Node
from payload import Source


def main() -> None:
    count = int(os.environ["BENCH_COUNT"])
    source = Source(int(os.environ["BENCH_BYTES"]))
    node = Node()
    sent = 0
    while sent < count:
        event = node.next()
        if event is None or event["type"] == "STOP":
            raise SystemExit(f"stopped after {sent} of {count} messages")
        if event["type"] != "INPUT":
            continue
        if event["id"] == "done":
            break
        array, crc = source.message(sent)
        metadata = {"seq": sent, "crc": crc, "t0": 0}
        metadata["t0"] = time.perf_counter_ns()
        node.send_output("data", array, metadata)
        sent += 1


if __name__ == "__main__":
    main()
