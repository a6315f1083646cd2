"""Owns: perception_node as its users meet it, a process on real DDS. Leaves to others: what the pipeline computes."""

from __future__ import annotations

import signal
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import frames
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from perception import (
    LATCHED,
    NODE,
    PROBE_S,
    camera_of,
    diagnosis,
    image,
    picture,
    set_parameter,
    stamp,
    state,
    transition,
    value,
)
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import Participant, Process, new_domain, participant, running
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from cnn_perception.image import decode_file_bytes, encoded_from_message
from cnn_perception.inference import SessionOptions
from cnn_perception.overlay import draw_overlay
from cnn_perception.pipeline import Pipeline


def raw(fields: dict[str, Any], second: int) -> Image:
    message = Image(**{**fields, "data": array("B", bytes(fields["data"]))})
    message.header.stamp.sec = second
    return message


def compressed(file: frames.GoodFile | frames.BadFile, second: int) -> CompressedImage:
    message = CompressedImage(format=file.format, data=array("B", file.data))
    message.header.stamp.sec = second
    return message


def count_of(ros: Participant, statuses: list[DiagnosticArray], reason: str) -> int:
    """How many frames the latest of these diagnoses says were dropped for a reason."""
    ros.wait_for(lambda: statuses, "diagnostics")
    camera = next(s for s in statuses[-1].status if s.name == f"{NODE}: camera")
    return int(value(camera, f"dropped: {reason}"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def node(domain: int, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("node") / "log.txt"
    with running("node", domain, log, model=model, diagnostics_period_s=0.05) as process:
        yield process


def test_node_publishes_exactly_what_the_pipeline_returns(ros: Participant, model: Path):
    pipeline = Pipeline.load(model, SessionOptions(["CPUExecutionProvider"]))
    classifications = ros.collect(Classification, f"{NODE}/classification")
    activations = ros.collect(Image, f"{NODE}/activation")
    embeddings = ros.collect(Image, f"{NODE}/embedding")
    overlays = ros.collect(Image, f"{NODE}/activation/overlay")
    everything = (classifications, activations, embeddings, overlays)
    camera = camera_of(ros, *everything)

    for number in range(3):
        message = image((number, 999_999_999 - number), picture(number))
        camera.publish(message)
        ros.wait_for(lambda n=number: all(len(topic) == n + 1 for topic in everything), "an answer on every topic")
        expected = pipeline.run(encoded_from_message(message)).prediction

        results = [(result.class_id, result.score) for result in classifications[-1].results]
        assert results == expected.ranked(5)
        assert activations[-1].encoding == "32FC1"
        found = np.frombuffer(activations[-1].data, "<f4").reshape(activations[-1].height, activations[-1].width)
        np.testing.assert_array_equal(found, expected.activation)
        np.testing.assert_array_equal(np.frombuffer(embeddings[-1].data, "<f4"), expected.embedding)
        assert (embeddings[-1].height, embeddings[-1].width) == (1, 3)
        overlay = draw_overlay(picture(number), expected, pipeline.spec.input)
        np.testing.assert_array_equal(np.frombuffer(overlays[-1].data, np.uint8).reshape(overlay.shape), overlay)
        assert all(topic[-1].header == message.header for topic in everything)


@pytest.mark.parametrize(
    ("when", "frame_id"),
    [((0, 0), ""), ((2_000_000_000, 1), "kamera_链"), ((5, 999_999_999), "a/b c"), ((-1, 0), "broken driver")],
)
def test_header_is_copied_to_the_nanosecond(ros: Participant, when: tuple[int, int], frame_id: str):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    camera.publish(image(when, picture(1), frame_id))
    ros.wait_for(lambda: answers, "an answer")
    assert (stamp(answers[0]), answers[0].header.frame_id) == (when, frame_id)


def test_every_bad_frame_is_dropped_and_the_next_good_one_is_answered(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    statuses = ros.collect(DiagnosticArray, "/diagnostics")
    before = Counter({bad.reason: count_of(ros, statuses, bad.reason) for bad in frames.BAD_IMAGES})
    for number, bad in enumerate(frames.BAD_IMAGES, start=1):
        before[bad.reason] += 1
        camera.publish(raw(bad.fields, 0))
        ros.wait_for(lambda b=bad: count_of(ros, statuses, b.reason) == before[b.reason], f"{bad.name} to be counted")
        camera.publish(image((number, 0), picture(number)))
        ros.wait_for(lambda n=number: len(answers) == n, f"the answer to the good frame after {bad.name}")
        assert stamp(answers[-1]) == (number, 0), bad.name


def test_every_good_encoding_is_answered(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    for number, good in enumerate(frames.GOOD_IMAGES, start=1):
        camera.publish(raw(good.fields, number))
        ros.wait_for(lambda n=number: len(answers) == n, f"the answer to {good.name}")
        assert stamp(answers[-1]) == (number, 0), good.name


def test_dropped_frames_are_counted_by_reason_and_warned_of(ros: Participant, node: Process):
    camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    before = int(value(diagnosis(ros, "camera"), "dropped: encoding"))
    bad = image((1, 0), picture(1))
    bad.encoding = "rgb9"
    camera.publish(bad)
    ros.wait_for(lambda: int(value(diagnosis(ros, "camera"), "dropped: encoding")) == before + 1, "the count")
    assert "frame dropped (encoding" in node.log
    assert "/image_raw" in node.log


def test_newest_of_a_burst_is_answered_and_the_missed_are_counted(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    before = diagnosis(ros, "camera")
    for number in range(1, 101):
        camera.publish(image((number, 0), picture(number, 480, 640)))
    ros.wait_for(lambda: answers and stamp(answers[-1]) == (100, 0), "the answer to the newest frame")
    seconds = [stamp(answer)[0] for answer in answers]
    assert seconds == sorted(set(seconds))
    after = diagnosis(ros, "camera")
    received, answered, missed = (
        int(value(after, key)) - int(value(before, key)) for key in ("received", "answered", "dropped: missed")
    )
    assert received == 100
    assert answered + missed == 100


def test_nothing_is_computed_while_nobody_subscribes(ros: Participant):
    before = diagnosis(ros, "camera")
    camera = ros.publisher(Image, "image_raw")

    def is_received() -> bool:  # the first may come before both ends are connected
        camera.publish(image((1, 0), picture(1)))
        return int(value(diagnosis(ros, "camera"), "received")) > int(value(before, "received"))

    ros.wait_for(is_received, "a frame to be received")
    assert value(diagnosis(ros, "camera"), "answered") == value(before, "answered")


def test_late_subscriber_learns_model_and_labels(ros: Participant, model: Path):
    infos = ros.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
    labels = ros.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
    ros.wait_for(lambda: infos and labels, "the latched topics")
    assert infos[-1].method.startswith("tiny sha256:")
    assert infos[-1].database_location == f"{NODE}/class_labels"
    assert [(c.class_id, c.class_name) for c in labels[-1].class_map] == [(0, "red"), (1, "green"), (2, "blue")]
    node_name, _, parameter = infos[-1].database_location.rpartition("/")
    request = GetParameters.Request(names=[parameter])
    answer = ros.call(GetParameters, f"{node_name}/get_parameters", request)
    assert list(answer.values[0].string_array_value) == ["red", "green", "blue"]


def test_provider_in_use_is_said(ros: Participant, node: Process):
    status = diagnosis(ros, "model")
    assert value(status, "provider") in node.log
    assert len(value(status, "sha256")) == 64
    if value(status, "provider") == "CPUExecutionProvider":  # CUDA was asked for, and this machine has none
        assert status.level == DiagnosticStatus.WARN
        assert "inference runs on CPUExecutionProvider" in node.log


@pytest.mark.parametrize(
    ("name", "nonsense"),
    [
        ("threshold", float("nan")),
        ("threshold", -0.1),
        ("threshold", 1.1),
        ("threshold", "high"),
        ("top_k", 0),
        ("top_k", 2**40),
        ("overlay_alpha", float("inf")),
        ("image_timeout_s", 0.0),
        ("image_transport", "theora"),
        ("intra_op_threads", -1),
        ("class_labels", "cat"),
    ],
)
def test_nonsense_parameter_is_refused_with_a_reason(ros: Participant, name: str, nonsense: object):
    result = set_parameter(ros, name, nonsense)
    assert not result.successful
    assert result.reason


def test_threshold_and_top_k_take_effect_at_once(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    labels = ros.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
    camera = camera_of(ros, answers)
    red = np.zeros((48, 80, 3), np.uint8)
    red[..., 0] = 255  # logits 10, 0, 0: the scores are 0.99991 and twice 0.000045
    try:
        assert set_parameter(ros, "top_k", 2).successful
        camera.publish(image((1, 0), red))
        ros.wait_for(lambda: len(answers) == 1, "an answer")
        assert set_parameter(ros, "threshold", 0.5).successful
        camera.publish(image((2, 0), red))
        ros.wait_for(lambda: len(answers) == 2, "an answer")
        ros.wait_for(lambda: labels and labels[-1].threshold == 0.5, "the new threshold in label_info")
    finally:
        set_parameter(ros, "top_k", 5)
        set_parameter(ros, "threshold", 0.0)
    assert [[r.class_id for r in answer.results] for answer in answers] == [["red", "green"], ["red"]]


def test_every_parameter_is_described(ros: Participant):
    names = ["model", "providers", "intra_op_threads", "image_transport", "autostart", "top_k", "threshold"]
    request = DescribeParameters.Request(names=names)
    answer = ros.call(DescribeParameters, f"{NODE}/describe_parameters", request)
    assert all(d.type != ParameterType.PARAMETER_NOT_SET and d.description for d in answer.descriptors)


def test_disabled_node_ignores_frames_until_enabled(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    received = int(value(diagnosis(ros, "camera"), "received"))
    assert ros.call(SetBool, f"{NODE}/set_enabled", SetBool.Request(data=False)).success
    camera.publish(image((1, 0), picture(1)))
    ros.wait_for(lambda: int(value(diagnosis(ros, "camera"), "received")) == received + 1, "the frame to be received")
    assert ros.call(SetBool, f"{NODE}/set_enabled", SetBool.Request(data=True)).success
    camera.publish(image((2, 0), picture(2)))
    ros.wait_for(lambda: answers, "an answer")
    assert [stamp(answer) for answer in answers] == [(2, 0)]


def test_deactivated_node_keeps_its_model_and_goes_on(ros: Participant):
    assert state(ros) == "active"
    assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    assert state(ros) == "inactive"
    assert diagnosis(ros, "camera").level == DiagnosticStatus.STALE
    assert diagnosis(ros, "model").level != DiagnosticStatus.STALE
    assert transition(ros, Transition.TRANSITION_ACTIVATE)
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))


def test_cleaned_up_node_can_be_configured_again(ros: Participant):
    for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert transition(ros, number)
    assert state(ros) == "unconfigured"
    infos = ros.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
    for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert transition(ros, number)
    ros.wait_for(lambda: infos, "the latched info")
    assert infos[-1].database_version >= 2


def test_autostart_false_waits_for_transitions(model: Path, tmp_path: Path):
    domain = new_domain()
    with running("node", domain, tmp_path / "log", model=model, autostart=False), participant(domain) as ros:
        assert state(ros) == "unconfigured"
        assert not transition(ros, Transition.TRANSITION_ACTIVATE)
        assert transition(ros, Transition.TRANSITION_CONFIGURE)
        assert state(ros) == State(label="inactive").label


def test_compressed_images_are_answered_and_bad_ones_dropped(model: Path, tmp_path: Path):
    domain = new_domain()
    arguments = ("-r", "image_raw:=/front/image")
    settings = {"model": model, "image_transport": "compressed"}
    with running("node", domain, tmp_path / "log", *arguments, **settings), participant(domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        pictures = ros.collect(CompressedImage, f"{NODE}/activation/overlay/compressed")
        probe = compressed(frames.GOOD_COMPRESSED[0], PROBE_S)
        camera = camera_of(ros, answers, pictures, topic="/front/image/compressed", probe=probe)
        for number, bad in enumerate(frames.BAD_COMPRESSED, start=1):
            good = frames.GOOD_COMPRESSED[number % len(frames.GOOD_COMPRESSED)]
            camera.publish(compressed(bad, 0))
            camera.publish(compressed(good, number))
            ros.wait_for(lambda n=number: len(answers) == n, f"{good.name} to be answered after {bad.name}")
            assert stamp(answers[-1]) == (number, 0)
        ros.wait_for(lambda: pictures, "a compressed overlay")
        assert decode_file_bytes(bytes(pictures[-1].data)).ndim == 3


@pytest.mark.parametrize("content", [None, b"", b"not a model", "folder"], ids=["missing", "empty", "text", "folder"])
def test_unusable_model_ends_the_node_with_one_line(content: bytes | str | None, tmp_path: Path):
    path = tmp_path / "broken.onnx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    process = Process("node", new_domain(), tmp_path / "log", model=path)
    assert process.wait() == 2
    errors = [line for line in process.log.splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    "nonsense",
    [{"providers": "[GpuExecutionProvider]"}, {"image_transport": "h264"}, {"threshold": 1.5}, {"top_k": "many"}],
)
def test_nonsense_parameter_at_start_ends_the_node_with_one_line(nonsense: dict, model: Path, tmp_path: Path):
    process = Process("node", new_domain(), tmp_path / "log", model=model, **nonsense)
    assert process.wait() == 2
    assert next(iter(nonsense)) in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_node_quietly(number: signal.Signals, model: Path, tmp_path: Path):
    domain = new_domain()
    with running("node", domain, tmp_path / "log", model=model) as process, participant(domain) as ros:
        camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
        camera.publish(image((1, 0), picture(1, 480, 640)))
        process.signal(number)
        process.signal(number)  # a launch file's Ctrl-C arrives twice
        assert process.wait(timeout_s=3) == 0


def test_silent_topic_of_the_wrong_type_is_explained(model: Path, tmp_path: Path):
    domain = new_domain()
    with running("node", domain, tmp_path / "log", model=model, image_timeout_s=0.2) as process:
        with participant(domain) as ros:
            ros.node.create_publisher(CompressedImage, "image_raw", 10)
            ros.wait_for(lambda: "sensor_msgs/msg/CompressedImage" in process.log, "the explanation", timeout_s=10)
            assert diagnosis(ros, "camera").level == DiagnosticStatus.ERROR
        assert "this node wants sensor_msgs/msg/Image," in process.log


def test_incompatible_qos_is_explained(model: Path, tmp_path: Path):
    domain = new_domain()
    override = ("-p", "qos_overrides./image_raw.subscription.reliability:=reliable")
    with (
        running("node", domain, tmp_path / "log", *override, model=model, image_timeout_s=60.0) as process,
        participant(domain) as ros,
    ):
        ros.node.create_publisher(Image, "image_raw", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        ros.wait_for(lambda: "BEST_EFFORT" in process.log, "the explanation", timeout_s=10)
