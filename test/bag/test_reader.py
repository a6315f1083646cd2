"""What is read from rosbag2 files of every kind, and what is said of broken ones.

Owned here: finding and reading messages. What image encodings mean is tested in test_raw.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import apsw
import numpy as np
import pytest
import tiny_bag
from paths import SHARED_DATA
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from tiny_bag import BLUE, RED, START_NS, flat

from cnn_perception.bag.reader import Bag, LabelTrack, NumberTrack
from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.messages import decode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SECOND = 10**9


def noise(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def drive(count: int = 40):
    """`count` incompressible raw images at 10 Hz, each stamped 5 ms before its reception, and a topic beside them."""
    for index in range(count):
        time_ns = START_NS + index * SECOND // 10
        yield "/camera/image_raw", time_ns, tiny_bag.raw(noise(index), time_ns - 5_000_000)
        yield "/chatter", time_ns + 1000, tiny_bag.string(f"line {index}")


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE])
def test_every_image_is_read_once_in_order_with_both_times(tmp_path, storage, compression):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(12), storage=storage, compression=compression)

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))

    assert bag.damage == []
    assert bag.start_ns == START_NS
    assert [i.log_time_ns for i in images] == [START_NS + n * SECOND // 10 for n in range(12)]
    assert [i.log_time_ns - i.stamp_ns for i in images] == [5_000_000] * 12
    for index, image in enumerate(images):
        np.testing.assert_array_equal(decode(image.frame), noise(index))


def test_chunks_compressed_inside_an_mcap_file_are_read(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(5), compression=CompressionMode.STORAGE)

    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic()))) == 5


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_that_needs_no_copy_is_read_without_a_temporary_folder(tmp_path, monkeypatch, storage):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(3), storage=storage)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic()))) == 3
        assert bag.damage == []


def test_a_packed_bag_without_a_temporary_folder_names_the_folder_and_tmpdir(tmp_path, monkeypatch):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(3), compression=CompressionMode.FILE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))

    with pytest.raises(BagError, match=f"no temporary folder can be made in {tmp_path / 'missing'} .*set TMPDIR"):
        Bag(path)


@pytest.mark.parametrize(
    "message",
    [
        tiny_bag.raw(flat(RED), START_NS),
        tiny_bag.raw(flat(RED), START_NS, "bgr8", padding=7),
        tiny_bag.compressed(flat(RED), START_NS, "png"),
        tiny_bag.compressed(flat(RED), START_NS, "jpeg"),
    ],
    ids=["rgb8", "bgr8 padded", "png", "jpeg"],
)
def test_raw_and_compressed_messages_give_the_same_picture(tmp_path, message):
    path = tiny_bag.write_bag(tmp_path / "bag", [("/camera", START_NS, message)])

    with Bag(path) as bag:
        (image,) = bag.images(bag.image_topic("camera"))

    np.testing.assert_allclose(decode(image.frame), flat(RED), atol=2)


def test_a_single_storage_file_is_a_bag_too(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(3))

    with Bag(path / "bag.mcap") as bag:
        assert len(list(bag.images(bag.image_topic()))) == 3
        assert bag.damage == []


def test_the_bag_starts_with_its_first_message_of_any_topic(tmp_path):
    messages = [("/chatter", START_NS - SECOND, tiny_bag.string("early")), *drive(2)]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        assert bag.start_ns == START_NS - SECOND


def test_a_message_that_cannot_be_deserialised_is_one_bad_frame(tmp_path):
    path = tmp_path / "bag"
    whole = tiny_bag.TYPES.serialize_cdr(tiny_bag.raw(flat(RED), START_NS), "sensor_msgs/msg/Image")
    with tiny_bag.Writer(path, version=9) as writer:
        connection = writer.add_connection("/camera", "sensor_msgs/msg/Image", typestore=tiny_bag.TYPES)
        for index, payload in enumerate((whole, whole[:100], b"", whole)):
            writer.write(connection, START_NS + index, payload)

    with Bag(path) as bag:
        frames = [image.frame for image in bag.images(bag.image_topic())]

    assert [isinstance(frame, FrameError) for frame in frames] == [False, True, True, False]
    assert frames[1].reason == "message"


def test_text_labels_hold_from_their_reception(tmp_path):
    messages = [
        ("/scene", START_NS, tiny_bag.string("door")),
        ("/scene", START_NS + SECOND, tiny_bag.string("")),
    ]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        track = bag.label_track("scene")

    assert track == LabelTrack(((START_NS, "door"), (START_NS + SECOND, "")), is_stamped=False)


def test_classification_labels_are_the_best_result_at_the_stamp(tmp_path):
    messages = [
        ("/truth", START_NS + 9, tiny_bag.classification(START_NS + 5, {"ant": 0.2, "bee": 0.7, "fly": 0.1})),
        ("/truth", START_NS + 19, tiny_bag.classification(START_NS + 15, {})),
    ]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages, storage=StoragePlugin.SQLITE3)) as bag:
        track = bag.label_track("/truth")
        several = bag.label_track("/truth", several=True)

    assert track == LabelTrack(((START_NS + 5, "bee"), (START_NS + 15, "")), is_stamped=True, lag_ns=4)
    assert several == LabelTrack(((START_NS + 5, "bee;ant;fly"), (START_NS + 15, "")), True, lag_ns=4)


def test_numbers_are_those_of_the_reception_and_joint_states_those_of_the_stamp(tmp_path):
    messages = [
        ("/angle", START_NS, tiny_bag.number(-0.5)),
        ("/far", START_NS + 1, tiny_bag.number(0.1, 64)),
        ("/joints", START_NS + 9, tiny_bag.joint_state(START_NS + 5, {"a": 1.5, "b": -2.0})),
        ("/words", START_NS, tiny_bag.string("left")),
    ]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        assert bag.number_track("angle") == NumberTrack(((START_NS, {"": -0.5}),), is_stamped=False)
        assert bag.number_track("/far") == NumberTrack(((START_NS + 1, {"": 0.1}),), is_stamped=False)
        joints = NumberTrack(((START_NS + 5, {"a": 1.5, "b": -2.0}),), is_stamped=True, lag_ns=4)
        assert bag.number_track("/joints") == joints
        with pytest.raises(BagError, match=r"/words is std_msgs/msg/String, not .*in it: /angle, /far, /joints"):
            bag.number_track("/words")


@pytest.mark.parametrize("stamps", [(0, 0, 0), (START_NS, 0, START_NS + 2), (-SECOND, START_NS, START_NS)])
def test_labels_and_numbers_of_which_nobody_knows_when_are_refused_with_the_way_out(tmp_path, stamps):
    missing = sum(stamp <= 0 for stamp in stamps)
    messages = [("/truth", START_NS, tiny_bag.classification(stamp, {"ant": 1.0})) for stamp in stamps]
    messages += [("/joints", START_NS, tiny_bag.joint_state(stamp, {"a": 1.5})) for stamp in stamps]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        said = f"{missing} of 3 messages have no stamp; stamp them as the images are, or publish std_msgs/"
        with pytest.raises(BagError, match=f"/truth: {said}String"):
            bag.label_track("/truth")
        with pytest.raises(BagError, match=f"/joints: {said}Float64"):
            bag.number_track("/joints")


def of_camera(message, frame_id: str):
    message.header.frame_id = frame_id
    return message


def test_of_labels_and_numbers_of_several_cameras_those_of_the_images_frame_id_count(tmp_path):
    messages = []
    for n, (frame_id, name) in enumerate([("left", "ant"), ("right", "bee"), ("/left", "fly"), ("", "bug")]):
        time_ns = START_NS + n
        messages.append(("/truth", time_ns, of_camera(tiny_bag.classification(time_ns, {name: 1.0}), frame_id)))
        messages.append(("/joints", time_ns, of_camera(tiny_bag.joint_state(time_ns, {"a": n}), frame_id)))
    images = {camera: of_camera(tiny_bag.raw(flat(RED), START_NS), camera) for camera in ("left", "right", "rear")}
    messages += [(f"/{camera}", START_NS, image) for camera, image in images.items()]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        for name, kept in {"left": [0, 2, 3], "right": [1, 3]}.items():
            images = bag.image_topic(name)
            assert [time_ns - START_NS for time_ns, _ in bag.label_track("/truth", images=images).changes] == kept
            assert [numbers["a"] for _, numbers in bag.number_track("/joints", images).rows] == kept
        said = r"its messages are of several frame_ids \(left, right\), and none is of the images' \((rear|unknown)\)"
        for images in (bag.image_topic("rear"), None):
            with pytest.raises(BagError, match=f"/truth: {said}"):
                bag.label_track("/truth", images=images)
            with pytest.raises(BagError, match=f"/joints: {said}"):
                bag.number_track("/joints", images)


def test_labels_of_one_frame_id_count_whatever_that_of_the_images_is(tmp_path):
    label = of_camera(tiny_bag.classification(START_NS, {"ant": 1.0}), "base_link")
    messages = [("/truth", START_NS, label), ("/camera", START_NS, tiny_bag.raw(flat(RED), START_NS))]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        assert bag.label_track("/truth", images=bag.image_topic()).changes == ((START_NS, "ant"),)


def test_a_missing_topic_is_answered_with_the_image_topics(tmp_path):
    image = tiny_bag.raw(flat(BLUE), START_NS)
    messages = [("/left", START_NS, image), ("/right", START_NS, image), ("/words", START_NS, tiny_bag.string("a"))]
    path = tiny_bag.write_bag(tmp_path / "bag", messages, topics={"/dark": "sensor_msgs/msg/Image"})

    with Bag(path) as bag:
        for name, complaint in {
            "/rear": r"there is no topic /rear; image topics in it: /dark \(0\), /left \(1\), /right \(1\)",
            "/words": r"/words is std_msgs/msg/String, not sensor_msgs/msg/Image or",
            "/dark": r"/dark has no messages",
            None: r"cannot choose the image topic; name one with --topic",
        }.items():
            with pytest.raises(BagError, match=complaint):
                bag.image_topic(name)
        with pytest.raises(BagError, match=r"no topic /scene; label topics in it: /words"):
            bag.label_track("/scene")


def test_the_only_image_topic_with_messages_is_chosen(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(1), topics={"/dark": "sensor_msgs/msg/Image"})

    with Bag(path) as bag:
        assert bag.image_topic().name == "/camera/image_raw"


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("name", ["DRIVE.MCAP", "drive.Db3", "drive.mcap", "drive.db3", "drive"])
def test_what_a_file_is_its_first_bytes_say_whatever_it_is_called(tmp_path, storage, name):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(3), storage=storage)
    file = next(one for one in path.iterdir() if one.suffix in {".db3", ".mcap"})
    (tmp_path / "moved").mkdir()
    named = shutil.copy(file, tmp_path / "moved" / name)

    for bag_path in (named, *([named.parent] if "." in name else [])):
        with Bag(bag_path) as bag:
            assert len(list(bag.images(bag.image_topic()))) == 3


def test_a_packed_file_that_breaks_off_at_once_or_is_called_otherwise_is_told_as_what_it_is(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(3), compression=CompressionMode.FILE)
    file = next(path.glob("*.zstd"))
    with Bag(shutil.copy(file, tmp_path / file.stem)) as bag:
        assert len(list(bag.images(bag.image_topic()))) == 3

    os.truncate(file, 40)
    with pytest.raises(BagError, match="is truncated or damaged") as caught:
        Bag(file)
    assert "mcap recover" not in str(caught.value)  # which knows no such files


def test_a_bag_without_images_names_what_it_holds(tmp_path):
    word = tiny_bag.TYPES.types["std_msgs/msg/String"](data="word")
    path = tiny_bag.write_bag(tmp_path / "bag", [("/words", START_NS, word)])
    with Bag(path) as bag, pytest.raises(BagError, match=r"in it: none, only /words \(std_msgs/msg/String\)"):
        bag.image_topic()


def test_what_is_no_bag_is_refused_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mcap").write_text("not an MCAP file")
    (tmp_path / "text.db3").write_text("not an SQLite file, but long enough to have a header" * 10)
    (tmp_path / "zero.mcap").touch()
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    os.mkfifo(tmp_path / "pipe.mcap")

    for name, complaint in {
        "absent": "there is no such bag",
        "folder": "is no rosbag2",
        "text.mcap": "does not begin like an MCAP file",
        "text.db3": "does not begin like an SQLite file",
        "zero.mcap": "does not begin like an MCAP file",
        "pipe.mcap": "there is no such bag",
        "old.bag": "is a bag of ROS 1; convert it: rosbags-convert --src .*old.bag --dst old",
        "old": "convert its bags of ROS 1",
        "long" * 999: "cannot be read .File name too long",
    }.items():
        with pytest.raises(BagError, match=complaint) as caught:
            Bag(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name[:9] in str(caught.value)
        assert "reindex" not in str(caught.value)
        assert "record it again" not in str(caught.value)


def test_a_bag_without_messages_is_refused(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", [], topics={"/camera": "sensor_msgs/msg/Image"})

    with pytest.raises(BagError, match="the bag has no messages"):
        Bag(path)


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_without_metadata_everything_is_read_and_the_repair_is_named(tmp_path, storage):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(6), storage=storage)
    (path / "metadata.yaml").unlink()

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))

    assert len(images) == 6
    assert len(bag.damage) == 1
    assert f"`ros2 bag reindex {path} -s {'mcap' if storage is StoragePlugin.MCAP else 'sqlite3'}`" in bag.damage[0]


def test_a_packed_bag_without_metadata_is_unpacked_before_it_is_reindexed(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(3), compression=CompressionMode.FILE)
    (path / "metadata.yaml").unlink()

    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic()))) == 3
        (said,) = bag.damage

    assert "unpack its files with `zstd -d` and rename bag.mcap to bag_0.mcap and repair with `ros2 bag reindex" in said


@pytest.mark.parametrize(
    ("names", "renaming"),
    [
        (["drive.mcap"], "; rename drive.mcap to drive_0.mcap and repair with `"),
        (["drive.mcap", "night.mcap"], "; rename drive.mcap to drive_0.mcap and so on and repair with `"),
        (["drive_0.mcap", "drive_12.mcap"], "; repair with `"),
    ],
)
def test_files_that_reindex_does_not_find_by_their_names_are_to_be_renamed(tmp_path, names, renaming):
    """rosbag2 looks for `.+_(\\d+)\\.([a-zA-Z0-9])+`, rosbag2_cpp/reindexer.cpp, and finds nothing else."""
    (tmp_path / "bag").mkdir()
    for place, name in enumerate(names):
        made = tiny_bag.folder(tmp_path / f"{place}", times=[START_NS + place * 10 * SECOND])
        (made / f"{place}.mcap").rename(tmp_path / "bag" / name)

    with Bag(tmp_path / "bag") as bag:
        assert f"there is no metadata.yaml{renaming}ros2 bag reindex " in bag.damage[0]


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
@pytest.mark.parametrize("metadata", [True, False])
def test_a_truncated_bag_gives_its_intact_beginning_and_says_so(tmp_path, storage, metadata):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(), storage=storage)
    file = next(f for f in path.iterdir() if f.suffix in {".db3", ".mcap"})
    with file.open("r+b") as stream:
        stream.truncate(int(file.stat().st_size * 0.6))
    if not metadata:
        (path / "metadata.yaml").unlink()

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))
        folder = list(path.parent.iterdir())

    assert 12 <= len(images) <= 24
    for index, image in enumerate(images):
        np.testing.assert_array_equal(decode(image.frame), noise(index))
    repair = f"mcap recover {file}" if storage is StoragePlugin.MCAP else "sqlite3 bag.db3 .recover"
    assert any("is truncated" in line and repair in line for line in bag.damage)
    assert folder == [path]


def test_a_truncated_compressed_file_gives_its_intact_beginning(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(), compression=CompressionMode.FILE)
    file = next(path.glob("*.zstd"))
    with file.open("r+b") as stream:
        stream.truncate(int(file.stat().st_size * 0.6))

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))

    assert 10 <= len(images) <= 24
    assert any("is truncated" in line for line in bag.damage)


def test_messages_compressed_alone_are_read_without_metadata_too(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(4), compression=CompressionMode.MESSAGE)
    (path / "metadata.yaml").unlink()

    with Bag(path) as bag:
        np.testing.assert_array_equal(decode(next(bag.images(bag.image_topic())).frame), noise(0))


def test_what_comes_before_and_after_a_broken_chunk_is_read_and_the_rest_is_counted(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(), compression=CompressionMode.STORAGE)
    file = path / "bag.mcap"
    before, _, after = file.read_bytes().rpartition(b"\x28\xb5\x2f\xfd")  # of the last chunk
    file.write_bytes(before + b"rust" + after)

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))

    assert 0 < len(images) < 40
    assert any(f"/camera/image_raw: 40 messages are promised, {len(images)} were found" in line for line in bag.damage)


def test_a_lost_part_of_a_split_bag_leaves_the_others(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(4))
    metadata = (path / "metadata.yaml").read_text().replace("  - bag.mcap", "  - bag.mcap\n  - bag_1.mcap")
    (path / "metadata.yaml").write_text(metadata)

    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic()))) == 4
        assert "bag_1.mcap" in bag.damage[0]


NO_SQL = "is no plain table, as rosbag2 writes it .*, and SQL of a bag is not executed"
TOPICS = "CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)"
MESSAGES = "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)"
COMPUTED = {
    "view": [TOPICS, "CREATE VIEW messages AS SELECT 1 AS id, 1 AS topic_id, 5 AS timestamp, x'00' AS data"],
    "view of a table": [
        TOPICS,
        "CREATE TABLE rows (id, topic_id, timestamp, data)",
        "CREATE VIEW messages AS SELECT * FROM rows",
    ],
    "recursion": [
        TOPICS,
        "CREATE VIEW messages AS WITH RECURSIVE n(id) AS (VALUES (1) UNION ALL SELECT id + 1 FROM n) "
        "SELECT id, 1 AS topic_id, id AS timestamp, x'00' AS data FROM n",
    ],
    "virtual table": [TOPICS, "CREATE VIRTUAL TABLE messages USING fts5(topic_id, timestamp, data)"],
    "generated column": [
        TOPICS,
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id, timestamp, data AS (zeroblob(1 << 29)))",
    ],
    "generated column of operators": [
        "CREATE TABLE topics (id INTEGER PRIMARY KEY, x, NAME AS (x || x), type, serialization_format)",
        MESSAGES,
    ],
}


def write_database(path: Path, *statements: str) -> Path:
    """Makes an SQLite file by hand, as rosbag2 does not."""
    with contextlib.closing(apsw.Connection(str(path))) as database:
        for statement in statements:
            database.execute(statement)
    return path


def break_off(path: Path) -> None:
    """Adds a page that the header counts, and takes it away again."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        size = path.stat().st_size
        database.execute("CREATE TABLE added_by_the_test (x)")
        database.execute("INSERT INTO added_by_the_test VALUES (zeroblob(9000))")
    os.truncate(path, size)


@pytest.mark.parametrize("broken_off", [False, True])
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_table_that_sql_of_the_file_would_compute_is_refused(tmp_path, kind, broken_off):
    path = write_database(tmp_path / "bag.db3", *COMPUTED[kind])
    if broken_off:
        break_off(path)

    with pytest.raises(BagError, match=NO_SQL) as caught:
        Bag(path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["view", "recursion", "generated column"])
def test_sql_in_a_compressed_or_disguised_file_is_refused_too(tmp_path, kind):
    bag = tiny_bag.write_bag(
        tmp_path / "bag", drive(1), storage=StoragePlugin.SQLITE3, compression=CompressionMode.FILE
    )
    path = write_database(tmp_path / "computed.db3", *COMPUTED[kind])
    (bag / "bag.db3.zstd").write_bytes(zstd.compress(path.read_bytes()))
    break_off(path)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET type = 'table', name = 'else' WHERE name = 'messages'")

    for name in (bag, path):
        with pytest.raises(BagError, match=NO_SQL):
            Bag(name)


@pytest.mark.parametrize("with_metadata", [True, False])
def test_statements_in_place_of_table_definitions_are_not_executed(tmp_path, with_metadata):
    victim = tmp_path / "victim.sqlite"
    made = tmp_path / "made"
    write_database(victim, "CREATE TABLE accounts (name)")
    bag = tiny_bag.write_bag(tmp_path / "bag", drive(3), storage=StoragePlugin.SQLITE3)
    if not with_metadata:
        (bag / "metadata.yaml").unlink()
    statements = {
        "aaa": f"ATTACH DATABASE '{victim}' AS v",
        "bbb": "DROP TABLE v.accounts",
        "ccc": "CREATE TABLE v.written_by_the_bag (x)",
        "ddd": f"ATTACH DATABASE '{made}' AS w",
    }
    with contextlib.closing(sqlite3.connect(bag / "bag.db3")) as database, database:
        for table in statements:
            database.execute(f"CREATE TABLE {table} (x)")
        database.execute("PRAGMA writable_schema = ON")
        for table, statement in statements.items():
            database.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (statement, table))
    before = victim.read_bytes()

    with Bag(bag) as opened:
        assert len(list(opened.images(opened.image_topic()))) == 3
        assert opened.damage != []

    assert victim.read_bytes() == before
    assert not made.exists()


def test_tables_of_others_are_ignored_whatever_their_names_and_columns_are(tmp_path):
    bag = tiny_bag.write_bag(tmp_path / "bag", drive(), storage=StoragePlugin.SQLITE3)
    with contextlib.closing(sqlite3.connect(bag / "bag.db3")) as database, database:
        database.execute("""CREATE TABLE "a""b'c]; DROP TABLE messages; --" ("d""e" AS (1), "f'g" DEFAULT 'h"i')""")
        database.execute("CREATE VIEW whole AS SELECT * FROM messages")
        database.execute("DROP TABLE schema")
        database.execute("CREATE VIEW schema AS SELECT 4 AS schema_version")
        database.execute("CREATE TRIGGER gone AFTER INSERT ON messages BEGIN DELETE FROM messages; END")
    with Bag(bag) as whole:
        assert len(list(whole.images(whole.image_topic()))) == 40
        assert whole.damage == []
    os.truncate(bag / "bag.db3", (bag / "bag.db3").stat().st_size * 6 // 10)

    with Bag(bag) as broken:
        images = list(broken.images(broken.image_topic()))

    assert 12 <= len(images) <= 24
    np.testing.assert_array_equal(decode(images[-1].frame), noise(len(images) - 1))


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_broken_file_of_every_version_is_read_by_the_names_of_its_columns(tmp_path, version):
    qos = ", offered_qos_profiles TEXT NOT NULL" if version >= 2 else ""
    digest = ", type_description_hash TEXT NOT NULL" if version >= 4 else ""
    statements = [
        f"CREATE TABLE topics (type TEXT, later BLOB, name TEXT, serialization_format TEXT, id INTEGER{qos}{digest})",
        "CREATE TABLE messages (data BLOB, timestamp INTEGER, later TEXT, topic_id INTEGER, id INTEGER PRIMARY KEY)",
    ]
    if version >= 3:
        statements.append("CREATE TABLE schema (ros_distro TEXT NOT NULL, schema_version INTEGER PRIMARY KEY)")
        statements.append(f"INSERT INTO schema VALUES ('a', {version})")
    path = write_database(tmp_path / "bag.db3", *statements)
    topic = ["std_msgs/msg/String", b"?", """/it's "quoted"; DROP TABLE topics""", "cdr", 7]
    topic += [""] * ((version >= 2) + (version >= 4))
    payloads = [bytes(tiny_bag.TYPES.serialize_cdr(tiny_bag.string(f"word {n}"), topic[0])) for n in range(3)]
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f"INSERT INTO topics VALUES ({', '.join('?' * len(topic))})", topic)
        for number, payload in enumerate(payloads):
            row = (payload, START_NS + number, "'); --", 7, 10 + number)
            database.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", row)
    break_off(path)

    with Bag(path) as bag:
        track = bag.label_track(topic[2])

    assert track.changes == tuple((START_NS + number, f"word {number}") for number in range(3))
    assert "is truncated; 3 messages were read" in bag.damage[0]


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_folder_may_have_any_name(tmp_path, storage):
    (tmp_path / "50%25 #1?mode=memory").mkdir()
    bag = tiny_bag.write_bag(tmp_path / "bag", drive(3), storage=storage)
    bag = bag.rename(tmp_path / "50%25 #1?mode=memory" / "bag")

    with Bag(bag) as opened:
        assert len(list(opened.images(opened.image_topic()))) == 3
        assert opened.damage == []


@pytest.mark.skipif(
    not (SHARED_DATA / "derived_donkeycar_300").is_dir(), reason="the DonkeyCar bag is not on this machine"
)
def test_a_real_bag_is_read_completely(tmp_path):
    path = shutil.copytree(SHARED_DATA / "derived_donkeycar_300", tmp_path / "bag")

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))

    assert len(images) == 300
    assert {decode(image.frame).shape for image in images} == {(120, 160, 3)}
    assert {int(n) for n in np.diff([image.stamp_ns for image in images])} == {SECOND // 20}


def test_blanks_around_a_label_of_a_topic_are_no_part_of_it(tmp_path):
    messages = [("/words", START_NS + n, tiny_bag.string(text)) for n, text in enumerate([" door", "wall\n", " \t"])]
    messages.append(("/truth", START_NS, tiny_bag.classification(START_NS, {"ant ": 0.7, " bee": 0.3})))

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        assert [name for _, name in bag.label_track("/words").changes] == ["door", "wall", ""]
        assert [name for _, name in bag.label_track("/truth", several=True).changes] == ["ant;bee"]


@pytest.mark.parametrize(
    ("frame_ids", "said"),
    [
        (["left", "right", "left"], "left (2 images), right (1 images)"),
        ([f"camera_{n}" for n in range(8)], "and 3 others"),
        (["left", "/left", ""], ""),
        (["", ""], ""),
    ],
)
def test_images_of_several_cameras_on_one_topic_are_told(tmp_path, frame_ids, said):
    times = [START_NS + n * SECOND // 10 for n in range(len(frame_ids))]
    messages = [
        ("/camera", time_ns, of_camera(tiny_bag.raw(flat(RED), time_ns), frame_id))
        for time_ns, frame_id in zip(times, frame_ids, strict=True)
    ]

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        for _ in range(2):  # said once, however often it is read
            assert len(list(bag.images(bag.image_topic()))) == len(frame_ids)
        assert bag.damage == []
        assert len(bag.warnings) == (1 if said else 0)
        assert said in "".join(bag.warnings)


@pytest.mark.parametrize("second", ["bee", "ant"])
def test_labels_that_contradict_each_other_at_one_time_are_told(tmp_path, second):
    messages = [("/words", START_NS, tiny_bag.string(name)) for name in ("ant", second)]
    messages += [("/truth", START_NS + 9, tiny_bag.classification(START_NS, {name: 1.0})) for name in ("ant", second)]
    messages.append(("/words", START_NS + SECOND, tiny_bag.string("fly")))

    with Bag(tiny_bag.write_bag(tmp_path / "bag", messages)) as bag:
        assert [name for _, name in bag.label_track("/words").changes] == ["ant", second, "fly"]
        bag.label_track("/truth")
        told = [f"{bag.path}: {topic}: different labels have the same time 1 times" for topic in ("/words", "/truth")]
        assert [line.partition(": the last")[0] for line in bag.warnings] == (told if second == "bee" else [])
