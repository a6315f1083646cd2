"""Owns: bags that are written, byte for byte what was given. Oracles: rosbags, mcap, and this package's own reader.

Leaves to others: what is written (test_bag_store, test_results_bag, test_black_box).
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from paths import files_of_at_most
from rosbags.rosbag2 import Reader
from tiny_bag import IMAGE, START_NS, TYPES, payload, picture, read, string

from cnn_perception.bag import mcap_writer
from cnn_perception.bag.writer import BagWriter

STRING = "std_msgs/msg/String"
KINDS = {"/camera": IMAGE, "/said": STRING, "/also said": STRING}
MESSAGES = st.lists(
    st.tuples(st.sampled_from([*KINDS]), st.integers(0, 10**9), st.integers(0, 3), st.booleans()),
    min_size=1,
    max_size=20,
)


def content(topic: str, size: int) -> bytes:
    return payload(picture(START_NS, 1 + size) if topic == "/camera" else string("x" * size))


def write(path: Path, messages) -> list[tuple[str, int, bytes]]:
    """Writes (topic, nanoseconds, size, whether to flush); returns what was written."""
    writer = BagWriter(path, TYPES, {"why": "a test"})
    written = []
    for topic, after_ns, size, flushes in messages:
        written.append((topic, START_NS + after_ns, content(topic, size)))
        writer.write(topic, KINDS[topic], *written[-1][1:])
        if flushes:
            writer.flush()
    writer.close()
    return written


def by_rosbags(path: Path) -> list[tuple[str, int, bytes]]:
    with Reader(path) as reader:
        assert {connection.topic: connection.msgtype for connection in reader.connections}.items() <= KINDS.items()
        return [(connection.topic, time_ns, bytes(data)) for connection, time_ns, data in reader.messages()]


def by_mcap(path: Path) -> list[tuple[str, int, bytes]]:
    with (path / f"{path.name}.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = [(channel.topic, message.log_time, message.data) for _, channel, message in reader.iter_messages()]
        summary = reader.get_summary()
        assert summary.statistics.message_count == len(found)
        assert (summary.statistics.message_start_time, summary.statistics.message_end_time) == (
            min(time_ns for _, time_ns, _ in found),
            max(time_ns for _, time_ns, _ in found),
        )
        (record,) = reader.iter_metadata()
        assert yaml.safe_load(record.metadata["serialized_metadata"])["message_count"] == len(found)
        return found


@hypothesis_settings(max_examples=40, deadline=None)
@given(MESSAGES)
def test_whatever_is_written_is_read_whole_by_rosbags_and_by_mcap(messages):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bag"
        written = sorted(write(path, messages))
        assert sorted(by_rosbags(path)) == written
        assert sorted(by_mcap(path)) == written


def test_this_packages_reader_finds_nothing_wrong_and_metadata_are_plain(tmp_path):
    write(tmp_path / "bag", [("/camera", number, 3, number % 2 == 0) for number in range(5)])

    assert read(tmp_path / "bag") == ([START_NS + number for number in range(5)], [])
    text = (tmp_path / "bag" / "metadata.yaml").read_text()
    information = yaml.safe_load(text)["rosbag2_bagfile_information"]
    assert "&id" not in text  # which some parsers of YAML do not know
    assert (information["message_count"], information["custom_data"]) == (5, {"why": "a test"})
    assert information["duration"] == {"nanoseconds": 4}
    (topic,) = information["topics_with_message_count"]
    assert topic["topic_metadata"]["type_description_hash"] == TYPES.hash_rihs01(IMAGE)


def test_system_that_writes_a_few_bytes_at_a_time_gives_the_same_file(tmp_path, monkeypatch):
    messages = [("/camera", 0, 3, False), ("/said", 1, 2, True), ("/camera", 2, 1, False)]
    write(tmp_path / "a" / "bag", messages)
    really = os.writev
    monkeypatch.setattr(mcap_writer.os, "writev", lambda descriptor, parts: really(descriptor, [parts[0][:7]]))
    write(tmp_path / "b" / "bag", messages)

    for name in ("bag.mcap", "metadata.yaml"):
        assert (tmp_path / "a" / "bag" / name).read_bytes() == (tmp_path / "b" / "bag" / name).read_bytes()


def test_many_small_messages_are_one_chunk_and_a_large_one_ends_it(tmp_path):
    writer = BagWriter(tmp_path / "bag", TYPES, {})
    for number in range(2000):
        writer.write("/said", STRING, START_NS + number, content("/said", 1))
    assert (tmp_path / "bag" / "bag.mcap").stat().st_size < 200
    writer.write("/camera", IMAGE, START_NS + 2000, payload(picture(START_NS, 700)))
    assert (tmp_path / "bag" / "bag.mcap").stat().st_size > 700 * 700 * 3
    writer.close()

    assert len(by_mcap(tmp_path / "bag")) == len(by_rosbags(tmp_path / "bag")) == 2001


def test_disk_that_fills_up_leaves_a_file_that_ends_with_a_whole_message(tmp_path):
    writer = BagWriter(tmp_path / "bag", TYPES, {})
    image = payload(picture(START_NS, 60))
    room = 50_000 // len(image)
    with files_of_at_most(50_000):
        for number in range(room):
            writer.write("/camera", IMAGE, START_NS + number, image)
            writer.flush()
        writer.write("/camera", IMAGE, START_NS + room, image)
        with pytest.raises(OSError, match="File too large"):
            writer.flush()
    writer.abandon()

    stamps, damage = read(tmp_path / "bag")
    assert stamps == [START_NS + number for number in range(room)]
    assert [line for line in damage if "damaged" in line] == []  # it has no index, but nothing of it is torn


def test_bag_that_is_closed_is_on_the_disk_and_is_whole_before_the_disk_is_waited_for(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync

    def noting(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append(path.name)
        if path.name == "bag.mcap":  # a process that ends now leaves this
            assert by_rosbags(tmp_path / "bag") == by_mcap(tmp_path / "bag") == written
        fsync(descriptor)

    written = [("/said", START_NS, content("/said", 1))]
    monkeypatch.setattr(os, "fsync", noting)
    write(tmp_path / "bag", [("/said", 0, 1, True)])

    assert flushed == ["bag.mcap", "metadata.yaml", "bag", tmp_path.name]


def test_system_is_asked_to_store_all_but_the_last_megabytes_while_messages_come(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(mcap_writer, "_STORED_BYTES", 100_000)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, count, advice: asked.append((start, start + count, advice))
    )
    write(tmp_path / "bag", [("/camera", number, 70, True) for number in range(40)])

    assert [start for start, _, _ in asked] == [0, *(end for _, end, _ in asked[:-1])]
    assert (tmp_path / "bag" / "bag.mcap").stat().st_size - asked[-1][1] < 2 * 100_000
    assert {advice for _, _, advice in asked} == {os.POSIX_FADV_DONTNEED}


@pytest.mark.parametrize("during", ["finish", "close", "metadata.yaml"])
def test_disk_that_is_full_when_a_bag_is_closed_leaves_the_messages_and_nothing_unfinished(
    tmp_path, monkeypatch, during
):
    """In metadata.yaml, which is written once the file has its index, and where a disk tells at the end alone."""
    finish = mcap_writer.McapWriter.finish

    def full(descriptor):
        if during == "close" or Path(f"/proc/self/fd/{descriptor}").readlink().name == during:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finished(*arguments):
        finish(*arguments)
        limits.enter_context(files_of_at_most(10))

    writer = BagWriter(tmp_path / "bag", TYPES, {})
    writer.write("/camera", IMAGE, START_NS, content("/camera", 1))
    with ExitStack() as limits:
        if during == "finish":
            monkeypatch.setattr(mcap_writer.McapWriter, "finish", finished)
        else:
            monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"File too large|No space left"):
            writer.close()

    kept = ["bag.mcap"] if during == "finish" else ["bag.mcap", "metadata.yaml"]
    assert sorted(path.name for path in (tmp_path / "bag").iterdir()) == kept
    assert read(tmp_path / "bag")[0] == [START_NS]
    assert [path for path in Path("/proc/self/fd").iterdir() if "bag.mcap" in os.path.realpath(path)] == []


def test_bag_in_which_nothing_was_flushed_is_removed_and_one_of_others_never(tmp_path):
    writer = BagWriter(tmp_path / "bag", TYPES, {})
    writer.write("/said", STRING, START_NS, content("/said", 1))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "mine").write_text("")
    with pytest.raises(FileExistsError):
        BagWriter(tmp_path / "bag", TYPES, {})
    assert [path.name for path in (tmp_path / "bag").iterdir()] == ["mine"]


def test_name_with_messages_of_two_types_is_two_topics_as_in_a_recording_of_two_publishers(tmp_path):
    kinds = (IMAGE, STRING, IMAGE)
    contents = [content("/camera", 1), content("/said", 1), content("/camera", 2)]
    writer = BagWriter(tmp_path / "bag", TYPES, {})
    for number, (kind, message) in enumerate(zip(kinds, contents, strict=True)):
        writer.write("/camera", kind, START_NS + number, message)
    writer.close()

    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        found = [(schema.name, one.data) for schema, _, one in make_reader(file, validate_crcs=True).iter_messages()]
    assert found == list(zip(kinds, contents, strict=True))
    assert read(tmp_path / "bag")[0] == [START_NS, START_NS + 2]
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    about = [(one["topic_metadata"]["type"], one["message_count"]) for one in information["topics_with_message_count"]]
    assert sorted(about) == [(IMAGE, 2), (STRING, 1)]
