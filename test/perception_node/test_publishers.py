"""Owns: which topics a model brings, with which type and QoS, and what is published for whom. The node is a stub.

Leaves to others: what stands in a message (test_messages), that DDS carries it (test_node_results).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from builtin_interfaces.msg import Time
from node_parts import BLUE, RED, active_model, flat_message
from PIL import ImageDraw
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tiny_model import GAIN, NAMES, regression_spec, tiny_spec, with_score_map, write_models, write_tiny_model

from cnn_perception.errors import ConfigError
from cnn_perception.geometry.activation_place import ActivationPlace
from cnn_perception.perception_node.active_model import ActiveModel
from cnn_perception.perception_node.frame_stages import (
    FrameResult,
    InferredFrame,
    WantedTopics,
    answer_frame,
    infer_frames,
    prepare_frame,
)
from cnn_perception.perception_node.publishers import (
    InfoPublishers,
    ResultPublishers,
    ViewedFrame,
    result_qos,
    to_neighbours,
    to_overlay,
    to_score_map,
    to_unit_activation,
)
from cnn_perception.perception_node.settings import Settings
from cnn_perception.stream.smoothing import AnswerSmoother

HEADER = Header(stamp=Time(sec=7), frame_id="optical")


class StubPublisher:
    """A lifecycle publisher with as many subscribers as the test says."""

    def __init__(self, kind: type, topic: str, qos: QoSProfile) -> None:
        self.kind = kind
        self.topic_name = topic.replace("~", "/robot/node")
        self.qos = qos
        self.subscribers = 0
        self.is_activated = False
        self.published: list[Any] = []

    def get_subscription_count(self) -> int:
        return self.subscribers

    def on_activate(self, _: object) -> None:
        self.is_activated = True

    def publish(self, message: Any) -> None:
        assert isinstance(message, self.kind)
        self.published.append(message)


class StubNode:
    """Makes publishers; writes the overrides of a topic into the QoS that it is given, as rclpy does."""

    def __init__(self) -> None:
        self.topics: dict[str, StubPublisher] = {}
        self.depths: dict[str, int] = {}
        self.misspelt = ""
        self.context = SimpleNamespace(ok=lambda: True)

    def create_lifecycle_publisher(
        self, kind: type, topic: str, qos: QoSProfile, *, qos_overriding_options: object
    ) -> StubPublisher:
        if topic == self.misspelt:
            raise RuntimeError("Unexpected QoS override for policy `reliability`: `relaible`")
        qos.depth = self.depths.get(topic, qos.depth)
        self.topics[topic] = StubPublisher(kind, topic, qos)
        return self.topics[topic]

    def destroy_lifecycle_publisher(self, publisher: StubPublisher) -> None:
        self.topics = {name: one for name, one in self.topics.items() if one is not publisher}

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: Time(sec=3)))

    def get_fully_qualified_name(self) -> str:
        return "/robot/node"


class Bench:
    def __init__(self, model: ActiveModel, camera: str = "") -> None:
        self.node = StubNode()
        self.model = model
        self.outputs = ResultPublishers(self.node, camera)  # type: ignore[arg-type]
        self.outputs.make(model.pipeline.model)

    def result(self, colour: tuple[int, int, int], wanted: WantedTopics, **fields: Any) -> FrameResult:
        message = flat_message(colour, header=HEADER, **fields)
        frame: Any = prepare_frame(message, self.model, "", "/image", wanted=wanted, has_age=True)
        (inferred,) = infer_frames([frame])
        assert isinstance(inferred, InferredFrame)
        answered = answer_frame(inferred, AnswerSmoother(), Settings().smoothing, 10**15, 0.0)
        assert isinstance(answered, FrameResult)
        return answered

    def published(self, topic: str) -> list[Any]:
        return self.node.topics[topic].published


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ActiveModel:
    """With every output that there is."""
    return active_model(write_models(tmp_path_factory.mktemp("publishers"))[0])


ANY_MODEL = {
    "activation": "Image",
    "activation/overlay": "Image",
    "activation/overlay/compressed": "CompressedImage",
    "activation/peak_ray": "Vector3Stamped",
    "activation/centroid_ray": "Vector3Stamped",
    "embedding": "Image",
    "unit_activation": "Image",
}
CLASSES = {"classification": "Classification", "classification_raw": "Classification"}
NUMBERS = {"regression": "JointState", "regression_raw": "JointState"}
EVERYTHING = {
    "neighbours": "Classification",
    "score_map": "Image",
    "score_map/camera_info": "CameraInfo",
    "label_map": "Image",
    "label_map/overlay": "Image",
}


def test_topics_are_those_that_the_model_has_results_for(model: ActiveModel, tmp_path: Path):
    plain = active_model(write_tiny_model(tmp_path / "plain.onnx"))
    numbers = active_model(write_tiny_model(tmp_path / "n.onnx", spec=regression_spec({"x": "", "y": "", "z": ""})))
    for one, expected in (
        (plain, ANY_MODEL | CLASSES),
        (numbers, ANY_MODEL | NUMBERS),
        (model, ANY_MODEL | CLASSES | EVERYTHING),
    ):
        found = {name: publisher.kind.__name__ for name, publisher in Bench(one).node.topics.items()}
        assert found == {f"~/{name}": kind for name, kind in expected.items()}


def test_topics_of_a_named_camera_are_below_its_name(model: ActiveModel):
    assert all(name.startswith("~/front/") for name in Bench(model, "front").node.topics)


def test_topics_fit_models_with_the_same_results_alone(model: ActiveModel, tmp_path: Path):
    plain = active_model(write_tiny_model(tmp_path / "plain.onnx"))
    other = active_model(write_tiny_model(tmp_path / "other.onnx", classes=("a", "b", "c", "d")))
    numbers = active_model(write_tiny_model(tmp_path / "n.onnx", spec=regression_spec({"x": "", "y": "", "z": ""})))
    bench = Bench(plain)
    fits = [bench.outputs.fit(one.pipeline.model) for one in (plain, other, numbers, model)]
    assert fits == [True, True, False, False]
    bench.outputs.make(numbers.pipeline.model)
    assert bench.outputs.fit(numbers.pipeline.model)
    assert "~/classification" not in bench.node.topics
    bench.outputs.remove()
    assert bench.node.topics == {}
    assert not bench.outputs.fit(numbers.pipeline.model)
    bench.outputs.remove()  # harmless


def test_answers_are_reliable_and_deep_and_descriptions_latched(model: ActiveModel):
    bench = Bench(model)
    InfoPublishers(bench.node).make(tiny_spec())  # type: ignore[arg-type]
    found = {name: (one.qos.depth, one.qos.durability) for name, one in bench.node.topics.items()}
    assert found["~/classification"] == (10, DurabilityPolicy.VOLATILE)
    assert found["~/activation/overlay"] == (2, DurabilityPolicy.VOLATILE)
    assert found["~/vision_info"] == found["~/label_info"] == (1, DurabilityPolicy.TRANSIENT_LOCAL)
    assert {one.qos.reliability for one in bench.node.topics.values()} == {ReliabilityPolicy.RELIABLE}


def test_override_of_one_topic_leaves_the_qos_of_all_others():
    assert result_qos().depth == 10
    node = StubNode()
    node.depths = {"~/vision_info": 7}
    InfoPublishers(node).make(tiny_spec())  # type: ignore[arg-type]
    InfoPublishers(node).make(tiny_spec())  # type: ignore[arg-type]
    assert {name: one.qos.depth for name, one in node.topics.items()} == {"~/vision_info": 7, "~/label_info": 1}


def test_misspelt_override_is_one_line_and_what_was_made_can_be_removed(model: ActiveModel):
    bench = Bench(model)
    bench.node.misspelt = "~/embedding"
    with pytest.raises(ConfigError, match=r"^topic ~/embedding: .*relaible"):
        bench.outputs.make(model.pipeline.model)
    assert not bench.outputs.fit(model.pipeline.model)
    bench.outputs.remove()
    assert bench.node.topics == {}


def test_topics_that_come_while_the_node_is_active_are_opened(model: ActiveModel):
    bench = Bench(model)
    bench.outputs.activate()
    assert all(one.is_activated for one in bench.node.topics.values())


def test_descriptions_name_network_and_labels_and_numbers_have_no_labels(model: ActiveModel):
    node = StubNode()
    infos = InfoPublishers(node)  # type: ignore[arg-type]
    infos.make(model.pipeline.spec)
    infos.publish(model.pipeline.model, Settings(threshold=0.25, label_map_threshold=0.75), 4)
    (vision_info,) = node.topics["~/vision_info"].published
    (label_info,) = node.topics["~/label_info"].published
    (pixel_info,) = node.topics["~/label_map/label_info"].published
    assert vision_info.method == f"tiny sha256:{model.pipeline.model.sha256}"
    assert (vision_info.database_location, vision_info.database_version) == ("/robot/node/class_labels", 4)
    assert vision_info.header.stamp == label_info.header.stamp == Time(sec=3)
    assert (label_info.threshold, pixel_info.threshold) == (0.25, 0.75)
    infos.make(with_score_map(regression_spec({"x": "", "y": "", "z": ""})))
    infos.publish(model.pipeline.model, Settings(), 5)
    assert list(node.topics) == ["~/vision_info"]


def test_wanted_is_what_has_a_subscriber(model: ActiveModel, tmp_path: Path):
    bench = Bench(model)
    assert bench.outputs.wanted() == WantedTopics()
    bench.node.topics["~/classification"].subscribers = 1
    bench.node.topics["~/activation/peak_ray"].subscribers = 2
    assert bench.outputs.wanted() == WantedTopics(answer=True, peak_ray=True)
    plain = Bench(active_model(write_tiny_model(tmp_path / "plain.onnx")))
    for publisher in plain.node.topics.values():
        publisher.subscribers = 1
    wanted = plain.outputs.wanted()
    assert (wanted.answer, wanted.neighbours, wanted.score_map) == (True, False, False)


FIELDS = {
    "answer": "classification",
    "raw_answer": "classification_raw",
    "activation": "activation",
    "overlay": "activation/overlay",
    "overlay_jpeg": "activation/overlay/compressed",
    "embedding": "embedding",
    "neighbours": "neighbours",
    "score_map": "score_map",
    "score_map_info": "score_map/camera_info",
    "label_map": "label_map",
    "label_overlay": "label_map/overlay",
    "unit_activation": "unit_activation",
}


@pytest.mark.parametrize("field", FIELDS)
def test_only_what_is_wanted_is_published_under_the_images_header(model: ActiveModel, field: str):
    bench = Bench(model)
    wanted = WantedTopics(**{field: True})
    viewed = ViewedFrame(bench.result(RED, wanted), Settings(), None)
    bench.outputs.publish(viewed.result, viewed.settings)
    makers = {"neighbours": to_neighbours, "overlay": to_overlay, "score map": to_score_map}
    makers["unit activation"] = to_unit_activation
    for view in wanted.views:
        assert not any(one.published for one in bench.node.topics.values())
        bench.outputs.publish_views(makers[view](viewed))
    published = {name: one.published for name, one in bench.node.topics.items() if one.published}
    assert list(published) == [f"~/{FIELDS[field]}"]
    ((message,),) = published.values()
    assert message.header == HEADER


def test_answer_is_the_smoothed_one_and_the_raw_answer_that_of_the_frame(model: ActiveModel):
    bench = Bench(model)
    result = bench.result(BLUE, WantedTopics(answer=True, raw_answer=True))
    result = dataclasses.replace(result, answer=dataclasses.replace(result.answer, held=(0,)))
    bench.outputs.publish(result, Settings(top_k=1))
    assert [one.class_id for one in bench.published("~/classification")[0].results] == ["red"]
    assert [one.class_id for one in bench.published("~/classification_raw")[0].results] == ["blue"]


LARGE = {"height": 480, "width": 640, "step": 1920, "data": bytes((0, 0, 255)) * (480 * 640)}
"""A picture in which there is room for every name."""


def written_answers(monkeypatch: pytest.MonkeyPatch, viewed: ViewedFrame) -> list[str]:
    """The texts that an overlay writes in the colour of an answer, but for the name of the map's class."""
    written: list[tuple[str, tuple[int, ...]]] = []
    write = ImageDraw.ImageDraw.text
    with monkeypatch.context() as patched:
        patched.setattr(ImageDraw.ImageDraw, "text", lambda *a, **k: (written.append((a[2], a[3])), write(*a, **k))[1])
        to_overlay(viewed)
    return [text for text, colour in written if text and colour[:3] == (255, 255, 255) and "map: " not in text]


@pytest.mark.parametrize(
    ("answered", "threshold"),
    [
        ({}, 0.0),
        ({"held": (0,)}, 0.0),  # smoothing holds on to another class than this frame shows
        ({"held": (1,), "scores": np.array([0.2, 0.5, 0.3], np.float32)}, 0.0),
        ({"held": (1,), "scores": np.array([0.2, 0.5, 0.3], np.float32)}, 0.6),
        ({"unknown": True}, 0.0),
        ({}, 1.0),
    ],
)
def test_overlay_answers_what_the_answers_topic_does(
    model: ActiveModel, monkeypatch: pytest.MonkeyPatch, answered: dict[str, Any], threshold: float
):
    bench = Bench(model)
    result = bench.result(BLUE, WantedTopics(answer=True, overlay=True), **LARGE)
    result = dataclasses.replace(result, answer=dataclasses.replace(result.answer, **answered))
    settings = Settings(top_k=1, threshold=threshold)
    bench.outputs.publish(result, settings)
    written = written_answers(monkeypatch, ViewedFrame(result, settings, None))
    (message,) = bench.published("~/classification")
    assert [text for text in written if not text.endswith("%")] == [one.class_id for one in message.results]


def test_overlay_of_numbers_has_those_that_were_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    numbers = active_model(write_tiny_model(tmp_path / "n.onnx", spec=regression_spec({"x": "", "y": "", "z": ""})))
    bench = Bench(numbers)
    result = bench.result(BLUE, WantedTopics(answer=True, overlay=True), **LARGE)
    smoothed = dataclasses.replace(result.answer, values=np.array([0.25, 0.5, 0.75], np.float32))
    result = dataclasses.replace(result, answer=smoothed)
    bench.outputs.publish(result, Settings())
    (message,) = bench.published("~/regression")
    written = written_answers(monkeypatch, ViewedFrame(result, Settings(), None))
    assert (written[::2], [float(text) for text in written[1::2]]) == (list(message.name), list(message.position))


def test_whoever_keeps_answers_is_given_what_was_published_with_its_topic(model: ActiveModel):
    bench = Bench(model)
    kept: list[tuple[str, Any]] = []
    bench.outputs.on_answer = lambda *answer: kept.append(answer)
    bench.outputs.publish(bench.result(RED, WantedTopics(answer=True, raw_answer=True)), Settings())
    assert kept == [("/robot/node/classification", bench.published("~/classification")[0])]


def test_settings_bound_what_is_listed_and_choose_the_score_map(model: ActiveModel):
    bench = Bench(model)
    result = bench.result(RED, WantedTopics(answer=True, neighbours=True, score_map=True))
    bench.outputs.publish(result, Settings(top_k=2, neighbours=1, score_map_class="green"))
    assert len(bench.published("~/classification")[0].results) == 2
    viewed = ViewedFrame(result, Settings(top_k=2, neighbours=1, score_map_class="green"), None)
    assert [one.class_id for one in to_neighbours(viewed)["neighbours"].results] == [NAMES[0]]
    shown = np.frombuffer(to_score_map(viewed)["score_map"].data, "<f4")
    green = np.exp(0) / (np.exp(GAIN) + 2)  # of a picture that is all red
    np.testing.assert_allclose(shown, np.full(4 * 7, green), rtol=1e-4)
    bench.outputs.publish(result, Settings(threshold=1.0))
    assert bench.published("~/classification")[1].results == []


def test_label_map_numbers_the_class_of_each_pixel_and_its_overlay_is_as_large(model: ActiveModel):
    result = Bench(model).result(BLUE, WantedTopics(label_map=True, label_overlay=True))
    made = to_score_map(ViewedFrame(result, Settings(), None))
    assert list(made) == ["label_map", "label_overlay"]
    assert (made["label_map"].encoding, made["label_map"].height, made["label_map"].width) == ("mono8", 48, 80)
    assert set(bytes(made["label_map"].data)) == {3}  # blue is the third class
    assert (made["label_overlay"].encoding, made["label_overlay"].height) == ("rgb8", 48)
    above = to_score_map(ViewedFrame(result, Settings(label_map_threshold=1.0), None))
    assert set(bytes(above["label_map"].data)) == {0}


def test_unit_activation_is_that_of_the_unit_that_is_chosen(model: ActiveModel):
    result = Bench(model).result(BLUE, WantedTopics(unit_activation=True))
    means = []
    for unit in range(3):  # the units of the only layer are the mean colours
        (message,) = to_unit_activation(ViewedFrame(result, Settings(unit=unit), None)).values()
        assert (message.encoding, message.height, message.width) == ("32FC1", 3, 4)
        means.append(np.frombuffer(message.data, "<f4").mean())
    assert means == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)
    with pytest.raises(ConfigError, match="parameter unit is 3, but layer 'features' has units 0 to 2"):
        to_unit_activation(ViewedFrame(result, Settings(unit=3), None))


def test_activation_and_embedding_are_the_frames_own_numbers(model: ActiveModel):
    bench = Bench(model)
    result = bench.result(RED, WantedTopics(activation=True, embedding=True))
    bench.outputs.publish(result, Settings())
    (activation,) = bench.published("~/activation")
    (embedding,) = bench.published("~/embedding")
    assert (activation.encoding, activation.height, activation.width) == ("32FC1", 3, 4)
    np.testing.assert_allclose(np.frombuffer(activation.data, "<f4"), 10.0, rtol=1e-5)
    assert (embedding.height, embedding.width) == (1, 3)
    np.testing.assert_allclose(np.frombuffer(embedding.data, "<f4"), [1.0, 0.0, 0.0], atol=1e-6)


def test_rays_go_to_both_places_but_not_where_the_camera_model_has_none(model: ActiveModel):
    bench = Bench(model)
    camera: Any = SimpleNamespace(ray=lambda u, v: None if u < 0 else np.array([u, v, 1.0]))
    bench.outputs.publish_rays(HEADER, ActivationPlace(peak=(-1.0, 0.0), centroid=(0.25, 0.5)), camera)
    assert bench.published("~/activation/peak_ray") == []
    (ray,) = bench.published("~/activation/centroid_ray")
    assert (ray.vector.x, ray.vector.y, ray.vector.z) == (0.25, 0.5, 1.0)


def test_map_info_has_the_size_of_the_map(model: ActiveModel):
    result = Bench(model).result(RED, WantedTopics(score_map_info=True))
    (info,) = to_score_map(ViewedFrame(result, Settings(), CameraInfo())).values()
    assert (info.height, info.width) == (4, 7)  # 48x80 pixels in windows of 24x32, every 8


def test_class_that_only_the_next_model_has_is_not_shown_of_a_frame_of_the_model_before(model: ActiveModel):
    result = Bench(model).result(RED, WantedTopics(score_map=True))
    assert to_score_map(ViewedFrame(result, Settings(score_map_class="violet"), None)) == {}
