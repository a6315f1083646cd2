"""Lifecycle transitions whose errors are seen: rclpy swallows what a transition raises."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from cnn_perception.errors import PerceptionError


class ReportingNode(Protocol):
    """What `reported` needs of a lifecycle node."""

    def get_logger(self) -> Any:  # noqa: ANN401 rclpy's loggers differ by version
        """Returns the node's logger."""

    def fail(self, error: BaseException) -> None:
        """Ends the process because of a defect."""


NodeT = TypeVar("NodeT", bound=ReportingNode)
Transition = Callable[[NodeT, LifecycleState], TransitionCallbackReturn]


def reported(done: str) -> Callable[[Transition[NodeT]], Transition[NodeT]]:
    """Decorates a transition: a refusal is one line and leaves the state, a defect ends the process.

    Args:
        done: What a node is after the transition, such as `configured`; the line says that it is not.
    """

    def decorate(transition: Transition[NodeT]) -> Transition[NodeT]:
        @functools.wraps(transition)
        def with_report(node: NodeT, state: LifecycleState) -> TransitionCallbackReturn:
            try:
                return transition(node, state)
            except PerceptionError as error:
                node.get_logger().error(f"not {done}: {error}")
                return TransitionCallbackReturn.FAILURE
            except Exception as error:
                node.fail(error)
                return TransitionCallbackReturn.ERROR

        return with_report

    return decorate
