"""Owns: the demo's swap gives a running node another model, or says why not. Leaves to others: what a swap is in the
node (test_node_life)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from paths import ROOT
from perception import NODE, ask, camera_of, image, transition, wait_until
from rclpy.node import Node
from ros import Participant, Process, new_domain, participant, running
from tiny_model import write_tiny_model
from vision_msgs.msg import Classification

from demo.processes import child_environment
from demo.swap import swap

RED = np.broadcast_to(np.array([255, 0, 0], np.uint8), (48, 80, 3))
PATIENCE_S = 0.5
"""Where the answer is known not to come."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swap")
    write_tiny_model(folder / "first.onnx")
    write_tiny_model(folder / "second.onnx", classes=("rot", "gruen", "blau"))
    (folder / "broken.onnx").write_bytes(b"no model")
    return folder


@pytest.fixture(scope="module")
def node(domain: int, folder: Path) -> Iterator[Process]:
    with running("perception_node", domain, folder / "log.txt", model=folder / "first.onnx") as process:
        yield process


def swapped(domain: int, model: Path) -> tuple[int, str]:
    """The exit code of the command, and what it says of errors."""
    command = [sys.executable, "-m", "demo.swap", "--model", str(model)]
    environment = child_environment() | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stderr


def answered(ros: Participant, number: int) -> str:
    answers = ros.collect(Classification, f"{NODE}/classification")
    ask(ros, camera_of(ros, answers), image((number, 0), RED), answers)
    return str(answers[-1].results[0].class_id)


def test_command_waits_for_a_node_that_comes_up_and_answers_are_then_of_the_other_model(
    ros: Participant, domain: int, folder: Path
):
    assert swapped(domain, folder / "second.onnx") == (0, "")
    assert answered(ros, 1) == "rot"


def test_model_that_the_node_refuses_is_said_in_one_line_and_the_node_keeps_its_own(
    ros: Participant, domain: int, folder: Path
):
    wait_until(ros, "active")
    before = answered(ros, 2)
    code, said = swapped(domain, folder / "broken.onnx")

    assert code == 2
    assert said.startswith(f"error: {NODE} keeps its model: ")
    assert "broken.onnx" in said
    assert said.count("\n") == 1
    assert answered(ros, 3) == before


def test_node_that_is_not_active_is_not_given_a_model(ros: Participant, folder: Path):
    wait_until(ros, "active")
    deactivate, activate = 4, 3
    assert transition(ros, deactivate)

    said = swap(Node("swap", context=ros.context), str(folder / "second.onnx"), PATIENCE_S)
    assert said.endswith(f"within {PATIENCE_S:g} s")
    assert transition(ros, activate)


def test_node_that_is_not_there_is_said(folder: Path):
    with participant(new_domain()) as nobody:
        said = swap(Node("swap", context=nobody.context), str(folder / "second.onnx"), PATIENCE_S)

    assert said == f"it says nothing within {PATIENCE_S:g} s"
