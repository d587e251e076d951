"""Sends one array of each Arrow type, named in its metadata."""

import datetime
import decimal

import pyarrow as pa
from dora import Node

UTC = datetime.timezone.utc

ARRAYS = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    "int8": pa.array([-128, None, 127], pa.int8()),
    "int16": pa.array([-32768, 32767], pa.int16()),
    "int32": pa.array([1, None, 3], pa.int32()),
    "int64": pa.array([1, 2, 3], pa.int64()),
    "uint8": pa.array([0, 255], pa.uint8()),
    "uint16": pa.array([0, 65535], pa.uint16()),
    "uint32": pa.array([4294967295], pa.uint32()),
    "uint64": pa.array([18446744073709551615], pa.uint64()),
    "float16": pa.array([1.5, None], pa.float16()),
    "float32": pa.array([1.5, None, -2.25], pa.float32()),
    "float64": pa.array([3.141592653589793]),
    "utf8": pa.array(["", "hello", None, "wörld"]),
    "large_utf8": pa.array(["a", None, "bcd"], pa.large_utf8()),
    "binary": pa.array([b"\x00\x01\x02", None, b""]),
    "large_binary": pa.array([b"\x00\x01\x02", None], pa.large_binary()),
    "fixed_size_binary": pa.array([b"abc", None], pa.binary(3)),
    "utf8_view": pa.array(["short", None, "longer than twelve bytes"], pa.string_view()),
    "decimal128": pa.array([decimal.Decimal("123.45"), None], pa.decimal128(20, 2)),
    "date32": pa.array([datetime.date(2026, 1, 2), None]),
    "time64": pa.array([datetime.time(1, 2, 3, 4)]),
    "timestamp": pa.array([datetime.datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None], pa.timestamp("ns", "UTC")),
    "duration": pa.array([datetime.timedelta(milliseconds=1)], pa.duration("us")),
    "list": pa.array([[1, 2], None, [], [3]], pa.list_(pa.int32())),
    "large_list": pa.array([["a"], None, []], pa.large_list(pa.utf8())),
    "fixed_size_list": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.float32(), 2)),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.utf8(), pa.int32())),
    "struct": pa.array([{"x": 1, "name": "a"}, None, {"x": None, "name": "b"}]),
    "dictionary": pa.array(["a", "b", None, "a"]).dictionary_encode(),
    "dense_union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x"])]
    ),
    "sparse_union": pa.UnionArray.from_sparse(
        pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["w", "x"])]
    ),
    "sliced": pa.array(list(range(100)), pa.int64()).slice(50, 3),
    "empty": pa.array([], pa.float32()),
    "matrix": pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float64())),
}

METADATA = {
    "bool": True,
    "int": -42,
    "float": 2.5,
    "text": "grüß",
    "ints": [1, -2, 3],
    "floats": [0.5, -1.5],
    "texts": ["a", "b"],
    "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


def main() -> None:
    node = Node()
    for event in node:
        if event["type"] == "INPUT":
            break
    for name, array in ARRAYS.items():
        try:
            node.send_output("data", array, {"name": name, **METADATA})
        except Exception as error:  # types that the official package itself refuses
            print(f"{name}: {error}")


if __name__ == "__main__":
    main()
