"""Owns: what a live node answers while a model loads that never ends, and what becomes of that load.

Leaves to others: models that are swapped (test_node_life), files that are refused (test_node_faults).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from bad_models import write_endless_model
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetAvailableTransitions
from perception import NODE, camera_of, diagnosis, set_parameter, state, transition, value, wait_until
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from ros import ENDS_WITHIN_S, Participant, Process, new_domain, participant, running
from std_srvs.srv import SetBool, Trigger
from tiny_model import regression_spec, write_tiny_model
from vision_msgs.msg import Classification

BUSY = "another model is being loaded"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loading")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_tiny_model(folder / "tiny.onnx")


@pytest.fixture(scope="module")
def endless(folder: Path) -> Path:
    return write_endless_model(folder / "endless.onnx")


@pytest.fixture(scope="module")
def node(domain: int, model: Path, folder: Path) -> Iterator[Process]:
    override = ("-p", f"qos_overrides.{NODE}/regression.publisher.reliability:=relaible")
    with running(
        "perception_node", domain, folder / "log.txt", *override, model=model, diagnostics_period_s=0.05
    ) as process:
        yield process


def text_of(ros: Participant, name: str) -> str:
    request = GetParameters.Request(names=[name])
    return ros.call(GetParameters, f"{NODE}/get_parameters", request).values[0].string_value


def begin(ros: Participant, path: Path) -> Any:
    """Sets the model to one that never ends loading; returns the answer to come once the load has begun."""
    wanted = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(path))
    client = ros.node.create_client(SetParameters, f"{NODE}/set_parameters")
    ros.wait_for(client.service_is_ready, "the service")
    answer = client.call_async(SetParameters.Request(parameters=[Parameter(name="model", value=wanted)]))
    ros.wait_for(lambda: "loading" in diagnosis(ros, "model").message, "the load to begin")
    return answer


def reload(ros: Participant) -> Trigger.Response:
    return ros.call(Trigger, f"{NODE}/reload_model", Trigger.Request())


def give_up(ros: Participant, answer: Any) -> str:
    """Cleans up and starts again; returns what who waits for the load is told."""
    assert not answer.done()
    if state(ros) == "active":
        assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    assert transition(ros, Transition.TRANSITION_CLEANUP)
    ros.wait_for(answer.done, "the refusal")
    (result,) = answer.result().results
    assert not result.successful
    assert transition(ros, Transition.TRANSITION_CONFIGURE)
    assert transition(ros, Transition.TRANSITION_ACTIVATE)
    return result.reason


def test_every_service_answers_while_a_model_loads_and_frames_do(ros: Participant, endless: Path):
    before = text_of(ros, "model")
    answer = begin(ros, endless)
    assert state(ros) == "active"
    kind = GetAvailableTransitions
    assert ros.call(kind, f"{NODE}/get_available_transitions", kind.Request()).available_transitions
    assert "model" in ros.call(ListParameters, f"{NODE}/list_parameters", ListParameters.Request()).result.names
    described = DescribeParameters.Request(names=["model"])
    assert ros.call(DescribeParameters, f"{NODE}/describe_parameters", described).descriptors[0].description
    for enabled in (False, True):
        assert ros.call(SetBool, f"{NODE}/set_enabled", SetBool.Request(data=enabled)).success
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    assert text_of(ros, "model") == before
    for number in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE):
        assert transition(ros, number)
    assert "was cleaned up" in give_up(ros, answer)
    assert text_of(ros, "model") == before


def test_second_load_is_refused_at_once_and_the_first_goes_on(ros: Participant, folder: Path, endless: Path):
    answer = begin(ros, endless)
    other = write_tiny_model(folder / "other.onnx")
    assert BUSY in set_parameter(ros, "model", str(other)).reason
    refused = reload(ros)
    assert not refused.success
    assert BUSY in refused.message
    give_up(ros, answer)


def test_load_is_said_in_diagnostics_with_its_file_and_seconds(ros: Participant, endless: Path):
    answer = begin(ros, endless)
    ros.wait_for(lambda: f"; loading {endless} for 1 s" in diagnosis(ros, "model").message, "the first second")
    give_up(ros, answer)
    assert "loading" not in diagnosis(ros, "model").message


def test_parameter_that_is_set_while_a_model_loads_is_kept(ros: Participant, endless: Path):
    answer = begin(ros, endless)
    assert set_parameter(ros, "top_k", 2).successful
    give_up(ros, answer)
    request = GetParameters.Request(names=["top_k"])
    assert ros.call(GetParameters, f"{NODE}/get_parameters", request).values[0].integer_value == 2


def test_swap_keeps_what_was_set_while_its_model_was_loaded(ros: Participant, model: Path, folder: Path):
    slow = write_endless_model(folder / "slow.onnx", rounds=5_000_000)  # seconds, of which a parameter takes none
    answer = begin(ros, slow)
    assert set_parameter(ros, "top_k", 3).successful
    assert set_parameter(ros, "score_map_class", "green").successful
    assert not answer.done()
    ros.wait_for(answer.done, "the swap")
    (result,) = answer.result().results
    assert result.successful, result.reason
    assert (text_of(ros, "model"), text_of(ros, "score_map_class")) == (str(slow), "green")
    request = GetParameters.Request(names=["top_k"])
    assert ros.call(GetParameters, f"{NODE}/get_parameters", request).values[0].integer_value == 3
    assert value(diagnosis(ros, "model"), "file") == str(slow)
    for name, before in (("score_map_class", ""), ("model", str(model))):
        assert set_parameter(ros, name, before).successful


def test_load_that_takes_too_long_is_refused_and_the_old_model_goes_on(ros: Participant, model: Path, endless: Path):
    assert set_parameter(ros, "model_timeout_s", 1.0).successful
    result = set_parameter(ros, "model", str(endless))
    assert set_parameter(ros, "model_timeout_s", 600.0).successful
    assert not result.successful
    assert f"{endless}: loading it takes more than 1 s and was given up" in result.reason
    assert text_of(ros, "model") == str(model)
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))


def test_swap_to_a_model_whose_topic_cannot_be_is_refused_and_the_old_one_goes_on(
    ros: Participant, node: Process, model: Path, folder: Path
):
    numbers = write_tiny_model(folder / "numbers.onnx", spec=regression_spec({"x": "m", "y": "m", "z": "m"}))
    for _ in range(2):
        result = set_parameter(ros, "model", str(numbers))
        assert not result.successful
        assert "relaible" in result.reason
        assert text_of(ros, "model") == str(model)
    camera_of(ros, ros.collect(Classification, f"{NODE}/classification"))
    assert value(diagnosis(ros, "model"), "file") == str(model)
    assert "Traceback" not in node.log


def test_node_whose_first_model_never_ends_loading_answers_and_a_signal_ends_it(tmp_path: Path, endless: Path):
    domain = new_domain()
    with (
        running("perception_node", domain, tmp_path / "log", model=endless, diagnostics_period_s=0.05) as process,
        participant(domain) as ros,
    ):
        wait_until(ros, "configuring")
        assert text_of(ros, "model") == str(endless)
        for name, value_of in (("model", str(tmp_path)), ("score_map_class", "nonsense")):
            assert set_parameter(ros, name, value_of).reason
            assert not set_parameter(ros, name, value_of).successful
        assert set_parameter(ros, "top_k", 3).successful
        status = diagnosis(ros, "model")
        assert status.level == DiagnosticStatus.WARN
        assert status.message.startswith(f"loading {endless} for")
        process.signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN_S) == 0


def test_first_model_that_takes_too_long_ends_the_process_with_one_line(tmp_path: Path, endless: Path):
    process = Process("perception_node", new_domain(), tmp_path / "log", model=endless, model_timeout_s=1.0)
    assert process.wait() == 1
    (line,) = [line for line in process.log.splitlines() if "FATAL" in line]
    assert f"{endless}: loading it in this process does not end; raise model_timeout_s" in line


def test_node_whose_shadow_loads_is_ended_by_a_signal(tmp_path: Path, model: Path, endless: Path):
    domain = new_domain()
    settings = {"model": model, "diagnostics_period_s": 0.05}
    with running("perception_node", domain, tmp_path / "log", **settings) as process, participant(domain) as ros:
        wait_until(ros, "active")
        assert set_parameter(ros, "shadow_model", str(endless)).reason.endswith("configure or reload_model")
        ros.repeat(
            lambda: ros.node.create_client(Trigger, f"{NODE}/reload_model").call_async(Trigger.Request()),
            lambda: "loading" in diagnosis(ros, "model").message,
            "the load",
        )
        process.signal(signal.SIGINT)
        assert process.wait(ENDS_WITHIN_S) == 0
