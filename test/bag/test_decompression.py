"""Owns: the limits of unpacking. Leaves to others: what is read of packed bags (test_reader)."""

from __future__ import annotations

import sys
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import tiny_bag
from rosbags.rosbag2 import CompressionMode

from cnn_perception.bag import decompression
from cnn_perception.bag.decompression import unpacked_chunk, unpacked_message, unpacked_pieces
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import BagError, FrameError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 2**20


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decompression, "LARGEST_MESSAGE_BYTES", 4 * MIB)
    monkeypatch.setattr(decompression, "SMALL_FILE_BYTES", 4 * MIB)


def without_size(data: bytes) -> bytes:
    """A frame that does not say how large it becomes."""
    compressor = zstd.ZstdCompressor()
    return compressor.compress(data) + compressor.flush()


def in_two_frames(data: bytes) -> bytes:
    return zstd.compress(data[:9]) + zstd.compress(data[9:])


@pytest.mark.parametrize("pack", [zstd.compress, without_size, in_two_frames])
def test_message_up_to_the_limit_is_unpacked_and_one_byte_more_is_refused(pack):
    data = bytes(range(256)) * (4 * MIB // 256)
    assert unpacked_message(pack(data)) == data
    with pytest.raises(FrameError, match="unpacks to more than 4194304 bytes") as caught:
        unpacked_message(pack(data + b"x"))
    assert caught.value.reason == "size"


def test_message_that_is_cut_off_is_damaged():
    with pytest.raises(zstd.ZstdError):
        unpacked_message(zstd.compress(b"x" * 1000)[:-3])


def test_file_is_refused_before_it_becomes_larger_than_allowed_or_than_the_disk_has(tmp_path: Path):
    path = tmp_path / "a.db3.zstd"
    path.write_bytes(without_size(bytes(4 * MIB)))
    assert sum(map(len, unpacked_pieces(path, 100 * MIB))) == 4 * MIB
    for content, free in ((bytes(64 * MIB), 100 * MIB), (bytes(4 * MIB), 3 * MIB)):
        path.write_bytes(without_size(content))
        sizes: list[int] = []
        with pytest.raises(BagError, match="unpacks to more than"):
            sizes.extend(map(len, unpacked_pieces(path, free)))
        assert sum(sizes) <= min(free, max(4 * MIB, 1000 * path.stat().st_size))


@pytest.mark.parametrize(
    ("name", "pack"), [("zstd", without_size), ("zstd", in_two_frames), ("lz4", lz4.frame.compress)]
)
def test_chunk_becomes_what_it_claims_and_claims_no_more_than_the_limit(name, pack):
    assert unpacked_chunk(name, pack(b"abc" * 9), 27) == b"abc" * 9
    for data, claimed in ((bytes(64 * MIB), 3), (b"abc" * 9, 2), (bytes(5 * MIB), 5 * MIB)):
        with pytest.raises(BagError, match="unpack"):
            unpacked_chunk(name, pack(data), claimed)
    with pytest.raises(BagError, match="its compression 'brotli' is not known"):
        unpacked_chunk("brotli", b"", 0)


@pytest.mark.parametrize(("name", "pack"), [("zstd", without_size), ("lz4", lz4.frame.compress)])
def test_of_a_damaged_chunk_the_beginning_is_unpacked(name, pack):
    data = np.random.default_rng(1).integers(0, 9, MIB, np.uint8).tobytes()
    packed = pack(data)
    for damaged in (packed[: len(packed) * 3 // 4], packed[: len(packed) * 3 // 4] + b"rust" * 9999):
        found = unpacked_chunk(name, damaged, len(data))
        assert len(found) >= MIB // 4
        assert data[: MIB // 4] == found[: MIB // 4]


@pytest.mark.parametrize("has_metadata", [True, False])
def test_bag_with_one_message_too_large_loses_that_one_alone(tmp_path: Path, has_metadata: bool):
    messages = [
        ("/image_raw", tiny_bag.START_NS + n, tiny_bag.raw(tiny_bag.flat(tiny_bag.RED, side, 1000), tiny_bag.START_NS))
        for n, side in enumerate((10, 2000, 10))
    ]
    path = tiny_bag.write_bag(tmp_path / "bag", messages, compression=CompressionMode.MESSAGE)
    if not has_metadata:
        (path / "metadata.yaml").unlink()
    with Bag(path) as bag:
        frames = [image.frame for image in bag.images(bag.image_topic())]
    assert [isinstance(frame, FrameError) for frame in frames] == [False, True, False]


@pytest.mark.parametrize("has_metadata", [True, False])
def test_bag_with_a_file_too_large_is_refused_in_a_line(tmp_path: Path, has_metadata: bool):
    path = tiny_bag.write_bag(
        tmp_path / "bag",
        [("/image_raw", tiny_bag.START_NS, tiny_bag.raw(tiny_bag.flat(tiny_bag.RED), tiny_bag.START_NS))],
        compression=CompressionMode.FILE,
    )
    next(path.glob("*.zstd")).write_bytes(without_size(bytes(64 * MIB)))
    if not has_metadata:
        (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match="unpacks to more than") as caught:
        Bag(path)
    assert "\n" not in str(caught.value)
