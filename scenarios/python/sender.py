"""Sends random arrays with their checksums, one after each answer."""

import time
import zlib

import numpy as np
import pyarrow as pa
from dora import Node
from sizes import ROUNDS


def messages():
    rng = np.random.default_rng(1)
    for size, rounds in ROUNDS.items():
        for number in range(rounds):
            yield size, number, rng.integers(0, 256, size, dtype=np.uint8)


def main() -> None:
    node = Node()
    todo = messages()
    sent = 0
    total = sum(ROUNDS.values())

    def send_next() -> None:
        nonlocal sent
        size, number, values = next(todo)
        metadata = {
            "size": size,
            "number": number,
            "crc": zlib.crc32(values),
            "sent_ns": time.perf_counter_ns(),
        }
        node.send_output("data", pa.array(values), metadata)
        sent += 1

    send_next()
    for event in node:
        if event["type"] == "INPUT":
            if sent == total:
                break
            send_next()
        elif event["type"] == "STOP":
            break
    if sent != total:
        raise SystemExit(f"stopped after {sent} of {total} messages")


if __name__ == "__main__":
    main()
