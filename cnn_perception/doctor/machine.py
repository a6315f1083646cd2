"""Checks of the machine: packages, the model file, the environment, whether ROS starts. No ROS is imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cnn_perception.doctor.finding import Finding, first_line, from_error
from cnn_perception.doctor.middleware import check_zenoh_router
from cnn_perception.errors import PerceptionError
from cnn_perception.files import expanded
from cnn_perception.import_path import python_command
from cnn_perception.ros.transport import LARGEST_DOMAIN, RMW_VARIABLE, ZENOH, chosen_name, named

_REQUIRED_MODULES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
    "onnxruntime": "onnxruntime-gpu" if platform.machine() == "x86_64" else "onnxruntime",
}
"""Modules the nodes import, and what to install for them; for Arm no index has the former."""
_MODULES_OF_RECORDINGS = {
    "apsw": "apsw",
    "lz4": "lz4",
    "rosbags": "rosbags",
    "jinja2": "jinja2",
    "yaml": "pyyaml",
    "tqdm": "tqdm",
}
"""Modules that evaluate_bag and the recorder import, and what to install for them."""
_CONFLICTING_DISTRIBUTIONS = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
"""Distributions that install the same module, each over the other's files."""
_IMPORT_ERRORS = (ImportError, AttributeError, OSError)
"""What a package that is installed but damaged, or compiled for another one's version, raises when it is imported."""

_REFERENCE_BLAS = "/blas/libblas.so"
"""Where Debian and Ubuntu install it; the alternatives' folders are named after them, such as openblas-pthread."""
_LAST_DOMAIN = 101
"""Source: ROS 2 documentation, "The ROS_DOMAIN_ID": higher ones collide with Linux's ephemeral ports."""
_START_ROS = "import rclpy; rclpy.init(); rclpy.create_node('doctor_start'); rclpy.shutdown()"
_ROS_START_TIMEOUT_S = 30.0


def installed_distributions() -> dict[str, str]:
    """Returns the versions of all installed Python distributions by name, in lower case."""
    names = ((found.metadata["Name"], found.version) for found in importlib.metadata.distributions())
    return {name.lower().replace("_", "-"): version for name, version in names if name}


def check_packages(installed: Mapping[str, str]) -> Iterator[Finding]:
    """Checks that what the nodes need can be imported.

    Args:
        installed: What `installed_distributions` returns.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        yield Finding("warn", "Python", f"{version} is untested", "use 3.10 to 3.14")
    else:
        yield Finding("ok", "Python", version)
    for module, distribution in _REQUIRED_MODULES.items():
        yield _check_import(module, distribution)
    yield from _check_recordings()
    yield from _check_conflicts(installed)
    maps = Path("/proc/self/maps")  # only Linux has it
    if maps.is_file():
        yield from check_blas(maps.read_text())
    try:
        importlib.import_module("cv_bridge")
    except _IMPORT_ERRORS:
        yield Finding("ok", "cv_bridge", "not importable, and not needed: this package has its own conversions")


def _check_import(module: str, distribution: str) -> Finding:
    remedy = f"pip install {distribution}"
    try:
        found = importlib.import_module(module)
    except _IMPORT_ERRORS as error:
        return Finding("FAIL", module, f"cannot be imported ({first_line(error)})", remedy)
    if module == "onnxruntime" and not hasattr(found, "InferenceSession"):
        # What is left when one of two distributions of it has been uninstalled.
        text = "its files are missing, an empty folder is left"
        return Finding("FAIL", module, text, f"pip uninstall onnxruntime onnxruntime-gpu, then {remedy}")
    return Finding("ok", module, str(getattr(found, "__version__", "importable")))


def _check_recordings() -> Iterator[Finding]:
    """Says which libraries are missing without which no recording is read or written."""
    missing = {
        module: distribution
        for module, distribution in _MODULES_OF_RECORDINGS.items()
        if importlib.util.find_spec(module) is None
    }
    if missing:
        text = f"no {', '.join(missing)}: recordings can neither be read nor written"
        yield Finding("warn", "recordings", text, f"pip install {' '.join(missing.values())}")


def _check_conflicts(installed: Mapping[str, str]) -> Iterator[Finding]:
    for conflicting in _CONFLICTING_DISTRIBUTIONS:
        present = [name for name in conflicting if name in installed]
        if len(present) > 1:
            text = f"{' and '.join(present)} are both installed and overwrite each other's files"
            remedy = f"pip uninstall {' '.join(present)}, then pip install the one you want"
            yield Finding("warn", conflicting[0], text, remedy)


def check_blas(mapped: str) -> Iterator[Finding]:
    """Checks whether numpy multiplies matrices with the unoptimised BLAS, as apt's does until a better one is there.

    Args:
        mapped: /proc/self/maps of a process that has imported numpy.
    """
    if _REFERENCE_BLAS in mapped and "openblas" not in mapped:
        text = "numpy uses the reference BLAS: preprocessing takes several times as long"
        yield Finding("warn", "BLAS", text, "apt install libopenblas0")


def check_model(path: Path) -> Iterator[Finding]:
    """Checks that a model loads as in the node, and runs it once more to see how long a frame takes."""
    try:
        import numpy as np  # what is missing has been said by `check_packages`

        from cnn_perception.model.onnx_model import OnnxModel
    except _IMPORT_ERRORS as error:
        yield Finding("FAIL", "model", f"{path}: cannot be tried ({first_line(error)})", "mend the packages first")
        return
    started_s = time.perf_counter()
    try:
        model = OnnxModel(expanded(path))
        loaded_s = time.perf_counter()
        size = model.spec.input
        model.run(np.zeros((1, 3, size.height, size.width), np.float32))
    except PerceptionError as error:
        yield from_error("model", error)
        return
    frame_s = time.perf_counter() - loaded_s
    spec = model.spec
    yield Finding(
        "ok",
        "model",
        f"{path}: {spec.architecture}, {spec.task} of {len(spec.class_names)}, {size.width}x{size.height}; loaded and "
        f"warmed up in {loaded_s - started_s:.2f} s, {frame_s * 1e3:.1f} ms a frame",
    )
    if model.fallback:
        remedy = f"install its driver and libraries, or set providers: [{model.provider}]"
        yield Finding("warn", "provider", f"runs on {model.provider}: {model.fallback}", remedy)
    else:
        yield Finding("ok", "provider", f"runs on {model.provider}")


def check_environment(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Checks the variables that decide which processes discover each other.

    Args:
        variables: `os.environ`.
    """
    yield _check_domain(variables.get("ROS_DOMAIN_ID", ""))
    rmw = chosen_name(variables)
    if named(rmw) is ZENOH:
        yield from check_zenoh_router(variables)
    else:
        yield from _check_discovery(variables)
    if variables.get(RMW_VARIABLE, ""):
        yield Finding("ok", RMW_VARIABLE, f"{rmw}; the camera's process must use the same")


def _check_discovery(variables: Mapping[str, str]) -> Iterator[Finding]:
    discovery_range = variables.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    subject = "ROS_AUTOMATIC_DISCOVERY_RANGE"
    if discovery_range == "OFF":
        yield Finding("FAIL", subject, "OFF: nodes find no other, not even on this machine", "set it to SUBNET")
    elif discovery_range not in ("", "LOCALHOST", "SUBNET", "SYSTEM_DEFAULT"):
        yield Finding("warn", subject, f"{discovery_range!r} is no value of it", "set it to SUBNET or LOCALHOST")
    elif discovery_range == "LOCALHOST":
        yield Finding("ok", subject, "LOCALHOST: a camera on another machine is not seen")
    if variables.get("ROS_LOCALHOST_ONLY", "0") == "1":
        text = "1: a camera on another machine is not seen, nor by one where this is not set"
        yield Finding("warn", "ROS_LOCALHOST_ONLY", text, f"unset it; {subject}=LOCALHOST replaces it")


def _check_domain(text: str) -> Finding:
    subject = "ROS_DOMAIN_ID"
    if not text:
        return Finding("ok", subject, "not set, so 0; the camera's process must have the same")
    if not text.isdecimal() or int(text) > LARGEST_DOMAIN:
        return Finding("FAIL", subject, f"{text!r} is no domain", f"set it to 0 to {_LAST_DOMAIN}")
    if int(text) > _LAST_DOMAIN:
        return Finding(
            "warn", subject, f"{text} can collide with other programs' ports", f"set it to 0 to {_LAST_DOMAIN}"
        )
    return Finding("ok", subject, f"{text}; the camera's process must have the same")


def check_ros() -> Finding:
    """Checks that ROS starts, in a process of its own, because a wrong RMW_IMPLEMENTATION ends a process at once."""
    subject = "ROS"
    try:
        command = python_command(_START_ROS)
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_ROS_START_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("FAIL", subject, f"does not start within {_ROS_START_TIMEOUT_S:.0f} s", "ros2 doctor --report")
    if ended.returncode == 0:
        return Finding("ok", subject, os.environ.get("ROS_DISTRO", "rclpy starts"))
    lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
    if lines[-1].startswith("ModuleNotFoundError"):
        return Finding("FAIL", subject, "rclpy cannot be imported", "source /opt/ros/DISTRIBUTION/setup.bash")
    return Finding("FAIL", subject, f"rclpy does not start ({lines[-1]:.300})", _remedy_of_start(os.environ))


def _remedy_of_start(variables: Mapping[str, str]) -> str:
    rmw = variables.get(RMW_VARIABLE, "")
    if not rmw:
        return "mend ROS_DOMAIN_ID, or install a middleware (ros-$ROS_DISTRO-rmw-fastrtps-cpp)"
    return f"see that {rmw} is installed (apt install ros-$ROS_DISTRO-{rmw.replace('_', '-')}), or unset {RMW_VARIABLE}"
