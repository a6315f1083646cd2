"""Owns: the node under Nav2's lifecycle manager, whose part the test plays over DDS: transitions, states and the bond.

Source of the manager's part: nav2_lifecycle_manager, lifecycle_manager.cpp, and bondcpp, ROS 2 branch of bond_core.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from lifecycle_msgs.msg import Transition
from node_parts import SaidLogger
from perception import state, transition, wait_until
from ros import Participant, Process, new_domain, participant, running
from tiny_model import write_tiny_model

from cnn_perception.lifecycle import bond

Status = bond.status_type()
needs_bond = pytest.mark.skipif(Status is None, reason="the package bond is not installed; `make venv` builds it")
TIMEOUT_S = 4.0
"""`bond_timeout` of Nav2's lifecycle manager, by default."""
PERIOD_S = 0.25


class ManagersEnd:
    """The end of a bond that Nav2's lifecycle manager makes once it has activated a node."""

    def __init__(self, ros: Participant, topic: str = "/bond", node: str = "perception_node") -> None:
        self._id = node
        self._instance_id = f"manager of {time.monotonic()}"
        self.heard: list[Any] = []
        self._heard_s = 0.0
        self.said_farewell = False
        self._publisher = ros.node.create_publisher(Status, topic, 5)
        self._subscription = ros.node.create_subscription(Status, topic, self._hear, 100)
        self._timer = ros.node.create_timer(PERIOD_S, lambda: self.say(is_active=True))
        self._ros = ros

    @property
    def is_formed(self) -> bool:
        return any(message.active for message in self.heard)

    @property
    def is_silent(self) -> bool:
        return self.is_formed and time.monotonic() > self._heard_s + TIMEOUT_S

    def say(self, is_active: bool) -> None:
        message = Status(id=self._id, instance_id=self._instance_id, active=is_active)
        message.heartbeat_timeout, message.heartbeat_period = TIMEOUT_S, PERIOD_S
        self._publisher.publish(message)

    def stop(self) -> None:
        self._ros.node.destroy_timer(self._timer)

    def _hear(self, message: Any) -> None:
        if message.id == self._id and message.instance_id != self._instance_id:
            self.heard.append(message)
            self._heard_s = time.monotonic()
            self.said_farewell |= not message.active


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def ros(domain: int) -> Iterator[Participant]:
    with participant(domain) as one:
        yield one


@pytest.fixture
def domain() -> int:
    return new_domain()


@pytest.fixture
def node(domain: int, model: Path, tmp_path: Path) -> Iterator[Process]:
    with running("perception_node", domain, tmp_path / "log", model=model, autostart=False) as process:
        yield process


def startup(ros: Participant) -> None:
    for number, label in (
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
    ):
        assert transition(ros, number)
        assert state(ros) == label


def formed(ros: Participant) -> ManagersEnd:
    startup(ros)
    end = ManagersEnd(ros)
    ros.wait_for(lambda: end.is_formed, "the bond")
    return end


@needs_bond
def test_active_node_says_again_and_again_that_it_lives_and_knows_when_the_bond_is_formed(
    node: Process, ros: Participant
):
    end = formed(ros)
    ros.wait_for(lambda: len(end.heard) > 4, "five signs of life")
    ros.wait_for(lambda: "bond formed" in node.log, "the node's word")
    assert {(message.active, message.heartbeat_period) for message in end.heard} == {(True, PERIOD_S)}
    assert len({message.instance_id for message in end.heard}) == 1


@needs_bond
def test_dead_node_is_noticed_by_its_silence(node: Process, ros: Participant):
    end = formed(ros)
    node.signal(signal.SIGSTOP)
    ros.wait_for(lambda: end.is_silent, "silence")
    assert not end.said_farewell
    node.signal(signal.SIGCONT)


@needs_bond
def test_deactivation_breaks_the_bond_by_a_word_and_the_next_activation_makes_another(node: Process, ros: Participant):
    end = formed(ros)
    assert transition(ros, Transition.TRANSITION_DEACTIVATE)
    ros.wait_for(lambda: end.said_farewell, "the farewell")
    end.stop()
    assert transition(ros, Transition.TRANSITION_CLEANUP)
    assert [message.active for message in end.heard][-1:] == [False]
    before = {message.instance_id for message in end.heard}

    again = formed(ros)
    assert before.isdisjoint(message.instance_id for message in again.heard)


@needs_bond
def test_manager_that_ends_is_answered_once_and_the_node_goes_on(node: Process, ros: Participant):
    end = formed(ros)
    end.stop()
    end.say(is_active=False)
    ros.wait_for(lambda: end.said_farewell, "the answer to the farewell")
    ros.wait_for(lambda: "broken the bond" in node.log, "the node's word")
    assert state(ros) == "active"
    assert [message.active for message in end.heard].count(False) == 1
    assert transition(ros, Transition.TRANSITION_DEACTIVATE)


@needs_bond
def test_bond_is_in_the_namespace_of_the_node(domain: int, model: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("perception.NODE", "/robot/perception_node")
    arguments = ("-r", "__ns:=/robot")
    with (
        running("perception_node", domain, tmp_path / "log", *arguments, model=model, autostart=False),
        participant(domain) as ros,
    ):
        startup(ros)
        end = ManagersEnd(ros, "/robot/bond")
        ros.wait_for(lambda: end.is_formed, "the bond")


@pytest.mark.parametrize("given", [{"autostart": True}, {"autostart": False, "bond_heartbeat_period": 0.0}], ids=str)
def test_node_that_nobody_watches_makes_no_bond(domain: int, model: Path, tmp_path: Path, given):
    with (
        running("perception_node", domain, tmp_path / "log", model=model, **given) as node,
        participant(domain) as ros,
    ):
        if not given["autostart"]:
            startup(ros)
        wait_until(ros, "active")
        assert "/bond" not in dict(ros.node.get_topic_names_and_types())
        assert "bond" not in node.log


def test_manager_finds_every_state_that_it_asks_for_up_to_the_last(node: Process, ros: Participant):
    """It gives up on all other nodes, in the midst of a shutdown, when one does not tell its state afterwards."""
    startup(ros)
    for number, label in (
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, "finalized"),
    ):
        assert transition(ros, number)
        assert state(ros) == label
    assert node.wait() == 0


def test_missing_package_is_said_and_costs_the_bond_only(monkeypatch):
    monkeypatch.setattr(bond, "status_type", lambda: None)
    logger = SaidLogger()
    node = type("Node", (), {"get_logger": lambda self: logger})()
    assert bond.bond_of(node, PERIOD_S) is None
    ((level, text),) = logger.said
    assert (level, "bond is not installed" in text, "bond_timeout" in text) == ("warning", True, True)
