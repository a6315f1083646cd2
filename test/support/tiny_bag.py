"""Small rosbag2 files with known contents, written with `rosbags`."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

TYPES = get_typestore(Stores.ROS2_HUMBLE)
TYPES.register(get_types_from_msg("string class_id\nfloat64 score\n", "vision_msgs/msg/ObjectHypothesis"))
TYPES.register(
    get_types_from_msg("std_msgs/Header header\nObjectHypothesis[] results\n", "vision_msgs/msg/Classification")
)
_T = TYPES.types

START_NS = 1_700_000_000_000_000_000
RED, GREEN, BLUE = (200, 10, 10), (10, 200, 10), (10, 10, 200)


def header(stamp_ns: int):
    stamp = _T["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return _T["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")


def flat(colour, height: int = 30, width: int = 40) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def raw(pixels: np.ndarray, stamp_ns: int, encoding: str = "rgb8", padding: int = 0):
    """sensor_msgs/Image of (H, W, 3) RGB pixels, with `padding` bytes of rubbish behind each row."""
    rows = pixels[:, :, ::-1] if encoding == "bgr8" else pixels
    height, width = rows.shape[:2]
    padded = np.full((height, width * 3 + padding), 255, np.uint8)
    padded[:, : width * 3] = rows.reshape(height, -1)
    image = _T["sensor_msgs/msg/Image"]
    return image(header(stamp_ns), height, width, encoding, 0, padded.shape[1], padded.reshape(-1))


def compressed(pixels: np.ndarray, stamp_ns: int, kind: str = "jpeg"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    data = np.frombuffer(buffer.getvalue(), np.uint8)
    return _T["sensor_msgs/msg/CompressedImage"](header(stamp_ns), kind, data)


def string(text: str):
    return _T["std_msgs/msg/String"](text)


def classification(stamp_ns: int, results: dict[str, float]):
    hypothesis = _T["vision_msgs/msg/ObjectHypothesis"]
    found = [hypothesis(name, score) for name, score in results.items()]
    return _T["vision_msgs/msg/Classification"](header(stamp_ns), found)


def number(value: float, bits: int = 32):
    return _T[f"std_msgs/msg/Float{bits}"](value)


def joint_state(stamp_ns: int, numbers: dict[str, float]):
    nothing = np.empty(0, np.float64)
    position = np.array(list(numbers.values()), np.float64)
    return _T["sensor_msgs/msg/JointState"](header(stamp_ns), list(numbers), position, nothing, nothing)


def write_bag(
    path: Path,
    messages: Iterable[tuple[str, int, object]],
    *,
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    topics: dict[str, str] | None = None,
) -> Path:
    """Writes (topic, reception time in ns, message) and returns the folder; `topics` may add empty ones, by type."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections = {
            name: writer.add_connection(name, kind, typestore=TYPES) for name, kind in (topics or {}).items()
        }
        for topic, time_ns, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], time_ns, TYPES.serialize_cdr(message, kind))
    return path
