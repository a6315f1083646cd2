"""Gives a running perception_node another model, as `ros2 param set /perception_node model FILE` does.

python -m demo.swap --model FILE
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, printable
from cnn_perception.ros import transport
from demo.record import NODE

_PATIENCE_S = 60.0
"""How long the node may take to come up with its first model, and then to load and verify the other."""
_POLL_S = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Asks the node to take the model; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.swap", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="below the folder of the node's first model")
    options = parser.parse_args(argv)
    transport.prepare_process()
    rclpy.init()
    problem = swap(str(options.model.resolve()))
    rclpy.try_shutdown()
    if problem:
        print(printable(f"error: {NODE} keeps its model: {problem}"), file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_OK


def swap(model: str) -> str:
    """Returns why the node does not take a model; empty if it does, once answers are that model's."""
    node = rclpy.create_node("swap")
    deadline_s = time.monotonic() + _PATIENCE_S
    while (state := _call(node, GetState, "get_state", GetState.Request())) is not None:
        if state.current_state.id == State.PRIMARY_STATE_ACTIVE or time.monotonic() > deadline_s:
            break
        rclpy.spin_once(node, timeout_sec=_POLL_S)
    parameter = Parameter("model", value=model).to_parameter_msg()
    response = _call(node, SetParameters, "set_parameters", SetParameters.Request(parameters=[parameter]))
    if response is None:
        return f"it says nothing within {_PATIENCE_S:.0f} s"
    (result,) = response.results
    return "" if result.successful else str(result.reason)


def _call(node: Node, kind: Any, service: str, request: Any) -> Any:  # noqa: ANN401 services are untyped
    """Returns a service's response; None if there is none in time."""
    client: Any = node.create_client(kind, f"{NODE}/{service}")
    if not client.wait_for_service(timeout_sec=_PATIENCE_S):
        return None
    future = client.call_async(request)
    rclpy.spin_until_future_complete(node, future, timeout_sec=_PATIENCE_S)
    return future.result() if future.done() else None


if __name__ == "__main__":
    sys.exit(main())
