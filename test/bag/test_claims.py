"""What a bag says of itself is compared with what is in it: every image there is read, or something is said.

Owned here: metadata.yaml, times, split files, topics, of both storages. The oracle is what was written. Leaves to
others: one storage alone (test_mcap_files, test_sqlite_files), messages, labels, SQL in a file (test_reader), limits
(test_decompression).
"""

from __future__ import annotations

import os
import shutil
import sys

import pytest
import tiny_bag
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionMode, Writer
from tiny_bag import RED, START_NS, flat

from cnn_perception.bag.message_types import stored_type
from cnn_perception.bag.reader import Bag
from cnn_perception.errors import BagError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd
from tiny_bag import BOTH, COMPRESSED, IMAGE, MCAP, SECOND, TIMES, edit, folder, payload, picture, read


@BOTH
@pytest.mark.parametrize(
    ("times", "is_said"),
    [
        ([5 * SECOND + n for n in range(5)] + TIMES, True),
        (TIMES[:6] + [t - 3600 * SECOND for t in TIMES[6:]], True),
        (TIMES[:6] + [t - SECOND * 7 // 2 for t in TIMES[6:]], True),
        (TIMES[:6] + [t - SECOND // 10 * 7 for t in TIMES[6:]], True),
        (TIMES[:6] + [t - SECOND // 10 * 6 for t in TIMES[6:]], False),
        (TIMES[:6] + [t - SECOND // 10 * 3 for t in TIMES[6:]], False),
        (TIMES[:6] + [t + 3 * 86400 * SECOND for t in TIMES[6:]], False),
    ],
    ids=[
        "since 1970",
        "an hour back",
        "as NTP steps",
        "a little more than threads explain",
        "half a second back",
        "a moment back",
        "a weekend without frames",
    ],
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


@BOTH
@pytest.mark.parametrize(("back_s", "is_said"), [(0.3, False), (0.6, True), (1.1, True)])
def test_clock_that_was_set_back_between_two_files_is_said(tmp_path, storage, back_s, is_said):
    """Even where the second file, by its log times, comes first: its frames come among those of the other."""
    later = [time_ns + TIMES[-1] - TIMES[0] - round(back_s * SECOND) + SECOND // 1000 for time_ns in TIMES]
    bag = folder(tmp_path / "bag", storage)
    other = folder(tmp_path / "other", storage, later)
    ending = "mcap" if storage is MCAP else "db3"
    shutil.move(other / f"other.{ending}", bag / f"second.{ending}")
    (bag / "metadata.yaml").unlink()

    found, damage = read(bag)

    assert found == sorted(TIMES + later)
    assert (
        any("/camera begins in it" in line and "the clock was set between them" in line for line in damage) == is_said
    )
    assert len(damage) == 1 + is_said  # there is no metadata.yaml


def test_a_step_back_says_by_how_much_and_what_it_does_to_the_order(tmp_path):
    _, damage = read(folder(tmp_path / "bag", MCAP, TIMES[:6] + [t - 2 * SECOND for t in TIMES[6:]]))

    assert any("(-1.9 s)" in line and "in the order of log times, not of recording" in line for line in damage)


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


def about(**claims):
    return lambda topics: [{**topic, "topic_metadata": {**topic["topic_metadata"], **claims}} for topic in topics]


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
    "type": (
        {"topics_with_message_count": about(type="std_msgs/msg/String")},
        "metadata.yaml says that /camera is std_msgs/msg/String, it is sensor_msgs/msg/Image",
    ),
    "serialisation": (
        {"topics_with_message_count": about(serialization_format="json")},
        "says that /camera is sensor_msgs/msg/Image (json), it is sensor_msgs/msg/Image",
    ),
    "storage": ({"storage_identifier": "unheard_of"}, "metadata.yaml says that the storage is unheard_of, it is "),
    "compressed as a whole": (
        {"compression_mode": "FILE", "compression_format": "zstd"},
        "metadata.yaml says that the compression_mode is FILE, it is NONE",
    ),
    "compressed by message": (
        {"compression_mode": "message", "compression_format": "zstd"},
        "metadata.yaml says that the compression_mode is MESSAGE, it is NONE",
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


def claim(name, times, **others):
    """An entry of `files`, as rosbag2 writes it."""
    start, duration = (times[0], times[-1] - times[0]) if times else (2**63 - 1, 0)
    said = {"starting_time": {"nanoseconds_since_epoch": start}, "duration": {"nanoseconds": duration}}
    return {"path": name, **said, "message_count": len(times), **others}


def split(path, storage, **options):
    """A bag of two files; returns their names."""
    bag = folder(path, storage, TIMES[:5], **options)
    other = next(one for one in folder(path.with_name("other"), storage, TIMES[5:], **options).glob("other.*"))
    first = next(one for one in bag.iterdir() if one.name.startswith(f"{path.name}."))
    names = [first.name, f"second.{other.name.partition('.')[2]}"]
    shutil.move(other, bag / names[1])
    edit(
        bag,
        relative_file_paths=names,
        message_count=12,
        duration={"nanoseconds": TIMES[-1] - TIMES[0]},
        topics_with_message_count=count_of(12),
        files=[claim(names[0], TIMES[:5]), claim(names[1], TIMES[5:])],
    )
    return names


@BOTH
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"message_count": 9}, "9 messages are promised, 7 were found"),
        ({"message_count": 0}, "0 messages are promised, 7 were found"),
        (
            {"starting_time": {"nanoseconds_since_epoch": START_NS - 9 * SECOND}},
            "it gives 1699999991.000 s as the time of the first message, it is 1700000000.500 s; the messages' own",
        ),
        ({"duration": {"nanoseconds": 9 * SECOND}}, "it gives 1700000009.500 s as the time of the last message"),
    ],
    ids=["more", "none", "start", "duration"],
)
def test_what_the_metadata_say_of_one_file_of_several_is_compared_with_it(tmp_path, storage, change, line):
    bag = tmp_path / "bag"
    names = split(bag, storage)
    assert read(bag) == (TIMES, [])

    edit(bag, files=[claim(names[0], TIMES[:5]), claim(names[1], TIMES[5:], **change)])
    found, damage = read(bag)

    assert found == TIMES
    assert any(f"{bag}: metadata.yaml: {names[1]}: {line}" in said for said in damage), damage
    assert not [said for said in damage if names[0] in said]


@BOTH
def test_messages_that_the_metadata_give_to_a_file_without_any_are_said(tmp_path, storage):
    names = split(tmp_path / "bag", storage)
    folder(tmp_path / "empty", storage, []).joinpath(names[0].replace("bag", "empty")).replace(
        tmp_path / "bag" / names[0]
    )

    found, damage = read(tmp_path / "bag")

    assert found == TIMES[5:]
    assert any(f"{names[0]}: 5 messages are promised, 0 were found" in said for said in damage), damage


def test_wrong_claims_of_many_files_are_counted(tmp_path):
    bag = folder(tmp_path / "bag", MCAP, TIMES[:1])
    for n in range(1, 12):
        folder(tmp_path / f"b{n:02}", MCAP, [TIMES[n]]).joinpath(f"b{n:02}.mcap").rename(bag / f"b{n:02}.mcap")
    names = sorted(path.name for path in bag.glob("*.mcap"))
    edit(bag, relative_file_paths=names, files=[claim(name, TIMES[:1], message_count=4) for name in names])

    found, damage = read(bag)

    assert found == TIMES
    assert sum("4 messages are promised, 1 were found" in line for line in damage) < 6
    assert any("other claims of its files are wrong" in line for line in damage)


def of_files(change):
    return lambda entries: [change(entry) for entry in entries]


NO_CLAIMS = {
    "before version 5": None,
    "an empty list, as after a reindexing": lambda entries: [],
    "null": "null",
    "of no file": of_files(lambda entry: {**entry, "path": "elsewhere.mcap"}),
    "never filled in": of_files(lambda entry: claim(entry["path"], [])),
    "all 0": of_files(lambda entry: claim(entry["path"], [0], message_count=0)),
    "no times": of_files(lambda entry: {"path": entry["path"], "message_count": entry["message_count"]}),
    "times 0": of_files(lambda entry: claim(entry["path"], [0], message_count=entry["message_count"])),
    "names before they were packed": of_files(lambda entry: {**entry, "path": entry["path"].removesuffix(".zstd")}),
    "folders before the names": of_files(lambda entry: {**entry, "path": f"bag/{entry['path']}"}),
    "ends too early by what threads mix up": of_files(
        lambda entry: {**entry, "duration": {"nanoseconds": entry["duration"]["nanoseconds"] - SECOND // 5}}
    ),
}


@BOTH
@pytest.mark.parametrize("mode", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("change", NO_CLAIMS.values(), ids=NO_CLAIMS)
def test_what_recorders_leave_out_of_the_list_of_files_is_no_contradiction(tmp_path, storage, mode, change):
    bag = tmp_path / "bag"
    split(bag, storage, compression=mode)
    edit(bag, files=change)

    assert read(bag) == (TIMES, [])


@BOTH
def test_a_last_file_that_was_begun_and_got_no_message_is_no_contradiction(tmp_path, storage):
    names = split(tmp_path / "bag", storage)
    last = names[0].replace("bag", "empty")
    folder(tmp_path / "empty", storage, []).joinpath(last).rename(tmp_path / "bag" / last)
    edit(tmp_path / "bag", relative_file_paths=[*names, last], files=lambda entries: [*entries, claim(last, [])])

    assert read(tmp_path / "bag") == (TIMES, [])


@BOTH
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
def test_a_compression_that_the_metadata_do_not_tell_is_read_and_said(tmp_path, storage, mode):
    if storage is not MCAP and mode is CompressionMode.STORAGE:
        pytest.skip("only MCAP files are compressed inside")
    bag = folder(tmp_path / "bag", storage, compression=mode)
    assert read(bag) == (TIMES, [])
    if mode is CompressionMode.STORAGE:
        return

    edit(bag, compression_format="lz4")
    found, (said,) = read(bag)
    assert found == TIMES
    assert "metadata.yaml says that the compression_format is lz4, it is zstd" in said

    edit(bag, compression_mode="", compression_format="")
    found, (said,) = read(bag)
    assert found == TIMES
    assert f"metadata.yaml says that the compression_mode is NONE, it is {mode.name}" in said


IGNORED = {
    "quality of service": {
        "topics_with_message_count": lambda topics: [
            {**topic, "topic_metadata": {**topic["topic_metadata"], "offered_qos_profiles": "no: [yaml"}}
            for topic in topics
        ]
    },
    "version": {"version": 99},
    "storage and compression not said": {
        "storage_identifier": "",
        "compression_mode": None,
        "compression_format": None,
    },
    "type and serialisation not said": {"topics_with_message_count": about(type="", serialization_format="")},
    "type in the style of ROS 1": {"topics_with_message_count": about(type="sensor_msgs/Image")},
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
    assert damage == [
        f"{bag}: bag copy.{ending} is not listed in metadata.yaml",
        f"{bag}/bag copy.{ending}: holds the same messages as bag.{ending}; it was left out",
    ]


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


# ---- a time axis that is none


def with_a_camera(path, storage, log_times, stamps):
    return tiny_bag.write_bag(
        path, [("/camera", log, picture(stamp)) for log, stamp in zip(log_times, stamps, strict=True)], storage=storage
    )


@BOTH
@pytest.mark.parametrize(
    ("times", "line"),
    [
        ([START_NS] * 12, "all 12 images of /camera have the log time 1700000000.000 s: the bag has no time axis"),
        ([0] * 12, "all 12 images of /camera have the log time 0.000 s: the bag has no time axis"),
        ([0] * 3, "all 3 images of /camera have the log time 0.000 s"),
        ([t // 10**3 for t in TIMES], "the 12 images of /camera have log times within 0.001100 s, faster than any"),
        ([t // 10**6 for t in TIMES], "the 12 images of /camera have log times within 0.000001 s, faster than any"),
        ([0] * 2, ""),
        ([t - START_NS for t in TIMES], ""),
        ([START_NS + n * SECOND // 500 for n in range(12)], ""),
        ([START_NS + n for n in range(9)], ""),
    ],
    ids=[
        "one time",
        "never set",
        "three",
        "microseconds",
        "milliseconds",
        "two",
        "a simulation's",
        "a camera at 500 Hz",
        "few that had waited",
    ],
)
def test_log_times_that_are_no_time_axis_are_said_whatever_the_stamps_are(tmp_path, storage, times, line):
    found, damage = read(with_a_camera(tmp_path / "bag", storage, times, [0] * len(times)))

    assert found == times
    assert len(damage) == bool(line)
    assert all(line in said for said in damage)


def test_one_log_time_is_said_over_the_files_of_a_split_bag_and_of_images_alone(tmp_path):
    """Latched texts are all recorded at once when a recorder begins: that is nothing odd."""
    words = [("/words", START_NS, tiny_bag.string(f"word {number}")) for number in range(4)]
    images = [("/camera", START_NS, picture(number)) for number in (1, 2)]
    bag = tiny_bag.write_bag(tmp_path / "bag", [*images, *words])
    others = [("/camera", START_NS, picture(number)) for number in (3, 4)]
    shutil.move(tiny_bag.write_bag(tmp_path / "other", others) / "other.mcap", bag / "second.mcap")
    (bag / "metadata.yaml").unlink()

    _, damage = read(bag)

    assert [line for line in damage if "time axis" in line] == [
        f"{bag}: all 4 images of /camera have the log time 1700000000.000 s: the bag has no time axis"
    ]


STAMPS = [START_NS - 5_000_000 + n * SECOND // 10 for n in range(20)]  # 1.9 s
AXES = {
    "as recorded": ([t + 5_000_000 for t in STAMPS], STAMPS, ""),
    "ten times as slow": (
        [START_NS + 10 * (t - START_NS) for t in STAMPS],
        STAMPS,
        "1.9 s by their stamps and 19 s by",
    ),
    "in a moment": ([START_NS + n * 2_000_000 for n in range(20)], STAMPS, "1.9 s by their stamps and 0.038 s by"),
    "a slow link": ([t + n * SECOND // 10 for n, t in enumerate(STAMPS)], STAMPS, ""),
    "waited for the recorder": ([max(t, STAMPS[9]) + n for n, t in enumerate(STAMPS)], STAMPS, ""),
    "no stamps": ([START_NS + 10 * (t - START_NS) for t in STAMPS], [0] * 20, ""),
    "one that is not set": ([START_NS + 10 * (t - START_NS) for t in STAMPS], [*STAMPS[:19], 0], ""),
    "stamps of a clock that was set": (STAMPS, [t - START_NS + SECOND for t in STAMPS[:9]] + STAMPS[9:], ""),
    "stamps that fall": ([START_NS + 10 * (t - START_NS) for t in STAMPS], STAMPS[::-1], ""),
    "stamps of two threads": (
        [START_NS + 10 * (t - START_NS) for t in STAMPS],
        [STAMPS[n ^ 1] for n in range(20)],
        "by their stamps and 19 s by",
    ),
}


@BOTH
@pytest.mark.parametrize(("log_times", "stamps", "line"), AXES.values(), ids=AXES)
def test_images_that_take_another_time_by_their_stamps_than_by_their_log_times_are_warned_of(
    tmp_path, storage, log_times, stamps, line
):
    with Bag(with_a_camera(tmp_path / "bag", storage, log_times, stamps)) as bag:
        for _ in range(2):  # said once
            assert len(list(bag.images(bag.image_topic()))) == 20
        assert len(list(bag.recorded("/camera", (IMAGE,)))) == 20
        warnings = bag.warnings

    assert len(warnings) == bool(line)
    assert all(f"{tmp_path / 'bag'}: /camera: its 20 images take" in said and line in said for said in warnings)


# ---- files that look like copies of each other


def split_in_two(path, storage, log_times, packing=CompressionMode.NONE):
    """Two files of five images each, of which all stamps differ, in one folder without metadata.yaml."""
    halves = []
    for number in range(2):
        stamps = [START_NS + (5 * number + n) * SECOND // 10 for n in range(5)]
        messages = [("/camera", log, picture(stamp)) for log, stamp in zip(log_times, stamps, strict=True)]
        mode = packing if number else CompressionMode.NONE
        halves.append(tiny_bag.write_bag(path / f"z_{number}", messages, storage=storage, compression=mode))
    for half in halves:
        file = next(one for one in half.iterdir() if one.stem.startswith("z_"))
        shutil.move(file, path / file.name)
        shutil.rmtree(half)
    return path


@BOTH
@pytest.mark.parametrize("log_times", [[0] * 5, [START_NS] * 5, TIMES[:5]], ids=["never set", "one time", "set later"])
def test_files_of_the_same_times_but_other_messages_are_all_read(tmp_path, storage, log_times):
    with Bag(split_in_two(tmp_path, storage, log_times)) as bag:
        found = {image.stamp_ns for image in bag.images(bag.image_topic())}

    assert found == {START_NS + n * SECOND // 10 for n in range(10)}
    assert not any("left out" in line for line in bag.damage)


@BOTH
def test_files_that_differ_in_a_message_in_the_middle_are_both_read(tmp_path, storage):
    for number, middle in enumerate((RED, tiny_bag.BLUE)):
        pictures = [tiny_bag.raw(flat(middle if n == 2 else RED), 0) for n in range(5)]
        bag = tiny_bag.write_bag(tmp_path / f"b_{number}", [("/camera", 0, one) for one in pictures], storage=storage)
        shutil.move(next(one for one in bag.iterdir() if one.stem.startswith("b_")), tmp_path)
        shutil.rmtree(bag)

    assert len(read(tmp_path)[0]) == 10


@BOTH
def test_a_copy_whose_messages_are_packed_one_by_one_is_a_copy(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)
    packed = folder(tmp_path / "packed", storage, compression=CompressionMode.MESSAGE)
    shutil.move(next(one for one in packed.iterdir() if one.stem == "packed"), bag)

    found, damage = read(bag)

    assert found == TIMES
    assert any("holds the same messages as bag." in line for line in damage)


# ---- what lies in the folder besides, and what names in metadata.yaml mean


APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + b"\0" * 100


@BOTH
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("metadata", [False, True])
def test_companions_that_copying_leaves_are_no_part_of_a_bag(tmp_path, storage, packed, metadata):
    mode = CompressionMode.FILE if packed else CompressionMode.NONE
    bag = folder(tmp_path / "bag", storage, compression=mode)
    file = next(one for one in bag.iterdir() if one.name.startswith("bag."))
    if not metadata:
        (bag / "metadata.yaml").unlink()
    for name in (f"._{file.name}", "._metadata.yaml", f".{file.name}.swp", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (bag / name).write_bytes(APPLE_DOUBLE)

    found, damage = read(bag)

    assert found == TIMES
    assert len(damage) == (not metadata)


@BOTH
def test_a_hidden_file_that_the_metadata_list_is_read(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)
    file = next(one for one in bag.iterdir() if one.name.startswith("bag."))
    file.rename(bag / f".{file.name}")
    edit(bag, relative_file_paths=[f".{file.name}"])

    assert read(bag) == (TIMES, [])
    (bag / f".{file.name}").write_bytes(APPLE_DOUBLE)
    with pytest.raises(BagError, match="cannot be read at all"):
        read(bag)


@BOTH
def test_file_is_found_that_windows_wrote_the_path_of(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)
    edit(bag, relative_file_paths=lambda names: [f"runs\\bag\\{name}" for name in names])

    assert read(bag) == (TIMES, [])


@BOTH
@pytest.mark.parametrize("ending", [".zst", ".zstd"])
def test_files_packed_by_the_command_zstd_are_read_in_their_folder(tmp_path, storage, ending):
    bag = folder(tmp_path / "bag", storage)
    file = next(one for one in bag.iterdir() if one.name.startswith("bag."))
    file.with_name(f"{file.name}{ending}").write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()

    found, damage = read(bag)
    assert found == TIMES
    assert [line.rpartition("; ")[2] for line in damage] == [f"{file.name}{ending} was read"]

    (bag / "metadata.yaml").unlink()
    found, (said,) = read(bag)
    assert found == TIMES
    assert "unpack its files with `zstd -d`" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bag_0.mcap.gz", "there is no .mcap or .db3 file in it; unpack bag_0.mcap.gz"),
        ("drive.zip", "; unpack drive.zip"),
        (".bag_0.mcap", "; .bag_0.mcap is hidden, rename it if it is a recording"),
        ("notes.txt", "there is no .mcap or .db3 file in it"),
    ],
)
def test_what_is_in_a_folder_without_a_recording_is_named_with_the_way_out(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"x" * 100)

    with pytest.raises(BagError) as caught:
        Bag(tmp_path)
    assert str(caught.value).endswith(words)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["bag.mcap", "bag.db3", "bag.mcap.zstd", "recording"])
def test_a_pointer_of_git_lfs_in_place_of_a_recording_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(POINTER)

    for path in (tmp_path / name, *([tmp_path] if "." in name else [])):
        with pytest.raises(BagError, match=r"is a pointer of Git LFS.*`git lfs pull`"):
            Bag(path)


def test_a_pointer_of_git_lfs_in_place_of_metadata_is_named(tmp_path):
    bag = folder(tmp_path / "bag")
    (bag / "metadata.yaml").write_bytes(POINTER)

    found, (said,) = read(bag)
    assert found == TIMES
    assert "metadata.yaml is a pointer of Git LFS" in said


def test_a_web_page_in_place_of_a_recording_is_named(tmp_path):
    (tmp_path / "bag.mcap").write_text("<!DOCTYPE html><html>Sign in</html>")

    with pytest.raises(BagError, match="is a web page; download the recording itself"):
        Bag(tmp_path / "bag.mcap")


# ---- names of topics


@BOTH
@pytest.mark.parametrize("asked", ["/cam", "cam", None])
def test_a_topic_that_was_recorded_with_and_without_its_slash_is_one(tmp_path, storage, asked):
    messages = [("/cam" if n < 2 else "cam" if n < 11 else "//cam", t, picture(t)) for n, t in enumerate(TIMES)]
    bag = tiny_bag.write_bag(tmp_path / "bag", messages, storage=storage)

    assert read(bag, asked) == (TIMES, [])
    with Bag(bag) as opened:
        assert [(topic.name, topic.count) for topic in opened.topics] == [("/cam", 12)]
        assert len(list(opened.recorded("cam", (IMAGE,)))) == 12


@BOTH
def test_other_types_on_a_topic_are_named_whatever_their_slashes(tmp_path, storage):
    messages = [("cam", t, picture(t)) for t in TIMES]
    words = [("/cam", TIMES[0], tiny_bag.string("x")), ("scene", TIMES[0], tiny_bag.string("door"))]
    bag = tiny_bag.write_bag(tmp_path / "bag", [*messages, *words], storage=storage)

    found, damage = read(bag, "/cam")

    assert found == TIMES
    assert damage == [f"{bag}: /cam: 1 messages of std_msgs/msg/String on it were not read"]
    with Bag(bag) as opened:
        assert opened.label_track("/scene").changes == ((TIMES[0], "door"),)


@BOTH
def test_metadata_that_promise_a_topic_without_its_slash_are_kept_to_the_number(tmp_path, storage):
    bag = folder(tmp_path / "bag", storage)

    def without_slash(topics):
        return [{**topic, "topic_metadata": {**topic["topic_metadata"], "name": "camera"}} for topic in topics]

    edit(bag, topics_with_message_count=without_slash)
    assert read(bag) == (TIMES, [])
    edit(bag, topics_with_message_count=count_of(13))
    _, damage = read(bag)
    assert any("/camera: 13 messages are promised, 12 were found" in line for line in damage)


@pytest.mark.parametrize(
    ("encoding", "kind", "words"),
    [
        (
            "protobuf",
            "foxglove.CompressedImage",
            "foxglove.CompressedImage (protobuf) is read by Foxglove only; convert",
        ),
        ("json", "foxglove.RawImage", "foxglove.RawImage (json) is read by Foxglove only; convert it to sensor_msgs/"),
        (
            "flatbuffer",
            "foxglove.CompressedVideo",
            "foxglove.CompressedVideo (flatbuffer) holds packets of video; decode",
        ),
        ("ros1", "sensor_msgs/Image", "is of ROS 1; convert the bag that it was made of with rosbags-convert"),
        (
            "json",
            "sensor_msgs/msg/CompressedImage",
            "(json) is not serialised as ROS 2 does it, in CDR; convert it to",
        ),
        ("cdr", "foxglove_msgs/msg/RawImage", "/cam: foxglove_msgs/msg/RawImage is read by Foxglove only"),
        ("protobuf", "foxglove.Log", ""),
    ],
)
def test_pictures_in_another_serialisation_are_named_with_the_way_out(tmp_path, encoding, kind, words):
    path = tmp_path / "bag.mcap"
    messages = [(1, time_ns, b"\x0a\x02ab") for time_ns in TIMES]
    tiny_bag.McapWriter([("/cam", encoding, kind, encoding)], messages).write(path)

    with Bag(path) as bag:
        for name in (None, "/cam"):
            with pytest.raises(BagError) as caught:
                bag.image_topic(name)
            said, _, hint = str(caught.value).partition("; /cam: ")
            assert name is not None or said.endswith(f"none, only /cam ({stored_type(kind, encoding)})")
            assert bool(hint) == bool(words)
            assert words.removeprefix("/cam: ") in hint
