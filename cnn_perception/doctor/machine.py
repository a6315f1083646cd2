"""Checks of the machine: packages, the model file, the environment, the Fast DDS profile. No ROS is imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from cnn_perception.doctor.finding import Finding, from_error
from cnn_perception.errors import PerceptionError
from cnn_perception.files import expanded
from cnn_perception.import_path import python_command
from cnn_perception.ros.transport import (
    DISTRIBUTIONS_WITH_FASTDDS_2,
    OLD_PROFILE_VARIABLE,
    PROFILE_VARIABLE,
    share_folder,
)

_REQUIRED_MODULES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "simplejpeg": "simplejpeg",
    "onnxruntime": "onnxruntime-gpu",
}
"""Modules the nodes import, and what to install for them."""
_CONFLICTING_DISTRIBUTIONS = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-rocm"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
"""Distributions that install the same module, each over the other's files."""
_IMPORT_ERRORS = (ImportError, AttributeError, OSError)
"""What a package that is installed but damaged, or compiled for another one's version, raises when it is imported."""

_REFERENCE_BLAS = "/blas/libblas.so"
"""Where Debian and Ubuntu install it; the alternatives' folders are named after them, such as openblas-pthread."""
VGA_RGB_BYTES = 640 * 480 * 3
_DEFAULT_SEGMENT_BYTES = 512 * 1024
"""Source: Fast DDS documentation, shared memory transport, `segment_size`."""
_LAST_DOMAIN = 101
"""Source: ROS 2 documentation, "The ROS_DOMAIN_ID": higher ones collide with Linux's ephemeral ports."""
_LARGEST_DOMAIN = 232
"""Source: the same; the ports of higher ones do not exist."""
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
        return Finding("FAIL", module, f"cannot be imported ({_first_line(error)})", remedy)
    if module == "onnxruntime" and not hasattr(found, "InferenceSession"):
        # What is left when one of two distributions of it has been uninstalled.
        text = "its files are missing, an empty folder is left"
        return Finding("FAIL", module, text, f"pip uninstall onnxruntime onnxruntime-gpu, then {remedy}")
    return Finding("ok", module, str(getattr(found, "__version__", "importable")))


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
        yield Finding("FAIL", "model", f"{path}: cannot be tried ({_first_line(error)})", "mend the packages first")
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
    if rmw := variables.get("RMW_IMPLEMENTATION", ""):
        yield Finding("ok", "RMW_IMPLEMENTATION", f"{rmw}; the camera's process must use the same")


def _check_domain(text: str) -> Finding:
    subject = "ROS_DOMAIN_ID"
    if not text:
        return Finding("ok", subject, "not set, so 0; the camera's process must have the same")
    if not text.isdecimal() or int(text) > _LARGEST_DOMAIN:
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
    return Finding(
        "FAIL", subject, f"rclpy does not start ({lines[-1]:.300})", "mend RMW_IMPLEMENTATION or ROS_DOMAIN_ID"
    )


def check_profile(variables: Mapping[str, str], frame_bytes: int = VGA_RGB_BYTES) -> Iterator[Finding]:
    """Checks the Fast DDS profile of this shell, which a camera driver started from it would use.

    Args:
        variables: `os.environ`.
        frame_bytes: Size of the largest image that must fit into its shared memory.
    """
    subject = "Fast DDS profile"
    if not variables.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps"):
        yield Finding("ok", subject, f"{variables['RMW_IMPLEMENTATION']} does not use it")
        return
    is_old = variables.get("ROS_DISTRO") in DISTRIBUTIONS_WITH_FASTDDS_2
    wanted = OLD_PROFILE_VARIABLE if is_old else PROFILE_VARIABLE
    shipped = share_folder() / "launch" / "fastdds.xml"
    export = f"export {wanted}={shipped} where the camera is started"
    # Fast DDS 3 still reads the old name, Fast DDS 2 does not know the new one.
    name = variables.get(wanted) or (not is_old and variables.get(OLD_PROFILE_VARIABLE)) or ""
    if not name:
        text = "none in this shell; this package's nodes bring their own, a camera of another package does not"
        yield Finding("warn", subject, text, export)
        yield from check_shared_memory(Path("/dev/shm"), shared_segment_bytes(shipped))
        return
    try:
        segment_bytes = shared_segment_bytes(Path(name))
    except OSError as error:
        yield Finding("FAIL", subject, f"{name} cannot be read ({error.strerror})", export)
        return
    except (ET.ParseError, ValueError) as error:
        yield Finding("FAIL", subject, f"{name} is no Fast DDS profile ({_first_line(error)})", export)
        return
    if segment_bytes < frame_bytes:
        text = f"{name}: shared memory of {_size(segment_bytes)} is smaller than one image of {_size(frame_bytes)}"
        yield Finding("FAIL", subject, f"{text}, so most images are lost", f"set a larger segment_size, or {export}")
        return
    yield Finding("ok", subject, f"{name}: {_size(segment_bytes)} of shared memory for images of {_size(frame_bytes)}")
    yield from check_shared_memory(Path("/dev/shm"), segment_bytes)


def shared_segment_bytes(profile: Path) -> int:
    """Returns the size of the shared-memory segment that participants with this profile use.

    Raises:
        OSError: If the file cannot be read.
        xml.etree.ElementTree.ParseError: If it is no XML.
        ValueError: If a segment size is no number.
    """
    root = ET.fromstring(profile.read_bytes())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    segments: dict[str, int] = {}
    for transport in root.iter("transport_descriptor"):
        if (transport.findtext("type") or "").strip() == "SHM":
            size = int(transport.findtext("segment_size") or _DEFAULT_SEGMENT_BYTES)
            segments[(transport.findtext("transport_id") or "").strip()] = size
    used = _default_transports(root)
    return max((size for name, size in segments.items() if name in used), default=_DEFAULT_SEGMENT_BYTES)


def _default_transports(root: ET.Element) -> Collection[str]:
    """Returns the names of the transports of the profile that applies to a participant that asks for none by name."""
    for participant in root.iter("participant"):
        if participant.get("is_default_profile") == "true":
            return {(name.text or "").strip() for name in participant.iterfind(".//userTransports/transport_id")}
    return ()


def check_shared_memory(folder: Path, segment_bytes: int) -> Iterator[Finding]:
    """Checks whether a segment fits into shared memory."""
    subject = str(folder)
    try:
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding("FAIL", subject, f"cannot be used ({error.strerror})", "mount a tmpfs there")
        return
    text = f"{_size(free_bytes)} free, a process with images takes {_size(segment_bytes)}"
    if not os.access(folder, os.W_OK):
        yield Finding("FAIL", subject, "is not writable", f"chmod 1777 {folder}")
    elif free_bytes < segment_bytes:
        remedy = f"enlarge it (docker run --shm-size=1g), or end all nodes and remove {folder}/fastrtps_*"
        yield Finding("FAIL", subject, text, remedy)
    else:
        yield Finding("ok", subject, text)


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 1024:.0f} KiB"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
