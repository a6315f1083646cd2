"""Requests to set parameters that rclpy cannot read: refused, so that no peer can end a node by one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.node import Node
from rclpy.parameter import Parameter

_TYPES = frozenset(kind.value for kind in Parameter.Type)

Answer = Callable[[Any, Any], Any]


def refuse_unreadable(node: Node) -> None:
    """Has the node's own services refuse a value of a type that does not exist, which rclpy takes for a defect."""
    for service in node.services:
        if service.srv_type in (SetParameters, SetParametersAtomically):
            service.callback = functools.partial(_answer, service.callback)


def _answer(answer: Answer, request: Any, response: Any) -> Any:  # noqa: ANN401 services are untyped
    unreadable = [one for one in request.parameters if one.value.type not in _TYPES]
    if not unreadable:
        return answer(request, response)
    first = unreadable[0]
    reason = f"nothing is set: the value of {first.name[:80]!r} is of the type {first.value.type}, which does not exist"
    refusal = SetParametersResult(successful=False, reason=reason)
    if isinstance(request, SetParametersAtomically.Request):
        response.result = refusal
    else:
        response.results = [refusal for _ in request.parameters]
    return response
