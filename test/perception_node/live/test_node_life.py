"""Owns: models that are swapped, transitions that repeat, signals at any moment, on a live node."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("rclpy", reason="needs ROS 2")

from lifecycle_msgs.msg import Transition
from perception import (
    LATCHED,
    NODE,
    ask,
    camera_of,
    diagnosis,
    image,
    set_parameter,
    stamp,
    state,
    transition,
    value,
    wait_until,
)
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters
from ros import ENDS_WITHIN_S, Participant, Process, new_domain, participant, running
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from tiny_model import regression_spec, write_tiny_model
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

RED = np.broadcast_to(np.array([255, 0, 0], np.uint8), (48, 80, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("life")


@pytest.fixture(scope="module")
def node(domain: int, folder: Path) -> Iterator[Process]:
    model = write_tiny_model(folder / "tiny.onnx")
    with running("perception_node", domain, folder / "log.txt", model=model, diagnostics_period_s=0.05) as process:
        yield process


@pytest.fixture
def ros(talker: Participant, node: Process, folder: Path) -> Iterator[Participant]:
    """Every test begins with the colours' model."""
    write_tiny_model(folder / "tiny.onnx")
    wait_until(talker, "active")
    assert set_parameter(talker, "model", str(folder / "tiny.onnx")).successful
    assert reload(talker).success
    yield talker
    talker.forget()


def reload(ros: Participant) -> Trigger.Response:
    return ros.call(Trigger, f"{NODE}/reload_model", Trigger.Request())


def labels(ros: Participant) -> list[str]:
    request = GetParameters.Request(names=["class_labels"])
    return list(ros.call(GetParameters, f"{NODE}/get_parameters", request).values[0].string_array_value)


@pytest.mark.parametrize("how", ["reload", "parameter"])
def test_replaced_file_answers_and_raises_the_version(ros: Participant, folder: Path, how: str):
    answers = ros.collect(Classification, f"{NODE}/classification")
    infos = ros.collect(VisionInfo, f"{NODE}/vision_info", LATCHED)
    names = ros.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
    camera = camera_of(ros, answers)
    ros.wait_for(lambda: infos and names, "the latched topics")
    before = infos[-1]
    write_tiny_model(folder / "tiny.onnx", classes=("rot", "gruen", "blau"))

    ask(ros, camera, image((1, 0), RED), answers)  # of the old model, whose file was replaced
    assert answers[-1].results[0].class_id == "red"
    if how == "reload":
        assert reload(ros).success
    else:  # whose value stays
        assert set_parameter(ros, "model", str(folder / "tiny.onnx")).successful
    ros.wait_for(lambda: infos[-1].database_version == before.database_version + 1, "the next version")
    ros.wait_for(lambda: names[-1].class_map[0].class_name == "rot", "the new labels")
    ask(ros, camera, image((2, 0), RED), answers)
    assert answers[-1].results[0].class_id == "rot"
    assert infos[-1].method != before.method
    assert labels(ros) == ["rot", "gruen", "blau"]


def test_parameter_model_swaps_between_two_frames(ros: Participant, folder: Path):
    """While frames flow, all answers of the old model come before all of the new, and every stamp rises."""
    other = write_tiny_model(folder / "other.onnx", classes=("rot", "gruen", "blau"))
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera = camera_of(ros, answers)
    numbers = iter(range(1, 100_000))

    def flow(name: str) -> bool:
        camera.publish(image((next(numbers), 0), RED))
        return sum(answer.results[0].class_id == name for answer in answers) >= 5

    ros.wait_for(lambda: flow("red"), "answers by the old model")
    assert set_parameter(ros, "model", str(other)).successful
    ros.wait_for(lambda: flow("rot"), "answers by the new model")
    found = [answer.results[0].class_id for answer in answers]
    assert found == sorted(found)  # "red" before "rot"
    assert [stamp(answer) for answer in answers] == sorted({stamp(answer) for answer in answers})


@pytest.mark.parametrize("how", ["reload", "parameter"])
@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "text", "missing"])
def test_bad_file_leaves_the_old_model_running_and_says_why(
    ros: Participant, folder: Path, node: Process, content: bytes | None, how: str
):
    before = value(diagnosis(ros, "model"), "sha256")
    path = folder / ("tiny.onnx" if how == "reload" else "bad.onnx")
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    if how == "reload":
        answer = reload(ros)
        refused, why = not answer.success, answer.message
    else:
        result = set_parameter(ros, "model", str(path))
        refused, why = not result.successful, result.reason
    assert refused
    assert str(path) in why
    assert value(diagnosis(ros, "model"), "sha256") == before
    answers = ros.collect(Classification, f"{NODE}/classification")
    camera_of(ros, answers)
    assert "Traceback" not in node.log


def test_model_of_another_task_brings_its_own_topic(ros: Participant, folder: Path):
    numbers = write_tiny_model(folder / "numbers.onnx", spec=regression_spec({"x": "m", "y": "m", "z": "m"}))
    assert set_parameter(ros, "model", str(numbers)).successful
    answers = ros.collect(JointState, f"{NODE}/regression")
    camera = camera_of(ros, answers)
    ask(ros, camera, image((1, 0), RED), answers)
    assert list(answers[-1].name) == ["x", "y", "z"]
    assert not ros.node.get_publishers_info_by_topic(f"{NODE}/classification")


def test_wrong_transitions_are_refused_and_change_nothing(ros: Participant, node: Process):
    for number in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CLEANUP):
        assert not transition(ros, number)
        assert state(ros) == "active"
    for _ in range(3):
        assert transition(ros, Transition.TRANSITION_DEACTIVATE)
        assert not transition(ros, Transition.TRANSITION_DEACTIVATE)
        assert reload(ros).success  # inactive, but configured
        assert transition(ros, Transition.TRANSITION_ACTIVATE)
    for _ in range(3):
        assert transition(ros, Transition.TRANSITION_DEACTIVATE)
        assert transition(ros, Transition.TRANSITION_CLEANUP)
        assert not transition(ros, Transition.TRANSITION_CLEANUP)
        assert not reload(ros).success  # there is no model
        assert transition(ros, Transition.TRANSITION_CONFIGURE)
        assert transition(ros, Transition.TRANSITION_ACTIVATE)
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    assert "Traceback" not in node.log


def test_failed_configure_can_be_mended(ros: Participant, folder: Path):
    for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert transition(ros, number)
    moved = folder / "moved.onnx"
    shutil.move(folder / "tiny.onnx", moved)
    assert not transition(ros, Transition.TRANSITION_CONFIGURE)
    assert state(ros) == "unconfigured"
    shutil.move(moved, folder / "tiny.onnx")
    assert transition(ros, Transition.TRANSITION_CONFIGURE)
    assert transition(ros, Transition.TRANSITION_ACTIVATE)
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))


def test_shutdown_transition_ends_the_work(tmp_path: Path):
    domain = new_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    with running("perception_node", domain, tmp_path / "log", model=model) as process, participant(domain) as ros:
        wait_until(ros, "active")
        assert transition(ros, Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert state(ros) == "finalized"
        process.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["numpy", "cv2", "rclpy", "onnxruntime", "fastrtps", "vision_msgs"])
def test_signal_at_any_moment_of_the_start_ends_it_quietly(number: signal.Signals, moment: str, tmp_path: Path):
    """The moments are when the process maps a library: in its imports, and when its topics are made."""
    model = write_tiny_model(tmp_path / "tiny.onnx")
    process = Process("perception_node", new_domain(), tmp_path / "log", model=model)
    while process.running and moment not in process.libraries:
        pass
    assert process.running, process.log
    for _ in range(2):
        if process.running:
            process.signal(number)
    code = process.wait(ENDS_WITHIN_S)
    assert code in (0, 130, -number), process.log
    assert "Traceback" not in process.log, process.log


def write_endless_model(path: Path) -> Path:
    """A model whose constants take minutes to compute, in native code that nothing can interrupt."""
    model = onnx.load(write_tiny_model(path))
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1e-4])
    side = numpy_helper.from_array(np.array([9000, 9000], np.int64), "side")
    nodes = [
        helper.make_node("ConstantOfShape", ["side"], ["product0"], value=one),
        *(helper.make_node("MatMul", [f"product{n}"] * 2, [f"product{n + 1}"]) for n in range(50)),
        helper.make_node("ReduceMean", ["product50"], ["mean"], keepdims=0),
        helper.make_node("Add", ["image", "mean"], ["shifted"]),
    ]
    model.graph.node[0].input[0] = "shifted"
    model.graph.initializer.append(side)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    onnx.save(model, path)
    return path


def test_node_goes_on_while_another_model_loads_and_a_signal_ends_both(tmp_path: Path):
    domain = new_domain()
    model = write_tiny_model(tmp_path / "tiny.onnx")
    endless = write_endless_model(tmp_path / "endless.onnx")
    with (
        running("perception_node", domain, tmp_path / "log", model=model, diagnostics_period_s=0.05) as process,
        participant(domain) as ros,
    ):
        camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
        client = ros.node.create_client(SetParameters, f"{NODE}/set_parameters")
        ros.wait_for(client.service_is_ready, "the service")
        wanted = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(endless))
        client.call_async(SetParameters.Request(parameters=[Parameter(name="model", value=wanted)]))
        ros.wait_for(lambda: f"loading {endless}" in process.log, "the load to begin")
        camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))  # the old model goes on
        assert value(diagnosis(ros, "model"), "file") == str(model)
        process.signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN_S) == 0
