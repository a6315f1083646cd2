"""What metadata.yaml promises of a bag: a claim, compared with the files and never a filter of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import yaml

from cnn_perception.bag.decompression import PACKED_ENDINGS
from cnn_perception.bag.message_types import stored_topic, stored_type
from cnn_perception.bag.storage import LARGEST_STEP_BACK_NS, MOST_LINES, StorageFile, by_topic, shortened
from cnn_perception.errors import BagError, one_line
from cnn_perception.mistaken_files import BEGINNING_BYTES, what_instead

FILE_NAME = "metadata.yaml"
LARGEST_BYTES = 2**23
"""Of metadata.yaml: a bag of a thousand files and topics has half a megabyte."""
_TIME_TOLERANCE_NS = 10**6
"""Between metadata.yaml and the messages: converters that compute in float64 lose a quarter of a microsecond."""

_NO_TIMES_NS = (0, 2**63 - 1)
"""What stands in place of the time of a first message where there was none, or none was noted."""


@dataclass(frozen=True)
class FileClaim:
    """What metadata.yaml says of one file, since version 5.

    Attributes:
        name: Of the file as `_file_name` returns it.
        count: Messages in it; None where it is not said.
        times_ns: When the first and the last of them were received; None where it is not said.
    """

    name: str
    count: int | None
    times_ns: tuple[int, int] | None


@dataclass(frozen=True)
class Metadata:
    """What metadata.yaml says.

    Attributes:
        files: Names of the storage files.
        counts: Messages by topic, as `message_types.stored_topic` returns it.
        types: (topic, type) of those that have messages, as `message_types.stored_type` returns it.
        count: Messages of all topics.
        start_ns: When the first message was received, nanoseconds.
        end_ns: When the last one was.
        storage: `mcap` or `sqlite3`; empty where it is not said.
        packing: (mode, format) of the compression by rosbag2: FILE, MESSAGE or NONE, and `zstd`.
        claims: What is said of single files; empty where nothing is, as in versions before 5 and after a reindexing.
    """

    files: tuple[str, ...]
    counts: dict[str, int]
    types: frozenset[tuple[str, str]]
    count: int
    start_ns: int
    end_ns: int
    storage: str
    packing: tuple[str, str]
    claims: tuple[FileClaim, ...]


def read_metadata(folder: Path) -> Metadata | None:
    """Returns what a bag's metadata.yaml says; None if there is none.

    Raises:
        BagError: If it cannot be read; the reason alone.
    """
    path = folder / FILE_NAME
    if path.exists() and not path.is_file():
        raise BagError(f"{FILE_NAME} is no file")
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BagError(f"{FILE_NAME} cannot be read ({error.strerror})") from None
    if len(text) > LARGEST_BYTES:
        raise BagError(f"{FILE_NAME} has more than {LARGEST_BYTES} bytes")
    try:
        refuse_in_place(text[:BEGINNING_BYTES])
    except BagError as error:
        raise BagError(f"{FILE_NAME} {error}") from None
    try:
        content = yaml.load(text, yaml.BaseLoader)  # of which nothing becomes larger, or an object
        return _metadata(content["rosbag2_bagfile_information"])
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise BagError(f"{FILE_NAME} cannot be read ({one_line(error)})") from None


def refuse_in_place(head: bytes) -> None:
    """Refuses by its first bytes what is often found in the place of a file of a bag.

    Raises:
        BagError: By what it is, with the way out; without the file's name.
    """
    if told := what_instead(head, "recording"):
        raise BagError(told)


def contradictions(metadata: Metadata, files: Sequence[StorageFile], packing: str) -> list[str]:
    """Returns what metadata.yaml says that is not so, a line each.

    Args:
        metadata: What it says.
        files: The bag's files, of which one at least has messages.
        packing: How rosbag2 compressed them: FILE, MESSAGE or NONE; empty where that cannot be told.
    """
    every, files = files, [file for file in files if file.index.count]
    counts: Counter[str] = Counter()
    for file in files:
        for channel in file.index.channels.values():
            counts[channel.topic] += channel.count
    silent = {topic: 0 for topic, count in counts.items() if count and topic not in metadata.counts}
    lines = by_topic("metadata.yaml", {**metadata.counts, **silent}, counts)
    total = sum(counts.values())
    if not lines and metadata.count != total:
        lines.append(f"metadata.yaml: {metadata.count} messages are promised, {total} were found")
    first_ns = min(file.index.first_ns for file in files)
    last_ns = max(file.index.last_ns for file in files)
    promised_ns = metadata.start_ns, metadata.end_ns
    lines += _other_times("metadata.yaml", promised_ns, (first_ns, last_ns), _TIME_TOLERANCE_NS)
    lines += _other_files(metadata, every)
    return [*lines, *_other_types(metadata, files), *_other_storage(metadata, files, packing)]


def _other_times(who: str, promised_ns: tuple[int, int], found_ns: tuple[int, int], tolerance_ns: int) -> list[str]:
    """Returns which of the times of the first and the last message are not those that are promised, a line each."""
    return [
        f"{who} gives {promised / 1e9:.3f} s as the time of the {what} message, it is {found / 1e9:.3f} s; the "
        "messages' own times were used"
        for what, promised, found in zip(("first", "last"), promised_ns, found_ns, strict=True)
        if abs(promised - found) > tolerance_ns
    ]


def _other_files(metadata: Metadata, files: Sequence[StorageFile]) -> list[str]:
    """Returns what metadata.yaml says of single files that is not so, a line each.

    Of the only file it says once more what it says of the bag. Recorders take the end of a file from the beginning that
    they knew of until then, so that it is wrong by as much as their threads mix up the order of messages.
    """
    whole = (metadata.count, (metadata.start_ns, metadata.end_ns))
    claims = {claim.name: claim for claim in metadata.claims}
    if len(claims) == 1 and whole in {(claim.count, claim.times_ns) for claim in claims.values()}:
        return []
    lines = []
    for name in sorted({file.path.name for file in files}):
        claim = claims.get(_file_name(name))
        if claim is None:
            continue
        who = f"metadata.yaml: {name}"
        parts = [file.index for file in files if file.path.name == name]
        count = sum(part.count + part.orphans for part in parts)
        if claim.count not in {None, count}:
            lines.append(f"{who}: {claim.count} messages are promised, {count} were found")
        if claim.count != 0 and claim.times_ns and any(part.count for part in parts):
            found_ns = min(part.first_ns for part in parts), max(part.last_ns for part in parts)
            lines += _other_times(f"{who}: it", claim.times_ns, found_ns, LARGEST_STEP_BACK_NS)
    others = len(lines) - MOST_LINES
    return [*lines[:MOST_LINES], *([f"metadata.yaml: {others} other claims of its files are wrong"] * (others > 0))]


def _file_name(path: str) -> str:
    """Returns a file's name without folders and the ending of its compression, which rosbag2 leaves out at times."""
    name = PureWindowsPath(path).name
    return next((name.removesuffix(ending) for ending in PACKED_ENDINGS if name.endswith(ending)), name)


def _other_types(metadata: Metadata, files: Sequence[StorageFile]) -> list[str]:
    """Returns which topics are of other types than metadata.yaml says, a line each."""
    found: dict[str, set[str]] = {}
    for file in files:
        for channel in file.index.channels.values():
            if channel.count:
                found.setdefault(channel.topic, set()).add(channel.type)
    promised: dict[str, set[str]] = {}
    for topic, kind in metadata.types:
        promised.setdefault(topic, set()).add(kind)
    lines = [
        f"metadata.yaml says that {topic} is {_listing(promised[topic])}, it is {_listing(kinds)}"
        for topic, kinds in sorted(found.items())
        if topic in promised and promised[topic] != kinds and "" not in kinds | promised[topic]
    ]
    return shortened(lines, "metadata.yaml: ")


def _listing(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def _other_storage(metadata: Metadata, files: Sequence[StorageFile], packing: str) -> list[str]:
    """Returns what metadata.yaml says of storage and compression that is not so, a line each."""
    storages = _listing({file.storage for file in files})
    lines = []
    if metadata.storage and metadata.storage != storages:
        lines.append(f"metadata.yaml says that the storage is {metadata.storage}, it is {storages}")
    mode, kind = metadata.packing
    if packing and mode != packing:
        lines.append(f"metadata.yaml says that the compression_mode is {mode}, it is {packing}")
    elif packing not in {"", "NONE"} and kind.partition(";")[0] != "zstd":
        lines.append(f"metadata.yaml says that the compression_format is {kind or 'none'}, it is zstd")
    return lines


def _metadata(information: dict[str, Any]) -> Metadata:
    files = information["relative_file_paths"]
    if not isinstance(files, list):
        raise TypeError("relative_file_paths is no list")
    counts: Counter[str] = Counter()
    types = set()
    for entry in information["topics_with_message_count"]:
        about = entry["topic_metadata"]
        topic, count = stored_topic(_text(about["name"])), _number(entry["message_count"])
        counts[topic] += count
        if count:
            types.add((topic, stored_type(_said(about, "type"), _said(about, "serialization_format"))))
    start_ns = _number(information["starting_time"]["nanoseconds_since_epoch"])
    return Metadata(
        tuple(PurePath(_text(name)).name for name in files),
        dict(counts),
        frozenset(types),
        _number(information["message_count"]),
        start_ns,
        start_ns + _number(information["duration"]["nanoseconds"]),
        _said(information, "storage_identifier"),
        (_said(information, "compression_mode").upper() or "NONE", _said(information, "compression_format")),
        tuple(map(_claim, information["files"] if _said(information, "files") else ())),
    )


def _claim(entry: dict[str, Any]) -> FileClaim:
    count = _number(entry["message_count"]) if _said(entry, "message_count") else None
    times_ns = None
    if isinstance(entry.get("starting_time"), dict) and isinstance(entry.get("duration"), dict):
        start_ns = _number(entry["starting_time"]["nanoseconds_since_epoch"])
        duration_ns = _number(entry["duration"]["nanoseconds"])
        times_ns = (start_ns, start_ns + duration_ns) if duration_ns or start_ns not in _NO_TIMES_NS else None
    if not (count or times_ns):
        count = None  # an entry that was never filled in
    return FileClaim(_file_name(_text(entry["path"])), count, times_ns)


def _said(mapping: dict[str, Any], name: str) -> str:
    """Returns a text that older and other writers leave out or empty; empty then."""
    text = str(mapping.get(name, ""))
    return "" if text in {"null", "~"} else text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a list or a mapping stands in place of a text")
    return value


def _number(value: object) -> int:
    text = _text(value)
    if re.fullmatch(r"[+-]?[0-9]{1,20}", text) is None:
        raise ValueError(f"{text[:40]!r} stands in place of a whole number")
    return int(text)
