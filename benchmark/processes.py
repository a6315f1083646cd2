"""The processes that are measured, and what they are given: a model, and images."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cnn_perception.errors import EXIT_OK
from demo.draw import CLASSES, draw_sample

HEIGHT, WIDTH = 480, 640


def clean() -> dict[str, str]:
    """Returns the environment of a child: the guard of ROS's wheels is for one Python and the libraries it loads."""
    return {name: value for name, value in os.environ.items() if name != "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}


class BareLoop:
    """A process that runs a model again and again while it is asked to, see `benchmark.bare_loop`."""

    def __init__(self, model: Path, threads: int, provider: str, at_once: int = 1) -> None:
        words = [str(model), str(threads), str(at_once), provider]
        command = [sys.executable, "-m", "benchmark.bare_loop", *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean())
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: the bare loop does not run; see its message above")
        return line

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


def turns(models: Sequence[Path], threads: int, provider: str, rounds: int, seconds: float) -> list[list[float]]:
    """Lets models run in turn, each in a process of its own; returns the milliseconds of an image, by round."""
    loops = [BareLoop(path, threads, provider) for path in models]
    times = [[1000 / loop.rate_hz(seconds) for loop in loops] for _ in range(rounds)]
    for loop in loops:
        loop.close()
    return times


def node_command(name: str, remap: Sequence[str] = (), **parameters: object) -> list[str]:
    """Returns the command line of `perception_node` or `camera_node`, with remapping rules and parameters."""
    words = [word for rule in remap for word in ("-r", rule)]
    words += [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
    return [sys.executable, "-m", f"cnn_perception.{name}", "--ros-args", "--log-level", "warn", *words]


@contextlib.contextmanager
def running(name: str, remap: Sequence[str] = (), **parameters: object) -> Iterator[subprocess.Popen[Any]]:
    """Runs one of the package's nodes for the length of a block."""
    process = subprocess.Popen(node_command(name, remap, **parameters), env=clean())
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


def exported(folder: Path, backbone: str) -> Path:
    """Exports a backbone with untrained weights and 1000 classes: the time does not depend on the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{backbone}.onnx"
    command = [sys.executable, "-m", "training.export", "--backbone", backbone, "--weights", "none"]
    command += ["--classes", "1000", "--output", str(path)]
    done = subprocess.run(command, env=clean(), capture_output=True, text=True)
    if done.returncode != EXIT_OK:
        raise SystemExit(f"error: {backbone} cannot be exported: {done.stderr}")
    return path


def drawn_frames(folder: Path) -> Path:
    """Draws a 640x480 picture of each of the demo's classes; returns the folder of the files."""
    frames = folder / "frames"
    frames.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(drawn()):
        cv2.imwrite(str(frames / f"{number:02}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return frames


def drawn(height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """Returns a picture of each of the demo's classes, (height, width, 3) uint8 RGB."""
    return [draw_sample(name, np.random.default_rng(k), height, width) for k, name in enumerate(CLASSES)]
