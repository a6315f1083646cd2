"""What metadata.yaml promises of a bag: a claim, compared with the files and never a filter of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from cnn_perception.errors import BagError, one_line

FILE_NAME = "metadata.yaml"
_LARGEST_BYTES = 2**24
"""Of metadata.yaml: a bag of a thousand files and topics has half a megabyte."""


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says; None or empty where it says nothing that can be used.

    Attributes:
        files: Names of the storage files.
        counts: Messages by topic.
        count: Messages of all topics.
        start_ns: When the first message was received, nanoseconds.
        end_ns: When the last one was.
    """

    files: tuple[str, ...]
    counts: dict[str, int]
    count: int | None
    start_ns: int | None
    end_ns: int | None


class _Loader(yaml.SafeLoader):
    """Refuses merge keys, with which some lines of YAML become gigabytes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves a mapping as it is, so that a merge key has no meaning."""


def read_metadata(folder: Path) -> Metadata | None:
    """Returns what a bag's metadata.yaml says; None if there is none.

    Raises:
        BagError: If it cannot be read; the reason alone.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BagError(f"{FILE_NAME} cannot be read ({error.strerror})") from None
    if len(text) > _LARGEST_BYTES:
        raise BagError(f"{FILE_NAME} has more than {_LARGEST_BYTES} bytes")
    try:
        content = yaml.load(text, _Loader)
        return _metadata(content["rosbag2_bagfile_information"])
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BagError(f"{FILE_NAME} cannot be read ({one_line(error)})") from None


def _metadata(information: dict[str, Any]) -> Metadata:
    counts: Counter[str] = Counter()
    for entry in information["topics_with_message_count"]:
        counts[str(entry["topic_metadata"]["name"])] += int(entry["message_count"])
    start_ns = _number(information, "starting_time", "nanoseconds_since_epoch")
    duration_ns = _number(information, "duration", "nanoseconds")
    count = information.get("message_count")
    return Metadata(
        tuple(PurePath(str(name)).name for name in information["relative_file_paths"]),
        dict(counts),
        count if isinstance(count, int) else None,
        start_ns,
        start_ns + duration_ns if start_ns is not None and duration_ns is not None else None,
    )


def _number(information: dict[str, Any], name: str, unit: str) -> int | None:
    found = information.get(name)
    number = found.get(unit) if isinstance(found, dict) else None
    return number if isinstance(number, int) else None
