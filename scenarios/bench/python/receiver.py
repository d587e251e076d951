"""Receives messages until its input closes and writes what it saw to BENCH_OUT.

received.json holds, in the order of arrival, the lists `seq`, `t0` and `t1` (nanoseconds
of CLOCK_MONOTONIC) and the number `damaged` of messages whose bytes were not what the
sender made. Content is checked after the clock was read, and between messages.
The file `receiving` appears with the first message. With BENCH_PATIENCE, each message is
acknowledged on the output `ack` when it is checked and its memory is free again. After
BENCH_ENOUGH undamaged messages (0, the default: never) the output `done` says so, once.
"""

import json
import os
import time
from pathlib import Path

import pyarrow as pa
from dora import Node
from payload import intact


def main() -> None:
    size = int(os.environ["BENCH_BYTES"])
    enough = int(os.environ.get("BENCH_ENOUGH", "0"))
    acknowledge = int(os.environ.get("BENCH_PATIENCE", "0")) > 0
    out = Path(os.environ["BENCH_OUT"])
    empty = pa.array([0], type=pa.uint8())
    node = Node()
    seqs, sent, arrived, damaged = [], [], [], 0
    while True:
        event = node.next()
        now = time.perf_counter_ns()
        if event is None:
            break
        is_message = event["type"] == "INPUT"
        if is_message:
            metadata = event["metadata"]
            seqs.append(metadata["seq"])
            sent.append(metadata["t0"])
            arrived.append(now)
            if not intact(event["value"], metadata["seq"], size, metadata["crc"]):
                damaged += 1
            elif len(seqs) - damaged == enough:
                node.send_output("done", empty)
            if len(seqs) == 1:
                (out / "receiving").touch()
        # The message's shared memory is free again only when nobody refers to it.
        event = None
        if is_message and acknowledge:
            node.send_output("ack", empty, {"seq": seqs[-1]})
    result = {"seq": seqs, "t0": sent, "t1": arrived, "damaged": damaged}
    partial = out / "received.json.partial"
    partial.write_text(json.dumps(result))
    partial.rename(out / "received.json")


if __name__ == "__main__":
    main()
