"""A ROS domain in which nobody on this machine is: who replays a bag hears, and disturbs, nobody else."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

from cnn_perception.errors import ConfigError

_DOMAINS = range(1, 101)
"""Those whose ports lie below the ones that Linux hands out; 0 is everybody's."""
_BASE_PORT, _PORTS_OF_DOMAIN = 7400, 250
_FIXED_PORTS = (0, 10, 11)
"""Of discovery: for all participants of a domain, for its first one, and for that one's data. Source: DDSI-RTPS 2.5,
9.6.2.3."""
_OURS_ALONE = ("ROS_DISCOVERY_SERVER", "ROS_STATIC_PEERS", "ROS_NAMESPACE")
"""Variables that would lead to other machines, or to another name of the node."""


@contextlib.contextmanager
def free_domain() -> Iterator[int]:
    """Claims a domain for as long as the block runs.

    Two replays never claim the same: a claim is a socket with the domain's name, which goes with its process.

    Raises:
        ConfigError: If all are in use.
    """
    for number in itertools.islice(itertools.cycle(_DOMAINS), os.getpid() % 100, os.getpid() % 100 + 100):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
            if _is_claimed(claim, number) or not _is_silent(number):
                continue
            yield number
            return
    raise ConfigError("every ROS domain from 1 to 100 is in use on this machine; end some of its programs")


def local_environment(domain: int) -> dict[str, str]:
    """Returns the variables by which a process takes part in a domain of this machine alone."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS_ALONE}
    return kept | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def claim_address(number: int) -> str:
    """Returns the address, in Linux's abstract namespace, of the socket that claims a domain on this machine."""
    return f"\0cnn_perception in ROS domain {number}"


def _is_claimed(claim: socket.socket, number: int) -> bool:
    try:
        claim.bind(claim_address(number))
    except OSError:
        return True
    return False


def _is_silent(number: int) -> bool:
    """Whether no participant of the domain has opened its ports."""
    for offset in _FIXED_PORTS:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", _BASE_PORT + _PORTS_OF_DOMAIN * number + offset))
            except OSError:
                return False
    return True
