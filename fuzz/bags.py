"""Fuzzes the reader of bags: whatever is damaged, an image that is there is delivered, or something is said.

Two judges know nothing of the reader. `intact.intact_messages` finds the messages that are still whole in the damaged
files. And a bag's own counts, where they are as they were written, tell how many there were.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import struct
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from zlib import crc32

import tiny_bag
import yaml
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from cnn_perception.bag.reader import Bag, StampedImage
from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.messages import decode
from fuzz.documents import mutated_yaml
from fuzz.images import jpeg
from fuzz.intact import Message, intact_messages
from fuzz.mcap import CHUNK, CHUNK_INDEX, MAGIC, STATISTICS, mutated_mcap, packed_chunk, records_of, unpacked_chunk
from fuzz.mutation import mutated
from fuzz.sqlite import mutated_sqlite
from fuzz.target import Files, Sample, Target, ViolationError

_TYPES = {"/camera": "sensor_msgs/msg/Image", "/jpeg": "sensor_msgs/msg/CompressedImage"}
_STEP_NS = 10**8
_MANY = 1000
_METADATA = "metadata.yaml"

Image = tuple[str, int, int, bytes]
"""Topic, time of reception and stamp in nanoseconds, bytes of the picture."""


def bag_target(storage: str) -> Target:
    """Returns the reader of the bags of one storage, `mcap` or `sqlite3`."""
    return Target(storage, lambda: _samples(storage), _mutate, _check, batch=20, share=10)


def _messages(first: int, count: int) -> list[tuple[str, int, object]]:
    messages: list[tuple[str, int, object]] = []
    for number in range(first, first + count):
        time_ns = tiny_bag.START_NS + number * _STEP_NS
        image = tiny_bag.raw(tiny_bag.flat((number, 9, 7), 4, 6), time_ns - 5)
        messages.append(("/camera", time_ns, image))
        file = tiny_bag.compressed(tiny_bag.flat((number, 9, 7), 4, 6), time_ns - 5)
        file.data = tiny_bag.np.frombuffer(jpeg(number), tiny_bag.np.uint8)
        messages.append(("/jpeg", time_ns + 3, file))
        messages.append(("/words", time_ns + 5, tiny_bag.string(f"word {number}")))
        messages.append(("/angle", time_ns + 6, tiny_bag.number(number / 4)))
    return messages


@cache
def _originals() -> dict[Message, Image]:
    """Returns every image of the valid bags by its serialised message."""
    found = {}
    for topic, time_ns, message in _messages(0, 10):
        if topic in _TYPES:
            payload = bytes(tiny_bag.TYPES.serialize_cdr(message, _TYPES[topic]))
            stamp = message.header.stamp  # type: ignore[attr-defined] # a class that is made at run time
            data = bytes(message.data)  # type: ignore[attr-defined]
            found[topic, time_ns, payload] = (topic, time_ns, stamp.sec * 10**9 + stamp.nanosec, data)
    return found


def _samples(storage: str) -> list[Sample]:
    modes = [CompressionMode.NONE, CompressionMode.FILE, CompressionMode.MESSAGE]
    plugin = StoragePlugin.SQLITE3
    if storage == "mcap":
        modes.append(CompressionMode.STORAGE)
        plugin = StoragePlugin.MCAP
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mode in modes:
            path = tiny_bag.write_bag(folder / mode.name, _messages(0, 5), storage=plugin, compression=mode)
            found.append(_sample(path, f"folder_{mode.name}"))
        found.append(_split(folder, plugin))
    plain = found[0].files
    ((name, content),) = [item for item in plain.items() if item[0] != _METADATA]
    found.append(Sample("file", {name: content}))
    if storage == "mcap":
        found += [Sample(f"file_{kind}", {name: write(content)}) for kind, write in _OTHER_WRITERS.items()]
    return found


def _sample(path: Path, origin: str) -> Sample:
    return Sample(origin, {file.name: file.read_bytes() for file in sorted(path.iterdir())})


def _split(folder: Path, plugin: StoragePlugin) -> Sample:
    """Returns a bag of two files, as recorders split them."""
    first = _sample(tiny_bag.write_bag(folder / "a", _messages(0, 3), storage=plugin), "")
    second = _sample(tiny_bag.write_bag(folder / "b", _messages(3, 3), storage=plugin), "")
    files = {name: content for sample in (first, second) for name, content in sample.files.items()}
    del files[_METADATA]
    document = yaml.safe_load(first.files[_METADATA])
    information = document["rosbag2_bagfile_information"]
    information |= {"relative_file_paths": sorted(files), "files": [], "message_count": 24}
    information["duration"]["nanoseconds"] = 5 * _STEP_NS + 6
    for topic in information["topics_with_message_count"]:
        topic["message_count"] = 6
    return Sample("folder_split", {**files, _METADATA: yaml.safe_dump(document).encode()})


def _in_many_chunks(content: bytes) -> bytes:
    """Returns an MCAP file of one message a chunk, without an index."""
    parts = [MAGIC]
    for record in records_of(content[len(MAGIC) :]):
        if record.opcode != CHUNK:
            continue
        for inner in records_of(unpacked_chunk(record.content)[-1]):
            data = inner.to_bytes()
            time_ns = struct.unpack_from("<Q", inner.content, 6)[0] if inner.opcode == 5 else 0
            chunk = packed_chunk(time_ns, time_ns, len(data), crc32(data), b"", data)
            parts.append(struct.pack("<BQ", CHUNK, len(chunk)) + chunk)
    return _with_ends(content, parts)


def _without_chunks(content: bytes) -> bytes:
    """Returns an MCAP file whose messages lie in no chunk, and which has no summary."""
    records = records_of(content[len(MAGIC) :])
    inside = b"".join(unpacked_chunk(record.content)[-1] for record in records if record.opcode == CHUNK)
    return _with_ends(content, [MAGIC, inside])


def _with_ends(content: bytes, parts: list[bytes]) -> bytes:
    header = records_of(content[len(MAGIC) :])[0].to_bytes()
    end = struct.pack("<BQI", 0x0F, 4, 0) + struct.pack("<BQQQI", 0x02, 20, 0, 0, 0) + MAGIC
    return b"".join((MAGIC, header, *parts[1:], end))


def _with_checksums(content: bytes) -> bytes:
    """Returns the same file with the checksums of its chunks, as the recorder of ROS 2 writes them."""
    data = bytearray(content)
    for record in records_of(content[len(MAGIC) :], len(MAGIC)):
        if record.opcode == CHUNK:
            struct.pack_into("<I", data, record.offset + 9 + 24, crc32(unpacked_chunk(record.content)[-1]))
    return bytes(data)


_OTHER_WRITERS: dict[str, Callable[[bytes], bytes]] = {
    "many_chunks": _in_many_chunks,
    "no_chunks": _without_chunks,
    "checksums": _with_checksums,
}


def _mutate(random: Random, sample: Sample, _: Sequence[Sample]) -> Files:
    files = dict(sample.files)
    name = random.choice([name for name in files if name != _METADATA or random.random() < 0.5] or list(files))
    if random.random() < 0.03:
        return _with_other_files(random, files, name)
    content = files[name]
    if name == _METADATA:
        change = mutated if random.random() < 0.3 else mutated_yaml
        files[name] = change(random, content)
    elif name.endswith(".mcap"):
        files[name] = mutated_mcap(random, content)
    elif name.endswith(".db3"):
        files[name] = mutated_sqlite(random, content, Path(tempfile.gettempdir()))
    else:
        files[name] = mutated(random, content)
    return files


def _with_other_files(random: Random, files: Files, name: str) -> Files:
    """Returns a bag of which a file is gone, empty, twice there, or has another name."""
    kind = random.randrange(5)
    content = files.pop(name)
    if kind == 1:
        files[name] = b""
    elif kind == 2:
        files |= {name: content, f"copy_{name}": content}
    elif kind == 3:
        files[f"other{Path(name).suffix}"] = content
    elif kind == 4:
        files[name] = random.choice(list(files.values()) or [content])
    return files or {name: b""}


def _check(sample: Sample) -> str:
    folder = Path(tempfile.gettempdir()) / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in sample.files.items():
        (folder / name).write_bytes(content)
    path = folder if sample.origin.startswith("folder") else folder / next(iter(sample.files))
    with Bag(path) as bag:
        delivered = {topic: images for topic in _TYPES if (images := _images(bag, topic)) is not None}
        for track in (bag.label_track, bag.number_track):
            _try_track(track, "/words" if track == bag.label_track else "/angle")
        damage = list(bag.damage)
    for line in damage:
        if "\n" in line:
            raise ViolationError(f"damage of several lines: {line!r}")
    if not damage:
        _require_all(sample, path, delivered)
    return f"{len(delivered)} topics{', damage' if damage else ''}"


def _images(bag: Bag, name: str) -> list[StampedImage] | None:
    """Returns the images of a topic; None where the reader says that there is no such topic."""
    try:
        topic = bag.image_topic(name)
    except BagError:
        return None
    found = list(itertools.islice(bag.images(topic), _MANY))
    if len(found) == _MANY:
        raise ViolationError("a bag without an end")
    for image in found:
        _try_decode(image)
    return found


def _try_decode(image: StampedImage) -> None:
    if not isinstance(image.frame, FrameError):
        with contextlib.suppress(FrameError):
            decode(image.frame)


def _try_track(track: Callable[[str], object], topic: str) -> None:
    with contextlib.suppress(BagError):
        track(topic)


def _require_all(sample: Sample, path: Path, delivered: dict[str, list[StampedImage]]) -> None:
    """Requires of a bag that is not called damaged that all of its images were delivered."""
    originals = _originals()
    intact = intact_messages(path, _TYPES)
    whole = {image for message, image in originals.items() if message in intact}
    found = {
        (topic, image.log_time_ns, image.stamp_ns, bytes(image.frame.data))
        for topic, images in delivered.items()
        for image in images
        if not isinstance(image.frame, FrameError)
    }
    lost = [image for image in sorted(whole - found) if image[0] in delivered]
    if lost:
        raise ViolationError(f"{lost[0][0]}: lost an intact image without a word; {len(lost)} of {len(whole)}")
    promised = _promised(sample)
    for topic, images in delivered.items():
        if len(images) < promised:
            raise ViolationError(f"{topic}: fewer images than promised, without a word; {len(images)} of {promised}")


def _promised(sample: Sample) -> int:
    """Returns how many images of each topic a bag promises; 0 where the promise was damaged, too."""
    if sample.origin.startswith("folder"):
        is_whole = sample.files.get(_METADATA) in _valid_promises()
        return (6 if sample.origin == "folder_split" else 5) if is_whole else 0
    content = next(iter(sample.files.values()))
    records = records_of(content[len(MAGIC) :]) if content.startswith(MAGIC) else []
    statistics = [record.content for record in records if record.opcode == STATISTICS]
    indexes = [record for record in records if record.opcode == CHUNK_INDEX]
    is_whole = len(statistics) == 1 and statistics[0] in _valid_promises() and bool(indexes)
    return 5 if is_whole else 0


@cache
def _valid_promises() -> frozenset[bytes]:
    """Returns the metadata and the statistics of the valid bags, as they were written."""
    samples = [*_samples("mcap"), *_samples("sqlite3")]
    found = {sample.files[_METADATA] for sample in samples if _METADATA in sample.files}
    for sample in samples:
        for name, content in sample.files.items():
            records = records_of(content[len(MAGIC) :]) if name.endswith(".mcap") else []
            found |= {record.content for record in records if record.opcode == STATISTICS}
    return frozenset(found)
