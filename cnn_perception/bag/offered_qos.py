"""With which QoS a topic was offered when it was recorded: what metadata.yaml says of it, a claim as all that is there.

It decides how a recording is played, and never what is read of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnn_perception.bag.message_types import stored_topic
from cnn_perception.bag.metadata import FILE_NAME, LARGEST_BYTES

_BEST_EFFORT = ("best_effort", "2")
_TRANSIENT_LOCAL = ("transient_local", "1")
"""As recorders write them: by name, and those of Humble and before by the numbers of rmw's enumerations."""
_LARGEST_DEPTH = 1000


@dataclass(frozen=True)
class OfferedQos:
    """What all publishers of a topic offered.

    Attributes:
        is_reliable: Whether each of them did; then whoever wants best effort is served, too.
        is_latched: Whether each of them kept its latest messages for those who come later.
        depth: The longest queue of them; 0 where it was not recorded.
        is_known: Whether the bag says so; otherwise it is what ROS 2 offers by default.
    """

    is_reliable: bool = True
    is_latched: bool = False
    depth: int = 0
    is_known: bool = False

    def in_words(self) -> str:
        """Returns it on one line."""
        words = "reliable" if self.is_reliable else "best effort"
        words += ", transient local" if self.is_latched else ""
        return words if self.is_known else f"{words}, by default: the bag does not say"


def offered_qos(bag: Path, topic: str) -> OfferedQos:
    """Returns the QoS that a topic was recorded with; the default where the bag says nothing that can be read.

    Args:
        bag: A bag's folder, or a single file of one, which says nothing.
        topic: Its name, as `Bag.topics` has it.
    """
    profiles = list(_profiles(bag / FILE_NAME, topic)) if bag.is_dir() else []
    if not profiles:
        return OfferedQos()
    return OfferedQos(
        is_reliable=all(_text(one, "reliability") not in _BEST_EFFORT for one in profiles),
        is_latched=all(_text(one, "durability") in _TRANSIENT_LOCAL for one in profiles),
        depth=max(_depth(one) for one in profiles),
        is_known=True,
    )


def _profiles(path: Path, topic: str) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open("rb") as file:
            content = yaml.load(file.read(LARGEST_BYTES), yaml.BaseLoader)  # of which nothing becomes an object
        for entry in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
            about = entry["topic_metadata"]
            if stored_topic(about["name"]) == topic:
                offered = about["offered_qos_profiles"]
                found = yaml.load(offered, yaml.BaseLoader) if isinstance(offered, str) else offered
                yield from (one for one in found or [] if isinstance(one, dict))
    except (OSError, yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError):
        return  # the reader has said what is wrong with it


def _text(profile: Mapping[str, Any], name: str) -> str:
    return str(profile.get(name, "")).strip().lower()


def _depth(profile: Mapping[str, Any]) -> int:
    text = _text(profile, "depth")
    return min(int(text), _LARGEST_DEPTH) if text.isdecimal() and len(text) < 10 else 0
