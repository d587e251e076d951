"""Checks the arrays of the sender and prints one line per size."""

import time
import zlib
from collections import defaultdict

import pyarrow as pa
from dora import Node
from sizes import ROUNDS


def check(value: pa.Array, metadata: dict) -> None:
    values = value.to_numpy()
    if value.type != pa.uint8() or len(values) != metadata["size"]:
        raise SystemExit(f"got {len(values)} x {value.type}, want {metadata['size']} x uint8")
    if zlib.crc32(values) != metadata["crc"]:
        raise SystemExit(f"{metadata['size']} bytes: the checksum differs")


def main() -> None:
    node = Node()
    micros = defaultdict(list)
    for event in node:
        if event["type"] != "INPUT":
            continue
        metadata = event["metadata"]
        size, number = metadata["size"], metadata["number"]
        micros[size].append((time.perf_counter_ns() - metadata["sent_ns"]) / 1000)
        if number != len(micros[size]) - 1:
            raise SystemExit(f"{size} bytes: message {number} came out of order")
        check(event["value"], metadata)
        del event  # gives the memory back before the sender needs it again
        node.send_output("answer", pa.array([number]))
        if len(micros[size]) == ROUNDS[size]:
            typical = sorted(micros[size])[ROUNDS[size] // 2]
            print(f"ok {size} bytes x {ROUNDS[size]}, median {typical:.0f} us", flush=True)
    if {size: len(times) for size, times in micros.items()} != ROUNDS:
        raise SystemExit(f"messages are missing: {[(s, len(t)) for s, t in micros.items()]}")
    print(f"PASS python: {sum(ROUNDS.values())} messages", flush=True)


if __name__ == "__main__":
    main()
