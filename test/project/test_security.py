"""Owns: that the SROS2 policy grants each node what it uses and nothing else. Oracle: the live graph.

Leaves to others: enforcement, which is the middleware's (the wheels of Fast DDS are built without it).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from ros import ROOT, Participant, new_domain, participant, running
from tiny_model import regression_spec, with_score_map, write_models, write_tiny_model
from vision_msgs.msg import Classification

Names = set[tuple[str, str]]
BLACK_BOX: Names = {("subscribe", "/perception_node/black_box_trigger"), ("reply", "/perception_node/save_black_box")}
"""Of a node that has one."""
BOND: Names = {("publish", "/bond"), ("subscribe", "/bond")}
"""Of a node that a lifecycle manager activates."""

ROIS: Names = {("subscribe", "/detections")} | {
    ("publish", f"/perception_node/{name}") for name in ("detections", "detections/rays")
}
"""Of one that answers the boxes of another detector."""


def allowed(node: str) -> Names:
    """(what it may do, full name) of everything that the policy grants a node."""
    root = ElementTree.parse(ROOT / "security" / "policy.xml").getroot()
    assert root.get("version") == "0.2.0"
    (profile,) = root.findall(f"enclaves/enclave[@path='/cnn_perception/{node}']/profiles/profile[@node='{node}']")
    found: Names = set()
    for group in profile:
        for verb, rule in group.attrib.items():
            assert rule == "ALLOW"
            found |= {(verb, (item.text or "").replace("~", f"/{node}")) for item in group}
    return found


def assert_uses(ros: Participant, node: str, expected: Names) -> None:
    """Waits until the graph knows all that is expected of a running node, and says what else it has."""
    asked = {
        "publish": ros.node.get_publisher_names_and_types_by_node,
        "subscribe": ros.node.get_subscriber_names_and_types_by_node,
        "reply": ros.node.get_service_names_and_types_by_node,
        "request": ros.node.get_client_names_and_types_by_node,
    }
    found: Names = set()

    def is_complete() -> bool:
        nonlocal found
        if (node, "/") in ros.node.get_node_names_and_namespaces():
            found = {(verb, name) for verb, ask in asked.items() for name, _ in ask(node, "/")}
        return found >= expected

    try:
        ros.wait_for(is_complete, f"all topics and services of {node}")
    except AssertionError:
        assert found == expected
    assert found - expected == set()


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("simulated", [False, True])
def test_policy_grants_the_perception_node_what_it_uses_and_nothing_else(
    tmp_path: Path, transport: str, simulated: bool
):
    model, _ = write_models(tmp_path)
    expected = allowed("perception_node")
    expected -= set() if simulated else {("subscribe", "/clock")}
    expected -= BOND
    expected -= {("subscribe", "/image_raw/compressed" if transport == "raw" else "/image_raw")}
    if transport == "raw":
        expected -= {("publish", f"/perception_node/{name}") for name in ("regression", "regression_raw")}
    else:
        spec = with_score_map(regression_spec({"x": "m", "y": "m", "z": "m"}))
        model = write_tiny_model(tmp_path / "numbers.onnx", spec=spec)
        absent = ["classification", "classification_raw", "label_info", "neighbours"]
        absent += ["label_map", "label_map/label_info", "label_map/overlay"]
        expected -= {("publish", f"/perception_node/{name}") for name in absent}
    domain = new_domain()
    settings = {"model": model, "image_transport": transport, "use_sim_time": simulated}
    if simulated:
        settings |= {"black_box_dir": tmp_path / "box"}
    else:
        expected -= BLACK_BOX
    if transport == "raw" and simulated:
        settings |= {"rois_topic": "detections"}
    else:
        expected -= ROIS
    with running("perception_node", domain, tmp_path / "log", **settings), participant(domain) as ros:
        assert_uses(ros, "perception_node", expected)


def test_policy_grants_a_perception_node_of_a_lifecycle_manager_its_bond(tmp_path: Path):
    pytest.importorskip("bond.msg", reason="not in this environment; `make venv` builds it")
    assert allowed("perception_node") >= BOND
    domain = new_domain()
    log = tmp_path / "log"
    with running("perception_node", domain, log, autostart=False) as node, participant(domain) as ros:
        ros.wait_for(lambda: ros.node.count_publishers("/bond") and ros.node.count_subscribers("/bond"), "its bond")
        assert node.running


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_policy_grants_the_camera_node_what_it_uses_and_nothing_else(tmp_path: Path, transport: str):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 8, 3), np.uint8))
    expected = allowed("camera_node") - {("publish", "/image_raw/compressed" if transport == "raw" else "/image_raw")}
    domain = new_domain()
    settings = {"source": tmp_path, "loop": True, "image_transport": transport, "use_sim_time": True}
    with running("camera_node", domain, tmp_path / "log", **settings), participant(domain) as ros:
        assert_uses(ros, "camera_node", expected)


def test_policy_grants_the_follower_what_it_uses_and_nothing_else(tmp_path: Path):
    domain = new_domain()
    results = ("classification:=/perception_node/classification", "ray:=/perception_node/activation/centroid_ray")
    remapped = [word for rule in results for word in ("-r", rule)]
    settings = {"follow": "person", "use_sim_time": True}
    with running("follow_node", domain, tmp_path / "log", *remapped, **settings), participant(domain) as ros:
        answering = Node("perception_node", context=ros.context)  # whose list of classes the follower reads
        answering.create_publisher(Classification, "~/classification", 1)
        assert_uses(ros, "follow_node", allowed("follow_node"))


def test_policy_grants_the_dashboard_what_it_uses_and_nothing_else(tmp_path: Path):
    pytest.importorskip("starlette", reason="starlette is an optional extra")
    domain = new_domain()
    with (
        running("dashboard_node", domain, tmp_path / "log", always=True, use_sim_time=True),
        participant(domain) as ros,
    ):
        publisher = ros.publisher(DiagnosticArray, "/diagnostics")
        status = DiagnosticStatus(name="/perception_node: camera", level=DiagnosticStatus.OK)
        publisher.publish(DiagnosticArray(status=[status]))
        assert_uses(ros, "dashboard_node", allowed("dashboard_node"))
