"""Owns: what a node prints where its help is asked for, and what --json says of one that refuses its parameters.

Leaves to others: how parameters are declared (test_parameter_types), the --json of other commands (test_commands).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from paths import ROOT
from ros import new_domain

from cnn_perception.camera_node.node import CameraNodeSettings
from cnn_perception.dashboard_node.node import DashboardSettings
from cnn_perception.follow_node.node import FollowSettings
from cnn_perception.perception_node.settings import CameraSettings, Settings

NODES = {
    "camera_node": [CameraNodeSettings],
    "dashboard_node": [DashboardSettings],
    "follow_node": [FollowSettings],
    "perception_node": [Settings, CameraSettings],
}


def ended(node: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    environment |= {"ROS_DOMAIN_ID": str(new_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", f"cnn_perception.{node}", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_is_printed_with_every_parameter_and_nothing_is_started(node: str, word: str) -> None:
    done = ended(node, word)
    assert (done.returncode, done.stderr) == (0, "")
    usage, *lines = done.stdout.splitlines()
    assert usage.startswith(f"usage: {node} --ros-args ")
    named = [line.strip().partition(": ")[0] for line in lines if line.startswith("  ") and line[2] not in " -"]
    assert named == [field.name for record in NODES[node] for field in dataclasses.fields(record)]


def test_help_behind_the_words_of_ros_is_none_of_the_program() -> None:
    done = ended("follow_node", "--ros-args", "-p", "follow:=--help", "-p", "rate_hz:=-1.0")
    assert done.returncode == 2
    assert "usage" not in done.stdout


def test_json_of_a_node_says_why_it_was_refused() -> None:
    done = ended("follow_node", "--json", "--ros-args", "-p", "follow:=sign", "-p", "rate_hz:=-1.0")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["exit_code"]) == (2, 2)
    assert "rate_hz" in answer["error"]
    assert f"error: {answer['error']}\n" in done.stderr
