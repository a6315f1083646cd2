"""Owns: under which name and with which parameters the node of a replay is started. Leaves the node to others."""

from __future__ import annotations

import json

import pytest

from cnn_perception.bag.reader import Topic
from cnn_perception.image.messages import Overrides
from cnn_perception.live_replay.node_options import ImageRoute, NodeOptions, node_arguments, settings_names

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("text", "robot"),
    [
        ("/**:\n  ros__parameters: {top_k: 1}", "/perception_node"),
        ("perception_node:\n  ros__parameters: {top_k: 1}", "/perception_node"),
        ("/front/perception_node:\n  ros__parameters: {top_k: 1}", "/front/perception_node"),
        ("front:\n  perception_node:\n    ros__parameters: {top_k: 1}", "/front/perception_node"),
        ("signs:\n  ros__parameters: {top_k: 1}", "/signs"),
        ("a:\n  ros__parameters: {}\nb:\n  ros__parameters: {}", "/perception_node"),
        ("follow_node:\n  ros__parameters: {}\nperception_node:\n  ros__parameters: {}", "/perception_node"),
        ("nonsense: [", "/perception_node"),
    ],
)
def test_the_node_has_the_name_of_which_the_file_has_parameters(tmp_path, text, robot):
    (tmp_path / "node.yaml").write_text(text)

    assert NodeOptions(tmp_path / "m.onnx", tmp_path / "node.yaml").robot == robot


@pytest.mark.parametrize(
    ("name", "kind", "topic", "base", "info"),
    [
        ("/camera/image_raw", IMAGE, "/camera/image_raw", "/camera/image_raw", "/camera/camera_info"),
        ("image_raw", IMAGE, "/image_raw", "/image_raw", "/camera_info"),
        ("/cam/compressed", COMPRESSED, "/cam/compressed", "/cam", "/camera_info"),
        ("/cam/jpegs", COMPRESSED, "/cam/jpegs/compressed", "/cam/jpegs", "/cam/camera_info"),
        ("/cam-1/image", IMAGE, "/camera/image_raw", "/camera/image_raw", "/cam-1/camera_info"),
        ("/0/image", COMPRESSED, "/camera/image_raw/compressed", "/camera/image_raw", "/0/camera_info"),
        ("/compressed", COMPRESSED, "/compressed/compressed", "/compressed", "/camera_info"),
    ],
)
def test_images_are_published_where_the_node_can_listen(name, kind, topic, base, info):
    route = ImageRoute.of(Topic(name, kind, 1))

    assert (route.topic, route.base, route.recorded_info) == (topic, base, info)
    assert route.is_compressed is (kind == COMPRESSED)


def test_what_a_replay_needs_stands_in_a_file_after_the_users_and_for_this_node_alone(tmp_path):
    (tmp_path / "node.yaml").write_text("/front/perception_node:\n  ros__parameters: {record_folder: /mine}")
    options = NodeOptions(
        tmp_path / "a: model.onnx", tmp_path / "node.yaml", overrides=Overrides("bgr8", 0), providers=("cpu",)
    )

    arguments = node_arguments(options, ImageRoute.of(Topic("/image_raw", IMAGE, 1)), tmp_path / "replay.yaml")

    assert arguments[:4] == ["-r", "__node:=perception_node", "-r", "__ns:=/front"]
    assert arguments[4:] == ["--params-file", str(options.params), "--params-file", str(tmp_path / "replay.yaml")]
    (robot,) = found = json.loads((tmp_path / "replay.yaml").read_text())
    assert robot == "/front/perception_node"
    assert found[robot]["ros__parameters"] == {
        "model": str(tmp_path / "a: model.onnx"),
        "autostart": True,
        "use_sim_time": True,
        "image_topic": "/image_raw",
        "image_transport": "raw",
        "record_folder": "",
        "encoding": "bgr8",
        "providers": ["cpu"],
    }


def test_parameters_of_a_camera_with_a_name_are_asked_for_by_that_name():
    assert settings_names("front")["max_age_s"] == "front.max_age_s"
    assert settings_names("front")["hold_s"] == "hold_s"
    assert settings_names("")["max_age_s"] == "max_age_s"
