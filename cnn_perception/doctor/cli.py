"""The program `doctor`: says why no results arrive, by checks of packages, model, environment, nodes and topics.

Every line is a `finding.Finding`. The exit code is 2 if there is anything the user must mend, and 0 otherwise. Nothing
but the standard library is imported before it has been checked: what is missing becomes a finding, not a traceback.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from types import FrameType

from cnn_perception.commands import Done, exit_code, program
from cnn_perception.doctor.finding import Finding, exit_code_of, summary
from cnn_perception.doctor.machine import (
    check_environment,
    check_model,
    check_packages,
    check_ros,
    installed_distributions,
)
from cnn_perception.doctor.middleware import VGA_RGB_BYTES, check_transport
from cnn_perception.files import given_path
from cnn_perception.ros import transport


def run_checks(options: argparse.Namespace) -> Iterator[Finding]:
    """Yields the findings of all checks, in the order in which one thing needs the other.

    Args:
        options: Of the command line.
    """
    variables = dict(os.environ)  # as the user set them, before this process is prepared
    yield from check_packages(installed_distributions())
    if options.model is not None:
        yield from check_model(options.model)
    yield from check_environment(variables)
    ros = check_ros()
    yield ros
    largest_bytes = 0
    if ros.level != "FAIL":
        transport.prepare_process()
        largest_bytes = yield from _check_graph_if_importable(options)
    yield from check_transport(variables, max(largest_bytes, VGA_RGB_BYTES))


def _check_graph_if_importable(options: argparse.Namespace) -> Generator[Finding, None, int]:
    try:
        from cnn_perception.doctor.ros_graph import GraphOptions, check_graph
    except (ImportError, AttributeError) as error:
        yield Finding(
            "FAIL", "ROS", str(error), "install the exec_depends of package.xml (rosdep), or what FAILs above"
        )
        return 0
    is_model_checked = options.model is not None
    selected = GraphOptions(options.image, options.transport, options.node, options.seconds, is_model_checked)
    return (yield from check_graph(selected))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="doctor", description="Says in plain words why nothing arrives.")
    parser.add_argument("--model", type=given_path, metavar="FILE", help="model file to load and run")
    parser.add_argument("--image", nargs="+", default=[], metavar="TOPIC", help="image topics (default: the node's)")
    parser.add_argument("--transport", choices=["raw", "compressed"], default="", help="default: the node's, or raw")
    parser.add_argument("--node", default="", help="perception node (default: all that run)")
    parser.add_argument("--seconds", type=_seconds, default=3.0, help="how long to listen (default: 3)")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not 0.1 to 3600")
    return value


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the second Ctrl-C of an impatient user finds it leaving already
    raise KeyboardInterrupt


@program("doctor")
def main(argv: Sequence[str] | None = None) -> int:
    """Prints the findings; returns the exit code."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGINT, _interrupt)
    return exit_code(lambda: _print_findings(options))


def _print_findings(options: argparse.Namespace) -> int:
    """Returns the exit code after printing the findings one by one."""
    findings = []
    try:
        for finding in run_checks(options):
            print(finding, flush=True)
            findings.append(finding)
        print(summary(findings))
    except BrokenPipeError:  # such as `doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Done(exit_code_of(findings), result={"findings": list(map(dataclasses.asdict, findings))})
