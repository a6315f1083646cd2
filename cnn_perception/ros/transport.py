"""Sets up a process so that camera images cross the middleware without loss: malloc's settings, a profile for Fast DDS.

Fast DDS's default shared-memory segment is smaller than one 640x480 rgb8 image, so images are split into UDP fragments
of which a best-effort reader loses 82 to 93 %. The shipped profile has a 64 MiB segment. glibc's malloc would return
and re-map the memory of each image; keeping it, see `memory`, saves half of the CPU time of the transport. Its settings
hold for every middleware; what else one needs is a line of `MIDDLEWARE`. Segments that killed
processes have left are removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnn_perception import memory

if TYPE_CHECKING:
    from rclpy.node import Node

PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
OLD_PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
"""The name that Fast DDS 2 reads; Fast DDS 3 warns of it."""
RMW_VARIABLE = "RMW_IMPLEMENTATION"
_DISTRIBUTIONS_WITH_FASTDDS_2 = ("humble", "iron", "jazzy")
_WHEEL_OF_FASTDDS_2 = "ros-fastrtps"
"""Kilted's is called `ros-fastdds`."""

LARGEST_DOMAIN = 232
"""Of ROS_DOMAIN_ID: above it DDS has no ports, and Fast DDS ends the process. Source: DDSI-RTPS 2.5, 9.6.2."""


@dataclass(frozen=True)
class Middleware:
    """A middleware of ROS 2.

    Attributes:
        prefix: What the names begin with by which RMW_IMPLEMENTATION chooses it.
        title: Its name in words.
        remedy: What to do where it loses images on the way.
    """

    prefix: str
    title: str
    remedy: str


FAST_DDS = Middleware(
    "rmw_fastrtps",
    "Fast DDS",
    "give the camera's process the DDS profile launch/fastdds.xml",
)
CYCLONE_DDS = Middleware(
    "rmw_cyclonedds",
    "Cyclone DDS",
    "let this machine keep more of what arrives (sysctl -w net.core.rmem_max=2147483647)",
)
"""Source: ROS 2 documentation, "DDS tuning information"."""
ZENOH = Middleware(
    "rmw_zenoh",
    "Zenoh",
    "give the camera's process a longer queue (transport/link/tx/queue in the file of ZENOH_SESSION_CONFIG_URI)",
)
"""Source: rmw_zenoh_cpp, DEFAULT_RMW_ZENOH_SESSION_CONFIG.json5."""
MIDDLEWARE = (FAST_DDS, CYCLONE_DDS, ZENOH)
_DEFAULT_NAME = "rmw_fastrtps_cpp"
"""Of every distribution from Humble on, where RMW_IMPLEMENTATION is not set and nothing else is installed."""

SHARED_MEMORY = Path("/dev/shm")
LOCKS = f"fast*_{'[0-9a-f]' * 16}_el"
"""There, of Fast DDS (`fastdds_`, of version 2 `fastrtps_`): files that a living process locks beside its segments."""
_ANYBODYS_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
"""Everybody may put links and pipes into that folder."""
_STARTING_S = 10.0
"""After so long a process that is starting holds its lock."""
_FAREWELL_S = 0.6
"""What a node that has ended had is known for no longer, unless it was killed: then nothing more is told of it."""
_GUID_PREFIX = 12
_REST_S = 0.1
"""So long after the last of it is gone all is told, on a busy machine, too."""


def named(name: str) -> Middleware:
    """Returns what is known of a middleware, such as `rmw_zenoh_cpp`: next to nothing of an unlisted one."""
    for one in MIDDLEWARE:
        if name.startswith(one.prefix):
            return one
    return Middleware(name, name, f"see what the documentation of {name} says of large messages")


def chosen_name(variables: Mapping[str, str]) -> str:
    """Returns the name of the middleware that variables choose, of this process or of another one."""
    return variables.get(RMW_VARIABLE, "") or _DEFAULT_NAME


def name_in_use() -> str:
    """Returns the name of the middleware of this process, which runs rclpy."""
    from rclpy.utilities import get_rmw_implementation_identifier  # not there without ROS

    return str(get_rmw_implementation_identifier())


def profile_variable(variables: Mapping[str, str]) -> str:
    """Returns the name of the variable in which Fast DDS, as these variables and this machine have it, is given a file.

    Version 2, of Jazzy, does not know the new name; version 3 takes the old one, too.
    """
    distribution = variables.get("ROS_DISTRO", "")
    if distribution:
        return OLD_PROFILE_VARIABLE if distribution in _DISTRIBUTIONS_WITH_FASTDDS_2 else PROFILE_VARIABLE
    try:  # wheels set no variables
        importlib.metadata.version(_WHEEL_OF_FASTDDS_2)
    except importlib.metadata.PackageNotFoundError:
        return PROFILE_VARIABLE
    return OLD_PROFILE_VARIABLE


def given_profile(variables: Mapping[str, str]) -> str:
    """Returns the file that variables give to Fast DDS; empty where it finds none in them."""
    wanted = profile_variable(variables)
    return variables.get(wanted, "") or (variables.get(OLD_PROFILE_VARIABLE, "") if wanted == PROFILE_VARIABLE else "")


def share_folder() -> Path:
    """Returns the folder that holds launch/ and models/: the source tree, or the installed share/cnn_perception.

    Raises:
        LookupError: If the package is neither run from its source tree nor installed in a sourced workspace.
    """
    above = Path(__file__).resolve().parents[2:]
    # beside lib/python3.x/site-packages of what colcon or pip installed to, though nobody has sourced it
    folders = (above[0], *(prefix / "share" / "cnn_perception" for prefix in above))
    for folder in folders:
        if (folder / "launch" / "fastdds.xml").is_file():
            return folder
    from ament_index_python.packages import get_package_share_directory  # not there without ROS

    return Path(get_package_share_directory("cnn_perception"))


def environment() -> dict[str, str]:
    """Returns the environment variables for processes that exchange images, less those the user has set."""
    variables = {name: str(value) for name, value in memory.KEPT.items()}
    if named(chosen_name(os.environ)) is FAST_DDS and not given_profile(os.environ):
        variables[profile_variable(os.environ)] = str(share_folder() / "launch" / "fastdds.xml")
    return {name: value for name, value in variables.items() if name not in os.environ}


def remedy_of_loss(is_reliable: bool, is_overridden: bool = False) -> str:
    """Returns what to do where images are lost on the way, with the middleware of this process, which runs rclpy.

    Args:
        is_reliable: Whether the subscription is; then what is missing was gone before it could be sent again.
        is_overridden: Whether its user has chosen so, whatever the publisher offers.
    """
    used = named(name_in_use())
    remedy = f"{used.remedy} ({profile_variable(os.environ)})" if used is FAST_DDS else used.remedy
    if is_reliable:
        return f"the camera keeps too few until they are received; have it keep more, or {remedy}"
    if is_overridden:
        return f"qos_overrides make it best effort; leave them out, or {remedy}"
    return f"the camera offers best effort; have it publish reliable, or {remedy}"


def prepare_process() -> None:
    """Applies `environment` to the running process; to be called before rclpy is initialised.

    A node started without the launch file is thereby as fast as one started with it. What ended processes have left in
    shared memory is removed.
    """
    variables = environment()
    memory.keep_freed()
    os.environ.update(variables)
    if named(chosen_name(os.environ)) is FAST_DDS:
        remove_leftovers(SHARED_MEMORY)


def remove_leftovers(folder: Path) -> list[str]:
    """Removes the shared memory of Fast DDS that ended processes of this user have left.

    A process that is killed, or that ends at once because of a defect, leaves its segment of 64 MiB: a node that is
    started again and again would fill the memory. A living process holds a lock on a file beside its segment.

    Source: the command `fastdds shm clean` of Fast DDS 3.2, which goes by the same lock.

    Args:
        folder: Where shared memory lies.

    Returns:
        The names of the segments that were removed.
    """
    removed = []
    for lock in sorted(folder.glob(LOCKS)):
        with contextlib.suppress(OSError), os.fdopen(os.open(lock, _ANYBODYS_FILE)) as file:
            about = os.fstat(file.fileno())
            # A process that starts just now has made the file, but not yet locked it.
            is_starting = time.time() - about.st_mtime < _STARTING_S
            if is_starting or about.st_uid != os.geteuid() or not stat.S_ISREG(about.st_mode):
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where it is in use
            segment = lock.with_name(lock.name.removesuffix("_el"))
            segment.unlink(missing_ok=True)
            lock.unlink()
            removed.append(segment.name)
    return removed


def let_ended_nodes_go(node: Node) -> None:
    """Waits until all is told of nodes that have just ended, so that this one can be destroyed and its process go on.

    Fast DDS, as the wheels have it, waits for ever where a participant is destroyed in the moment in which it is told
    that another one appears or ends, and rclpy keeps Python's lock meanwhile. Source: eProsima/Fast-DDS#6513.

    Args:
        node: The last one of its domain, but for killed ones; where others run it waits for `_FAREWELL_S`, in vain.
    """
    if named(name_in_use()) is not FAST_DDS:
        return
    until_s = time.monotonic() + _FAREWELL_S
    while len(_participants(node)) > 1 and time.monotonic() < until_s:
        time.sleep(_REST_S)
    time.sleep(_REST_S)


def _participants(node: Node) -> set[bytes]:
    """Returns whose publishers and subscriptions are known, those of services included.

    Names of nodes tell less: they go first. A GUID begins with that of the participant. Source: DDSI-RTPS 2.5, 9.3.
    """
    topics = [topic for topic, _ in node.get_topic_names_and_types(no_demangle=True)]
    ends = [one for topic in topics for one in node.get_publishers_info_by_topic(topic, no_mangle=True)]
    ends += [one for topic in topics for one in node.get_subscriptions_info_by_topic(topic, no_mangle=True)]
    return {bytes(one.endpoint_gid[:_GUID_PREFIX]) for one in ends}
