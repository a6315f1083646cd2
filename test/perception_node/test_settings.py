"""Owns: which values of the nodes' parameters are refused. Leaves to others: what a running node does (test_node)."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from cnn_perception.camera_node import node
from cnn_perception.errors import ConfigError
from cnn_perception.perception_node.settings import Settings

PATHS = [
    (Settings, "model"),
    (Settings, "shadow_model"),
    (Settings, "record_folder"),
    (Settings, "cache_dir"),
    (node.CameraSettings, "source"),
    (node.CameraSettings, "camera_info_url"),
]


@pytest.mark.parametrize(("record", "name"), PATHS)
def test_a_path_in_the_home_of_nobody_is_refused_with_the_parameters_name(record: type, name: str):
    with pytest.raises(ConfigError, match=f"^parameter {name}: there is no user 'nobody_of_this_name'"):
        record(**{name: "~nobody_of_this_name/x"})

    assert getattr(record(**{name: "~/x"}), name) == "~/x"
