"""Sends SIZES (bytes, comma separated), each COUNT times, on a timer."""
import os
import time

import pyarrow as pa
from dora import Node

sizes = [int(s) for s in os.environ["SIZES"].split(",")]
count = int(os.environ["COUNT"])
warmup = int(os.environ.get("WARMUP", "50"))
node = Node()
todo = [(s, i) for s in sizes for i in range(count)]
payload = {s: os.urandom(s) for s in sizes}
for event in node:
    if event["type"] == "STOP":
        break
    if event["type"] != "INPUT":
        continue
    if warmup > 0:  # the receiver is still starting
        warmup -= 1
        continue
    if not todo:
        time.sleep(0.5)  # what is under way directly would end with this process
        break
    size, i = todo.pop(0)
    t0 = time.perf_counter_ns()
    node.send_output("data", pa.array([payload[size]], type=pa.binary()), {"t0": t0, "i": i})
