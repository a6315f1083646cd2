"""Owns: which names of topics and QoS overrides are refused, and in which words. Nodes are rclpy's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from ros import new_domain
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cnn_perception.errors import ConfigError
from cnn_perception.ros import topics
from cnn_perception.ros.latest_subscription import LatestSubscription


@pytest.fixture(scope="module")
def context() -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=new_domain())
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def node(context: rclpy.Context, request: pytest.FixtureRequest) -> Iterator[Node]:
    """A node of the name `camera` with the parameters that the test gives."""
    words = [word for text in getattr(request, "param", ()) for word in ("-p", text)]
    arguments = ["--ros-args", "-r", "image_raw:=/front/image_raw", *words]
    node = Node("camera", context=context, cli_args=arguments, enable_rosout=False, start_parameter_services=False)
    yield node
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("image_raw", "/image_raw"), ("~/image", "/camera/image"), ("/cam/image", "/cam/image")],
)
def test_good_name_is_qualified_and_its_remapping_is_left_to_rclpy(node: Node, name: str, expected: str):
    assert topics.expanded(node, name, "image_topic") == expected


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("/image_rect", True),
        ("/front/image_rect_color", True),
        ("/stereo/left/image_rect", True),
        ("/zed/rgb/color/rect/image", True),
        ("/zed/left/image_rect_gray", True),
        ("/camera/infra1/image_rect_raw", True),
        ("/front/image_rectified", True),
        ("/front/image_rect/compressed", True),
        ("/front/rect/image/compressed", True),
        ("/front/image_raw", False),
        ("/zed/left_raw/image_raw_color", False),
        ("/rect/image_raw", False),
        ("/front/image_raw/compressed", False),
        ("/zed/rgb/color/raw/image", False),
        ("/image", None),
        ("/front/image_color", None),
        ("/direct/image", None),
        ("/rectangles/image", None),
        ("/corrected", None),
        ("/drawing/image", None),
        ("/rect/left/color", None),
        ("image_rect", True),
    ],
)
def test_a_topics_name_says_whether_its_images_are_rectified(topic: str, expected: bool | None):
    assert topics.is_rectified(topic) is expected


@pytest.mark.parametrize("name", ["/cam/image_raw/", "/cam/image raw", "/2nd/image", "a//b", "{nobody}/x", ""])
def test_bad_name_is_refused_with_the_parameter_in_one_line(node: Node, name: str):
    with pytest.raises(ConfigError) as refused:
        topics.expanded(node, name, "front.image_topic")
    text = str(refused.value)
    assert text.startswith(f"parameter front.image_topic is {name!r}, which names no topic: ")
    assert "\n" not in text
    assert ".c:" not in text  # no places in rcl's source


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("/cam/image_raw/compressed", "give its base topic /cam/image_raw, and image_transport compressed"),
        ("/cam/image_raw/compressedDepth", "of the transport compressedDepth, which is not read"),
        ("/image/theora", "give its base topic /image, or republish it with"),
        ("/image/ffmpeg", "in_transport:=ffmpeg"),
    ],
)
def test_topic_of_a_transport_is_told_its_base_topic(topic: str, words: str):
    assert words in topics.transport_hint(topic)


@pytest.mark.parametrize("topic", ["/cam/image_raw", "/compressed", "/cam/compressed/image_raw", "/cam/uncompressed"])
def test_other_topics_are_told_nothing(topic: str):
    assert topics.transport_hint(topic) == ""


def subscribe(node: Node) -> None:
    qos = QoSProfile(depth=1)
    options = QoSOverridingOptions.with_default_policies()
    with topics.refusing_overrides(node, "/image", qos):
        node.create_subscription(Image, "/image", lambda _: None, qos, qos_overriding_options=options)


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (("qos_overrides./image.subscription.reliability:=relaible",), "relaible"),
        (("qos_overrides./image.subscription.depth:=-1",), "depth -1"),
        (("qos_overrides./image.subscription.depth:=many",), "many"),
        (("qos_overrides./image.subscription.history:=7",), "7"),
    ],
    indirect=["node"],
)
def test_override_that_cannot_be_is_refused_with_the_topic_and_the_value(node: Node, told: str):
    with pytest.raises(ConfigError, match=r"^topic /image: ") as refused:
        subscribe(node)
    text = str(refused.value)
    assert told in text
    assert "qos_overrides" in text
    assert "\n" not in text


@pytest.mark.parametrize("node", [("qos_overrides./image.subscription.depth:=3",)], indirect=True)
def test_good_override_is_no_error(node: Node):
    subscribe(node)


def test_error_of_a_context_that_a_signal_has_closed_stays_what_it_is():
    closed: Any = SimpleNamespace(context=SimpleNamespace(ok=lambda: False))
    with pytest.raises(RuntimeError, match="closed"), topics.refusing_overrides(closed, "/image", QoSProfile(depth=1)):
        raise RuntimeError("closed")


def test_other_errors_pass():
    open_: Any = SimpleNamespace(context=SimpleNamespace(ok=lambda: True))
    with pytest.raises(KeyError), topics.refusing_overrides(open_, "/image", QoSProfile(depth=1)):
        raise KeyError


EXCHANGED = ["left/image_raw:=right/image_raw", "right/image_raw:=left/image_raw"]


@contextlib.contextmanager
def remapped(context: rclpy.Context, rules: Sequence[str]) -> Iterator[Node]:
    """A node /robot/camera with these rules."""
    words = [word for rule in rules for word in ("-r", rule)]
    node = Node("camera", namespace="/robot", context=context, cli_args=["--ros-args", *words], enable_rosout=False)
    yield node
    node.destroy_node()


@pytest.mark.parametrize(
    ("rules", "image_topic", "expected"),
    [
        (EXCHANGED, "left/image_raw", "/robot/right/camera_info"),
        (EXCHANGED, "right/image_raw", "/robot/left/camera_info"),
        (
            [*EXCHANGED, "left/camera_info:=right/camera_info", "right/camera_info:=left/camera_info"],
            "left/image_raw",
            "/robot/right/camera_info",
        ),
        ([], "image_raw", "/robot/camera_info"),
        (["image_raw:=/front/image_raw"], "image_raw", "/front/camera_info"),
        (["image_raw:=front/image_raw"], "image_raw", "/robot/front/camera_info"),
        (["image_raw:=/front/image", "camera_info:=/lens/info"], "image_raw", "/lens/info"),
        (["camera_info:=/lens/info"], "rear/image_raw", "/robot/rear/camera_info"),
        (["rear/camera_info:=/lens/info"], "rear/image_raw", "/lens/info"),
        (["/rear/camera_info:=/lens/info"], "/rear/image_raw", "/lens/info"),
        ([], "/image_raw", "/camera_info"),
        (["rear/image_raw:=/b/c/image"], "rear/image_raw", "/b/c/camera_info"),
    ],
    ids=str,
)
def test_calibration_lies_beside_the_images_or_where_it_is_remapped(
    context: rclpy.Context, rules: list[str], image_topic: str, expected: str
):
    with remapped(context, rules) as node:
        images = node.create_publisher(Image, image_topic, 1).topic_name
        name = topics.camera_info_of(node, topics.expanded(node, image_topic, "image_topic"), images)
        assert node.create_publisher(CameraInfo, name, 1).topic_name == expected


@pytest.mark.parametrize(
    ("rules", "image_topic", "expected"),
    [
        ([], "image_raw", "/robot/image_raw/compressed"),
        (["image_raw:=/cam/image"], "image_raw", "/cam/image/compressed"),
        (["image_raw/compressed:=/cam/jpeg"], "image_raw", "/cam/jpeg"),
        (["image_raw:=/cam/image", "image_raw/compressed:=/other/jpeg"], "image_raw", "/other/jpeg"),
        (EXCHANGED, "left/image_raw", "/robot/right/image_raw/compressed"),
        (EXCHANGED, "right/image_raw", "/robot/left/image_raw/compressed"),
    ],
    ids=str,
)
def test_compressed_images_lie_below_the_raw_ones_or_where_they_are_remapped(
    context: rclpy.Context, rules: list[str], image_topic: str, expected: str
):
    with remapped(context, rules) as node:
        name = topics.compressed_of(node, topics.expanded(node, image_topic, "image_topic"))
        assert node.create_publisher(CompressedImage, name, 1).topic_name == expected


@pytest.mark.parametrize(
    ("rules", "topic"),
    [
        (EXCHANGED, "left/image_raw"),
        (EXCHANGED, "right/image_raw"),
        (["left/image_raw:=right/image_raw", "right/image_raw:=/third/image_raw"], "left/image_raw"),
    ],
    ids=str,
)
def test_a_subscription_listens_and_asks_for_publishers_where_rclpy_takes_its_name(
    context: rclpy.Context, rules: list[str], topic: str
):
    with remapped(context, rules) as node:
        truth = node.create_subscription(Image, topic, lambda _: None, 1).topic_name
        ignored: list[int] = []
        arguments: Any = (ReliabilityPolicy.BEST_AVAILABLE, ignored.append, ignored.append)
        name = topics.expanded(node, topic, "image_topic")
        found: LatestSubscription[Any] = LatestSubscription(node, Image, name, *arguments)
        publisher = Node("driver", namespace="/robot", context=context, enable_rosout=False, use_global_arguments=False)
        publisher.create_publisher(Image, truth, 1)
        assert found.topic == truth
        assert [one.node_name for one in found.publishers()] == ["driver"]
        assert publisher.count_subscribers(truth) == 2
        found.destroy()
        publisher.destroy_node()
