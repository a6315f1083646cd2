"""Parts of perception_node for tests without a running node: messages, models and loggers. No ROS, no DDS."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from cnn_perception.model.onnx_model import SessionOptions
from cnn_perception.perception_node.active_model import ActiveModel, ModelOptions
from cnn_perception.pipeline.pipeline import Pipeline

CPU = SessionOptions(providers=("CPUExecutionProvider",), intra_op_threads=1, warm_up_batches=(1, 2))
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def flat_message(colour: tuple[int, int, int], second: int = 1, **fields: Any) -> Any:
    """An object with the fields of a sensor_msgs/Image of one colour."""
    pixels = np.full((48, 80, 3), colour, np.uint8)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=second, nanosec=0), frame_id="optical")
    message = {"header": header, "height": 48, "width": 80, "encoding": "rgb8", "is_bigendian": 0, "step": 240}
    return SimpleNamespace(**message | {"data": pixels.tobytes()} | fields)


def active_model(path: Path, **background: Any) -> ActiveModel:
    return ActiveModel(ModelOptions(path, CPU), Pipeline.load(path, CPU), **background)


class SaidLogger:
    """Remembers what was logged, (level, text)."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def info(self, message: str) -> None:
        self.said.append(("info", message))

    def warning(self, message: str) -> None:
        self.said.append(("warning", message))

    def error(self, message: str) -> None:
        self.said.append(("error", message))

    def fatal(self, message: str) -> None:
        self.said.append(("fatal", message))

    def texts(self, level: str) -> list[str]:
        return [text for one, text in self.said if one == level]
