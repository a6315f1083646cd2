"""What the nodes' sources register to be run later, and the injection points that show what becomes of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

COVERED = {
    "background/worker.py: self._run": [
        "perception_node: shadow",
        "perception_node: recorder",
        "perception_node: score map",
        "perception_node: draw the overlay",
        "perception_node: find neighbours",
        "perception_node: unit activation",
        "perception_node: black box, write",
    ],
    "background/viewers.py: int": [],  # nothing but the beginning of a thread
    "background/viewers.py: self._pass_on": ["perception_node: publish overlay", "perception_node: publish score_map"],
    "camera_node/node.py: heartbeat.only_within(self._publish)": ["camera_node: timer, read a frame"],
    "camera_node/node.py: self._look_for_what_lacks": ["camera_node: timer, what it waits for"],
    "dashboard_node/node.py: heartbeat.after(self._follow_onlookers)": ["dashboard_node: timer"],
    "dashboard_node/node.py: self._on_diagnostics": ["dashboard_node: subscription diagnostics"],
    "dashboard_node/node.py: on_answer": ["dashboard_node: subscription classification"],
    "dashboard_node/node.py: on_overlay": ["dashboard_node: subscription overlay"],
    "dashboard_node/node.py: serve": ["dashboard_node: page ends"],
    "follow_node/node.py: heartbeat.after(self._on_timer)": ["follow_node: timer"],
    "follow_node/node.py: self._on_classification": ["follow_node: subscription classification"],
    "follow_node/node.py: self._on_ray": ["follow_node: subscription ray"],
    "follow_node/class_list.py: self._take": ["follow_node: subscription label_info"],
    "follow_node/node.py: self._check_parameters": ["follow_node: on-set parameter callback"],
    "follow_node/node.py: self._apply_parameters": ["follow_node: post-set parameter callback"],
    "perception_node/publishers.py: heartbeat.after(lambda: topic.publish(diagnose()))": ["perception_node: diagnose"],
    "perception_node/node.py: node.autostart": ["perception_node: activate", "perception_node: activate, SystemExit"],
    # what ends the process because a model hangs: test_node_loading
    "perception_node/active_model.py: self._on_hang": [],
    "perception_node/node.py: self._set_enabled": ["perception_node: service set_enabled"],
    "perception_node/node.py: self._reload_model": ["perception_node: service reload_model"],
    "perception_node/black_box/node_box.py: self._save_now": ["perception_node: service save_black_box"],
    "perception_node/black_box/node_box.py: self._save_for": ["perception_node: subscription black_box_trigger"],
    "perception_node/node.py: self._check_parameters": ["perception_node: on-set parameter callback"],
    "perception_node/node.py: self._apply_parameters": ["perception_node: post-set parameter callback"],
    "perception_node/node.py: on_configure": ["perception_node: configure"],
    "perception_node/node.py: on_activate": ["perception_node: activate"],
    "perception_node/node.py: on_deactivate": ["perception_node: deactivate"],
    "perception_node/node.py: on_cleanup": ["perception_node: clean up"],
    "perception_node/node.py: on_shutdown": ["perception_node: shut down"],
    "perception_node/regions/worker.py: self._run": [
        "perception_node: regions, crop, every time",
        "perception_node: regions, infer",
        "perception_node: regions, publish",
        "perception_node: regions, hang",
    ],
    "perception_node/staged_executor.py: self._run": [
        "perception_node: take",
        "perception_node: infer",
        "perception_node: publish answer",
    ],
    "ros/every_message.py: self._run": [
        "perception_node: black box, take",
        "perception_node: regions, take",
        "perception_node: regions, match",
    ],
    "ros/latest_subscription.py: choose": ["perception_node: activate"],  # it runs within
    "ros/latest_subscription.py: lambda _: None": [],  # never called: the executor does not see it
    "ros/process.py: supervise": ["perception_node: supervisor"],
    "ros/process.py: print": [],  # the reason that nobody else has come to say: test_process
    "ros/process.py: _tell_of_silence": ["perception_node: diagnosis hangs"],
    "ros/supervised_executor.py: self._run_all": ["perception_node: executor, thread"],
}
"""What the sources register, and the points that show what becomes of it when it fails."""
_REGISTRARS = {
    "create_timer": 1,
    "create_service": 2,
    "create_subscription": 2,
    "add_on_set_parameters_callback": 0,
    "add_post_set_parameters_callback": 0,
    "add_pre_set_parameters_callback": 0,
    "create_guard_condition": 0,
    "create_client": 99,
    "create_task": 0,
    "submit": 0,
    "Thread": 1,
    "Timer": 1,
}
"""Which of the arguments is what runs later, unless its keyword says so."""
_KEYWORDS = ("callback", "target")


def registered(path: Path) -> Iterator[str]:
    """What a source gives to somebody who calls it later, and the transitions that it defines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and any("reported" in ast.unparse(one) for one in node.decorator_list):
            yield node.name
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        by_name = [one.value for one in node.keywords if one.arg in _KEYWORDS]
        place = _REGISTRARS.get(name, 99)
        for one in [*by_name, *node.args[place : place + 1]]:
            yield ast.unparse(one).replace("lambda :", "lambda:")  # as Python 3.10 writes it
