"""Owns: which values of the nodes' parameters are refused. Leaves to others: what a running node does (test_node)."""

from __future__ import annotations

from pathlib import Path

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
    (node.CameraNodeSettings, "source"),
    (node.CameraNodeSettings, "camera_info_url"),
]


@pytest.mark.parametrize(("record", "name"), PATHS)
def test_a_path_in_the_home_of_nobody_is_refused_with_the_parameters_name(record: type, name: str):
    with pytest.raises(ConfigError, match=f"^parameter {name}: there is no user 'nobody_of_this_name'"):
        record(**{name: "~nobody_of_this_name/x"})

    assert getattr(record(**{name: "~/x"}), name) == "~/x"


def test_model_options_follow_from_the_parameters_with_paths_expanded():
    plain = Settings(model="~/m.onnx").model_options()
    assert (plain.path, plain.shadow_path, plain.recorder) == (Path.home() / "m.onnx", None, None)
    settings = Settings(model="m.onnx", shadow_model="~/s.onnx", record_folder="kept", score_map_class="bee")
    options = settings.model_options()
    assert (options.path, options.shadow_path, options.score_map_class) == (
        Path("m.onnx"),
        Path.home() / "s.onnx",
        "bee",
    )
    assert options.recorder is not None
    assert options.recorder.folder == Path("kept")


@pytest.mark.parametrize(("cameras", "most", "batches"), [(("",), 4, (1,)), (("a", "b", "c"), 2, (1, 2))])
def test_every_batch_that_can_occur_is_warmed_up(cameras: tuple[str, ...], most: int, batches: tuple[int, ...]):
    options = Settings(cameras=cameras, max_batch_size=most).model_options()
    assert options.session.warm_up_batches == batches
