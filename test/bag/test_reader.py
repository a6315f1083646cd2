"""What is read from rosbag2 files of every kind, and what is said of broken ones.

Owned here: finding and reading messages. What image encodings mean is tested in test_raw.py.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny_bag
from paths import SHARED_DATA
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from tiny_bag import BLUE, RED, START_NS, flat

from cnn_perception.bag.reader import Bag, LabelTrack, NumberTrack
from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.messages import decode

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

    assert track == LabelTrack(((START_NS + 5, "bee"), (START_NS + 15, "")), is_stamped=True)
    assert several == LabelTrack(((START_NS + 5, "bee;ant;fly"), (START_NS + 15, "")), is_stamped=True)


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
        assert bag.number_track("/joints") == NumberTrack(((START_NS + 5, {"a": 1.5, "b": -2.0}),), is_stamped=True)
        with pytest.raises(BagError, match=r"/words is std_msgs/msg/String, not .*in it: /angle, /far, /joints"):
            bag.number_track("/words")


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


def test_what_is_no_bag_is_refused_in_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mcap").write_text("not an MCAP file")
    (tmp_path / "text.db3").write_text("not an SQLite file, but long enough to have a header" * 10)
    (tmp_path / "zero.mcap").touch()

    for name, complaint in {
        "absent": "there is no such bag",
        "folder": "is no rosbag2",
        "text.mcap": "does not begin like an MCAP file",
        "text.db3": "does not begin like an SQLite file",
        "zero.mcap": "does not begin like an MCAP file",
    }.items():
        with pytest.raises(BagError, match=complaint) as caught:
            Bag(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


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
    assert f"ros2 bag reindex {path}" in bag.damage[0]


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
    assert any("is truncated" in line and "ros2 bag reindex" in line for line in bag.damage)
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


def test_a_broken_chunk_in_the_middle_ends_the_reading_and_is_reported(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(), compression=CompressionMode.STORAGE)
    file = path / "bag.mcap"
    before, _, after = file.read_bytes().rpartition(b"\x28\xb5\x2f\xfd")  # of the last chunk
    file.write_bytes(before + b"rust" + after)

    with Bag(path) as bag:
        images = list(bag.images(bag.image_topic()))

    assert 0 < len(images) < 40
    assert len(bag.damage) == 1
    assert f"reading stopped after {len(images)} messages" in bag.damage[0]


def test_a_lost_part_of_a_split_bag_leaves_the_others(tmp_path):
    path = tiny_bag.write_bag(tmp_path / "bag", drive(4))
    metadata = (path / "metadata.yaml").read_text().replace("  - bag.mcap", "  - bag.mcap\n  - bag_1.mcap")
    (path / "metadata.yaml").write_text(metadata)

    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic()))) == 4
        assert "bag_1.mcap" in bag.damage[0]


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
