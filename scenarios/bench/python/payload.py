"""What sender and receiver agree on: random bytes that say which message they belong to.

A payload is a uint8 array. Its first 8 bytes (little-endian) are `header(seq)`, which no
two messages share; the rest is one of three blocks of random bytes, taken in turn, so
that a receiver that sees the memory of an earlier message cannot mistake it for its own.
"""

import struct
import zlib

import numpy as np
import pyarrow as pa

BLOCKS = 3
HEADER = 8
_MASK = (1 << 64) - 1


def header(seq: int) -> bytes:
    """The 8 bytes that message `seq` starts with: splitmix64 of its number."""
    z = (seq + 1) * 0x9E3779B97F4A7C15 & _MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return struct.pack("<Q", z ^ (z >> 31))


class Source:
    """Builds payloads of `size` bytes (at least 8) in the sender's own memory."""

    def __init__(self, size: int):
        if size < HEADER:
            raise ValueError(f"payload of {size} bytes: at least {HEADER} are needed")
        random = np.random.default_rng(20260101)
        self._blocks = [random.integers(0, 256, size, dtype=np.uint8) for _ in range(BLOCKS)]
        self._sums = [zlib.crc32(memoryview(b)[HEADER:]) for b in self._blocks]

    def message(self, seq: int) -> tuple[pa.Array, int]:
        """The complete array of message `seq`, and the CRC-32 of what follows its header."""
        block = self._blocks[seq % BLOCKS]
        block[:HEADER] = np.frombuffer(header(seq), dtype=np.uint8)
        return pa.array(block), self._sums[seq % BLOCKS]


def intact(value: pa.Array, seq: int, size: int, crc: int) -> bool:
    """Whether `value` is message `seq`, byte for byte."""
    if len(value) != size:
        return False
    data = memoryview(value.to_numpy(zero_copy_only=True))
    return bytes(data[:HEADER]) == header(seq) and zlib.crc32(data[HEADER:]) == crc
