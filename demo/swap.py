"""Gives a running perception_node another model, as `ros2 param set /perception_node model FILE` does.

python -m demo.swap --model FILE
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_OK, printable
from cnn_perception.ros import transport
from demo.record import NODE

_PATIENCE_S = 60.0
"""How long the node may take to come up, and then to load and verify the model."""


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
    client: Any = node.create_client(SetParameters, f"{NODE}/set_parameters")
    if not client.wait_for_service(timeout_sec=_PATIENCE_S):
        return f"it does not answer within {_PATIENCE_S:.0f} s"
    parameter = Parameter("model", value=model).to_parameter_msg()
    future = client.call_async(SetParameters.Request(parameters=[parameter]))
    rclpy.spin_until_future_complete(node, future, timeout_sec=_PATIENCE_S)
    response = future.result() if future.done() else None
    if response is None:
        return f"it says nothing within {_PATIENCE_S:.0f} s"
    (result,) = response.results
    return "" if result.successful else str(result.reason)


if __name__ == "__main__":
    sys.exit(main())
