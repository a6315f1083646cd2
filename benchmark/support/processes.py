"""Starts the processes that are measured, and makes what they are given: a model file and images."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmark.support.pairs import machine
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import RgbImage
from demo import processes
from demo.draw import CLASSES, draw_sample
from demo.processes import child_environment, module_command, node_command

HEIGHT, WIDTH = 480, 640
_NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
"""As the node computes fp32 on a GPU."""


class BareLoop:
    """A process that runs a model again and again while it is asked to, see `benchmark.support.bare_loop`."""

    def __init__(self, model: Path, threads: int, provider: str, workers: int = 1) -> None:
        command = module_command("benchmark.support.bare_loop", model, threads, workers, provider)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment() | _NO_TF32
        )
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: the bare loop does not run; see its message above")
        return line

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def rate_hz(self, seconds: float) -> float:
        """Runs the model for this long; returns frames a second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def alternate(models: Sequence[Path], threads: int, provider: str, rounds: int, seconds: float) -> list[list[float]]:
    """Returns the milliseconds of an image of each model, by round: they run in turn, each in a process of its own."""
    loops = [BareLoop(path, threads, provider) for path in models]
    times_ms = [_image_times_ms(loops, seconds) for _ in range(rounds)]
    for loop in loops:
        loop.close()
    return times_ms


def _image_times_ms(loops: Sequence[BareLoop], seconds: float) -> list[float]:
    return [1000 / loop.rate_hz(seconds) for loop in loops]


@contextlib.contextmanager
def running(name: str, remappings: Sequence[str] = (), **parameters: object) -> Iterator[subprocess.Popen[Any]]:
    """Runs one of the package's nodes for the length of a block."""
    with processes.running(node_command(name, parameters, remappings), child_environment()) as process:
        yield process


def export_model(folder: Path, backbone: str) -> Path:
    """Returns the model file of a backbone with 1000 classes and untrained weights: time does not depend on these."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{backbone}.onnx"
    arguments = ["--backbone", backbone, "--weights", "none", "--classes", 1000, "--output", path]
    command = module_command("training.export", *arguments)
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True)
    if done.returncode != EXIT_OK:
        raise SystemExit(f"error: {backbone} cannot be exported: {done.stderr}")
    return path


@lru_cache  # at 3840x2160 they take half a minute
def write_frames(folder: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Returns a folder with a picture of this size of each of the demo's classes."""
    frames = folder / f"frames_{width}x{height}"
    frames.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(draw_images(height, width)):
        cv2.imwrite(str(frames / f"{number:02}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return frames


def draw_images(height: int = HEIGHT, width: int = WIDTH, count: int = len(CLASSES)) -> list[RgbImage]:
    """Returns pictures of as many of the demo's classes, (height, width, 3) uint8 RGB."""
    classes = enumerate(CLASSES[:count])
    return [draw_sample(name, np.random.default_rng(seed), height, width) for seed, name in classes]


def half_as_fast(options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Returns the parameters of a node, and the rate in Hz of a camera half as fast as its model; both are said.

    Args:
        options: With backbone, threads, provider and output, see `options.option_parser`.
    """
    model = export_model(options.output, options.backbone)
    bare = BareLoop(model, options.threads, options.provider)
    camera_hz = bare.rate_hz(2.0) / 2
    bare.close()
    print(f"{machine()}; {options.backbone}, camera of {camera_hz:.0f} Hz")
    return {
        "model": model,
        "intra_op_threads": options.threads,
        "providers": f"[{options.provider}]",
    }, camera_hz
