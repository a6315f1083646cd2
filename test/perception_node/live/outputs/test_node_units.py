"""Owns: the activation of a unit of an inner layer, live on real DDS. Oracle: the graph as the onnx package edits it.

Leaves to others: every layer of every precision (test_unit_map), that a view holds up no answer (test_node_viewers).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_model import with_layers, write_tiny_model

pytest.importorskip("rclpy", reason="needs ROS 2")

from perception import NODE, ask, camera_of, diagnosis, image, picture, set_parameter, value
from ros import Participant, Process, running
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

PIXELS = picture(3, 24, 32)  # the model's own size: its input is these pixels / 255


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_layers(write_tiny_model(tmp_path_factory.mktemp("units") / "layers.onnx"))


@pytest.fixture(scope="module")
def node(domain: int, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("node") / "log.txt"
    with running("perception_node", domain, log, model=model, diagnostics_period_s=0.05) as process:
        yield process


def tensor_of(model: Path, name: str) -> Any:
    """(C, h, w), computed by the whole graph with one more output."""
    proto = onnx.load(model)
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"image": np.float32(PIXELS.transpose(2, 0, 1)[None] / 255)})[0][0]


def test_nothing_is_read_or_run_for_a_unit_that_nobody_looks_at(ros: Participant):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    ask(ros, camera, image((1, 0), PIXELS), answers)
    assert value(diagnosis(ros, "viewers"), "unit activation: published") == "0"
    assert "ends of its stages" not in {pair.key for pair in diagnosis(ros, "model").values}


def test_unit_that_is_chosen_is_shown_of_each_frame_under_its_header(ros: Participant, model: Path):
    maps = ros.collect(Image, f"{NODE}/unit_activation")
    camera = camera_of(ros, maps)
    try:
        for second, (layer, unit) in enumerate([("", 0), ("", 2), ("relu1", 4), ("conv2", 1)], 10):
            assert set_parameter(ros, "unit", 0).successful  # every layer has that one
            assert set_parameter(ros, "unit_layer", layer).successful
            assert set_parameter(ros, "unit", unit).successful
            asked = image((second, 7), PIXELS, "optical")
            ask(ros, camera, asked, maps)
            expected = tensor_of(model, layer or "features")[unit]
            shown = maps[-1]
            assert shown.header == asked.header
            assert (shown.encoding, shown.height, shown.width) == ("32FC1", *expected.shape)
            found = np.frombuffer(shown.data, "<f4").reshape(expected.shape)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    finally:
        assert set_parameter(ros, "unit", 0).successful
        assert set_parameter(ros, "unit_layer", "").successful
    assert value(diagnosis(ros, "model"), "ends of its stages") == "relu1 (5x24x32), mixed (3x12x16), features (3x3x4)"


def test_unit_that_the_model_does_not_have_is_refused_with_the_nearest(ros: Participant):
    refused = set_parameter(ros, "unit_layer", "relu3")
    assert not refused.successful
    assert "nearest: relu2, relu1" in refused.reason
    assert "relu1 (5x24x32), mixed (3x12x16), features (3x3x4)" in refused.reason
    refused = set_parameter(ros, "unit", 3)
    assert not refused.successful
    assert refused.reason == "parameter unit is 3, but layer 'features' has units 0 to 2"


def test_model_without_the_unit_that_is_shown_is_refused_and_the_old_one_goes_on(ros: Participant, model: Path):
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    plain = write_tiny_model(model.with_name("plain.onnx"))
    try:
        assert set_parameter(ros, "unit_layer", "relu2").successful
        refused = set_parameter(ros, "model", str(plain))
        assert not refused.successful
        assert "unit_layer is 'relu2', which the model does not have" in refused.reason
        ask(ros, camera, image((20, 0), PIXELS), answers)
    finally:
        assert set_parameter(ros, "unit_layer", "").successful
