"""Damage to bytes of any format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from fuzz.target import Files, Sample

EDGES = (
    0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**26, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
"""Numbers at which lengths, counts and times are mistaken."""
_LARGEST_BYTES = 2**18

Damage = Callable[[Random, bytearray, bytes], None]


def mutated(random: Random, content: bytes, other: bytes = b"") -> bytes:
    """Returns a damaged copy.

    Args:
        random: Decides.
        content: What is damaged, by one to four kinds of damage.
        other: Where pieces may be taken from.
    """
    data = bytearray(content)
    for _ in range(rounds(random)):
        random.choice(_KINDS)(random, data, other or content)
    return bytes(data[:_LARGEST_BYTES])


def mutate_content(random: Random, sample: Sample, pool: Sequence[Sample]) -> Files:
    """Returns an input of one file with damaged bytes."""
    ((name, content),) = sample.files.items()
    (other,) = random.choice(pool).files.values()
    return {name: mutated(random, content, other)}


def rounds(random: Random) -> int:
    """Returns how many times an input is damaged: mostly once, so that the rest stays valid."""
    return random.choice((1, 1, 1, 1, 2, 2, 3, 4))


def edge(random: Random, bits: int) -> int:
    """Returns an unsigned number of so many bits, at or beside an edge."""
    number = random.choice(EDGES) + random.choice((-1, 0, 0, 0, 1))
    return number & ((1 << bits) - 1)


def put_edge(random: Random, data: bytearray, at: int, code: str) -> None:
    """Writes an edge in place of the number at a position; `code` is that of `struct`."""
    size = struct.calcsize(code)
    if at + size <= len(data):
        struct.pack_into(code.upper(), data, at, edge(random, 8 * size))


def _flip_bits(random: Random, data: bytearray, _other: bytes) -> None:
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        if data:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, data: bytearray, _: bytes) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _put_number(random: Random, data: bytearray, _: bytes) -> None:
    put_edge(random, data, random.randrange(len(data) + 1), random.choice(("<B", "<H", "<I", "<Q", ">H", ">I", ">Q")))


def _truncate(random: Random, data: bytearray, _: bytes) -> None:
    del data[random.randrange(len(data) + 1) :]


def _delete(random: Random, data: bytearray, _: bytes) -> None:
    start, stop = _range(random, data)
    del data[start:stop]


def _duplicate(random: Random, data: bytearray, _: bytes) -> None:
    start, stop = _range(random, data)
    data[stop:stop] = data[start:stop]


def _insert(random: Random, data: bytearray, _: bytes) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice((random.randbytes(random.randrange(1, 9)), bytes(random.randrange(1, 65))))


def _zero(random: Random, data: bytearray, _: bytes) -> None:
    start, stop = _range(random, data)
    data[start:stop] = bytes(stop - start)


def _swap(random: Random, data: bytearray, _: bytes) -> None:
    start, stop = _range(random, data)
    middle = random.randint(start, stop)
    data[start:stop] = data[middle:stop] + data[start:middle]


def _splice(random: Random, data: bytearray, other: bytes) -> None:
    start, stop = _range(random, other)
    at = random.randrange(len(data) + 1)
    end = at + (stop - start if random.random() < 0.5 else 0)
    data[at:end] = other[start:stop]


def _range(random: Random, data: bytes | bytearray) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    length = random.choice((1, 4, 8, 16, 64, 512, len(data)))
    return start, min(len(data), start + random.randint(0, length))


_KINDS: tuple[Damage, ...] = (
    _flip_bits, _flip_bits, _set_byte, _put_number, _put_number, _truncate, _delete, _duplicate, _insert, _zero, _swap,
    _splice,
)  # fmt: skip
