"""Prints one line per event; for inputs the size and the latency in microseconds."""
import os
import time

import pyarrow  # noqa: F401  before the first event, as it takes long
from dora import Node

# A dynamic node knows no more than its id.
node = Node(os.environ["NODE_ID"]) if "NODE_ID" in os.environ else Node()
for event in node:
    now = time.perf_counter_ns()
    kind = event["type"]
    if kind == "INPUT":
        meta = event["metadata"]
        value = event["value"]
        size = len(value[0].as_py()) if len(value) else 0
        if size and isinstance(value[0].as_py(), str):
            print("TEXT", event["id"], value[0].as_py(), flush=True)
        print("INPUT", event["id"], size, meta.get("i"), (now - meta["t0"]) // 1000 if "t0" in meta else 0, flush=True)
    elif kind == "STOP":
        # It overtakes inputs that wait, so the stream's end is what ends this node.
        print("STOP", event["id"], flush=True)
    else:
        print(kind, event["id"] if "id" in event else "", flush=True)
