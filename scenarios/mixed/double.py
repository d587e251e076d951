"""The node in the middle of the mixed scenario: doubles numbers, passes on the rest."""

import pyarrow as pa
import pyarrow.compute as pc
from dora import Node


def double(value: pa.Array) -> pa.Array:
    kind = value.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pc.multiply(value, pa.scalar(2, kind))
    return value


def main() -> None:
    node = Node()
    for event in node:
        if event["type"] == "INPUT":
            node.send_output("doubled", double(event["value"]), event["metadata"])


if __name__ == "__main__":
    main()
