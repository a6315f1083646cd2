"""Composes the pictures of the demo: single shots of a sign, and the frames of a drive past all of them.

The signs stand on a test course: seen from far, a board is turned edge-on; at about a quarter of the image's
height it turns to face the robot, and turns away again as the robot passes. So every frame of the drive has one
undisputed class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cnn_perception.errors import ConfigError
from demo.landscape import landscape, random_road
from demo.lens import Lens, random_lens
from demo.scene import WEATHERS, Panel, Road, View, Weather, between
from demo.scenery import VARIANTS, halvings, noise, pyramid
from demo.signs import SIGN_PIXELS, SIGNS, Sprite, draw_sign

CLEAR = "clear_road"
CLASSES: tuple[str, ...] = tuple(sorted((CLEAR, *SIGNS)))
_MOST_FRAMES = 1_000_000  # as many as six digits can number
SIGN_S = 3.0
_TURN_DEG = (35.0, 8.0, 3.0)
"""How far a board is turned in its first and last frames."""


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


def random_shot(class_name: str, rng: np.random.Generator, height: int, width: int) -> Shot:
    """Returns a random picture of a class, for `draw_sample`; the sign covers 23 to 77 % of the height."""
    focal = rng.uniform(1.2, 1.7) * height
    eye = rng.uniform(1.1, 1.7)
    horizon = rng.uniform(0.46, 0.66) * height
    centre = rng.uniform(0.25, 0.75) * width
    view = View(height, width, focal, horizon, centre, eye, 0.0, rng.uniform(-0.004, 0.004))
    tall = float(np.exp(rng.uniform(math.log(0.23), math.log(0.77)))) * height
    size = rng.uniform(0.7, 0.95)
    z = focal * size / tall
    u = rng.uniform(0.42 * tall, width - 0.42 * tall) if tall < width else width / 2
    v = rng.uniform(0.48 * tall, max(0.48 * tall, min(height - 0.48 * tall, horizon + 0.1 * height)))
    x = (u - centre) * z / focal - view.bend * z**2
    y = max(eye + (horizon - v) * z / focal, size * 0.7)
    side = 1 if u > centre else -1
    edge = x - side * rng.uniform(0.1, 0.45)
    lanes = rng.uniform(3.5, 6.5)
    road = random_road(rng, *sorted((edge, edge - side * lanes)))
    panels = landscape(rng, road, 1.5, 80.0)
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
    """Yaw, pitch and roll of a board that a driver can still read, degrees."""
    return rng.triangular(-40, 0, 40), rng.normal(0, 4), rng.normal(0, 3)


def _front(board: Board, rng: np.random.Generator) -> list[Panel]:
    """The board from its front, worn and shaded, on its pole."""
    levels = halvings(_worn(draw_sign(board.name), rng))
    face = Panel(levels, board.corners(), board.z - 0.02, rng.uniform(0.85, 1.1), name=board.name)
    return [_pole(board, board.y, 0.07), face]


def _edge_on(board: Board) -> list[Panel]:
    """The board turned so far that only its edge is seen."""
    half = board.size / 2
    box = [(-0.025, half), (0.025, half), (0.025, -half), (-0.025, -half)]
    corners = np.array([(board.x + x * board.size, board.y + y, board.z) for x, y in box])
    return [_pole(board, board.y, 0.07), Panel(pyramid("pole", 0), corners, board.z - 0.02, 0.8, name="pole")]


def _pole(board: Board, height: float, width: float) -> Panel:
    left, right = board.x - width / 2, board.x + width / 2
    corners = np.array([(x, y, board.z) for x, y in ((left, height), (right, height), (right, 0), (left, 0))])
    return Panel(pyramid("pole", 0), corners, board.z, name="pole")


def _worn(sprite: Sprite, rng: np.random.Generator) -> Sprite:
    """A sign after years outside: faded, dirty, under the shadows of leaves, with a gleam."""
    at = rng.integers(0, SIGN_PIXELS, 2)
    patch = np.s_[at[0] : at[0] + SIGN_PIXELS, at[1] : at[1] + SIGN_PIXELS]
    dirt = noise(1.6, 4)[patch]
    shade = noise(3.2, 5)[patch]
    gain = 1 - rng.uniform(0, 0.3) * dirt
    if rng.random() < 0.35:
        gain = gain * (1 - rng.uniform(0.25, 0.5) * np.clip((shade - 0.5) * 8, 0, 1))
    colour = sprite[..., :3].astype(np.float32)
    grey = colour.mean(2, keepdims=True)
    colour = colour + rng.uniform(0, 0.3) * (grey - colour)
    across = np.linspace(0, rng.uniform(-0.18, 0.18), SIGN_PIXELS, dtype=np.float32)
    worn: Sprite = sprite.copy()
    worn[..., :3] = np.clip(colour * (gain * (1 + across))[..., None], 0, sprite[..., 3:])
    return worn


def _branches(board: Board, rng: np.random.Generator) -> list[Panel]:
    """A twig that reaches over one corner of the board."""
    reach = board.size * rng.uniform(0.5, 0.8)
    corner = board.corners()[int(rng.integers(4))]
    away = np.sign(corner - (board.x, board.y, 0))[:2]
    root = corner[:2] + away * board.size * rng.uniform(0.05, 0.2)
    x, y = (root[0], root[0] - away[0] * reach), (root[1], root[1] - away[1] * reach)
    z = board.z - 0.4 * min(board.size, 0.8)
    corners = np.array([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)])
    return [Panel(pyramid("branch", int(rng.integers(VARIANTS))), corners, z, rng.uniform(0.8, 1.1), name="tree")]


@dataclass(frozen=True)
class DriveSettings:
    """A drive: its length, frame rate, seed, image size, and how long it takes from one sign to the next."""

    seconds: float
    rate_hz: float
    seed: int
    height: int
    width: int
    sign_s: float = SIGN_S


@dataclass(frozen=True)
class Stop:
    """The frames of a drive around one sign: clear from `start`, the sign from `shown` until before `end`."""

    name: str
    start: int
    shown: int
    end: int


def plan_drive(settings: DriveSettings) -> list[Stop]:
    """Returns the signs of a drive in order, every class at least once, a new one about every `sign_s` seconds.

    Raises:
        ConfigError: If there are not three frames for every sign, or too many to number.
    """
    if not 0 < settings.seconds * settings.rate_hz < _MOST_FRAMES:
        raise ConfigError(f"a drive of {settings.seconds} s at {settings.rate_hz} Hz; give 24 s at 10 Hz, for instance")
    frames = round(settings.seconds * settings.rate_hz)
    count = max(len(SIGNS), round(settings.seconds / settings.sign_s))
    if frames < 3 * count:
        raise ConfigError(f"a drive of {frames} frames is too short for {count} signs; give it at least {3 * count}")
    rng = np.random.default_rng([settings.seed, 1])
    names: list[str] = []
    while len(names) < count:
        names += [str(name) for name in rng.permutation(SIGNS)]
    bounds = [round(i * frames / count) for i in range(count + 1)]
    return [
        Stop(name, start, start + max(1, round((end - start) / 3)), end)
        for name, start, end in zip(names[:count], bounds[:-1], bounds[1:], strict=True)
    ]


class Drive:
    """The road, the signs and the weather of a drive; each of its frames can be drawn by itself."""

    _focal = 1.5
    _size = 0.8
    _x = 0.45
    _last_m = 1.6
    _first_m = 5.0
    # With these the sign grows from 24 to 75 % of the image's height.

    def __init__(self, settings: DriveSettings) -> None:
        self.settings = settings
        self.stops = plan_drive(settings)
        frames = self.stops[-1].end
        self._step_m = (self._first_m - self._last_m) * 1.5 * len(self.stops) / frames
        rng = np.random.default_rng([settings.seed, 2])
        self._road = random_road(rng, -5.4, 0.2)
        self._panels = landscape(rng, self._road, 2.0, frames * self._step_m + 100.0)
        self._boards = [self._board(stop, rng) for stop in self.stops]
        self._weathers = [WEATHERS[i] for i in rng.permutation(len(WEATHERS))]
        self._lens = Lens(
            gain=(1.0, 1.0, 1.0),
            gamma=1.0,
            vignette=0.2,
            defocus=0.001,
            motion=0.0,
            motion_deg=0.0,
            shot=0.02,
            read=0.006,
        )

    def _board(self, stop: Stop, rng: np.random.Generator) -> Board:
        return Board(
            name=stop.name,
            x=self._x + rng.normal(0, 0.03),
            y=1.5 + rng.normal(0, 0.04),
            z=(stop.end - 1) * self._step_m + self._last_m,
            size=self._size,
            yaw=0,
            pitch=rng.normal(0, 2),
            roll=rng.normal(0, 2),
        )

    def shot(self, frame: int) -> Shot:
        """Returns the picture of a frame."""
        height, width = self.settings.height, self.settings.width
        z = frame * self._step_m
        horizon = (0.57 + 0.004 * math.sin(z * 2.1)) * height
        centre = (0.38 + 0.006 * math.sin(z * 0.9)) * width
        view = View(height, width, self._focal * height, horizon, centre, 1.4, z, 0.003 * math.sin(z / 25))
        panels = list(self._panels)
        shown = None
        for i, (stop, board) in enumerate(zip(self.stops, self._boards, strict=True)):
            if stop.shown <= frame < stop.end:
                turning = min(frame - stop.shown, stop.end - 1 - frame)
                shown = replace(board, yaw=-_TURN_DEG[min(turning, 2)])
                panels += _front(shown, np.random.default_rng([self.settings.seed, 3, i]))
            else:
                panels += _edge_on(board)
        along = frame / self.stops[-1].end * (len(self._weathers) - 1)
        weather = between(self._weathers[int(along)], self._weathers[int(along) + 1], along % 1)
        gain = 1 + 0.08 * math.sin(z / 3)
        return Shot(view, weather, self._road, tuple(panels), replace(self._lens, gain=(gain, gain, gain)), shown)
