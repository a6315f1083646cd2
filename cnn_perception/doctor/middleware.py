"""Checks of what the middleware in use needs, so that nodes meet and images arrive. No ROS is imported."""

from __future__ import annotations

import os
import shutil
import socket
import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from cnn_perception.doctor.finding import Finding, first_line
from cnn_perception.ros.transport import (
    CYCLONE_DDS,
    FAST_DDS,
    MIDDLEWARE,
    SHARED_MEMORY,
    ZENOH,
    chosen_name,
    given_profile,
    named,
    profile_variable,
    share_folder,
)

VGA_RGB_BYTES = 640 * 480 * 3
_DEFAULT_SEGMENT_BYTES = 512 * 1024
"""Source: Fast DDS documentation, shared memory transport, `segment_size`."""
_RECEIVE_BUFFER = Path("/proc/sys/net/core/rmem_max")
_ZENOH_ROUTER = ("localhost", 7447)
"""Where a session looks for its router. Source: rmw_zenoh_cpp, DEFAULT_RMW_ZENOH_SESSION_CONFIG.json5."""
_ZENOH_CONFIGURATIONS = ("ZENOH_SESSION_CONFIG_URI", "ZENOH_CONFIG_OVERRIDE")
"""With these a session may look elsewhere."""
_ROUTER_TIMEOUT_S = 1.0


def check_zenoh_router(variables: Mapping[str, str], address: tuple[str, int] = _ZENOH_ROUTER) -> Iterator[Finding]:
    """Checks that the router of Zenoh answers, without which nodes find no other, not even on this machine.

    Args:
        variables: `os.environ`.
        address: Host and port of the router, where the variables name no configuration.
    """
    subject = "Zenoh router"
    if configured := [name for name in _ZENOH_CONFIGURATIONS if variables.get(name)]:
        yield Finding("ok", subject, f"not looked for: {configured[0]} says where it is")
        return
    where = f"{address[0]}:{address[1]}"
    try:
        socket.create_connection(address, _ROUTER_TIMEOUT_S).close()
    except OSError as error:
        text = f"none at {where} ({error.strerror or error}), so nodes find no other"
        yield Finding("FAIL", subject, text, "ros2 run rmw_zenoh_cpp rmw_zenohd, or set ZENOH_SESSION_CONFIG_URI")
    else:
        yield Finding("ok", subject, f"answers at {where}; another machine's is reached as its configuration says")


def check_transport(variables: Mapping[str, str], frame_bytes: int = VGA_RGB_BYTES) -> Iterator[Finding]:
    """Checks what the middleware that is chosen needs for images.

    Args:
        variables: `os.environ`.
        frame_bytes: Size of the largest image.
    """
    middleware = named(chosen_name(variables))
    if middleware is FAST_DDS:
        yield from check_profile(variables, frame_bytes)
    elif middleware is CYCLONE_DDS:
        yield from check_receive_buffer(_RECEIVE_BUFFER, frame_bytes)
    elif middleware is ZENOH:
        text = "images go over TCP, unless its configuration has shared memory on; there is no profile to set"
        yield Finding("ok", "Zenoh", text)
    else:
        known = ", ".join(one.title for one in MIDDLEWARE)
        yield Finding("ok", middleware.title, f"what it needs for images is not checked here, only that of {known}")


def check_receive_buffer(file: Path, frame_bytes: int) -> Iterator[Finding]:
    """Checks whether the packets of one image fit into what Linux keeps for a socket: Cyclone DDS sends it by UDP.

    Args:
        file: Where Linux says how much it keeps at most, /proc/sys/net/core/rmem_max.
        frame_bytes: Size of the largest image.
    """
    subject = "net.core.rmem_max"
    try:
        kept_bytes = int(file.read_text())
    except (OSError, ValueError):
        yield Finding("ok", subject, "not known here: only Linux says it")
        return
    text = f"{_size(kept_bytes)} kept of what arrives by UDP, for images of {_size(frame_bytes)}"
    if kept_bytes < frame_bytes:
        yield Finding("warn", subject, f"{text}: under load some are lost", CYCLONE_DDS.remedy)
    else:
        yield Finding("ok", subject, text)


def check_profile(variables: Mapping[str, str], frame_bytes: int = VGA_RGB_BYTES) -> Iterator[Finding]:
    """Checks the Fast DDS profile of this shell, which a camera driver started from it would use.

    Args:
        variables: `os.environ`.
        frame_bytes: Size of the largest image that must fit into its shared memory.
    """
    subject = "Fast DDS profile"
    shipped = share_folder() / "launch" / "fastdds.xml"
    export = f"export {profile_variable(variables)}={shipped} where the camera is started"
    name = given_profile(variables)
    if not name:
        text = "none in this shell; this package's nodes bring their own, a camera of another package does not"
        yield Finding("warn", subject, text, export)
        yield from check_shared_memory(SHARED_MEMORY, shared_segment_bytes(shipped))
        return
    try:
        segment_bytes = shared_segment_bytes(Path(name))
    except OSError as error:
        yield Finding("FAIL", subject, f"{name} cannot be read ({error.strerror})", export)
        return
    except (ET.ParseError, ValueError) as error:
        yield Finding("FAIL", subject, f"{name} is no Fast DDS profile ({first_line(error)})", export)
        return
    if segment_bytes < frame_bytes:
        text = f"{name}: shared memory of {_size(segment_bytes)} is smaller than one image of {_size(frame_bytes)}"
        yield Finding("FAIL", subject, f"{text}, so most images are lost", f"set a larger segment_size, or {export}")
        return
    yield Finding("ok", subject, f"{name}: {_size(segment_bytes)} of shared memory for images of {_size(frame_bytes)}")
    yield from check_shared_memory(SHARED_MEMORY, segment_bytes)


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
        remedy = "enlarge it (docker run --shm-size=1g), or remove what ended processes have left (fastdds shm clean)"
        yield Finding("FAIL", subject, text, remedy)
    else:
        yield Finding("ok", subject, text)


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 1024:.0f} KiB"
