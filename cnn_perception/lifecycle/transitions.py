"""Lifecycle transitions whose errors are seen, whatever rclpy does with what a transition raises, or is asked for.

What one raises is swallowed up to rclpy 9; later ones let it end the process, or log it (ros2/rclpy#1673 and #1696). A
request for a transition that there is none of in the present state ends the process up to rclpy 7.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, PerceptionError, one_line
from cnn_perception.ros.process import Shutdown


class ReportingNode(Protocol):
    """What `reported` needs of a lifecycle node.

    Attributes:
        refusal: Why the last transition was refused; empty if it was not.
    """

    refusal: str

    @property
    def shutdown(self) -> Shutdown:
        """Of the process."""

    def get_logger(self) -> Any:  # noqa: ANN401 rclpy's loggers differ by version
        """Returns the node's logger."""

    def fail(self, error: BaseException) -> None:
        """Ends the process because of a defect."""


STATE_IS_TOLD_S = 0.4
"""A lifecycle manager asks for the state after the last transition, too; Nav2's gives up on all nodes otherwise."""

NodeT = TypeVar("NodeT", bound=ReportingNode)
Transition = Callable[[NodeT, LifecycleState], TransitionCallbackReturn]


def reported(done: str, is_last: bool = False) -> Callable[[Transition[NodeT]], Transition[NodeT]]:
    """Decorates a transition: a refusal is one line and leaves the state, a defect ends the process.

    Args:
        done: What a node is after the transition, such as `configured`; the line says that it is not.
        is_last: Whether the process ends by the transition, however long it takes.
    """

    def decorate(transition: Transition[NodeT]) -> Transition[NodeT]:
        @functools.wraps(transition)
        def with_report(node: NodeT, state: LifecycleState) -> TransitionCallbackReturn:
            if is_last:
                node.shutdown.doom(EXIT_OK)
            outcome = _outcome(transition, node, state, done)
            if is_last:
                code = EXIT_OK if outcome == TransitionCallbackReturn.SUCCESS else EXIT_BAD_INPUT
                end = threading.Timer(STATE_IS_TOLD_S, node.shutdown.begin, [code])
                end.daemon = True
                end.start()
            return outcome

        return with_report

    return decorate


class RefusingNode:
    """A base class of lifecycle nodes, before rclpy's: what is asked for in the wrong state is refused in one line.

    rclpy 9 does so itself. Before, its error came out of the service, where a defect is not told from it: a second
    `activate` would end the process.
    """

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802 rclpy's
        try:
            done: TransitionCallbackReturn = super()._LifecycleNodeMixin__change_state(transition_id)  # type: ignore[misc]
        except rclpy_implementation.RCLError as error:
            self.get_logger().error(f"transition {transition_id} is refused: {one_line(error)}")  # type: ignore[attr-defined]
            return TransitionCallbackReturn.ERROR
        return done


def _outcome(transition: Transition[NodeT], node: NodeT, state: LifecycleState, done: str) -> TransitionCallbackReturn:
    node.refusal = ""
    try:
        outcome = transition(node, state)
    except PerceptionError as error:
        node.refusal = f"not {done}: {error}"
        node.get_logger().error(node.refusal)
        return TransitionCallbackReturn.FAILURE
    except Exception as error:
        node.fail(error)
        return TransitionCallbackReturn.ERROR
    if outcome == TransitionCallbackReturn.ERROR:
        node.fail(RuntimeError(f"not {done}: something of this node answered with an error"))
    return outcome
