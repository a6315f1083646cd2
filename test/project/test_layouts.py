"""Owns: that the shipped layouts of Foxglove and RViz show topics that there are: of a node, or of a bag of results.

Leaves to others: that they are installed (test_packaging), that a launch opens them (test_launch_files).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from evaluating import colour_bag, run
from paths import ROOT
from rosbags.rosbag2 import Reader
from tiny_model import write_tiny_model

pytest.importorskip("rclpy", reason="needs ROS 2")

from node_parts import active_model

from cnn_perception import topic_names
from cnn_perception.perception_node.publishers import ResultPublishers
from cnn_perception.perception_node.settings import CameraSettings

LAYOUTS = ROOT / "launch" / "layouts"


def node_topics(model: Path) -> set[str]:
    """What a node with this model publishes for its only camera, what it listens to, and the diagnostics."""
    made = []
    node = SimpleNamespace(
        create_lifecycle_publisher=lambda kind, topic, qos, **_: made.append(topic),
        destroy_lifecycle_publisher=lambda _: None,
        context=SimpleNamespace(ok=lambda: True),
    )
    ResultPublishers(node, "").make(active_model(model).pipeline.model)
    image = f"/{CameraSettings().image_topic}"
    return {topic.replace("~", topic_names.NODE) for topic in made} | {image, "/diagnostics"}


def results_topics(folder: Path, model: Path) -> set[str]:
    colour_bag(folder / "bag")
    run(folder, model, "--bag", folder / "bag", "--results-bag", "copy", "--no-video")
    with Reader(folder / "out" / "results") as reader:
        return {connection.topic for connection in reader.connections}


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> set[str]:
    folder = tmp_path_factory.mktemp("known")
    model = write_tiny_model(folder / "tiny.onnx")
    return node_topics(model) | results_topics(folder, model)


def texts(value: object) -> Iterator[str]:
    """Every key and text in a document."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)
    elif isinstance(value, str):
        yield value


def named(document: object) -> set[str]:
    """Topics that a layout names: what begins with a slash, without a path into the message."""
    return {re.split(r"[.\[{]", text)[0] for text in texts(document) if text.startswith("/")}


def test_every_topic_of_the_foxglove_layout_is_one_of_a_node_or_of_a_results_bag(known):
    found = named(json.loads((LAYOUTS / "foxglove.json").read_text()))

    assert found <= known
    assert {"/perception/annotations", "/perception_node/classification", "/diagnostics", "/truth"} < found


def test_every_topic_of_the_rviz_layout_is_one_of_a_node_or_of_a_results_bag(known):
    found = named(yaml.safe_load((LAYOUTS / "perception.rviz").read_text()))

    assert found <= known
    assert {"/perception/activation/overlay/compressed", "/perception_node/activation/overlay"} < found


def test_every_panel_of_the_foxglove_layout_has_its_place_and_every_place_its_panel():
    document = json.loads((LAYOUTS / "foxglove.json").read_text())
    panels = set(document["configById"])
    placed = {text for text in texts([document["configById"], document["layout"]]) if "!" in text} - panels

    assert placed == set()
    tabs = document["configById"]["Tab!perception"]["tabs"]
    assert {text for text in texts(tabs) if "!" in text} == panels - {"Tab!perception"}
    assert document["layout"] == "Tab!perception"
