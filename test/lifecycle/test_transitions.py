"""Owns: that no error of a transition is swallowed. Nodes are stubs; live in test_node_defects."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from node_parts import SaidLogger
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import TransitionCallbackReturn

from cnn_perception.errors import ConfigError
from cnn_perception.lifecycle.transitions import RefusingNode, reported
from cnn_perception.ros.process import Shutdown


class Stub:
    """A node whose transition ends as the test says."""

    def __init__(self, outcome: TransitionCallbackReturn | BaseException) -> None:
        self.outcome = outcome
        self.logger = SaidLogger()
        self.failures: list[BaseException] = []
        self.shutdown = Shutdown()
        self.refusal = ""

    def get_logger(self) -> Any:
        return self.logger

    def fail(self, error: BaseException) -> None:
        self.failures.append(error)

    @reported("configured")
    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    @reported("shut down", is_last=True)
    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        assert not self.shutdown.has_begun
        return self.on_configure(state)


@pytest.mark.parametrize("outcome", [TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE], ids=str)
def test_what_a_transition_returns_is_kept(outcome: TransitionCallbackReturn):
    node = Stub(outcome)
    assert node.on_configure(None) == outcome
    assert (node.logger.said, node.failures) == ([], [])


def test_refusal_is_one_line_and_a_failed_transition():
    node = Stub(ConfigError("no such model"))
    assert node.on_configure(None) == TransitionCallbackReturn.FAILURE
    assert node.logger.said == [("error", "not configured: no such model")]
    assert node.refusal == "not configured: no such model"
    assert node.failures == []
    node.outcome = TransitionCallbackReturn.SUCCESS
    node.on_configure(None)
    assert node.refusal == ""


def test_defect_ends_the_process():
    defect = ZeroDivisionError()
    node = Stub(defect)
    assert node.on_configure(None) == TransitionCallbackReturn.ERROR
    assert node.failures == [defect]


def test_error_that_is_answered_is_a_defect_too():
    node = Stub(TransitionCallbackReturn.ERROR)
    assert node.on_configure(None) == TransitionCallbackReturn.ERROR
    (defect,) = node.failures
    assert "not configured" in str(defect)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(TransitionCallbackReturn.SUCCESS, 0), (TransitionCallbackReturn.FAILURE, 2), (ConfigError("as planned"), 2)],
    ids=repr,
)
def test_last_transition_ends_the_process_once_its_state_could_be_asked_for(
    outcome: TransitionCallbackReturn | BaseException, code: int
):
    node = Stub(outcome)
    node.on_shutdown(None)
    assert not node.shutdown.has_begun
    deadline_s = time.monotonic() + 60
    while not node.shutdown.has_begun:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert node.shutdown.code == code


class Machine:
    """What rclpy 7 does when a transition is asked for that there is none of in the present state."""

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802 rclpy's
        if transition_id != 3:
            raise rclpy_implementation.RCLError("Transition is not registered.\nAt a line.")
        return TransitionCallbackReturn.SUCCESS


def test_a_transition_that_the_state_has_not_is_refused_in_one_line_and_others_are_made():
    class Node(RefusingNode, Machine):
        logger = SaidLogger()

        def get_logger(self) -> Any:
            return self.logger

    node = Node()
    assert node._LifecycleNodeMixin__change_state(3) == TransitionCallbackReturn.SUCCESS
    assert node.logger.said == []
    assert node._LifecycleNodeMixin__change_state(7) == TransitionCallbackReturn.ERROR
    ((level, text),) = node.logger.said
    assert (level, text) == ("error", "transition 7 is refused: Transition is not registered. At a line.")


def test_wish_to_end_the_program_passes():
    with pytest.raises(KeyboardInterrupt):
        Stub(KeyboardInterrupt()).on_configure(None)


@pytest.mark.parametrize("name", ["on_configure", "on_activate", "on_deactivate", "on_cleanup", "on_shutdown"])
def test_no_error_of_the_nodes_transitions_reaches_rclpy_whose_releases_treat_it_differently(name: str):
    """Up to rclpy 9 it is swallowed, later it is passed on or logged; `reported` comes before all of these."""
    from cnn_perception.perception_node.node import PerceptionNode

    assert hasattr(getattr(PerceptionNode, name), "__wrapped__")
