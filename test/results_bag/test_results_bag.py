"""Owns: what `evaluate_bag --results-bag` leaves, however it ends. Oracles: rosbags and mcap, predictions.csv.

Leaves to others: the scores (test_evaluate), how damaged bags are read (test_damage).
"""

from __future__ import annotations

import json
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import tiny_bag
from evaluating import COLOURS, colour_bag, run
from mcap.reader import make_reader
from paths import files_of_at_most
from rosbags.rosbag2 import CompressionMode, Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from tiny_bag import BLUE, GREEN, RED, START_NS, flat
from tiny_model import as_multilabel, regression_spec, tiny_spec, write_tiny_model

from cnn_perception import topic_names
from cnn_perception.bag.reader import Bag
from cnn_perception.bag.writer import BagWriter
from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK

SECOND = 10**9
CAMERA = "/camera/image_raw"
ANSWER = "/perception/classification"
ANNOTATIONS = "/perception/annotations"
OVERLAY = "/perception/activation/overlay/compressed"
REFERENCE = "/perception/image_reference"
TRUTH, DIAGNOSTICS = "/truth", "/diagnostics"
DELAY_NS = 3_000_007
"""Between an image's stamp and its log time, so that one is never taken for the other."""


class Message(NamedTuple):
    log_time_ns: int
    payload: bytes
    content: object


def by_rosbags(path: Path) -> dict[str, list[Message]]:
    """Every message by topic; the types are those that the bag itself defines."""
    found = defaultdict(list)
    with Reader(path) as reader:
        types = get_typestore(Stores.EMPTY)
        for connection in reader.connections:
            types.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, time_ns, payload in reader.messages():
            content = types.deserialize_cdr(payload, connection.msgtype)
            found[connection.topic].append(Message(time_ns, bytes(payload), content))
    return found


def by_mcap(path: Path) -> dict[str, list[Message]]:
    """The same by the other package, in the order of the file's index."""
    found = defaultdict(list)
    with (path / f"{path.name}.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_summary().statistics.message_count == sum(
            reader.get_summary().statistics.channel_message_counts.values()
        )
        stores = {}
        for schema, channel, message in reader.iter_messages():
            assert (schema.encoding, channel.message_encoding) == ("ros2msg", "cdr")
            if schema.id not in stores:
                stores[schema.id] = get_typestore(Stores.EMPTY)
                stores[schema.id].register(get_types_from_msg(schema.data.decode(), schema.name))
            content = stores[schema.id].deserialize_cdr(message.data, schema.name)
            found[channel.topic].append(Message(message.log_time, message.data, content))
    return found


def stamp_ns(header) -> int:
    return header.stamp.sec * SECOND + header.stamp.nanosec


def ranked(message: Message) -> list[tuple[str, float]]:
    return [(one.class_id, one.score) for one in message.content.results]


def values(status) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


def evaluated(folder: Path, model: Path, *arguments: object):
    """Exit code, rows of predictions.csv, and the bag of results; the frames have a delay."""
    bag = folder / "bag"
    if not bag.exists():
        colour_bag(bag, delay_ns=DELAY_NS)
    code, _, rows = run(folder, model, "--bag", bag, "--no-video", *arguments)
    return code, rows, folder / "out" / "results"


@pytest.mark.parametrize("read", [by_rosbags, by_mcap])
def test_every_frame_is_there_at_its_log_time_under_its_header_with_the_answer_of_predictions_csv(
    tmp_path, model, read
):
    code, rows, results = evaluated(tmp_path, model, "--results-bag", "copy")
    found = read(results)

    assert code == EXIT_OK
    assert {topic: len(messages) for topic, messages in found.items()} == {
        CAMERA: 10, ANSWER: 10, ANNOTATIONS: 10, OVERLAY: 10, TRUTH: 9, DIAGNOSTICS: 10,
    }  # fmt: skip
    stamps = [START_NS + index * SECOND // 10 for index in range(10)]
    for topic in (CAMERA, ANSWER, ANNOTATIONS, OVERLAY, DIAGNOSTICS):
        assert [message.log_time_ns for message in found[topic]] == [stamp + DELAY_NS for stamp in stamps]
    for topic in (CAMERA, ANSWER, OVERLAY, DIAGNOSTICS, TRUTH):
        assert [stamp_ns(message.content.header) for message in found[topic]] == stamps[: len(found[topic])]
    assert {message.content.header.frame_id for message in (*found[ANSWER], *found[TRUTH])} == {"camera"}
    for row, message in zip(rows, found[ANSWER], strict=True):
        name, score = ranked(message)[0]
        assert (row["predicted"], row["score"]) == (name, f"{score:.6f}")
        assert int(row["stamp_ns"]) == stamp_ns(message.content.header)
    assert [ranked(message) for message in found[TRUTH]] == [[(row["truth"], 1.0)] for row in rows if row["truth"]]


def test_copied_images_are_the_recorded_bytes(tmp_path, model):
    _, _, results = evaluated(tmp_path, model, "--results-bag", "copy")

    assert [m.payload for m in by_rosbags(results)[CAMERA]] == [m.payload for m in by_rosbags(tmp_path / "bag")[CAMERA]]


def test_images_that_a_bag_compressed_one_by_one_are_copied_unpacked(tmp_path, model):
    frames = [("/camera", START_NS + index, tiny_bag.compressed(flat(RED), START_NS + index)) for index in range(3)]
    tiny_bag.write_bag(tmp_path / "bag", frames, storage=tiny_bag.SQLITE, compression=CompressionMode.MESSAGE)

    _, _, results = evaluated(tmp_path, model, "--results-bag", "copy")

    assert [m.payload for m in by_rosbags(results)["/camera"]] == [
        tiny_bag.payload(message) for _, _, message in frames
    ]


def test_reference_says_where_each_image_is_and_copies_none(tmp_path, model):
    _, _, results = evaluated(tmp_path, model, "--results-bag", "reference")
    found = by_rosbags(results)

    assert CAMERA not in found
    places = [json.loads(message.content.data) for message in found[REFERENCE]]
    assert len(places) == 10
    for place, message in zip(places, found[REFERENCE], strict=True):
        (image,) = [
            one for one in by_rosbags(Path(place["bag"]))[place["topic"]] if one.log_time_ns == place["log_time_ns"]
        ]
        assert stamp_ns(image.content.header) == place["stamp_ns"]
        assert message.log_time_ns == place["log_time_ns"]


def test_overlay_is_the_image_with_the_answer_drawn_on_it(tmp_path, model):
    _, _, results = evaluated(tmp_path, model, "--results-bag", "copy")
    message = by_rosbags(results)[OVERLAY][0].content

    assert message.format == "rgb8; jpeg compressed bgr8"
    picture = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
    assert picture.shape == (30, 40, 3)


def test_annotations_frame_the_image_name_answer_and_truth_and_circle_the_place(tmp_path, model):
    left_is_green = flat(RED, 60, 80)
    left_is_green[:, :40] = (0, 255, 0)
    frames = [(CAMERA, START_NS, tiny_bag.raw(left_is_green, START_NS))]
    tiny_bag.write_bag(tmp_path / "bag", frames)

    _, _, results = evaluated(tmp_path, model, "--results-bag", "copy")
    (message,) = by_rosbags(results)[ANNOTATIONS]

    drawn = message.content
    (frame,) = drawn.points
    (circle,) = drawn.circles
    assert [text.text.split()[0] for text in drawn.texts] == ["green", "red", "blue", "truth:"]
    assert drawn.texts[-1].text == "truth: red"
    assert (frame.outline_color.r > 0.8, frame.outline_color.g < 0.3) == (True, True)  # it is wrong
    assert all(0 <= point.x <= 80 and 0 <= point.y <= 60 for point in frame.points)
    assert (frame.type, len(frame.points)) == (2, 4)
    assert 0 < circle.position.x < 40
    assert 0 < circle.position.y < 60
    assert {stamp.sec * SECOND + stamp.nanosec for stamp in (circle.timestamp, frame.timestamp)} == {START_NS}


def test_diagnostics_judge_each_frame_and_count_up_to_it(tmp_path, model):
    frames = [
        (CAMERA, START_NS + index * SECOND // 10, tiny_bag.raw(flat(colour), START_NS + index))
        for index, colour in enumerate([RED, BLUE, RED])
    ]
    _, time_ns, broken = frames[2]
    broken.encoding = "nonsense"
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,0.5,red\n")
    tiny_bag.write_bag(tmp_path / "bag", frames)

    run(tmp_path, model, "--bag", tmp_path / "bag", "--labels", labels, "--results-bag", "copy", "--no-video")
    found = by_rosbags(tmp_path / "out" / "results")

    statuses = [message.content.status for message in found[DIAGNOSTICS]]
    assert [[one.name for one in pair] for pair in statuses] == [["evaluate_bag: frame", "evaluate_bag: summary"]] * 3
    frames_said = [pair[0] for pair in statuses]
    assert [one.level for one in frames_said] == [0, 1, 2]
    assert [one.message for one in frames_said[:2]] == ["right: red", "wrong: blue, truth red"]
    assert "nonsense" in frames_said[2].message
    assert values(statuses[-1][1]) == {"frames": "3", "right": "1", "wrong": "1", "unjudged": "0", "bad": "1"}
    assert statuses[-1][1].message == "1 of 2 right so far"
    assert found[DIAGNOSTICS][2].log_time_ns == time_ns
    assert (len(found[CAMERA]), len(found[ANSWER]), len(found[TRUTH])) == (3, 2, 3)


def test_a_regression_gives_numbers_and_true_numbers(tmp_path):
    spec = regression_spec({"speed": "m/s", "steering": ""})
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=spec, gain=1.0)
    labels = tmp_path / "numbers.csv"
    labels.write_text("time_s,steering,speed\n0,0.25,0.5\n")
    colour_bag(tmp_path / "bag", [(51, 204, 0)])

    _, _, results = evaluated(tmp_path, model, "--labels", labels, "--results-bag", "copy")
    found = by_rosbags(results)

    (answer,), (truth,) = found["/perception/regression"], found[TRUTH]
    assert answer.content.name == ["speed", "steering"]
    assert answer.content.position.tolist() == pytest.approx([0.2, 0.8], abs=1e-3)
    assert dict(zip(truth.content.name, truth.content.position.tolist(), strict=True)) == {
        "speed": 0.5,
        "steering": 0.25,
    }


def test_several_classes_are_a_truth_of_several_results_and_none_of_them_of_no_result(tmp_path):
    model = write_tiny_model(tmp_path / "tiny.onnx", spec=as_multilabel(tiny_spec(), 0.5, 0.5, 0.5))
    labels = tmp_path / "labels.csv"
    labels.write_text("start_s,end_s,class\n0,0.1,red;green\n0.1,0.2,;\n")
    colour_bag(tmp_path / "bag", [RED, GREEN, BLUE])

    _, _, results = evaluated(tmp_path, model, "--labels", labels, "--results-bag", "copy")

    assert [ranked(m) for m in by_rosbags(results)[TRUTH]] == [[("green", 1.0), ("red", 1.0)], []]


def test_the_bag_is_evaluated_like_the_recording_by_its_own_truth(tmp_path, model):
    _, rows, results = evaluated(tmp_path, model, "--results-bag", "copy")
    with Bag(results) as bag:
        images = list(bag.images(bag.image_topic(CAMERA)))
        assert (len(images), bag.damage) == (10, [])

    again = tmp_path / "again"
    again.mkdir()
    code, _, rows_again = run(again, model, "--bag", results, "--topic", CAMERA, "--labels", "/truth", "--no-video")

    assert code == EXIT_OK
    assert [row["predicted"] for row in rows_again] == [row["predicted"] for row in rows]
    assert [row["truth"] for row in rows_again][:9] == [row["truth"] for row in rows][:9]


def test_truth_of_images_without_stamps_is_known_again_by_their_reception(tmp_path, model):
    colours = [RED, RED, RED, GREEN, GREEN, GREEN, GREEN, BLUE, BLUE]
    times = [START_NS + index * SECOND // 10 for index in range(9)]
    images = [(CAMERA, time_ns, tiny_bag.raw(flat(colour), 0)) for time_ns, colour in zip(times, colours, strict=True)]
    tiny_bag.write_bag(tmp_path / "bag", images)
    _, rows, results = evaluated(tmp_path, model, "--results-bag", "copy")

    again = tmp_path / "again"
    again.mkdir()
    code, _, rows_again = run(again, model, "--bag", results, "--topic", CAMERA, "--labels", "/truth", "--no-video")

    assert code == EXIT_OK
    assert [row["truth"] for row in rows_again] == [row["truth"] for row in rows]
    assert {row["truth"] for row in rows} == {"red", "green", "blue"}


def test_images_of_two_types_on_one_topic_are_copied_each_under_its_type(tmp_path, model):
    kinds = [tiny_bag.raw, tiny_bag.compressed]
    times = [START_NS + index * SECOND // 10 for index in range(6)]
    messages = [
        (1 + n % 2, time_ns, tiny_bag.payload(kinds[n % 2](flat(RED), time_ns))) for n, time_ns in enumerate(times)
    ]
    channels = [("/camera", "cdr", kind, "ros2msg") for kind in (tiny_bag.IMAGE, tiny_bag.COMPRESSED)]
    bag = tiny_bag.McapWriter(channels, messages).write(tmp_path / "bag.mcap")

    code, _, _ = run(tmp_path, model, "--bag", bag, "--no-video", "--results-bag", "copy")

    assert code == EXIT_OK
    with (tmp_path / "out" / "results" / "results.mcap").open("rb") as file:
        found = [(schema.name, one.data) for schema, _, one in make_reader(file).iter_messages(topics=["/camera"])]
    names = [channels[number - 1][2] for number, _, _ in messages]
    assert found == list(zip(names, (payload for _, _, payload in messages), strict=True))
    assert tiny_bag.read(tmp_path / "out" / "results", "/camera") == (times, [])


def test_ctrl_c_in_the_middle_of_a_write_leaves_a_whole_bag_of_the_frames_so_far(tmp_path, model, monkeypatch):
    really = BagWriter.write
    calls = Counter()

    def interrupted(writer, topic, kind, log_time_ns, payload):
        calls[topic] += 1
        if topic == OVERLAY and calls[topic] == 4:
            signal.raise_signal(signal.SIGINT)  # which reaches the main thread, while this one goes on
        really(writer, topic, kind, log_time_ns, payload)

    monkeypatch.setattr(BagWriter, "write", interrupted)
    code, rows, results = evaluated(tmp_path, model, "--results-bag", "copy")

    assert code == EXIT_INTERRUPTED
    assert len(rows) == 10
    for read in (by_rosbags, by_mcap):
        found = read(results)
        assert [len(found[topic]) for topic in (CAMERA, ANSWER, OVERLAY, ANNOTATIONS, DIAGNOSTICS)] == [4] * 5
    with Bag(results) as bag:
        assert bag.damage == []


def test_an_evaluation_that_was_interrupted_leaves_the_bag_of_what_it_has_done(tmp_path, model, monkeypatch):
    from cnn_perception.evaluation import replay

    really = replay._keep_if_bad

    def interrupted(worst, frame):
        really(worst, frame)
        if frame.record.index == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(replay, "_keep_if_bad", interrupted)
    code, rows, results = evaluated(tmp_path, model, "--results-bag", "reference")

    assert (code, len(rows)) == (EXIT_INTERRUPTED, 6)
    assert len(by_mcap(results)[ANSWER]) == 6


def test_a_full_disk_is_one_line_and_what_was_written_can_be_read(tmp_path, model, capsys):
    colour_bag(tmp_path / "bag", COLOURS * 20)
    with files_of_at_most(200_000):
        code, _, results = evaluated(tmp_path, model, "--results-bag", "copy")

    assert code == EXIT_BAD_INPUT
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "results" in line]
    assert line.startswith(f"error: {results}: cannot be written (File too large)")
    with Bag(results) as bag:
        assert 10 < len(list(bag.images(bag.image_topic(CAMERA)))) < 200


def test_a_bag_of_an_earlier_run_is_replaced_or_removed_and_anybody_elses_refused(tmp_path, model, capsys):
    _, _, results = evaluated(tmp_path, model, "--results-bag", "copy")
    evaluated(tmp_path, model, "--results-bag", "reference")
    assert CAMERA not in by_rosbags(results)
    (results / ".metadata.yaml.0123abcd.99999999.tmp").write_text("")  # the writer was killed
    evaluated(tmp_path, model, "--results-bag", "reference")
    assert sorted(path.name for path in results.iterdir()) == ["metadata.yaml", "results.mcap"]
    evaluated(tmp_path, model)
    assert not results.exists()

    colour_bag(results, [RED])
    assert evaluated(tmp_path, model, "--results-bag", "copy")[0] == EXIT_BAD_INPUT
    assert "results: is there already, and is no bag of results" in capsys.readouterr().err
    assert evaluated(tmp_path, model)[0] == EXIT_OK
    assert len(by_rosbags(results)[CAMERA]) == 1


def test_a_folder_of_images_has_no_times_and_is_refused(tmp_path, model, capsys):
    (tmp_path / "images").mkdir()

    assert run(tmp_path, model, "--images", tmp_path / "images", "--results-bag", "copy")[0] == EXIT_BAD_INPUT
    assert "--results-bag belongs to --bag" in capsys.readouterr().err


def test_topics_are_named_where_the_layouts_look_for_them():
    below = topic_names.below
    assert [
        below(topic_names.RESULTS, name)
        for name in ("classification", topic_names.OVERLAY_JPEG, topic_names.ANNOTATIONS, topic_names.IMAGE_REFERENCE)
    ] == [ANSWER, OVERLAY, ANNOTATIONS, REFERENCE]
