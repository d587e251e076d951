"""A consumer that writes down what it is told."""
import sys

from dora import Node

with open(sys.argv[1], "a", buffering=1) as out:
    for event in Node():
        words = [event["type"], event.get("id")]
        if event["type"] == "NODE_FAILED":
            words = ["NODE_FAILED", event.get("source_node_id") or event.get("id")]
        if event["type"].startswith("PARAM"):
            words = [event["type"], event.get("key") or event.get("id")]
        print(*[w for w in words if w], file=out)
    print("END", file=out)
