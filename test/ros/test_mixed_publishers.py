"""Owns: when several publishers of one topic are said to mix their messages. Nodes and their graph are rclpy's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros import new_domain, participant
from sensor_msgs.msg import CompressedImage, Image

from cnn_perception.ros.latest_subscription import LatestSubscription

LEASE_S = 30.0
"""More than a killed publisher is known for: 20 s, rmw_fastrtps, and 10 s, rmw_cyclonedds."""


class Bench:
    """A subscription of /image_raw, and drivers that publish it."""

    def __init__(self, context: rclpy.Context) -> None:
        self.context = context
        self.node = self.made("listener")
        self.drivers: list[Node] = []
        ignored: list[int] = []
        arguments: Any = (ReliabilityPolicy.BEST_AVAILABLE, ignored.append, ignored.append)
        self.subscription: LatestSubscription[Any] = LatestSubscription(self.node, Image, "/image_raw", *arguments)

    def made(self, name: str, namespace: str = "/") -> Node:
        return Node(
            name, namespace=namespace, context=self.context, enable_rosout=False, start_parameter_services=False
        )

    def driver(self, name: str, kind: Any = Image, qos: QoSProfile | int = 1, namespace: str = "/") -> Node:
        node = self.made(name, namespace)
        node.create_publisher(kind, "/image_raw", qos)
        self.drivers.append(node)
        return node

    def end(self, driver: Node) -> None:
        self.drivers.remove(driver)
        driver.destroy_node()


@pytest.fixture
def bench() -> Iterator[Bench]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=new_domain())
    one = Bench(context)
    yield one
    one.subscription.destroy()
    for node in (*one.drivers, one.node):
        node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_two_publishers_are_named_once_neither_can_be_what_is_left_of_a_killed_one(bench: Bench):
    bench.driver("robot_b", namespace="/two")
    bench.driver("robot_a")
    said = [bench.subscription.mixed(now_s) for now_s in (5.0, 5.0 + LEASE_S, 5.1 + LEASE_S)]
    assert said == ["", "", "2 publishers at once mix their frames: /robot_a, /two/robot_b; remap all but one"]


def test_a_driver_that_is_started_again_is_no_second_one(bench: Bench):
    """The one before is known until its lease has ended."""
    before = bench.driver("camera")
    assert bench.subscription.mixed(0.0) == ""
    for start_s in (100.0, 120.0, 140.0):
        after = bench.driver("camera")
        assert [bench.subscription.mixed(start_s + wait_s) for wait_s in (0.0, 10.0, 20.0)] == [""] * 3
        bench.end(before)
        before = after
    assert bench.subscription.mixed(1000.0) == ""


def test_what_is_said_ends_with_the_second_publisher(bench: Bench):
    bench.driver("robot_a")
    second = bench.driver("robot_b")
    bench.subscription.mixed(0.0)
    assert bench.subscription.mixed(31.0)
    bench.end(second)
    assert bench.subscription.mixed(32.0) == ""


def test_a_publisher_that_cannot_be_received_mixes_nothing(bench: Bench):
    """Its type is another one, or its QoS does not fit."""
    rules = ["-p", "qos_overrides./image_raw.subscription.reliability:=reliable"]
    strict = Node("strict", context=bench.context, cli_args=["--ros-args", *rules], enable_rosout=False)
    ignored: list[int] = []
    arguments: Any = (ReliabilityPolicy.BEST_AVAILABLE, ignored.append, ignored.append)
    subscription: LatestSubscription[Any] = LatestSubscription(strict, Image, "/image_raw", *arguments)
    bench.driver("robot_a")
    bench.driver("robot_b", qos=QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    for now_s in (0.0, 31.0):
        mixed = [one.mixed(now_s) for one in (bench.subscription, subscription)]
    assert mixed == ["2 publishers at once mix their frames: /robot_a, /robot_b; remap all but one", ""]
    strict.destroy_node()


def test_neither_does_one_of_another_type(domain: int):
    """DDS takes no two types of one topic in one participant."""
    with participant(domain) as ros, participant(domain) as other:
        ignored: list[int] = []
        arguments: Any = (ReliabilityPolicy.BEST_AVAILABLE, ignored.append, ignored.append)
        subscription: LatestSubscription[Any] = LatestSubscription(ros.node, Image, "/image_raw", *arguments)
        ros.node.create_publisher(Image, "/image_raw", 1)
        other.node.create_publisher(CompressedImage, "/image_raw", 1)
        ros.wait_for(lambda: len(subscription.publishers()) == 2, "both publishers")
        assert [subscription.mixed(now_s) for now_s in (0.0, 31.0)] == ["", ""]
        subscription.destroy()
