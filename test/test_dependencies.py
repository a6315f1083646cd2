"""Owns: who may import whom (the shape of the project). Leaves to others: what the modules do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cnn_perception"

ROS = {
    "ament_index_python", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "rcl_interfaces", "rclpy",
    "sensor_msgs", "std_msgs", "std_srvs", "vision_msgs",
}  # fmt: skip
CORE = {
    "errors": set(),
    "files": set(),
    "spec": set(),
    "health": {"numpy"},
    "line": set(),
    "encodings": {"numpy", "cv2", "cv_bridge"},
    "compressed": {"numpy", "cv2", "PIL", "simplejpeg"},
    "image": set(),
    "preprocess": {"numpy"},
    "resample": {"numpy"},
    "postprocess": {"numpy"},
    "stamps": set(),
    "steady": {"numpy"},
    "gaze": {"numpy", "cv2"},
    "gallery": {"numpy"},
    "drift": {"numpy"},
    "onnx_file": set(),
    "subgraph": set(),
    "score_map": {"numpy"},
    "nvidia": set(),
    "engines": set(),
    "providers": {"onnxruntime"},
    "session": {"onnxruntime"},
    "binding": {"numpy", "onnxruntime"},
    "inference": {"numpy", "onnxruntime"},
    "pipeline": {"numpy"},
    "overlay": {"numpy", "cv2", "PIL"},
    "metrics": {"numpy"},
    "page": {"numpy", "cv2"},
    "aside": set(),
    "shadow": set(),
    "unsure": {"numpy"},
    "recorder": set(),
    "recorded_folder": {"cv2"},
    "recorded_bag": {"numpy", "rosbags"},
    "bag_types": {"rosbags"},
    "steering": set(),
    "findings": set(),
}
OFFLINE = {
    "bag": {"apsw", "rosbags"},
    "salvage": {"backports", "compression"},  # zstd: of the standard library from Python 3.14 on
    "sqlite_storage": {"apsw", "rosbags"},
    "labels": set(),
    "sources": set(),
    "replay": {"tqdm"},
    "measurements": set(),
    "records": {"numpy"},
    "scores": {"numpy"},
    "results": set(),
    "report": set(),
    "tables": {"numpy"},
    "curves": {"numpy"},
    "timeline": set(),
    "video": {"numpy", "cv2"},
    "evaluate": {"numpy", "tqdm"},
}
NODES = {
    "transport": {"ament_index_python"},
    "parameters": ROS,
    "settings": ROS,
    "executable": ROS,
    "messages": ROS | {"numpy", "cv2"},
    "diagnostics": ROS,
    "publishers": ROS | {"numpy"},
    "inlet": ROS,
    "node": ROS,
    "calibration": ROS | {"yaml"},
    "camera": ROS | {"numpy", "cv2"},
    "channel": ROS,
    "lens": ROS,
    "loaded": set(),
    "steps": ROS,
    "rehearsal": set(),
    "start": set(),
    "follow": ROS,
    "check_machine": {"numpy"},
    "check_topic": ROS,
    "check_node": ROS,
    "check_graph": ROS,
    "observer": ROS,
    "doctor": set(),
}
ALL = CORE | OFFLINE | NODES
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports, anywhere in it, type-checking blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def siblings(name: str) -> set[str]:
    names = imported(PACKAGE / f"{name}.py")
    return {n.split(".")[1] for n in names if n.startswith("cnn_perception.")} & set(MODULES)


def third_party(path: Path) -> set[str]:
    return {n.split(".")[0] for n in imported(path)} - set(sys.stdlib_module_names) - {"cnn_perception"}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_the_libraries_of_its_room(name: str):
    assert name in ALL, f"{name}.py is new: say here which libraries it may import"
    assert third_party(PACKAGE / f"{name}.py") <= ALL[name]


@pytest.mark.parametrize("name", sorted(CORE))
def test_core_knows_neither_ros_nor_the_evaluator(name: str):
    assert siblings(name) <= set(CORE)


@pytest.mark.parametrize("name", sorted(NODES))
def test_nodes_do_not_use_the_evaluator(name: str):
    assert siblings(name) <= set(CORE) | set(NODES)


@pytest.mark.parametrize("name", sorted(OFFLINE))
def test_evaluator_does_not_use_ros(name: str):
    assert siblings(name) <= set(CORE) | set(OFFLINE)


@pytest.mark.parametrize("library", ["torch", "torchvision", "training", "demo", "benchmark"])
def test_runtime_never_imports(library: str):
    users = [name for name in MODULES if library in {n.split(".")[0] for n in imported(PACKAGE / f"{name}.py")}]
    assert users == []


@pytest.mark.parametrize("path", sorted((ROOT / "training").glob("*.py")), ids=lambda p: p.stem)
def test_training_needs_no_ros(path: Path):
    assert not third_party(path) & ROS
    used = {n.split(".")[1] for n in imported(path) if n.startswith("cnn_perception.")} & set(MODULES)
    assert used <= set(CORE)


def test_imports_have_no_cycle():
    finished: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in finished:
            for other in siblings(name):
                visit(other, (*above, name))
            finished.add(name)

    for name in MODULES:
        visit(name, ())


def test_core_and_evaluator_import_without_ros_and_torch():
    blocked = sorted(ROS | {"torch", "torchvision"})
    wanted = [f"cnn_perception.{name}" for name in MODULES if name not in NODES]
    code = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        f"for name in {wanted!r}: importlib.import_module(name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
