"""Owns: what the doctor says of topics and nodes described to it. Leaves to others: real ones (test_doctor)."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from doctor_parts import calibration, lines, picture
from rcl_interfaces.msg import ParameterValue
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.type_hash import TypeHash
from sensor_msgs.msg import Image

from cnn_perception.doctor import nodes
from cnn_perception.doctor import topics as topic_checks
from cnn_perception.doctor.topics import Publisher, ReceivedFrames

RAW, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
FFMPEG, VIDEO = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "foxglove_msgs/msg/CompressedVideo"
FOXGLOVE = "foxglove_msgs/msg/CompressedImage"
NOW_NS = 1_700_000_000 * 10**9
NOBODY = "FAIL  topic /image_raw: nobody publishes it -> "


# ---- a topic


@pytest.mark.parametrize(
    ("wanted", "publishers", "others", "said"),
    [
        (RAW, [], {}, f"{NOBODY}no image topic is published: start the camera, with the same ROS_DOMAIN_ID"),
        (RAW, [], {"/image_rav": RAW}, f"{NOBODY}did you mean /image_rav?"),
        (RAW, [], {"/front/left/camera/image_raw": RAW}, "did you mean /front/left/camera/image_raw?"),
        (RAW, [], {"/image_raw/compressed": JPEG}, "published: set image_transport to compressed"),
        (RAW, [], {"/usb": RAW, "/top": JPEG}, f"{NOBODY}images are published on /top, /usb"),
        (
            RAW,
            [],
            {"/image_raw/ffmpeg": FFMPEG, "/usb": RAW},
            f"{NOBODY}/image_raw/ffmpeg is published: {FFMPEG} holds",
        ),
        (
            RAW,
            [],
            {"/front/video": VIDEO},
            f"{NOBODY}/front/video is published: {VIDEO} holds packets of video; decode",
        ),
        (RAW, [], {"/front/video": VIDEO, "/usb": RAW}, f"{NOBODY}images are published on /usb;"),
        (RAW, [Publisher("/cam", VIDEO)], {}, f"{VIDEO}, not {RAW} -> {VIDEO} holds packets of video; decode them"),
        (RAW, [Publisher("/cam", FFMPEG)], {}, "ros2 run image_transport republish"),
        (JPEG, [Publisher("/cam", FOXGLOVE)], {}, "convert it to sensor_msgs/CompressedImage or Image"),
        (RAW, [Publisher("/cam", RAW)], {}, "ok    topic /image_raw: published by /cam as sensor_msgs/msg/Image"),
        (RAW, [Publisher("/cam", JPEG)], {}, "Image -> set image_transport to compressed, with /image_raw as"),
        (JPEG, [Publisher("/cam", RAW)], {}, "CompressedImage -> set image_transport to raw"),
        (RAW, [Publisher("/cam", "std_msgs/msg/String")], {}, "FAIL  topic /image_raw: published by /cam as std_msgs"),
        (RAW, [Publisher("/c", RAW, "Best effort publisher")], {}, "whose QoS does not fit: Best effort publisher ->"),
        (RAW, [Publisher("/cam", RAW), Publisher("/d", JPEG)], {}, "warn  topic /image_raw: published by /d as"),
        (RAW, [Publisher("/cam", RAW), Publisher("/d", RAW)], {}, "warn  topic /image_raw: 2 publishers at once"),
    ],
)
def test_publishers(wanted: str, publishers: list[Publisher], others: dict[str, str], said: str):
    assert said in lines(topic_checks.check_publishers("/image_raw", wanted, publishers, others))


def frames(ages_s: Sequence[float], message: Image | None = None, **more: Any) -> ReceivedFrames:
    """Frames at 10 Hz with stamps of these ages."""
    arrived = [NOW_NS + number * 10**8 for number in range(len(ages_s))]
    times_ns = [(max(ns - round(age_s * 1e9), 0), ns) for ns, age_s in zip(arrived, ages_s, strict=True)]
    settings = {
        "duration_s": 2.0,
        "latest": message or picture(),
        "times_ns": times_ns,
        "camera_info": calibration(),
    } | more
    return ReceivedFrames("/front/image_raw", **settings)


@pytest.mark.parametrize("ahead_s", [-3600.0, -0.5, 0.0, 0.5, 3600.0])  # the sender's clock
@pytest.mark.parametrize(
    ("sent_s", "subscribed_s", "kept"),
    [
        ([1.0], 5.0, 1),
        ([1.0, 1.1, 1.2], 5.0, 3),
        ([1.0, 1.1, 1.2, 5.4, 5.5], 5.25, 3),
        ([4.0, 6.0, 8.0], 5.0, 1),
        ([4.97, 5.0, 5.03, 5.06, 5.1], 4.98, 1),
    ],
)
def test_what_was_kept_is_told_from_what_is_published_whatever_the_senders_clock_says(
    sent_s: list[float], subscribed_s: float, kept: int, ahead_s: float
):
    found = topic_checks.KeptMessages()
    told = []
    for number, second in enumerate(sent_s):
        received_s = max(second, subscribed_s + number * 1e-3) + 2e-3
        info = {
            "received_timestamp": round(received_s * 1e9),
            "source_timestamp": round((second + ahead_s + 4000.0) * 1e9),
            "publisher_gid": {"data": b"camera"},
        }
        told.append(found.has(info))
    assert told == [True] * kept + [False] * (len(sent_s) - kept)


def of_part(binning: int = 0, roi: tuple[int, int] = (0, 0), model: str = "plumb_bob") -> Any:
    """A calibration of 160x96 whose images show a part of the sensor, or bin it."""
    info = calibration(160, 96)
    info.binning_x = info.binning_y = binning
    info.roi.width, info.roi.height = roi
    info.distortion_model = model
    return info


def off_centre(u: float, v: float) -> Any:
    info = calibration()
    info.k[2], info.k[5] = u, v
    return info


@pytest.mark.parametrize(
    ("received", "said"),
    [
        (frames([0.01] * 11), "ok    frames of /front/image_raw: 11 in 2.0 s (10.0 Hz), 0.01 MiB each"),
        (frames([0.01] * 11), "ok    frames of /front/image_raw: 80x48, rgb8: converted"),
        (frames([0.01, 0.05]), "ok    frames of /front/image_raw: 50 ms old at most"),
        (frames([0.01]), "ok    topic /front/camera_info: calibrated, plumb_bob"),
        (ReceivedFrames("/front/image_raw", 2.0), "FAIL  frames of /front/image_raw: none in 2.0 s"),
        (frames([0.01], picture("rgb9")), "FAIL  frames of /front/image_raw: refused (encoding): encoding 'rgb9'"),
        (frames([0.01], picture(frame_id="")), "warn  frames of /front/image_raw: frame_id is empty"),
        (frames([12.5, 12.0]), "warn  frames of /front/image_raw: they are 12.0 s old when they arrive"),
        (frames([2e9, 2e9]), "warn  frames of /front/image_raw: stamp_zero in 2 of 2"),
        (frames([0.1, -5.0]), "warn  frames of /front/image_raw: stamp_future in 1 of 2"),
        (frames([-3.0, -3.1], invalid=[3 * 10**9]), "stamp_invalid in 1 of 2: nanosec of the stamp is 3000000000"),
        (frames([0.01] * 10, sent=40), "warn  frames of /front/image_raw: 30 of 40 that were sent did not arrive"),
        (frames([0.01], camera_info=None), "warn  topic /front/camera_info: nothing arrives"),
        (
            frames([0.01], camera_info=calibration(focal=0)),
            "warn  topic /front/camera_info: camera_info is uncalibrated (K is",
        ),
        (frames([0.01], camera_info=calibration(640, 480)), "is for images of 640x480, these have 80x48"),
        (frames([0.01], camera_info=of_part(binning=2)), "ok    topic /front/camera_info: calibrated"),
        (frames([0.01], camera_info=of_part(roi=(80, 48))), "ok    topic /front/camera_info: calibrated"),
        (frames([0.01], camera_info=of_part(roi=(96, 48))), "is for images of 96x48, these have 80x48"),
        (frames([0.01], camera_info=of_part()), "is for images of 160x96, these have 80x48"),
        (frames([0.01], camera_info=of_part(binning=2, model="mei")), "distortion_model 'mei' is not known"),
        (
            frames([0.01], camera_info=off_centre(32.0, 19.0)),
            "warn  topic /front/camera_info: camera_info: K has its principal point at (32, 19), the middle of images",
        ),
        (
            frames([0.01], picture(frame_id="link"), camera_info=calibration(frame_id="optical")),
            "warn  topic /front/camera_info: is in the frame 'optical', the images are in 'link': there are no rays",
        ),
        (
            frames([0.01], picture(frame_id="link"), camera_info=calibration(frame_id="")),
            "ok    topic /front/camera_info: calibrated",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_frames(received: ReceivedFrames, said: str):
    assert said in lines(topic_checks.check_frames(received))


def distorted() -> Any:
    info = calibration()
    info.d = [-0.3, 0.1, 0.0, 0.0, 0.0]
    return info


@pytest.mark.parametrize(
    ("topic", "is_rectified", "said"),
    [
        (
            "/front/image_rect",
            None,
            "is named as rectified ones are -> give the node that listens to it the parameter rectified: true",
        ),
        ("/front/image_rect", False, "parameter rectified is false -> set rectified to true"),
        ("/front/image_rect/compressed", False, "parameter rectified is false -> set rectified to true"),
        ("/front/image_rect", True, ""),
        ("/front/image_raw", True, "named as raw ones are, but the node's parameter rectified is true"),
        ("/front/image_raw", False, ""),
        ("/front/image_raw", None, ""),
        ("/front/image", True, ""),
    ],
)
def test_a_calibration_that_is_read_for_images_of_another_kind_is_said(
    topic: str, is_rectified: bool | None, said: str
):
    received = frames([0.01] * 5, camera_info=distorted(), is_rectified=is_rectified)
    received.topic = topic
    warned = [str(one) for one in topic_checks.check_frames(received) if one.level == "warn"]
    assert len(warned) == bool(said)
    assert all("warn  topic /front/camera_info: " in line and said in line for line in warned)
    received.camera_info = calibration()
    assert "warn" not in {one.level for one in topic_checks.check_frames(received)}


def value(parameter: bool) -> ParameterValue:
    return ParameterValue(type=1, bool_value=parameter)


def said_by(*cameras: tuple[str, str, str]) -> dict[str, DiagnosticStatus]:
    """What a node says of cameras by their names, topics of images and of calibrations, and of something else."""
    found = [DiagnosticStatus(name="/robot/node: model"), DiagnosticStatus(name="/robot/node: cameramen")]
    for camera, *topics in cameras:
        pairs = [KeyValue(key=key, value=topic) for key, topic in zip(("topic", "camera_info"), topics, strict=True)]
        found.append(DiagnosticStatus(name=f"/robot/node: camera {camera}".rstrip(), values=pairs))
    return {status.name: status for status in found}


FRONT, REAR = ("front", "/any/image_rect", "/lens/info"), ("rear", "/rear/image_rect/compressed", "")


@pytest.mark.parametrize(
    ("cameras", "parameters", "expected"),
    [
        ([("", "/any/image_rect", "")], {"rectified": True}, {"/any/image_rect": True}),
        (
            [FRONT, REAR],
            {"front.rectified": True, "rear.rectified": False},
            {"/any/image_rect": True, "/rear/image_rect/compressed": False},
        ),
        ([FRONT], {}, {}),
        ([], {"rectified": True}, {}),
    ],
    ids=["one camera", "two cameras", "no answer", "not said"],
)
def test_whether_a_node_takes_images_for_rectified_ones_its_parameters_say(
    cameras: list[tuple[str, str, str]], parameters: dict[str, bool], expected: dict[str, bool]
):
    def call(_kind: object, service: str, request: Any) -> Any:
        assert service == "/robot/node/get_parameters"
        return SimpleNamespace(values=[value(parameters[name]) for name in request.names]) if parameters else None

    client: Any = SimpleNamespace(call=call)
    found = nodes.cameras_of("/robot/node", said_by(*cameras))
    assert nodes.rectified_topics(client, "/robot/node", found) == expected


def test_the_cameras_of_a_node_and_their_topics_are_those_that_it_says():
    found = nodes.cameras_of("/robot/node", said_by(FRONT, REAR, ("inactive", "", "")))
    assert [(one.name, one.images, one.camera_info) for one in found] == [FRONT, REAR]
    assert nodes.cameras_of("/robot/node2", said_by(FRONT)) == []


@pytest.mark.parametrize(
    ("said", "taken"), [([FRONT, REAR], 2), ([], 1)], ids=["the node has told of both", "the node says nothing"]
)
def test_subscriptions_are_waited_for_until_all_are_known_that_the_node_names(
    said: list[tuple[str, str, str]], taken: int, monkeypatch: pytest.MonkeyPatch
):
    """They become known one after the other, as endpoints are announced."""
    announced = [(FRONT[1], RAW), (REAR[1], JPEG)]
    known: list[tuple[str, str]] = []
    monkeypatch.setattr(nodes, "image_subscriptions", lambda _node, name: dict(known) if name == "/robot/node" else {})

    def spin(_seconds: float, done: Any) -> None:
        while not done():
            known.append(announced.pop(0))

    client: Any = SimpleNamespace(spin=spin, node=None)
    found: Any = nodes.subscribed_images(client, {"/robot/node": said_by(*said)}, 4.0)
    assert found == {"/robot/node": dict([(FRONT[1], RAW), (REAR[1], JPEG)][:taken])}


@pytest.mark.parametrize(
    ("is_reliable", "first_way"), [(False, "have it publish reliable, or"), (True, "have it keep more, or")]
)
@pytest.mark.parametrize("ages_s", [[0.01] * 10, []], ids=["some are lost", "all are lost"])
def test_where_frames_are_lost_both_ways_out_are_said(is_reliable: bool, first_way: str, ages_s: list[float]):
    received = frames(ages_s, sent=40, is_reliable=is_reliable)
    received.latest = received.latest if ages_s else None
    found = lines(topic_checks.check_frames(received))
    assert first_way in found
    assert "give the camera's process the DDS profile launch/fastdds.xml (FAST" in found


def endpoint(
    kind: str = "vision_msgs/msg/Classification", version: int = 1, digest: bytes = bytes(32), **qos: Any
) -> Any:
    type_hash = TypeHash(version, digest)
    return SimpleNamespace(topic_type=kind, topic_type_hash=type_hash, qos_profile=QoSProfile(depth=1, **qos))


@pytest.mark.parametrize(
    ("subscription", "said"),
    [
        (endpoint(), ""),
        (
            endpoint(digest=b"1" * 32),
            "reads /answers as another version of vision_msgs/msg/Classification: vision_msgs",
        ),
        (endpoint(version=-1), ""),  # it announces none
        (endpoint("std_msgs/msg/String"), "wants /answers as std_msgs/msg/String, not vision_msgs/msg/Classification"),
        (endpoint(durability=DurabilityPolicy.TRANSIENT_LOCAL), "on /answers: "),
    ],
    ids=["fits", "other fields", "unknown", "other type", "QoS"],
)
def test_a_subscription_that_cannot_read_the_answers_is_told_why(subscription: Any, said: str):
    text = nodes.misfit("/answers", endpoint(), subscription)
    assert text.startswith(said)
    assert bool(text) == bool(said)


def test_where_messages_have_no_numbers_nothing_is_said_to_have_arrived_whole():
    received = frames([0.01] * 5)
    received.is_numbered = False
    assert "how many were lost is not known: rmw_" in lines(topic_checks.check_frames(received))


def test_two_nodes_of_one_name_are_warned_of():
    assert not list(nodes.check_namesakes("/eye", ["/eye", "/other"]))
    assert "warn  node /eye: 2 nodes have this name" in lines(nodes.check_namesakes("/eye", ["/eye", "/other", "/eye"]))


def test_good_frames_are_only_praised():
    assert {finding.level for finding in topic_checks.check_frames(frames([0.01] * 5, sent=5))} == {"ok"}


def test_camera_info_lies_beside_the_images_where_no_other_place_is_known():
    topics = ["/image_raw", "/front/image_raw/compressed"]
    assert [ReceivedFrames(topic).camera_info_topic for topic in topics] == ["/camera_info", "/front/camera_info"]
    remapped = frames([0.01] * 5, camera_info=None, camera_info_topic="/lens/info")
    assert "warn  topic /lens/info: nothing arrives" in lines(topic_checks.check_frames(remapped))


# ---- a node


@pytest.mark.parametrize(
    ("state", "level", "said"),
    [
        ("active", "ok", "active"),
        ("inactive", "FAIL", "is inactive, so it takes no images -> ros2 lifecycle set /eye activate"),
        ("unconfigured", "FAIL", "ros2 lifecycle set /eye configure"),
        ("activating", "FAIL", "wait"),
        ("", "FAIL", "does not answer"),
    ],
)
def test_state(state: str, level: str, said: str):
    finding = nodes.check_state("/eye", state)
    assert finding.level == level
    assert said in str(finding)


def test_absent_node_is_a_failure_only_if_it_was_asked_for():
    assert nodes.check_presence("", ["/camera"]).level == "warn"
    assert "did you mean /perception_node?" in str(nodes.check_presence("/perception_nod", ["/perception_node"]))
    assert "did you mean /front/eye?" in str(nodes.check_presence("/eye", ["/camera", "/front/eye"]))
    assert "is no perception node" in str(nodes.check_presence("/camera", ["/camera"]))


@pytest.mark.parametrize(
    ("asked", "subscribed", "said"),
    [
        ([], ["/image_raw"], "ok    node /eye: listens to /image_raw"),
        (["/front/image/compressed"], ["/image_raw"], "FAIL  node /eye: does not listen to /front/image/compressed ->"),
        ([], [], "warn  node /eye: listens to no image topic"),
    ],
)
def test_subscriptions(asked: list[str], subscribed: list[str], said: str):
    assert said in lines(nodes.check_subscriptions("/eye", asked, subscribed))


def output(**more: Any) -> nodes.NodeOutput:
    status = DiagnosticStatus(level=DiagnosticStatus.ERROR, name="/eye: camera", message="no image for 4.0 s")
    figures = {"dropped: encoding": "7", "received": "9", "lost on the way": "3", "overtaken": "0"}
    status.values = [KeyValue(key=key, value=value) for key, value in figures.items()]
    settings = {"statuses": {status.name: status}, "result_counts": {"/eye/classification": 0}, "subscribers": 1} | more
    return nodes.NodeOutput(**settings)


@pytest.mark.parametrize(
    ("published", "frames", "said"),
    [
        (output(), 5, "FAIL  diagnosis /eye: camera: no image for 4.0 s; dropped: encoding 7; lost on the way 3"),
        (output(), 5, "FAIL  topic /eye/classification: no answer while 5 images arrived here"),
        (output(), 0, "ok    topic /eye/classification: 0 answers while 0 images"),
        (
            output(result_counts={"/eye/classification": 3}),
            5,
            "ok    topic /eye/classification: 3 answers while 5 images",
        ),
        (output(subscribers=0), 5, "ok    node /eye: nobody else subscribes to its results"),
        (output(statuses={}), 5, "warn  node /eye: says nothing on /diagnostics"),
        (
            output(incompatible=["/rviz on /eye/activation: Durability"]),
            5,
            "FAIL  node /eye: cannot reach a subscriber, /rviz",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_output(published: nodes.NodeOutput, frames: int, said: str):
    assert said in lines(nodes.check_output("/eye", published, frames))
