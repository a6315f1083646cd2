"""Owns: the importable vision_msgs and bond are those of other ROS 2 machines. Leaves to others: what is published."""

from __future__ import annotations

import os

import pytest
import rclpy
from rclpy.context import Context

# Of bond 4 and vision_msgs, computed by rosidl from the upstream definitions. Those of vision_msgs 4.1.1 and 4.2.0
# (tags release/kilted/vision_msgs/4.1.1-3 and 4.2.0-1 of its release repository) are the same files: one table holds.
# In Zenoh the hash is a part of a topic's key: nodes with another one never hear of each other.
UPSTREAM_HASHES = {
    "bond/Status": "RIHS01_87eaccffa254ffffadc0b61600452e8251740f06c25659a2dbda4927fdb1f70a",
    "vision_msgs/BoundingBox2D": "RIHS01_008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f",
    "vision_msgs/Classification": "RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "vision_msgs/Detection2D": "RIHS01_0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "vision_msgs/Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/LabelInfo": "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "vision_msgs/ObjectHypothesis": "RIHS01_51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90",
    "vision_msgs/ObjectHypothesisWithPose": "RIHS01_41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc",
    "vision_msgs/Point2D": "RIHS01_eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247",
    "vision_msgs/Pose2D": "RIHS01_b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648",
    "vision_msgs/VisionClass": "RIHS01_1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
    "vision_msgs/VisionInfo": "RIHS01_95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


@pytest.fixture(scope="module")
def node():
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    context = Context()
    rclpy.init(context=context, domain_id=201)
    node = rclpy.create_node("interfaces", context=context, enable_rosout=False)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize("kind", UPSTREAM_HASHES)
def test_the_type_hash_announced_over_dds_is_upstreams(node, kind):
    package, _, name = kind.partition("/")
    messages = pytest.importorskip(f"{package}.msg", reason="not in this environment; `make venv` builds it")
    publisher = node.create_publisher(getattr(messages, name), f"/{name}", 1)

    (announced,) = node.get_publishers_info_by_topic(publisher.topic_name)

    assert announced.topic_type == f"{package}/msg/{name}"
    assert str(announced.topic_type_hash) == UPSTREAM_HASHES[kind]
