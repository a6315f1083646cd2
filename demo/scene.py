"""Renders the demo's scene: a road through a landscape, before a pinhole camera.

Metres: x to the right, y up from the ground, z forward. Everything that stands or lies about is a `Panel`, a
sprite stretched over four corners in space; ground and sky are computed for each pixel. Images are float32 RGB
in [0, 1] until the lens makes them bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.scenery import NOISE_PIXELS, noise
from demo.signs import Sprite

Image: TypeAlias = NDArray[np.float32]
"""(H, W, 3) RGB in [0, 1]."""
Rgb: TypeAlias = tuple[float, float, float]
_FAR_M, _NEAR_M = 110.0, 0.45


@dataclass(frozen=True)
class View:
    """The pinhole camera that looks along the road. The road's vanishing point is at (`centre`, `horizon`).

    Attributes:
        height: Rows of the image.
        width: Columns of the image.
        focal: Focal length, pixels.
        horizon: Row of the horizon, pixels.
        centre: Column of the vanishing point, pixels.
        eye: Height over the ground, metres.
        z: Place along the road, metres; x is 0.
        bend: Sideways drift of the road ahead, 1 / metres: x = bend * distance^2.
    """

    height: int
    width: int
    focal: float
    horizon: float
    centre: float
    eye: float
    z: float
    bend: float

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Pixels (n, 2: u, v) of points (n, 3) in front of the camera."""
        depth = points[:, 2] - self.z
        u = self.centre + self.focal * (points[:, 0] + self.bend * depth**2) / depth
        return np.stack([u, self.horizon + self.focal * (self.eye - points[:, 1]) / depth], 1).astype(np.float32)


@dataclass(frozen=True)
class Weather:
    """The light, the sky and the haze of a scene.

    Attributes:
        zenith: Colour of the sky overhead.
        skyline: Colour of the sky at the horizon, and of the haze.
        light: Gain on everything lit.
        haze_m: Distance at which 63 % of a thing is haze.
        clouds: Share of the sky that is clouded, in [0, 1].
        sun: Strength of sunlight: shadows and glow, in [0, 1].
    """

    zenith: Rgb
    skyline: Rgb
    light: Rgb
    haze_m: float
    clouds: float
    sun: float


WEATHERS = (
    Weather((0.22, 0.45, 0.80), (0.74, 0.85, 0.93), (1.10, 1.07, 1.00), 260.0, 0.40, 1.0),  # a clear noon
    Weather((0.32, 0.42, 0.66), (0.98, 0.82, 0.62), (1.12, 0.96, 0.78), 150.0, 0.35, 0.9),  # golden evening
    Weather((0.56, 0.60, 0.65), (0.80, 0.82, 0.84), (0.86, 0.88, 0.92), 130.0, 0.90, 0.1),  # overcast
    Weather((0.70, 0.74, 0.78), (0.84, 0.86, 0.87), (0.88, 0.89, 0.90), 38.0, 0.60, 0.0),  # mist
    Weather((0.20, 0.27, 0.48), (0.82, 0.62, 0.58), (0.72, 0.70, 0.80), 160.0, 0.45, 0.1),  # dusk
)


def between(first: Weather, second: Weather, share: float) -> Weather:
    """The weather a share in [0, 1] of the way from the first to the second."""

    def mix(a: Rgb, b: Rgb) -> Rgb:
        red, green, blue = ((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
        return red, green, blue

    haze = math.exp((1 - share) * math.log(first.haze_m) + share * math.log(second.haze_m))
    clouds, sun = ((1 - share) * a + share * b for a, b in ((first.clouds, second.clouds), (first.sun, second.sun)))
    colours = (mix(first.zenith, second.zenith), mix(first.skyline, second.skyline), mix(first.light, second.light))
    return Weather(*colours, haze, clouds, sun)


@dataclass(frozen=True)
class Panel:
    """A picture with transparency, stretched over four corners in space.

    Attributes:
        levels: The sprite and its halvings.
        corners: (4, 3) metres: top left, top right, bottom right, bottom left.
        order: Metres along the road by which panels are drawn, farthest first.
        gain: Brightness of this one.
        hazed: Whether the air hides it with distance.
        name: What it is, for whoever asks what a pixel shows; empty for shadows, through which the ground is seen.
    """

    levels: tuple[Sprite, ...]
    corners: NDArray[np.float64]
    order: float
    gain: float = 1.0
    hazed: bool = True
    name: str = ""


@dataclass(frozen=True)
class Road:
    """The road's two edges (x, metres), the markings, and the seed of the grain of everything on the ground."""

    left: float
    right: float
    dashed: bool
    asphalt: Rgb
    grass: Rgb
    seed: int


def render(view: View, weather: Weather, road: Road, panels: Sequence[Panel]) -> Image:
    """Returns the light that reaches the camera, before its lens and sensor."""
    image = _sky(view, weather, road.seed)
    _ground(image, view, weather, road)
    for panel in by_distance(panels):
        _paste(image, panel, view, weather)
    return image


def by_distance(panels: Sequence[Panel]) -> list[Panel]:
    """Returns panels as they are drawn: the farthest first."""
    return sorted(panels, key=lambda panel: -panel.order)


def _sample(tile: NDArray[np.float32], x: NDArray[Any], y: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """A noise tile repeated every `scale` units, at every (x, y)."""
    texels = NOISE_PIXELS / scale
    at = (np.mod(x * texels, NOISE_PIXELS).astype(np.float32), np.mod(y * texels, NOISE_PIXELS).astype(np.float32))
    return cv2.remap(tile, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32, copy=False)


def _above_horizon(view: View) -> tuple[NDArray[Any], NDArray[Any]]:
    """Tangents of the angles up, (rows, 1), and to the right, (1, width), down to just below the horizon."""
    rows = min(view.height, max(1, math.ceil(view.horizon) + 2))
    up = np.maximum((view.horizon - np.arange(rows, dtype=np.float32)[:, None]) / view.focal, 0)
    right = (np.arange(view.width, dtype=np.float32)[None, :] - view.centre) / view.focal
    return up, right


def _ridge(layer: int, up: NDArray[Any], right: NDArray[Any], view: View, seed: int) -> NDArray[Any]:
    """Returns how much of each pixel a line of hills or woods covers, in [0, 1]."""
    tall, rough, _, _ = _RIDGES[layer]
    profile = noise(rough, 11 + layer)[seed % NOISE_PIXELS]
    top = tall * (0.35 + np.interp((right[0] * 150 + seed) % NOISE_PIXELS, np.arange(NOISE_PIXELS), profile))
    covered: NDArray[Any] = np.clip((top[None, :] - up) * view.focal + 0.5, 0, 1)
    return covered


def hills(view: View, seed: int) -> NDArray[np.bool_]:
    """Returns where hills or woods are seen before the sky: (rows, width), of the image's first rows."""
    up, right = _above_horizon(view)
    hilly = np.zeros((len(up), view.width), bool)
    for layer in range(len(_RIDGES)):
        hilly |= _ridge(layer, up, right, view, seed) > 0.5
    return hilly


def _sky(view: View, weather: Weather, seed: int) -> Image:
    """Sky, clouds, hills and a line of woods, down to just below the horizon."""
    image = np.empty((view.height, view.width, 3), np.float32)
    skyline, zenith, light = (np.array(c, np.float32) for c in (weather.skyline, weather.zenith, weather.light))
    up, right = _above_horizon(view)
    sky = skyline + (zenith - skyline) * np.clip(up * 2.0, 0, 1)[..., None] ** 0.6
    glow = weather.sun * np.exp(-((right + 0.3) ** 2 / 0.15 + (up - 0.12) ** 2 / 0.03))[..., None]
    sky = sky + glow * np.array([0.30, 0.22, 0.10], np.float32)
    away = 1 / (up + 0.06) + np.zeros_like(right)
    x, y = right * away, away + view.z * 0.002 + seed % 97
    density = _sample(noise(3.0, seed % 5), x, y, 14.0) * 0.75 + _sample(noise(2.2, seed % 5), y, x, 5.0) * 0.25
    cover = np.clip((density - 1 + weather.clouds * 0.9) * 4, 0, 1) * np.clip(up * 9, 0, 1)
    cloud = np.clip(skyline * 0.35 + light * 0.6 - 0.18 * density[..., None] ** 2, 0, 1)
    sky += (cloud - sky) * (0.85 * cover)[..., None]
    for layer, (_, _, colour, haze) in enumerate(_RIDGES):
        body = _ridge(layer, up, right, view, seed)[..., None]
        share = 1 - math.exp(-haze / weather.haze_m)
        sky += ((1 - share) * np.array(colour, np.float32) * light + share * skyline - sky) * body
    image[: len(up)] = sky
    image[len(up) :] = skyline
    return image


_RIDGES = (
    (0.075, 3.4, (0.34, 0.42, 0.50), 190.0),
    (0.040, 2.8, (0.30, 0.38, 0.30), 90.0),
    (0.022, 1.6, (0.20, 0.28, 0.17), 60.0),
)
_FIELDS = np.array(
    [
        (0.44, 0.48, 0.22),
        (0.66, 0.58, 0.34),
        (0.36, 0.46, 0.20),
        (0.46, 0.38, 0.26),
        (0.58, 0.58, 0.26),
        (0.30, 0.42, 0.18),
    ],
    np.float32,
)


@dataclass(frozen=True, eq=False)
class GroundPixels:
    """What pixels show of the ground, each array (rows, columns).

    Attributes:
        x: Metres to the right.
        z: Metres along the road.
        depth: Metres ahead of the camera.
        wide: Metres of the ground across that a pixel covers.
        long: The same along the road.
        fine: Texture of pebbles and blades.
        coarse: Texture of patches.
    """

    x: NDArray[Any]
    z: NDArray[Any]
    depth: NDArray[Any]
    wide: NDArray[Any]
    long: NDArray[Any]
    fine: NDArray[Any]
    coarse: NDArray[Any]

    def band(self, left: float, right: float) -> NDArray[Any]:
        """Returns how much of each pixel the strip left < x < right covers, in [0, 1]."""
        from_left = np.clip((self.x - left) / self.wide + 0.5, 0, 1)
        covered: NDArray[Any] = from_left * np.clip((right - self.x) / self.wide + 0.5, 0, 1)
        return covered


def _ground(image: Image, view: View, weather: Weather, road: Road) -> None:
    """Road, verges and fields, pixel by pixel; what is finer than a pixel fades into its mean."""
    first = first_row_of_ground(view)
    if first >= view.height:
        return
    ground = ground_below(first, view)
    colour = _fields(ground, road)
    _draw_road(colour, ground, road)
    dapple = np.clip((_sample(noise(2.0, 3), ground.x, ground.z, 16.0) - 0.62) * 6, 0, 1)
    dapple *= np.clip(0.8 / ground.long, 0, 1)
    colour *= (1 - 0.4 * weather.sun * dapple)[..., None]
    haze = (1 - np.exp(-ground.depth / weather.haze_m))[..., None]
    image[first:] = (
        colour * np.array(weather.light, np.float32) * (1 - haze) + np.array(weather.skyline, np.float32) * haze
    )


def first_row_of_ground(view: View) -> int:
    """Returns the first row of the image that shows the ground; its height where none does."""
    return min(view.height, max(0, math.ceil(view.horizon + 0.8)))


def ground_below(first: int, view: View) -> GroundPixels:
    """Returns what the pixels from a row on, below the horizon, show of the ground."""
    below = np.arange(first, view.height, dtype=np.float32)[:, None] + 0.5 - view.horizon
    depth = np.broadcast_to(view.focal * view.eye / below, (view.height - first, view.width))
    x = (
        np.arange(view.width, dtype=np.float32)[None, :] + 0.5 - view.centre
    ) * depth / view.focal - view.bend * depth**2
    z = depth + view.z
    wide = depth / view.focal  # a pixel's footprint on the ground, metres
    long = depth**2 / (view.focal * view.eye)
    fine = (_sample(noise(0.9, 1), x, z, 5.0) - 0.5) * np.clip(0.12 / (long + wide), 0, 1)
    coarse = _sample(noise(2.4, 2), x, z, 38.0) - 0.5
    return GroundPixels(x, z, depth, wide, long, fine, coarse)


def _fields(ground: GroundPixels, road: Road) -> NDArray[Any]:
    """Returns the colours of grass and of what grows beyond it."""
    x = ground.x
    fine = ground.fine
    coarse = ground.coarse
    grass = np.array(road.grass, np.float32) * (1 + 0.7 * fine + 0.45 * coarse)[..., None]
    index = (np.floor(ground.z / 42).astype(np.int64) * 2 + (x > 0) + road.seed) % len(_FIELDS)
    rows = 0.10 * np.sin(x * 4.0) * np.clip(0.3 / ground.wide - 1, 0, 1)
    field = _FIELDS[index] * (1 + rows + 0.5 * fine + 0.3 * coarse)[..., None]
    beyond = np.clip((np.maximum(road.left - x, x - road.right) - 9) / (0.4 + ground.wide), 0, 1)
    return grass + (field - grass) * beyond[..., None]


def _draw_road(colour: NDArray[Any], ground: GroundPixels, road: Road) -> None:
    """Lays gravel, asphalt and paint over the fields, in place."""
    fine = ground.fine
    coarse = ground.coarse
    gravel = ground.band(road.left - 0.35, road.right + 0.35) * (0.6 + 0.4 * np.clip(coarse * 3, -1, 1))
    colour += (np.array([0.56, 0.52, 0.45], np.float32) * (1 + 0.8 * fine)[..., None] - colour) * gravel[..., None]
    tar = np.array(road.asphalt, np.float32) * (1 + 0.5 * fine + 0.22 * coarse)[..., None]
    colour += (tar - colour) * ground.band(road.left, road.right)[..., None]
    paint = ground.band(road.left + 0.12, road.left + 0.24) + ground.band(road.right - 0.24, road.right - 0.12)
    middle = (road.left + road.right) / 2
    phase = np.mod(ground.z, 4.0)
    dash = np.clip((np.minimum(phase, 4.0 - phase) * -1 + 1.0) / ground.long + 0.5, 0, 1) if road.dashed else 1.0
    paint = paint + ground.band(middle - 0.07, middle + 0.07) * dash
    colour += (np.float32(0.88) * (1 + 0.5 * fine)[..., None] - colour) * (paint * 0.85)[..., None]


@dataclass(frozen=True, eq=False)
class Projection:
    """A panel as the camera sees it.

    Attributes:
        region: The part of the image, rows and columns, that it may cover.
        patch: (rows, columns, 4) float32 premultiplied RGBA in [0, 1] of that part.
        ahead: Metres to its nearest edge.
    """

    region: tuple[slice, slice]
    patch: NDArray[Any]
    ahead: float


def project(panel: Panel, view: View) -> Projection | None:
    """Returns one panel, clipped to the image and to what is before the camera; None where it is not seen."""
    levels = panel.levels
    corners = panel.corners
    ahead = corners[:, 2] - view.z
    if ahead.max() < _NEAR_M + 0.05 or ahead.min() > _FAR_M:
        return None
    left = 0.0
    right = 1.0
    if ahead.min() < _NEAR_M:  # only panels along the road are long enough; their right edge is the near one
        if ahead[0] == ahead[1]:
            return None
        right = (ahead[0] - _NEAR_M) / (ahead[0] - ahead[1])
        corners = corners.copy()
        corners[1] += (corners[0] - corners[1]) * (1 - right)
        corners[2] += (corners[3] - corners[2]) * (1 - right)
    target = view.project(corners)
    low = np.maximum(np.floor(target.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(target.max(0)).astype(int) + 2, (view.width, view.height))
    if (high <= low).any():
        return None
    size = max(np.ptp(target[:, 0]) / (right - left), np.ptp(target[:, 1]), 1.0)
    texture = levels[int(np.clip(math.log2(max(levels[0].shape[:2]) / size), 0, len(levels) - 1))]
    rows, columns = texture.shape[:2]
    source = np.array([(0, 0), (columns * right, 0), (columns * right, rows), (0, rows)], np.float32) - 0.5
    warp = cv2.getPerspectiveTransform(source, (target - low - 0.5).astype(np.float32))
    extent = (int(high[0] - low[0]), int(high[1] - low[1]))
    patch = cv2.warpPerspective(texture, warp, extent, flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    region = (slice(low[1], high[1]), slice(low[0], high[0]))
    return Projection(region, patch, float(ahead.min()))


def _paste(image: Image, panel: Panel, view: View, weather: Weather) -> None:
    """Draws one panel."""
    seen = project(panel, view)
    if seen is None:
        return
    alpha = seen.patch[..., 3:]
    share = 1 - math.exp(-max(seen.ahead, 0.0) / weather.haze_m) if panel.hazed else 0.0
    gain = np.array(weather.light, np.float32) * (panel.gain * (1 - share))
    region = image[seen.region]
    region *= 1 - alpha
    region += seen.patch[..., :3] * gain + alpha * (np.array(weather.skyline, np.float32) * share)
