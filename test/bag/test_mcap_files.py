"""What an MCAP file says of itself is compared with what is in it: every image there is read, or something is said.

Owned here: statistics, indexes, checksums, chunks, cut, broken and joined files. The oracle is what was written.
"""

from __future__ import annotations

import itertools
import os
import struct
import sys

import lz4.frame
import pytest
import tiny_bag
from tiny_bag import START_NS, McapWriter, mcap_record

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import BagError
from cnn_perception.image.messages import decode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from tiny_bag import CAMERA, IMAGE, TIMES, images, payload, read

INTACT = {
    "all that the format has": {},
    "no profile": {"profile": ""},
    "another profile": {"profile": "ros1"},
    "no message index": {"message_index": False},
    "no chunk index": {"chunk_index": False},
    "no index": {"message_index": False, "chunk_index": False},
    "no statistics": {"statistics": False},
    "nothing repeated": {"repeated": False},
    "no summary": {"repeated": False, "statistics": False, "chunk_index": False},
    "no chunks": {"per_chunk": 0},
    "no chunks, no summary": {"per_chunk": 0, "repeated": False, "statistics": False},
    "checksums": {"checksums": True},
    "zstd": {"compression": "zstd", "pack": zstd.compress, "checksums": True},
    "lz4": {"compression": "lz4", "pack": lz4.frame.compress, "checksums": True},
    "records of a writer's own": {"extra": mcap_record(0x80, b"?" * 50)},
    "an attachment and metadata": {"extra": mcap_record(9, b"?" * 50) + mcap_record(12, b"?" * 9)},
}


@pytest.mark.parametrize("options", INTACT.values(), ids=INTACT)
def test_mcap_file_is_read_whatever_its_writer_left_out(tmp_path, options):
    path = McapWriter([CAMERA], images(), **options).write(tmp_path / "a.mcap")

    assert read(path) == (TIMES, [])


@pytest.mark.parametrize(
    "kind",
    [
        "sensor_msgs/Image",
        "sensor_msgs/msg/Image",
        "sensor_msgs::msg::Image",
        "sensor_msgs::msg::dds_::Image_",
    ],
)
def test_type_is_recognised_in_every_style(tmp_path, kind):
    path = McapWriter([("/camera", "cdr", kind, "ros2msg")], images()).write(tmp_path / "a.mcap")

    assert read(path) == (TIMES, [])


@pytest.mark.parametrize(
    "other",
    [
        ("/other", "protobuf", "foxglove.RawImage", "protobuf"),
        ("/other", "json", "foxglove.RawImage", "jsonschema"),
        ("/other", "ros1", IMAGE, "ros1msg"),
        ("/other", "cdr", "example/msg/Other", "unknown"),
        ("/other", "cdr", "example/msg/Other", ""),
        ("/other", "", "", ""),
    ],
    ids=lambda other: f"{other[1]} {other[3]}",
)
def test_channel_that_has_nothing_to_do_with_images_is_ignored(tmp_path, other):
    messages = [*images(), *((2, time_ns + 5, b"{}") for time_ns in TIMES)]
    path = McapWriter([CAMERA, other], messages).write(tmp_path / "a.mcap")

    assert read(path) == (TIMES, [])


def test_image_in_another_serialisation_is_refused_by_its_name(tmp_path):
    channel = ("/camera", "ros1", "sensor_msgs/Image", "ros1msg")
    path = McapWriter([channel], images()).write(tmp_path / "a.mcap")

    with Bag(path) as bag, pytest.raises(BagError, match=r"/camera is sensor_msgs/msg/Image \(ros1\), not"):
        bag.image_topic("/camera")


CONTRADICTIONS = {
    "chunk times": ({"chunk_times": (0, 1)}, "3 chunks give other times"),
    "more in the statistics": ({"counts": {1: 15}}, "/camera: 15 messages are promised, 12 were found"),
    "less in the statistics": ({"counts": {1: 2}}, "/camera: 2 messages are promised, 12 were found"),
    "chunk index": ({"chunk_offset": 1}, "3 entries of its chunk index lead to no chunk"),
}


@pytest.mark.parametrize(("options", "line"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_everything_is_read_and_what_an_mcap_file_contradicts_is_said(tmp_path, options, line):
    path = McapWriter([CAMERA], images(), **options).write(tmp_path / "a.mcap")

    found, damage = read(path)

    assert found == TIMES
    assert any(line in said for said in damage), damage


def test_entries_that_a_message_index_lacks_change_nothing(tmp_path):
    path = McapWriter([CAMERA], images(), lost_entries=2).write(tmp_path / "a.mcap")

    assert read(path) == (TIMES, [])


def test_message_of_an_index_that_is_not_in_its_chunk_is_said(tmp_path):
    writer = McapWriter([CAMERA], images(), statistics=False)
    path = writer.write(tmp_path / "a.mcap")
    data = bytearray(path.read_bytes())
    size = len(images()[0][2]) + 22 + 9
    data[writer.ends[5] - size] = 0x0C  # a message becomes a metadata record
    path.write_bytes(data)

    found, damage = read(path)

    assert found == TIMES[:5] + TIMES[6:]
    assert any("its indexes: /camera: 12 messages are promised, 11 were found" in line for line in damage)


def test_chunk_whose_checksum_differs_is_read_and_said(tmp_path):
    writer = McapWriter([CAMERA], images(), checksums=True)
    path = writer.write(tmp_path / "a.mcap")
    data = bytearray(path.read_bytes())
    data[writer.ends[6] - 1] ^= 1  # of a pixel
    path.write_bytes(data)

    found, damage = read(path)

    assert found == TIMES
    assert len(damage) == 1
    assert "its checksum differs, messages may be altered; 4 of its messages were read" in damage[0]


@pytest.mark.parametrize("options", [{}, {"per_chunk": 0}, {"checksums": True, "per_chunk": 50}])
def test_of_a_file_that_was_cut_every_message_before_the_cut_is_read(tmp_path, options):
    writer = McapWriter([CAMERA], images(), **options)
    whole = writer.write(tmp_path / "a.mcap").read_bytes()
    path = tmp_path / "cut.mcap"
    for size in range(writer.ends[0], len(whole), 997):
        path.write_bytes(whole[:size])

        found, damage = read(path)

        assert found == TIMES[: sum(end <= size for end in writer.ends)]
        assert len(damage) == 1


@pytest.mark.parametrize(("name", "pack"), [("zstd", zstd.compress), ("lz4", lz4.frame.compress)])
def test_of_a_compressed_chunk_that_was_cut_the_beginning_is_read(tmp_path, name, pack):
    big = [(1, time_ns, payload(tiny_bag.raw(tiny_bag.np.random.default_rng(time_ns).integers(
        0, 256, (200, 200, 3), "uint8"), time_ns))) for time_ns in TIMES]  # fmt: skip
    path = McapWriter([CAMERA], big, per_chunk=50, compression=name, pack=pack).write(tmp_path / "a.mcap")
    os.truncate(path, path.stat().st_size // 2)

    found, damage = read(path)

    assert found == TIMES[: len(found)]
    assert 4 <= len(found) <= 6
    assert "is truncated" in damage[0]


@pytest.mark.parametrize(
    ("place", "value"), [(0, 0x00), (0, 0x45), (0, 0x86), (0, 0x0C), (6, 0x7F), (2, 0x40), (3, 0x01)]
)
def test_chunks_behind_a_broken_record_are_found_again(tmp_path, place, value):
    writer = McapWriter([CAMERA], images())
    path = writer.write(tmp_path / "a.mcap")
    data = bytearray(path.read_bytes())
    second = data.index(struct.pack("<QQ", TIMES[4], TIMES[7])) - 9
    data[second + place] = value
    path.write_bytes(data)

    found, damage = read(path)

    assert {*TIMES[:4], *TIMES[8:]} <= set(found)
    assert damage


def test_log_times_that_step_back_are_put_in_order(tmp_path):
    shuffled = [TIMES[n] for n in (0, 1, 2, 4, 3, 5, 6, 9, 8, 7, 10, 11)]
    for number, options in enumerate(({}, {"per_chunk": 0}, {"compression": "zstd", "pack": zstd.compress})):
        path = McapWriter([CAMERA], images(shuffled), **options).write(tmp_path / f"{number}.mcap")

        assert read(path) == (TIMES, [])


def test_compressed_chunks_that_overlap_much_are_unpacked_a_few_times_only(tmp_path, monkeypatch):
    times = [START_NS + (n % 50) * 1000 + n // 50 for n in range(200)]
    path = McapWriter([CAMERA], images(times), per_chunk=50, compression="zstd", pack=zstd.compress).write(
        tmp_path / "a.mcap"
    )
    unpacked = []
    with Bag(path) as bag:
        contents = bag._files[0]._contents
        monkeypatch.setattr(bag._files[0], "_contents", lambda number: unpacked.append(number) or contents(number))
        found = [image.log_time_ns for image in bag.images(bag.image_topic())]

    assert sorted(found) == sorted(times)
    assert sum(a != b for a, b in itertools.pairwise(unpacked)) <= 16


# ---- files that were joined with `cat`

WORDS = ("/words", "cdr", "std_msgs/msg/String", "ros2msg")


def part(path, times, channels=(CAMERA,), **options):
    """The bytes of an MCAP file whose images are of these times, on the channel of the camera."""
    number = channels.index(CAMERA) + 1
    return McapWriter(channels, [(number, t, data) for _, t, data in images(times)], **options).write(path).read_bytes()


PLAIN, PACKED = {"per_chunk": 0, "statistics": False, "repeated": False}, INTACT["zstd"]


def all_said(path) -> tuple[list[int], list[str], list[str]]:
    with Bag(path) as bag:
        return [image.log_time_ns for image in bag.images(bag.image_topic())], bag.damage, bag.warnings


@pytest.mark.parametrize(
    "options",
    [({}, {}, {}), (PACKED, PACKED, PACKED), (PLAIN, PLAIN, PLAIN), (PLAIN, PACKED, {}), ({}, PLAIN, PACKED)],
    ids=["chunks", "zstd", "no chunks", "no chunks first", "zstd last"],
)
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["in order", "last first"])
@pytest.mark.parametrize("as_a_whole", [False, True], ids=["", "packed"])
def test_of_joined_files_every_one_is_read(tmp_path, options, order, as_a_whole):
    """Their channels have other numbers in each, and the same number is of another topic."""
    channels = ((CAMERA,), (WORDS, CAMERA), (CAMERA, WORDS))
    parts = [
        part(tmp_path / "one", TIMES[4 * n : 4 * n + 4], channels[n], **{"per_chunk": 2, **options[n]})
        for n in range(3)
    ]
    path = tmp_path / ("joined.mcap.zstd" if as_a_whole else "joined.mcap")
    joined = b"".join(parts[n] for n in order)
    path.write_bytes(zstd.compress(joined) if as_a_whole else joined)

    found, damage, (warning,) = all_said(path)

    assert found == TIMES
    assert damage == []
    assert warning.startswith(f"{path}: is 3 MCAP files one behind the other")
    assert "`mcap merge`" in warning


def test_joined_files_of_several_cameras_keep_their_pictures_apart(tmp_path):
    """Each payload is that which was written at this time: places are those of its own part."""
    both = [(("/a", *CAMERA[1:]), WORDS), (WORDS, ("/a", *CAMERA[1:]))]
    written = {t: tiny_bag.payload(tiny_bag.raw(tiny_bag.flat((n * 20, 0, 0), 30, 30), t)) for n, t in enumerate(TIMES)}
    joined = b"".join(
        McapWriter(both[n], [(n + 1, t, written[t]) for t in TIMES[6 * n : 6 * n + 6]], **PACKED)
        .write(tmp_path / "one")
        .read_bytes()
        for n in range(2)
    )
    (tmp_path / "joined.mcap").write_bytes(joined)

    with Bag(tmp_path / "joined.mcap") as bag:
        found = {image.log_time_ns: int(decode(image.frame)[0, 0, 0]) for image in bag.images(bag.image_topic("/a"))}

    assert found == {t: n * 20 for n, t in enumerate(TIMES)}


@pytest.mark.parametrize("cut", [1, 9, 60, 700])
def test_of_joined_files_the_last_of_which_was_cut_all_before_the_cut_is_read(tmp_path, cut):
    first, second = part(tmp_path / "a", TIMES[:6], **PLAIN), part(tmp_path / "b", TIMES[6:], **PLAIN)
    (tmp_path / "joined.mcap").write_bytes((first + second)[:-cut])

    found, damage, warnings = all_said(tmp_path / "joined.mcap")

    assert found == (TIMES if cut < 50 else TIMES[:11])  # of a summary, a footer and the last bytes
    assert "is truncated" in damage[0] or "its end is damaged" in damage[0]
    assert len(warnings) == 1


def test_a_file_that_was_joined_to_itself_is_read_once(tmp_path):
    (tmp_path / "joined.mcap").write_bytes(2 * part(tmp_path / "a", TIMES))

    found, damage, _ = all_said(tmp_path / "joined.mcap")

    assert found == TIMES
    assert damage == [f"{tmp_path}/joined.mcap: holds the same messages twice; they were read once"]


def test_of_very_many_joined_files_the_first_are_read_and_it_is_said(tmp_path):
    parts = [part(tmp_path / "one", [START_NS + n * 10**8], **PLAIN) for n in range(101)]
    (tmp_path / "joined.mcap").write_bytes(b"".join(parts))

    found, damage, _ = all_said(tmp_path / "joined.mcap")

    assert found == [START_NS + n * 10**8 for n in range(100)]
    assert damage == [f"{tmp_path}/joined.mcap: more than 100 MCAP files were joined to it; the rest was not read"]


def test_what_the_metadata_say_of_a_joined_file_is_compared_with_all_of_it(tmp_path):
    bag = tiny_bag.folder(tmp_path / "bag")
    (bag / "bag.mcap").write_bytes(part(tmp_path / "a", TIMES[:6]) + part(tmp_path / "b", TIMES[6:]))
    assert read(bag) == (TIMES, [])

    tiny_bag.edit(bag, files=lambda entries: [{**entries[0], "message_count": 6}])
    found, (said,) = read(bag)
    assert found == TIMES
    assert said.endswith("metadata.yaml: bag.mcap: 6 messages are promised, 12 were found")
