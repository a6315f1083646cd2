"""What a bag says of itself is compared with what is in it: every image there is read, or something is said.

Owned here: metadata.yaml, statistics, indexes, checksums, times, write-ahead logs, split and broken files. The oracle
is what was written. Leaves to others: messages, labels, SQL in a file (test_reader), limits (test_decompression).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import lz4.frame
import pytest
import tiny_bag
import yaml
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer
from tiny_bag import RED, START_NS, McapWriter, flat, mcap_record

from cnn_perception.bag.reader import Bag
from cnn_perception.errors import BagError, FrameError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
BOTH = pytest.mark.parametrize("storage", [MCAP, SQLITE], ids=["mcap", "sqlite3"])
SECOND = 10**9
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
TIMES = [START_NS + n * SECOND // 10 for n in range(12)]
CAMERA = ("/camera", "cdr", IMAGE, "ros2msg")


def payload(message) -> bytes:
    return bytes(tiny_bag.TYPES.serialize_cdr(message, message.__msgtype__))


def picture(time_ns: int, side: int = 30) -> object:
    return tiny_bag.raw(flat(RED, side, side), time_ns)


def images(times=TIMES) -> list[tuple[int, int, bytes]]:
    return [(1, time_ns, payload(picture(time_ns))) for time_ns in times]


def folder(path: Path, storage=MCAP, times=TIMES, **options) -> Path:
    messages = [("/camera", time_ns, picture(time_ns)) for time_ns in times]
    return tiny_bag.write_bag(path, messages, storage=storage, **options)


def database(path: Path) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path / "bag.db3", isolation_level=None))


def read(path: Path, topic: str | None = None) -> tuple[list[int], list[str]]:
    """Log times of the images in the order in which they come, each a good one, and the damage."""
    with Bag(path) as bag:
        found = list(bag.images(bag.image_topic(topic)))
        assert not [image for image in found if isinstance(image.frame, FrameError)]
        assert all("\n" not in line for line in bag.damage)
        return [image.log_time_ns for image in found], bag.damage


def edit(bag: Path, **changes) -> None:
    """Changes metadata.yaml; a value may be a function of the old one."""
    path = bag / "metadata.yaml"
    document = yaml.safe_load(path.read_text())
    information = document["rosbag2_bagfile_information"]
    for name, change in changes.items():
        information[name] = change(information[name]) if callable(change) else change
    path.write_text(yaml.safe_dump(document))


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


@BOTH
@pytest.mark.parametrize(
    ("times", "is_said"),
    [
        ([5 * SECOND + n for n in range(5)] + TIMES, True),
        (TIMES[:6] + [t - 3600 * SECOND for t in TIMES[6:]], True),
        (TIMES[:6] + [t - SECOND // 10 * 3 for t in TIMES[6:]], False),
        (TIMES[:6] + [t + 3 * 86400 * SECOND for t in TIMES[6:]], False),
    ],
    ids=["since 1970", "an hour back", "a moment back", "a weekend without frames"],
)
def test_clock_that_was_set_while_recording_is_said(tmp_path, storage, times, is_said):
    found, damage = read(folder(tmp_path / "bag", storage, times))

    assert found == sorted(times)
    assert any("the clock was set while recording: log times jump" in line for line in damage) == is_said
    assert len(damage) == is_said


@BOTH
def test_clock_that_was_set_between_two_files_is_said(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage, [n * SECOND for n in range(1, 4)])
    other = folder(tmp_path / "other", storage)
    ending = "mcap" if storage is MCAP else "db3"
    shutil.move(other / f"other.{ending}", bag / f"second.{ending}")
    (bag / "metadata.yaml").unlink()

    found, damage = read(bag)

    assert found == [n * SECOND for n in range(1, 4)] + TIMES
    assert any("the clock was set" in line and "+53.9 years" in line for line in damage)


def qos(reliability: QosReliability) -> Qos:
    never = QosTime(0, 0)
    keep, volatile, automatic = QosHistory.KEEP_LAST, QosDurability.VOLATILE, QosLiveliness.AUTOMATIC
    return Qos(keep, 1, reliability, volatile, never, never, automatic, never, False)


@BOTH
def test_every_file_of_a_split_bag_is_read_whatever_its_quality_of_service_was(tmp_path, storage):
    parts = []
    for name, times, policy in (
        ("a", TIMES[:6], QosReliability.BEST_EFFORT),
        ("b", TIMES[6:], QosReliability.RELIABLE),
    ):
        with Writer(tmp_path / name, version=9, storage_plugin=storage) as writer:
            topic = writer.add_connection(
                "/camera", IMAGE, typestore=tiny_bag.TYPES, offered_qos_profiles=[qos(policy)]
            )
            for time_ns in times:
                writer.write(topic, time_ns, payload(picture(time_ns)))
        parts.append(next(file for file in (tmp_path / name).iterdir() if file.stem == name))
    shutil.move(parts[1], tmp_path / "a")

    def twelve(topics):
        return [{**topics[0], "message_count": 12}]

    edit(tmp_path / "a", relative_file_paths=[part.name for part in parts], message_count=12,
         duration={"nanoseconds": TIMES[-1] - TIMES[0]}, topics_with_message_count=twelve)  # fmt: skip

    assert read(tmp_path / "a") == (TIMES, [])


def count_of(number):
    return lambda topics: [{**topic, "message_count": number} for topic in topics]


CLAIMS = {
    "start": (
        {"starting_time": {"nanoseconds_since_epoch": START_NS + SECOND}},
        "gives 1700000001.000 s as the time of the first message, it is 1700000000.000 s",
    ),
    "duration": ({"duration": {"nanoseconds": 9 * SECOND}}, "as the time of the last message"),
    "more": ({"topics_with_message_count": count_of(15)}, "/camera: 15 messages are promised, 12 were found"),
    "fewer": ({"topics_with_message_count": count_of(5)}, "/camera: 5 messages are promised, 12 were found"),
    "no topics": ({"topics_with_message_count": []}, "/camera: 0 messages are promised, 12 were found"),
    "total": ({"message_count": 99}, "99 messages are promised, 12 were found"),
    "missing file": (
        {"relative_file_paths": lambda names: [*names, "bag_1.mcap"]},
        "bag_1.mcap, which metadata.yaml lists, is missing",
    ),
    "other folder": (
        {"relative_file_paths": lambda names: [*names, "../../etc/bag_9.mcap"]},
        "bag_9.mcap, which metadata.yaml lists",
    ),
    "no list": ({"relative_file_paths": 7}, "metadata.yaml cannot be read"),
}


@BOTH
@pytest.mark.parametrize(("changes", "line"), CLAIMS.values(), ids=CLAIMS)
def test_everything_is_read_and_what_the_metadata_contradict_is_said(tmp_path, storage, changes, line):
    bag = folder(tmp_path / "bag", storage)
    edit(bag, **changes)

    found, damage = read(bag)

    assert found == TIMES
    assert any(line in said for said in damage), damage
    with Bag(bag) as opened:
        assert opened.start_ns == START_NS


IGNORED = {
    "quality of service": {
        "topics_with_message_count": lambda topics: [
            {**topic, "topic_metadata": {**topic["topic_metadata"], "offered_qos_profiles": "no: [yaml"}}
            for topic in topics
        ]
    },
    "type": {
        "topics_with_message_count": lambda topics: [
            {**topic, "topic_metadata": {**topic["topic_metadata"], "type": "a/msg/B", "serialization_format": "x"}}
            for topic in topics
        ]
    },
    "version": {"version": 99},
    "storage": {"storage_identifier": "unheard_of"},
    "listed twice": {"relative_file_paths": lambda names: names * 2},
    "a quarter of a microsecond": {"starting_time": {"nanoseconds_since_epoch": START_NS + 256}},
}


@BOTH
@pytest.mark.parametrize("changes", IGNORED.values(), ids=IGNORED)
def test_metadata_that_decide_nothing_are_not_asked(tmp_path, storage, changes):
    bag = folder(tmp_path / "bag", storage)
    edit(bag, **changes)

    assert read(bag) == (TIMES, [])


def merged(times: int) -> str:
    """YAML that a merge key makes nine times as large with each line."""
    first = "rosbag2_bagfile_information:\n  a0: &a0 {x: 1}\n"
    return first + "".join(f"  a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, times))


NO_METADATA = {
    "empty": "",
    "zero": "\0",
    "deep": "[" * 9000,
    "list as a key": "a: &a [1]\nb: {*a: 1}",
    "merged": merged(30),
    "sexagesimal": "rosbag2_bagfile_information: {message_count: 1" + ":59" * 100_000 + "}",
}


@BOTH
@pytest.mark.parametrize("text", NO_METADATA.values(), ids=NO_METADATA)
def test_metadata_that_are_none_are_said_and_everything_is_read(tmp_path, storage, text):
    bag = folder(tmp_path / "bag", storage)
    (bag / "metadata.yaml").write_text(text)

    found, damage = read(bag)

    assert found == TIMES
    assert len(damage) == 1
    assert "metadata.yaml cannot be read" in damage[0]


@BOTH
def test_metadata_that_are_no_file_are_said_and_everything_is_read(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)
    (bag / "metadata.yaml").unlink()
    os.mkfifo(bag / "metadata.yaml")

    found, damage = read(bag)

    assert found == TIMES
    assert "metadata.yaml is no file" in damage[0]


@BOTH
def test_file_that_the_metadata_do_not_list_is_read_and_said(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage, TIMES[:6])
    other = folder(tmp_path / "other", storage, TIMES[6:])
    ending = "mcap" if storage is MCAP else "db3"
    shutil.move(other / f"other.{ending}", bag / f"a_second.{ending}")

    found, damage = read(bag)

    assert found == TIMES
    assert any(f"a_second.{ending} is not listed in metadata.yaml" in line for line in damage)


@BOTH
def test_file_that_is_there_twice_is_read_once(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)
    ending = "mcap" if storage is MCAP else "db3"
    shutil.copy(bag / f"bag.{ending}", bag / f"bag copy.{ending}")

    found, damage = read(bag)

    assert found == TIMES
    assert any("holds the same messages" in line for line in damage)


@BOTH
def test_file_that_is_there_packed_and_unpacked_is_read_once(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)
    file = next(file for file in bag.iterdir() if file.stem == "bag")
    file.with_name(f"{file.name}.zstd").write_bytes(zstd.compress(file.read_bytes())[:-9])

    found, damage = read(bag)

    assert found == TIMES
    assert len(damage) == 1
    assert f"{file.name}.zstd was not read, because {file.name} is there too" in damage[0]


@BOTH
@pytest.mark.parametrize("change", ["packed since", "unpacked since"])
def test_file_that_was_packed_or_unpacked_since_is_read_and_said(tmp_path, storage, change):
    mode = CompressionMode.NONE if change == "packed since" else CompressionMode.FILE
    bag = folder(tmp_path / "bag", storage, compression=mode)
    file = next(file for file in bag.iterdir() if file.name.startswith("bag."))
    if change == "packed since":
        file.with_name(f"{file.name}.zstd").write_bytes(zstd.compress(file.read_bytes()))
    else:
        file.with_suffix("").write_bytes(zstd.decompress(file.read_bytes()))
    file.unlink()

    found, damage = read(bag)

    assert found == TIMES
    assert len(damage) == 1
    assert "is missing;" in damage[0]


@BOTH
def test_messages_of_two_image_types_on_one_topic_are_all_read(tmp_path, storage):
    messages = [
        ("/camera", time_ns, tiny_bag.compressed(flat(RED), time_ns, "png") if n < 4 else picture(time_ns))
        for n, time_ns in enumerate(TIMES)
    ]
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {
            kind: writer.add_connection("/camera", kind, typestore=tiny_bag.TYPES) for kind in (COMPRESSED, IMAGE)
        }
        for topic, time_ns, message in messages:
            assert topic == "/camera"
            writer.write(connections[message.__msgtype__], time_ns, payload(message))

    assert read(path) == (TIMES, [])
    with Bag(path) as bag:
        assert bag.image_topic().count == 12


@BOTH
def test_messages_of_other_types_on_the_topic_are_named(tmp_path, storage):
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=storage) as writer:
        camera = writer.add_connection("/camera", IMAGE, typestore=tiny_bag.TYPES)
        words = writer.add_connection("/camera", "std_msgs/msg/String", typestore=tiny_bag.TYPES)
        for time_ns in TIMES:
            writer.write(camera, time_ns, payload(picture(time_ns)))
        writer.write(words, TIMES[0], payload(tiny_bag.string("x")))

    found, damage = read(path)

    assert found == TIMES
    assert damage == [f"{path}: /camera: 1 messages of std_msgs/msg/String on it were not read"]


@BOTH
def test_activation_is_not_taken_for_the_camera(tmp_path, storage):
    scores = tiny_bag._T["sensor_msgs/msg/Image"](
        tiny_bag.header(START_NS), 1, 2, "32FC1", 0, 8, tiny_bag.np.zeros(8, "uint8")
    )
    messages = [("/perception/score_map", TIMES[0], scores), *(("/camera", t, picture(t)) for t in TIMES)]
    both = tiny_bag.write_bag(tmp_path / "both", messages, storage=storage)
    alone = tiny_bag.write_bag(tmp_path / "alone", messages[:1], storage=storage)

    assert read(both) == (TIMES, [])
    with Bag(alone) as bag, pytest.raises(BagError, match=r"name one with --topic.*/perception/score_map \(1, 32FC1\)"):
        bag.image_topic()


def killed(path: Path, in_file: int) -> Path:
    """A bag whose recorder was killed in WAL mode, with all but some messages in the log."""
    whole = folder(path.with_name(f"whole_{path.name}"), SQLITE)
    path.mkdir()
    code = """if True:
        import os, sqlite3, sys
        source, target = (sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:3])
        target.execute("PRAGMA journal_mode=WAL")
        target.execute("PRAGMA wal_autocheckpoint=0")
        for (sql,) in source.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL"):
            target.execute(sql)
        for table in ("schema", "topics"):
            for row in source.execute(f"SELECT * FROM {table}"):
                target.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
        for row in source.execute("SELECT * FROM messages"):
            if row[0] == int(sys.argv[3]) + 1:
                target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            target.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", row)
        os._exit(9)
    """
    subprocess.run(
        [sys.executable, "-c", code, whole / f"{whole.name}.db3", path / "bag.db3", str(in_file)], check=False
    )
    return path


@pytest.mark.parametrize("as_file", [True, False])
def test_write_ahead_log_is_read_and_nothing_is_written_beside_it(tmp_path, as_file):
    bag = killed(tmp_path / "bag", 3)
    before = {file.name: file.read_bytes() for file in bag.iterdir() if not file.name.endswith("-shm")}
    names = {file.name for file in bag.iterdir()}

    found, damage = read(bag / "bag.db3" if as_file else bag)

    assert found == TIMES
    assert [line for line in damage if "metadata.yaml" not in line] == []
    assert {name: (bag / name).read_bytes() for name in before} == before
    assert {file.name for file in bag.iterdir()} == names


@pytest.mark.parametrize("kind", ["cut", "flipped", "other salt"])
def test_part_of_a_write_ahead_log_that_cannot_be_used_is_said(tmp_path, kind):
    bag = killed(tmp_path / "bag", 3)
    log = bag / "bag.db3-wal"
    data = bytearray(log.read_bytes())
    if kind == "cut":
        del data[len(data) * 2 // 3 :]
    else:
        data[len(data) * 2 // 3 if kind == "flipped" else 17] ^= 1
    log.write_bytes(data)

    found, damage = read(bag / "bag.db3")

    assert found == TIMES[: len(found)]
    assert 3 <= len(found) < 12
    assert damage


def test_rollback_journal_is_not_played_back(tmp_path):
    bag = folder(tmp_path / "bag", SQLITE)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (bag / "bag.db3-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600) + bytes(victim))

    found, damage = read(bag)

    assert found == TIMES
    assert "the recorder's last transaction was not ended; bag.db3-journal was not used" in damage[0]
    assert victim.read_text() == "kept"
    assert (bag / "bag.db3-journal").exists()


DATABASES = {
    "empty definitions": ("UPDATE message_definitions SET encoding = '', encoded_message_definition = ''", ""),
    "unknown definitions": ("UPDATE message_definitions SET encoding = 'unknown'", ""),
    "no definitions": ("DROP TABLE message_definitions", ""),
    "no index": ("DROP INDEX timestamp_idx", ""),
    "schema of the future": ("UPDATE schema SET schema_version = 99", ""),
    "type of ROS 1": ("UPDATE topics SET type = 'sensor_msgs/Image'", ""),
    "quality of service": ("UPDATE topics SET offered_qos_profiles = 'no: [yaml'", ""),
    "another topic without a name": ("INSERT INTO topics VALUES (9, x'ff', x'fe', 'cdr', '', '')", ""),
    "deleted": ("DELETE FROM messages WHERE id = 12", "/camera: 12 messages are promised, 11 were found"),
    "topic of no message": ("UPDATE messages SET topic_id = 7 WHERE id = 12", "1 messages are of no topic"),
    "time that is none": (
        "UPDATE messages SET timestamp = 'noon' WHERE id = 12",
        "1 messages have no topic or no time",
    ),
    "text for bytes": (
        "UPDATE messages SET data = 'abc' WHERE id = 12",
        "1 messages are lost (its row holds no bytes)",
    ),
}


@pytest.mark.parametrize(("statement", "line"), DATABASES.values(), ids=DATABASES)
def test_database_is_read_whatever_stands_beside_its_messages(tmp_path, statement, line):
    bag = folder(tmp_path / "bag", SQLITE)
    with database(bag) as connection:
        connection.execute(statement)

    found, damage = read(bag)

    assert found == TIMES[: 11 if line else 12]
    assert any(line in said for said in damage) if line else damage == []


def test_rows_before_and_behind_a_broken_page_are_read(tmp_path):
    times = [START_NS + n * SECOND for n in range(200)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/camera", t, picture(t, 8)) for t in times], storage=SQLITE)
    path = bag / "bag.db3"
    data = bytearray(path.read_bytes())
    middle = data.index(payload(picture(times[100], 8)))
    page = middle // 4096 * 4096
    data[page : page + 8] = b"\xff" * 8
    path.write_bytes(data)

    found, damage = read(bag)

    assert {*times[:80], *times[120:]} <= set(found) < set(times)
    assert found == sorted(found)
    assert any(f"is damaged; {len(found)} messages were read" in line for line in damage)
    assert any(f"/camera: 200 messages are promised, {len(found)} were found" in line for line in damage)


def test_tree_that_leads_round_and_round_ends(tmp_path):
    times = [START_NS + n * SECOND for n in range(200)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [("/camera", t, picture(t, 8)) for t in times], storage=SQLITE)
    with database(bag) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'")
    path = bag / "bag.db3"
    data = bytearray(path.read_bytes())
    start = (root - 1) * 4096
    assert data[start] == 5  # an inner page of a table
    cells = struct.unpack_from(">H", data, start + 3)[0]
    first = struct.unpack_from(">H", data, start + 12)[0]
    for cell in range(1, cells):  # each leads to the first leaf
        at = struct.unpack_from(">H", data, start + 12 + 2 * cell)[0]
        data[start + at : start + at + 4] = data[start + first : start + first + 4]
    path.write_bytes(data)

    found, damage = read(bag)

    assert len(found) == len(set(found)) < 200
    assert any("200 messages are promised" in line for line in damage)
