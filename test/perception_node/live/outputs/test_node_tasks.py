"""Owns: what perception_node publishes for each task, over real DDS. Leaves to others: what all tasks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from perception import LATCHED, NODE, PROBE_S, ask, camera_of, count, diagnosis, image, set_parameter, stamp, value
from rcl_interfaces.srv import GetParameters
from ros import Participant, Process, new_domain, participant, running
from sensor_msgs.msg import Image, JointState
from tiny_model import GAIN, as_multilabel, regression_spec, respecified, tiny_spec, with_unknown, write_tiny_model
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

Start = Callable[..., Participant]


def flat(*colour: int) -> np.ndarray:
    return np.full((48, 80, 3), colour, np.uint8)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a node with a tiny model and returns who talks to it."""
    with ExitStack() as stack:

        def started(**model: object) -> Participant:
            domain, path = new_domain(), write_tiny_model(tmp_path / "tiny.onnx", **model)  # type: ignore[arg-type]
            log = tmp_path / "log.txt"
            stack.enter_context(running("perception_node", domain, log, model=path, diagnostics_period_s=0.05))
            return stack.enter_context(participant(domain))

        yield started


def topics(ros: Participant) -> set[str]:
    return {name.removeprefix(f"{NODE}/") for name, _ in ros.node.get_topic_names_and_types() if name.startswith(NODE)}


def labels(ros: Participant) -> list[str]:
    answer = ros.call(GetParameters, f"{NODE}/get_parameters", GetParameters.Request(names=["class_labels"]))
    return list(answer.values[0].string_array_value)


def test_regression_is_published_as_named_numbers_with_the_images_header(start: Start):
    ros = start(spec=regression_spec({"speed": "m/s", "steering": ""}), gain=2.0, bias=[-1.0, 0.5])
    answers = ros.collect(JointState, f"{NODE}/regression")
    pictures = ros.collect(Image, f"{NODE}/activation/overlay")
    camera = camera_of(ros, answers, pictures)

    message = image((5, 999_999_999), flat(255, 51, 0), "front")
    ask(ros, camera, message, answers, pictures)

    assert answers[0].header == pictures[0].header == message.header
    assert answers[0].name == ["speed", "steering"]
    assert list(answers[0].position) == pytest.approx([2.0 * 1.0 - 1.0, 2.0 * 0.2 + 0.5])
    assert not len(answers[0].velocity)
    assert not len(answers[0].effort)


def test_a_regression_model_has_no_classification_topics(start: Start):
    ros = start(spec=regression_spec({"speed": "m/s", "steering": ""}))
    infos = ros.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
    ros.wait_for(lambda: infos, "the latched info")

    found = ros.wait_for(lambda: "regression" in (names := topics(ros)) and names, "the topics")
    assert not {"classification", "label_info"} & found
    assert labels(ros) == ["speed", "steering"]
    status = diagnosis(ros, "model")
    assert (value(status, "task"), value(status, "numbers")) == ("regression", "speed (m/s), steering")
    assert diagnosis(ros, "camera").message != "the node is not active"


def test_nothing_is_computed_while_nobody_wants_the_numbers(start: Start):
    ros = start(spec=regression_spec({"speed": "m/s"}))
    camera = ros.publisher(Image, "image_raw")
    frame = image((1, 0), flat(0, 0, 0))
    ros.repeat(lambda: camera.publish(frame), lambda: count(ros, "received") >= 1, "a frame to be received")
    assert count(ros, "answered") == 0


def test_multilabel_publishes_every_class_over_its_own_and_the_live_threshold(start: Start):
    thresholds = (0.5, 0.9, 0.2)
    ros = start(spec=as_multilabel(tiny_spec(), *thresholds), bias=[-5.0] * 3)
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)

    def classes_of(second: int, *colour: int) -> dict[str, float]:
        ask(ros, camera, image((second, 0), flat(*colour)), answers)
        return {result.class_id: result.score for result in answers[-1].results}

    def score(part: int) -> float:
        return float(1 / (1 + np.exp(5.0 - GAIN * part / 255)))

    # the scores of 140, 160 and 255 are 0.62, 0.78 and 0.99
    found = classes_of(1, 140, 160, 255)
    assert list(found) == ["blue", "red"]
    assert found == pytest.approx({"blue": score(255), "red": score(140)}, abs=1e-5)
    assert classes_of(2, 0, 0, 0) == {}
    assert list(classes_of(3, 255, 255, 100)) == ["red", "green", "blue"]
    assert set_parameter(ros, "threshold", 0.7).successful
    assert list(classes_of(4, 140, 255, 255)) == ["green", "blue"]
    assert set_parameter(ros, "top_k", 1).successful
    assert list(classes_of(5, 140, 255, 255)) == ["green"]
    assert value(diagnosis(ros, "model"), "task") == "multilabel"


@pytest.mark.parametrize("method", ["energy", "distance"])
def test_an_unknown_image_is_answered_unknown_and_counted(start: Start, method: str):
    # energy: below that of the logits 0, 0, 5; distance: more than 0.1 from the directions of pure colours
    rule = (np.log(2 + np.exp(5.0)), ()) if method == "energy" else (-0.1, tuple(map(tuple, np.eye(3).tolist())))
    ros = start(spec=with_unknown(tiny_spec(), *rule))
    answers = ros.collect(Classification, f"{NODE}/classification")
    infos = ros.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
    camera = camera_of(ros, answers, probe=image((PROBE_S, 0), flat(255, 0, 0)))
    before = count(ros, "unknown")
    assert set_parameter(ros, "threshold", 1.0).successful  # hides every class, but not that

    ask(ros, camera, image((1, 5), flat(40, 50, 60), "front"), answers)

    assert [(result.class_id, result.score) for result in answers[0].results] == [("unknown", 1.0)]
    assert (stamp(answers[0]), answers[0].header.frame_id) == ((1, 5), "front")
    assert set_parameter(ros, "threshold", 0.0).successful
    ask(ros, camera, image((2, 0), flat(255, 10, 10)), answers)
    assert [result.class_id for result in answers[-1].results] == ["red", "green", "blue"]
    unknown = sum(stamp(answer) == (1, 5) for answer in answers)
    assert count(ros, "unknown") == before + unknown
    assert value(diagnosis(ros, "model"), "unknown rule") == method
    ros.wait_for(lambda: infos, "the latched labels")
    assert [(c.class_id, c.class_name) for c in infos[-1].class_map][3:] == [(3, "unknown")]
    assert labels(ros) == ["red", "green", "blue", "unknown"]


def test_a_class_called_unknown_beside_a_rule_ends_the_node_with_one_line(tmp_path: Path):
    text = with_unknown(tiny_spec(("red", "green", "other")), 0.0).to_json()
    path = write_tiny_model(tmp_path / "tiny.onnx", classes=("red", "green", "unknown"))
    respecified(path, text.replace('"other"', '"unknown"'))

    process = Process("perception_node", new_domain(), tmp_path / "log", model=path)

    assert process.wait() == 2
    errors = [line for line in process.log.splitlines() if "ERROR" in line]
    assert len(errors) == 1
    assert "'unknown', which the unknown rule answers; rename the class" in errors[0]
