"""Owns: how a node's process ends, whatever its threads do: its exit code, the line that says why. Nodes are stubs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from ros import ROOT, TIMEOUT_S, new_domain

STUB = """
import sys, threading
from rclpy.node import Node
from cnn_perception.ros import process
from cnn_perception.errors import ConfigError

never = threading.Event()

class Stub(Node):
    def __init__(self, shutdown):
        super().__init__("stub")
        self.shutdown = shutdown

    def destroy_node(self):
        clean_up()
        super().destroy_node()

def spin(node):
    node.create_timer(0.01, lambda: print("spinning", flush=True))
    process.spin(node, node.shutdown, threads=2)
    return 0

def fail(node):
    node.shutdown.fail()
    never.wait()

def with_thread(node):
    threading.Thread(target=fail, args=(node,), daemon=True).start()
    return spin(node)

def with_callback(node):
    node.create_timer(0.01, lambda: 1 / 0)
    return spin(node)

def refuse(node):
    raise ConfigError("as planned")
"""
CLEAN_UP = {"quick": "lambda: None", "endless": "never.wait", "broken": "lambda: 1 / 0"}


def start(work: str, clean_up: str) -> subprocess.Popen[str]:
    code = f"{STUB}\nclean_up = {CLEAN_UP[clean_up]}\nsys.exit(process.run(Stub, {work}, []))\n"
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(new_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what it printed as errors; a process that does not end is killed."""
    try:
        _, text = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, text


@pytest.mark.parametrize("clean_up", ["quick", "endless", "broken"])
def test_defect_in_a_thread_ends_the_process_however_clean_up_goes(clean_up: str):
    """The thread itself never ends, as one that clean-up would have to wait for."""
    code, _ = said(start("with_thread", clean_up))
    assert code == 1


@pytest.mark.parametrize("clean_up", ["quick", "endless"])
def test_defect_in_a_callback_is_a_traceback_and_one_line(clean_up: str):
    code, text = said(start("with_callback", clean_up))
    assert code == 1
    assert text.count("Traceback") == 1
    assert text.splitlines()[-1] == "error: a defect ends this process: ZeroDivisionError: division by zero"


def test_defect_in_clean_up_is_a_traceback_and_one_line():
    code, text = said(start("lambda node: 0", "broken"))
    assert code == 1
    assert text.count("Traceback") == 1
    assert "error: a defect ends this process: ZeroDivisionError" in text


@pytest.mark.parametrize(("clean_up", "expected"), [("quick", 2), ("endless", 2), ("broken", 1)])
def test_unusable_setting_is_one_line_however_clean_up_goes(clean_up: str, expected: int):
    code, text = said(start("refuse", clean_up))
    assert code == expected
    assert text.splitlines()[0] == "error: as planned"


@pytest.mark.parametrize("clean_up", ["quick", "endless"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_no_error_however_clean_up_goes(number: signal.Signals, clean_up: str):
    process = start("spin", clean_up)
    assert process.stdout is not None
    assert process.stdout.readline() == "spinning\n"
    process.send_signal(number)
    assert said(process) == (0, "")
