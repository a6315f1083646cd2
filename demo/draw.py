"""Draws the demo's data: a folder of labelled images to train on, and a camera drive with ground truth.

    python -m demo.draw --output DIR

leaves DIR/dataset/{train,val}/CLASS/*.jpg, DIR/drive/frames/*.jpg and DIR/drive/labels.csv. The same seed draws
the same bytes. The signs stand on a test course: seen from far, a board is turned edge-on; at about a quarter of
the image's height it turns to face the robot, and turns away again as the robot passes. So every frame of the
drive has one undisputed class.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cnn_perception.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, ConfigError, DataError, PerceptionError
from demo.lens import Lens, RgbBytes, expose, random_lens
from demo.scene import WEATHERS, Panel, Road, View, Weather, between, render, scatter
from demo.scenery import VARIANTS, halvings, noise, pyramid
from demo.signs import SIGN_PIXELS, SIGNS, Sprite, draw_sign

CLEAR = "clear_road"
CLASSES: tuple[str, ...] = tuple(sorted((CLEAR, *SIGNS)))
STAMP = "drawn.json"
"""Written last into what was drawn, so that it is recognised and reused."""
_VERSION = 1  # raised when the same settings would draw other pictures
_TURN_DEG = 35.0
_STRETCH_M = 18.0


@dataclass(frozen=True)
class Board:
    """One sign at the roadside: its class, its centre and size in metres, and its turns in degrees."""

    name: str
    x: float
    y: float
    z: float
    size: float
    yaw: float
    pitch: float
    roll: float

    def corners(self) -> NDArray[np.float64]:
        """(4, 3) metres: top left, top right, bottom right, bottom left."""
        yaw, pitch, roll = (math.radians(a) for a in (self.yaw, self.pitch, self.roll))
        square = np.array([(-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, -0.5)]) * self.size
        x = square[:, 0] * math.cos(roll) - square[:, 1] * math.sin(roll)
        y = square[:, 0] * math.sin(roll) + square[:, 1] * math.cos(roll)
        y, z = y * math.cos(pitch), y * math.sin(pitch)
        x, z = x * math.cos(yaw) + z * math.sin(yaw), z * math.cos(yaw) - x * math.sin(yaw)
        return np.stack([x + self.x, y + self.y, z + self.z], 1)


@dataclass(frozen=True)
class Shot:
    """Everything a picture is made of; `board` is the sign that gives it its class."""

    view: View
    weather: Weather
    road: Road
    panels: tuple[Panel, ...]
    lens: Lens
    board: Board | None


def draw_sample(class_name: str, rng: np.random.Generator, height: int, width: int) -> RgbBytes:
    """Draws one picture of a class with random pose, light, blur, noise and clutter.

    Args:
        class_name: One of `CLASSES`.
        rng: Decides everything else.
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    shot = random_shot(class_name, rng, height, width)
    return expose(render(shot.view, shot.weather, shot.road, shot.panels), shot.lens, rng)


def random_shot(class_name: str, rng: np.random.Generator, height: int, width: int) -> Shot:
    """Composes what `draw_sample` draws; the sign covers 23 to 77 % of the height."""
    focal, eye = rng.uniform(1.2, 1.7) * height, rng.uniform(1.1, 1.7)
    horizon, centre = rng.uniform(0.46, 0.66) * height, rng.uniform(0.25, 0.75) * width
    view = View(height, width, focal, horizon, centre, eye, 0.0, rng.uniform(-0.004, 0.004))
    tall, size = float(np.exp(rng.uniform(math.log(0.23), math.log(0.77)))) * height, rng.uniform(0.7, 0.95)
    z = focal * size / tall
    u = rng.uniform(0.42 * tall, width - 0.42 * tall) if tall < width else width / 2
    v = rng.uniform(0.48 * tall, max(0.48 * tall, min(height - 0.48 * tall, horizon + 0.1 * height)))
    x = (u - centre) * z / focal - view.bend * z**2
    y = max(eye + (horizon - v) * z / focal, size * 0.7)
    side = 1 if u > centre else -1
    edge, lanes = x - side * rng.uniform(0.1, 0.45), rng.uniform(3.5, 6.5)
    road = _random_road(rng, *sorted((edge, edge - side * lanes)))
    panels = _landscape(rng, road, 1.5, 80.0)
    board = None if class_name == CLEAR else Board(class_name, x, y, z, size, *_pose(rng))
    if board is not None:
        panels += _front(board, rng)
        panels += _branches(board, rng) if rng.random() < 0.25 else []
    elif rng.random() < 0.5:
        panels += _edge_on(Board(class_name, x, y, z, size, 0, 0, 0))
    behind = z + rng.uniform(2, 9)
    if rng.random() < 0.5:
        panels += _edge_on(Board(class_name, x + rng.normal(0, 0.15), y, behind, size, 0, 0, 0))
    first, second = rng.choice(len(WEATHERS), 2)
    weather = between(WEATHERS[first], WEATHERS[second], rng.uniform())
    return Shot(view, weather, road, tuple(panels), random_lens(rng), board)


def _pose(rng: np.random.Generator) -> tuple[float, float, float]:
    return rng.triangular(-40, 0, 40), rng.normal(0, 4), rng.normal(0, 3)


def _random_road(rng: np.random.Generator, left: float, right: float) -> Road:
    grey = rng.uniform(0.28, 0.48)
    dry = rng.uniform(0, 1)
    grass = (0.30 + 0.18 * dry, 0.42 + 0.02 * dry, 0.18 + 0.06 * dry)
    return Road(left, right, bool(rng.random() < 0.7), (grey, grey, grey + 0.02), grass, int(rng.integers(1 << 16)))


def _landscape(rng: np.random.Generator, road: Road, start: float, stop: float) -> list[Panel]:
    starts = np.arange(start, stop, _STRETCH_M)
    return [panel for z in starts for panel in scatter(rng, road, float(z), float(z) + _STRETCH_M)]


def _front(board: Board, rng: np.random.Generator) -> list[Panel]:
    """The board from its front, worn and shaded, on its pole."""
    face = Panel(halvings(_worn(draw_sign(board.name), rng)), board.corners(), board.z - 0.02, rng.uniform(0.85, 1.1))
    return [_pole(board, board.y, 0.07), face]


def _edge_on(board: Board) -> list[Panel]:
    """The board turned so far that only its edge is seen."""
    half = board.size / 2
    box = [(-0.025, half), (0.025, half), (0.025, -half), (-0.025, -half)]
    corners = np.array([(board.x + x * board.size, board.y + y, board.z) for x, y in box])
    return [_pole(board, board.y, 0.07), Panel(pyramid("pole", 0), corners, board.z - 0.02, 0.8)]


def _pole(board: Board, height: float, width: float) -> Panel:
    left, right = board.x - width / 2, board.x + width / 2
    corners = np.array([(left, height, 0), (right, height, 0), (right, 0, 0), (left, 0, 0)]) + (0, 0, board.z)
    return Panel(pyramid("pole", 0), corners, board.z)


def _worn(sprite: Sprite, rng: np.random.Generator) -> Sprite:
    """A sign after years outside: faded, dirty, under the shadows of leaves, with a gleam."""
    at = rng.integers(0, SIGN_PIXELS, 2)
    patch = np.s_[at[0] : at[0] + SIGN_PIXELS, at[1] : at[1] + SIGN_PIXELS]
    dirt, shade = noise(1.6, 4)[patch], noise(3.2, 5)[patch]
    gain = 1 - rng.uniform(0, 0.3) * dirt
    if rng.random() < 0.35:
        gain = gain * (1 - rng.uniform(0.25, 0.5) * np.clip((shade - 0.5) * 8, 0, 1))
    colour = sprite[..., :3].astype(np.float32)
    grey = colour.mean(2, keepdims=True)
    colour = colour + rng.uniform(0, 0.3) * (grey - colour)
    across = np.linspace(0, rng.uniform(-0.18, 0.18), SIGN_PIXELS, dtype=np.float32)
    worn = sprite.copy()
    worn[..., :3] = np.clip(colour * (gain * (1 + across))[..., None], 0, sprite[..., 3:])
    return worn


def _branches(board: Board, rng: np.random.Generator) -> list[Panel]:
    """A twig that reaches over one corner of the board."""
    reach, corner = board.size * rng.uniform(0.5, 0.8), board.corners()[int(rng.integers(4))]
    away = np.sign(corner - (board.x, board.y, 0))[:2]
    root = corner[:2] + away * board.size * rng.uniform(0.05, 0.2)
    x, y = (root[0], root[0] - away[0] * reach), (root[1], root[1] - away[1] * reach)
    z = board.z - 0.4 * min(board.size, 0.8)
    corners = np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)])
    return [Panel(pyramid("branch", int(rng.integers(VARIANTS))), corners, z, rng.uniform(0.8, 1.1))]


@dataclass(frozen=True)
class DriveSettings:
    """A drive: its length, frame rate, seed and image size."""

    seconds: float
    rate_hz: float
    seed: int
    height: int
    width: int


@dataclass(frozen=True)
class Stop:
    """The frames of a drive around one sign: clear from `start`, the sign from `shown` until before `end`."""

    name: str
    start: int
    shown: int
    end: int


def plan_drive(settings: DriveSettings) -> list[Stop]:
    """Orders the signs of a drive, every class at least once, a new one about every three seconds.

    Raises:
        ConfigError: If there are not three frames for every sign.
    """
    frames = round(settings.seconds * settings.rate_hz)
    count = max(len(SIGNS), round(settings.seconds / 3))
    if frames < 3 * count:
        raise ConfigError(f"a drive of {frames} frames is too short for {count} signs; give it at least {3 * count}")
    rng = np.random.default_rng([settings.seed, 1])
    names = [name for _ in range(0, count, len(SIGNS)) for name in rng.permutation(SIGNS)][:count]
    bounds = [round(i * frames / count) for i in range(count + 1)]
    return [
        Stop(str(name), start, start + max(1, round((end - start) / 3)), end)
        for name, start, end in zip(names, bounds[:-1], bounds[1:], strict=True)
    ]


class Drive:
    """The course of a drive, laid out once; every frame can then be drawn by itself."""

    _focal, _size, _x, _last_m, _first_m = 1.5, 0.8, 0.45, 1.6, 5.0  # the sign grows from 24 to 75 % of the height

    def __init__(self, settings: DriveSettings) -> None:
        self.settings = settings
        self.stops = plan_drive(settings)
        frames = self.stops[-1].end
        self._step_m = (self._first_m - self._last_m) * 1.5 * len(self.stops) / frames
        rng = np.random.default_rng([settings.seed, 2])
        self._road = _random_road(rng, -5.4, 0.2)
        self._panels = _landscape(rng, self._road, 2.0, frames * self._step_m + 100.0)
        self._boards = [
            Board(stop.name, self._x + rng.normal(0, 0.03), 1.5 + rng.normal(0, 0.04), (stop.end - 1) * self._step_m + self._last_m, self._size, 0, rng.normal(0, 2), rng.normal(0, 2))
            for stop in self.stops
        ]
        self._weathers = [WEATHERS[i] for i in rng.permutation(len(WEATHERS))]
        self._lens = replace(random_lens(rng), gain=(1.0, 1.0, 1.0), gamma=1.0, vignette=0.2, defocus=0.001, motion=0.0)

    def shot(self, frame: int) -> Shot:
        """Composes a frame."""
        height, width = self.settings.height, self.settings.width
        z = frame * self._step_m
        horizon = (0.57 + 0.004 * math.sin(z * 2.1)) * height
        centre = (0.38 + 0.006 * math.sin(z * 0.9)) * width
        view = View(height, width, self._focal * height, horizon, centre, 1.4, z, 0.003 * math.sin(z / 25))
        panels, shown = list(self._panels), None
        for i, (stop, board) in enumerate(zip(self.stops, self._boards, strict=True)):
            if stop.shown <= frame < stop.end:
                turning = min(frame - stop.shown, stop.end - 1 - frame)
                shown = replace(board, yaw=-(_TURN_DEG, 8.0, 3.0)[min(turning, 2)])
                panels += _front(shown, np.random.default_rng([self.settings.seed, 3, i]))
            else:
                panels += _edge_on(board)
        along = frame / self.stops[-1].end * (len(self._weathers) - 1)
        weather = between(self._weathers[int(along)], self._weathers[int(along) + 1], along % 1)
        gain = 1 + 0.08 * math.sin(z / 3)
        return Shot(view, weather, self._road, tuple(panels), replace(self._lens, gain=(gain, gain, gain)), shown)


@functools.lru_cache(maxsize=1)
def _drive(settings: DriveSettings) -> Drive:
    return Drive(settings)


def _draw_frame(job: tuple[Path, DriveSettings, int]) -> None:
    path, settings, frame = job
    shot = _drive(settings).shot(frame)
    rng = np.random.default_rng([settings.seed, 4, frame])
    _write_jpeg(path, expose(render(shot.view, shot.weather, shot.road, shot.panels), shot.lens, rng), 92)


def draw_drive(
    output: Path, seconds: float, rate_hz: float, seed: int, *, height: int = 480, width: int = 640, processes: int = 2
) -> Path:
    """Draws a camera drive past every sign: frames/000000.jpg, ... and labels.csv.

    The labels are half-open intervals in seconds from the first frame, without gaps; they change half-way
    between two frames, so that a jitter of the stamps cannot move a frame to another class.

    Args:
        output: The folder to create.
        seconds: Length of the drive.
        rate_hz: Frames per second.
        seed: Decides the drive.
        height: Rows of a frame.
        width: Columns of a frame.
        processes: How many draw at a time; 1 draws in this one.

    Returns:
        `output`; a drive already there with the same settings is kept.

    Raises:
        ConfigError: If there are not three frames for every sign.
        DataError: If `output` cannot be written, or holds something else.
    """
    settings = DriveSettings(seconds, rate_hz, seed, height, width)
    stops = plan_drive(settings)
    jobs = [(f"frames/{i:06d}.jpg", settings, i) for i in range(stops[-1].end)]
    lines = ["start_s,end_s,class"]
    bounds = [(stop.start, stop.shown, CLEAR) for stop in stops] + [(stop.shown, stop.end, stop.name) for stop in stops]
    for first, last, name in sorted(bounds):
        start_s = max(0.0, (first - 0.5) / rate_hz)
        end_s = (last if last == stops[-1].end else last - 0.5) / rate_hz
        lines.append(f"{start_s:.4f},{end_s:.4f},{name}")
    stamp = {"drive": _VERSION, **vars(settings)}

    def fill(folder: Path) -> None:
        (folder / "frames").mkdir()
        (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _each(_draw_frame, [(folder / name, *rest) for name, *rest in jobs], processes, "drawing the drive")

    return _draw_once(output, stamp, fill)


def _draw_image(job: tuple[Path, str, tuple[int, ...], int, int]) -> None:
    path, class_name, seed, height, width = job
    rng = np.random.default_rng(seed)
    _write_jpeg(path, draw_sample(class_name, rng, height, width), int(rng.integers(60, 96)))


def draw_dataset(
    output: Path, train: int, val: int, seed: int, *, height: int = 240, width: int = 320, processes: int = 2
) -> Path:
    """Draws an image folder, `output`/{train,val}/CLASS/000000.jpg, ...

    Args:
        output: The folder to create.
        train: Images a class to train on.
        val: Images a class to validate on.
        seed: Decides all images.
        height: Rows of an image.
        width: Columns of an image.
        processes: How many draw at a time; 1 draws in this one.

    Returns:
        `output`; a data set already there with the same settings is kept.

    Raises:
        ConfigError: If there would be no image.
        DataError: If `output` cannot be written, or holds something else.
    """
    if train < 1 or val < 1:
        raise ConfigError(f"a data set of {train} training and {val} validation images a class; give at least 1 of each")
    stamp = {"dataset": _VERSION, "train": train, "val": val, "seed": seed, "height": height, "width": width}

    def fill(folder: Path) -> None:
        jobs = []
        for part, (split, images) in enumerate((("train", train), ("val", val))):
            for label, name in enumerate(CLASSES):
                (folder / split / name).mkdir(parents=True)
                paths = (folder / split / name / f"{i:06d}.jpg" for i in range(images))
                jobs += [(path, name, (seed, 5 + part, label, i), height, width) for i, path in enumerate(paths)]
        _each(_draw_image, jobs, processes, "drawing the data set")

    return _draw_once(output, stamp, fill)


def _write_jpeg(path: Path, image: RgbBytes, quality: int) -> None:
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    path.write_bytes(encoded.tobytes())


def _each(draw: Callable[..., None], jobs: Sequence[tuple[object, ...]], processes: int, words: str) -> None:
    """Does every job, with a progress bar."""

    def show(done: Iterable[None]) -> None:
        for _ in tqdm(done, words, len(jobs), unit="image"):
            pass

    if processes == 1:
        show(map(draw, jobs))
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of the caller's libraries
    with ProcessPoolExecutor(processes, context, _calm) as pool:
        show(pool.map(draw, jobs, chunksize=8))


def _calm() -> None:
    """A worker uses one core and leaves Ctrl-C to its parent."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_once(output: Path, stamp: dict[str, object], fill: Callable[[Path], None]) -> Path:
    """Fills a folder beside `output` and renames it when it is whole, unless `output` already is what is wanted."""
    part = output.with_name(f".{output.name}.part")
    try:
        if output.exists():
            if not (output / STAMP).is_file():
                raise DataError(f"{output} was not drawn by demo.draw; choose another --output or remove it")
            if json.loads((output / STAMP).read_text(encoding="utf-8")) == stamp:
                return output
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fill(part)
        (part / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        if output.exists():
            shutil.rmtree(output)
        part.rename(output)
    except (OSError, BrokenProcessPool) as error:
        raise DataError(f"{output} cannot be drawn: {error}; check the disk's space and rights") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the data set and the drive; returns an exit code of `errors.py`."""
    parser = argparse.ArgumentParser(prog="python -m demo.draw", description="Draws the demo's data set and camera drive.")
    parser.add_argument("--output", type=Path, required=True, help="folder that gets dataset/ and drive/")
    parser.add_argument("--train", type=int, default=120, help="training images a class (default: %(default)s)")
    parser.add_argument("--val", type=int, default=30, help="validation images a class (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=24.0, help="length of the drive (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides every picture (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        print(draw_dataset(arguments.output / "dataset", arguments.train, arguments.val, arguments.seed))
        print(draw_drive(arguments.output / "drive", arguments.seconds, 10.0, arguments.seed))
    except PerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
