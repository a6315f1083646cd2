"""Owns: perception_node as its users meet it, a process on real DDS. Leaves to others: what the pipeline computes."""

from __future__ import annotations

import signal
from array import array
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
    ask,
    camera_of,
    count,
    diagnosis,
    drop,
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
from ros import ENDS_WITHIN_S, Participant, Process, new_domain, participant, running
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

from cnn_perception.image.messages import decode_file_bytes, encoded_from_message
from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.pipeline import Pipeline


def raw(fields: dict[str, Any], second: int) -> Image:
    message = Image(**{**fields, "data": array("B", bytes(fields["data"]))})
    message.header.stamp.sec = second
    return message


def compressed(file: frames.GoodFile | frames.BadFile, second: int) -> CompressedImage:
    message = CompressedImage(format=file.format, data=array("B", file.data))
    message.header.stamp.sec = second
    return message


def unaccounted(camera: DiagnosticStatus) -> int:
    """How many frames were neither answered nor dropped."""
    dropped = sum(int(pair.value) for pair in camera.values if pair.key.startswith("dropped: "))
    return int(value(camera, "received")) - int(value(camera, "answered")) - dropped


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
        ask(ros, camera, message, *everything)
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
    ask(ros, camera, image(when, picture(1), frame_id), answers)
    assert (stamp(answers[0]), answers[0].header.frame_id) == (when, frame_id)


def test_every_bad_frame_is_dropped_and_the_next_good_one_is_answered(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    statuses = ros.collect(DiagnosticArray, "/diagnostics")
    before = unaccounted(diagnosis(ros, "camera"))
    for number, bad in enumerate(frames.BAD_IMAGES, start=1):
        drop(ros, camera, raw(bad.fields, 0), bad.reason, statuses)
        ask(ros, camera, image((number, 0), picture(number)), answers)
    assert {stamp(answer)[0] for answer in answers} == set(range(1, len(frames.BAD_IMAGES) + 1))
    ros.wait_for(lambda: unaccounted(diagnosis(ros, "camera")) == before, "every frame to be counted once")


def test_every_good_encoding_is_answered(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    for number, good in enumerate(frames.GOOD_IMAGES, start=1):
        ask(ros, camera, raw(good.fields, number), answers)


def test_dropped_frames_are_counted_by_reason_and_warned_of(ros: Participant, node: Process):
    camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    bad = image((1, 0), picture(1))
    bad.encoding = "rgb9"
    drop(ros, camera, bad, "encoding", ros.collect(DiagnosticArray, "/diagnostics"))
    assert "frame dropped (encoding" in node.log
    assert "/image_raw" in node.log


def test_newest_of_a_burst_is_answered_and_the_missed_are_counted(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    before = diagnosis(ros, "camera")
    sent = 0

    def publish() -> None:
        nonlocal sent
        sent += 1
        camera.publish(image((sent, 0), picture(sent, 480, 640)))

    for _ in range(99):
        publish()
    ros.repeat(publish, lambda: answers and stamp(answers[-1]) == (sent, 0), "the answer to the newest frame")
    seconds = [stamp(answer)[0] for answer in answers]
    assert seconds == sorted(set(seconds))
    after = diagnosis(ros, "camera")
    received, answered, missed = (
        int(value(after, key)) - int(value(before, key)) for key in ("received", "answered", "overtaken")
    )
    assert answered + missed == received <= sent  # on a busy machine DDS itself drops some of a burst
    assert missed > 0


def test_nothing_is_computed_while_nobody_subscribes(ros: Participant):
    before = diagnosis(ros, "camera")
    camera = ros.publisher(Image, "image_raw")
    received = int(value(before, "received"))
    frame = image((1, 0), picture(1))
    ros.repeat(lambda: camera.publish(frame), lambda: count(ros, "received") > received, "a frame to be received")
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
    assert status.level == DiagnosticStatus.OK  # nobody has asked for more than there is
    if value(status, "provider") == "CPUExecutionProvider":  # CUDA is preferred, and this machine has none
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
        ("model", "~nobody_of_this_name/a.onnx"),
        ("shadow_model", "~nobody_of_this_name/a.onnx"),
        ("record_folder", "~nobody_of_this_name/frames"),
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
        ask(ros, camera, image((1, 0), red), answers)
        two = [result.class_id for result in answers[-1].results]
        assert set_parameter(ros, "threshold", 0.5).successful
        ask(ros, camera, image((2, 0), red), answers)
        one = [result.class_id for result in answers[-1].results]
        ros.wait_for(lambda: labels and labels[-1].threshold == 0.5, "the new threshold in label_info")
    finally:
        set_parameter(ros, "top_k", 5)
        set_parameter(ros, "threshold", 0.0)
    assert (two, one) == (["red", "green"], ["red"])


def test_every_parameter_is_described(ros: Participant):
    names = ["model", "providers", "intra_op_threads", "image_transport", "autostart", "top_k", "threshold"]
    request = DescribeParameters.Request(names=names)
    answer = ros.call(DescribeParameters, f"{NODE}/describe_parameters", request)
    assert all(d.type != ParameterType.PARAMETER_NOT_SET and d.description for d in answer.descriptors)


def test_disabled_node_ignores_frames_until_enabled(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    before = count(ros, "received")
    sent = 0

    def publish() -> None:
        nonlocal sent
        sent += 1
        camera.publish(image((1, sent), picture(1)))

    assert ros.call(SetBool, f"{NODE}/set_enabled", SetBool.Request(data=False)).success
    ros.repeat(publish, lambda: count(ros, "received") == before + sent, "every frame to be received")
    assert ros.call(SetBool, f"{NODE}/set_enabled", SetBool.Request(data=True)).success
    ask(ros, camera, image((2, 0), picture(2)), answers)
    assert {stamp(answer) for answer in answers} == {(2, 0)}


def test_deactivated_node_keeps_its_model_and_goes_on(ros: Participant):
    assert state(ros) == "active"
    assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    assert state(ros) == "inactive"
    status = diagnosis(ros, "camera")
    assert (status.level, status.message) == (DiagnosticStatus.OK, "the node is not active")
    assert diagnosis(ros, "model").message.startswith("running on ")
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
    settings = {"model": model, "autostart": False}
    with running("perception_node", domain, tmp_path / "log", **settings) as process, participant(domain) as ros:
        assert state(ros) == "unconfigured"
        (line,) = process.log.splitlines()
        assert (
            "autostart is false: unconfigured until a lifecycle manager configures and activates it, or `ros2" in line
        )
        assert f"`ros2 lifecycle set {NODE} configure`, then `activate`" in line
        assert not transition(ros, Transition.TRANSITION_ACTIVATE)
        assert transition(ros, Transition.TRANSITION_CONFIGURE)
        assert state(ros) == State(label="inactive").label


def test_compressed_images_are_answered_and_bad_ones_dropped(model: Path, tmp_path: Path):
    domain = new_domain()
    arguments = ("-r", "image_raw:=/front/image")
    settings = {"model": model, "image_transport": "compressed", "diagnostics_period_s": 0.05}
    with running("perception_node", domain, tmp_path / "log", *arguments, **settings), participant(domain) as ros:
        answers = ros.collect(Classification, f"{NODE}/classification")
        pictures = ros.collect(CompressedImage, f"{NODE}/activation/overlay/compressed")
        probe = compressed(frames.GOOD_COMPRESSED[0], PROBE_S)
        camera = camera_of(ros, answers, pictures, topic="/front/image/compressed", probe=probe)
        statuses = ros.collect(DiagnosticArray, "/diagnostics")
        for number, bad in enumerate(frames.BAD_COMPRESSED, start=1):
            good = frames.GOOD_COMPRESSED[number % len(frames.GOOD_COMPRESSED)]
            drop(ros, camera, compressed(bad, 0), bad.reason, statuses)
            ask(ros, camera, compressed(good, number), answers)
        ros.wait_for(lambda: pictures, "a compressed overlay")
        assert decode_file_bytes(bytes(pictures[-1].data)).ndim == 3


@pytest.mark.parametrize("content", [None, b"", b"not a model", "folder"], ids=["missing", "empty", "text", "folder"])
def test_unusable_model_ends_the_node_with_one_line(content: bytes | str | None, tmp_path: Path):
    path = tmp_path / "broken.onnx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
    process = Process("perception_node", new_domain(), tmp_path / "log", model=path)
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
    process = Process("perception_node", new_domain(), tmp_path / "log", model=model, **nonsense)
    assert process.wait() == 2
    assert next(iter(nonsense)) in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_node_quietly(number: signal.Signals, model: Path, tmp_path: Path):
    domain = new_domain()
    with running("perception_node", domain, tmp_path / "log", model=model) as process, participant(domain) as ros:
        camera = camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
        camera.publish(image((1, 0), picture(1, 480, 640)))
        process.signal(number)
        process.signal(number)  # a launch file's Ctrl-C arrives twice
        assert process.wait(ENDS_WITHIN_S) == 0


def test_silent_topic_of_the_wrong_type_is_explained(model: Path, tmp_path: Path):
    domain = new_domain()
    with running("perception_node", domain, tmp_path / "log", model=model, image_timeout_s=0.2) as process:
        with participant(domain) as ros:
            ros.node.create_publisher(CompressedImage, "image_raw", 10)
            ros.wait_for(lambda: "sensor_msgs/msg/CompressedImage" in process.log, "the explanation")
            assert diagnosis(ros, "camera").level == DiagnosticStatus.ERROR
        assert "this node wants sensor_msgs/msg/Image," in process.log


def test_incompatible_qos_is_explained(model: Path, tmp_path: Path):
    domain = new_domain()
    override = ("-p", "qos_overrides./image_raw.subscription.reliability:=reliable")
    with (
        running("perception_node", domain, tmp_path / "log", *override, model=model, image_timeout_s=60.0) as process,
        participant(domain) as ros,
    ):
        ros.node.create_publisher(Image, "image_raw", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
        ros.wait_for(lambda: "BEST_EFFORT" in process.log, "the explanation")
