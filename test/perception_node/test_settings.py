"""Owns: which values of the nodes' parameters are refused. Leaves to others: what a running node does (test_node)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from cnn_perception.camera_node import node
from cnn_perception.errors import ConfigError
from cnn_perception.image.messages import AS_SENT, ENCODINGS, Overrides
from cnn_perception.perception_node.settings import CameraSettings, Settings

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


def test_a_camera_is_believed_unless_its_parameters_say_what_is_known_better():
    assert CameraSettings().overrides == AS_SENT
    assert CameraSettings(encoding="bgr8", significant_bits=12).overrides == Overrides("bgr8", 12)
    for encoding in ENCODINGS:
        assert CameraSettings(encoding=encoding).overrides.encoding == encoding


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"encoding": "8UC3"}, "^parameter encoding is '8UC3'; choose '' or one of rgb8, "),
        ({"encoding": "BGR8"}, "^parameter encoding is 'BGR8'"),
        ({"significant_bits": 3}, "^parameter significant_bits is 3; choose 0 for all, or 8 to 16"),
        ({"significant_bits": 17}, "^parameter significant_bits is 17; choose 0 to 16"),
    ],
)
def test_an_unknown_encoding_or_bits_that_no_camera_has_are_refused(values: dict[str, Any], text: str):
    with pytest.raises(ConfigError, match=text):
        CameraSettings(**values)
