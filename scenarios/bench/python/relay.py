"""Passes every message on unchanged, with what its metadata says about it."""

from dora import Node


def main() -> None:
    node = Node()
    while True:
        event = node.next()
        if event is None:
            return
        if event["type"] == "INPUT":
            metadata = {key: event["metadata"][key] for key in ("seq", "crc", "t0")}
            node.send_output("data", event["value"], metadata)
        # The message's shared memory is free again only when nobody refers to it.
        event = None


if __name__ == "__main__":
    main()
