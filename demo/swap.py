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
from rclpy.executors import SingleThreadedExecutor
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
    node = rclpy.create_node("swap")
    problem = swap(node, str(options.model.resolve()))
    node.destroy_node()
    rclpy.try_shutdown()
    if problem:
        print(printable(f"error: {NODE} keeps its model: {problem}"), file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_OK


def swap(node: Node, model: str, patience_s: float = _PATIENCE_S) -> str:
    """Returns why the perception node does not take a model; empty if it does, once answers are that model's.

    Args:
        node: Of this process, which asks.
        model: Path of the file.
        patience_s: How long the perception node may take to be active, and then to load and verify the model.
    """
    ends_s = time.monotonic() + patience_s
    while True:
        answer = _call(node, GetState, "get_state", GetState.Request(), ends_s - time.monotonic())
        if answer is None:
            return f"it says nothing within {patience_s:g} s"
        if answer.current_state.id == State.PRIMARY_STATE_ACTIVE:
            break
        if time.monotonic() > ends_s:
            return f"it is {answer.current_state.label}, and not active within {patience_s:g} s"
        time.sleep(_POLL_S)
    parameter = Parameter("model", value=model).to_parameter_msg()
    request = SetParameters.Request(parameters=[parameter])
    response = _call(node, SetParameters, "set_parameters", request, patience_s)
    if response is None:
        return f"it says nothing within {patience_s:g} s"
    (result,) = response.results
    return "" if result.successful else str(result.reason)


def _call(node: Node, kind: Any, service: str, request: Any, patience_s: float) -> Any:  # noqa: ANN401 services are untyped
    """Returns a service's response; None if there is none in time."""
    client: Any = node.create_client(kind, f"{NODE}/{service}")
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    ends_s = time.monotonic() + patience_s
    try:
        if not client.wait_for_service(timeout_sec=max(0.0, patience_s)):
            return None
        future = client.call_async(request)
        executor.spin_until_future_complete(future, max(0.0, ends_s - time.monotonic()))
        return future.result() if future.done() else None
    finally:
        executor.remove_node(node)
        # Jazzy's executor says an InvalidHandle at the interpreter's end where the context went before it.
        executor.shutdown()
        node.destroy_client(client)


if __name__ == "__main__":
    sys.exit(main())
