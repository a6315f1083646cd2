"""Which of the frames that changed are shown, apart in time, and their pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from cnn_perception.bag.reader import Bag
from cnn_perception.comparison.comparison import ChangedFrame
from cnn_perception.comparison.difference import EVENT_S
from cnn_perception.errors import BagError, FrameError
from cnn_perception.image.messages import EncodedFile, EncodedImage, Overrides, RgbImage, decode
from cnn_perception.label_text import text_of

MOST_PICTURES = 12
"""Of the newly wrong, and of the newly right."""
_WIDTH, _HEIGHT = 480, 720
"""Larger pictures are reduced, in pixels."""


class ReadFrame(Protocol):
    """A frame as `evaluation.labelled_frames` reads it."""

    @property
    def content(self) -> EncodedImage | EncodedFile | FrameError:
        """The image, or why there is none."""


@dataclass(frozen=True)
class Shown:
    """The frames of one kind that are shown.

    Attributes:
        frames: In order of time.
        events: Of how many events they were chosen, each of frames that follow each other within a second.
    """

    frames: tuple[ChangedFrame, ...]
    events: int


def chosen(changed: Sequence[ChangedFrame]) -> Shown:
    """Returns one frame of each of the largest events; of equally large ones, some of each kind of change."""
    events = _events(changed)
    ranks: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    ranked: list[tuple[float, int, int]] = []
    for event in events:
        kind = _kind(event[0])
        ranked.append((-sum(abs(one.gain) for one in event), ranks[kind], len(ranked)))
        ranks[kind] += 1
    kept = sorted(number for _, _, number in sorted(ranked)[:MOST_PICTURES])
    return Shown(tuple(_most_changed(events[number]) for number in kept), len(events))


def pictures_of(frames: Iterable[ReadFrame], wanted: Collection[int]) -> dict[int, RgbImage]:
    """Returns the pictures of some frames of a recording by their indices; those that cannot be read are left out.

    Args:
        frames: All frames of the recording, in order; read up to the last one that is wanted.
        wanted: Their indices.
    """
    found: dict[int, RgbImage] = {}
    if not wanted:
        return found
    for index, frame in enumerate(frames):
        if index in wanted and not isinstance(frame.content, FrameError):
            with suppress(FrameError):
                found[index] = reduced(decode(frame.content))
        if index >= max(wanted):
            break
    return found


def pictures_of_bags(changed: Iterable[ChangedFrame], overrides: Overrides) -> dict[tuple[str, str, int], RgbImage]:
    """Returns the pictures of frames of several bags by bag, topic and index; those that cannot be read are left out.

    Args:
        changed: The frames.
        overrides: What is known better of the images than they say themselves.
    """
    wanted: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for one in changed:
        wanted[one.frame.bag, one.frame.topic].add(one.frame.index)
    found = {}
    for (path, topic), indices in wanted.items():
        with suppress(BagError), Bag(Path(path)) as bag:
            images = (_Image(one.frame, overrides) for one in bag.images(bag.image_topic(topic)))
            for index, image in pictures_of(images, indices).items():
                found[path, topic, index] = image
    return found


class _Image:
    """A message of a bag, overridden."""

    def __init__(self, content: EncodedImage | EncodedFile | FrameError, overrides: Overrides) -> None:
        self.content = content if isinstance(content, FrameError) else content.overridden(overrides)


def reduced(image: RgbImage) -> RgbImage:
    """Returns an (H, W, 3) uint8 picture of at most the size that a page shows."""
    height, width = image.shape[:2]
    scale = min(1.0, _WIDTH / width, _HEIGHT / height)
    if scale == 1.0:
        return image
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return RgbImage(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def _events(changed: Sequence[ChangedFrame]) -> list[list[ChangedFrame]]:
    """Returns frames by event: like changes in a row; of numbers, those of a second; each image of a folder."""
    events: list[list[ChangedFrame]] = []
    for one in changed:
        if events and _is_like(events[-1], one):
            events[-1].append(one)
        else:
            events.append([one])
    return events


def _is_like(event: Sequence[ChangedFrame], changed: ChangedFrame) -> bool:
    frame = changed.frame
    last = event[0] if isinstance(frame.truth, tuple) else event[-1]
    if not frame.time_ns or last.frame.bag != frame.bag or _kind(last) != _kind(changed):
        return False
    return frame.time_ns - last.frame.time_ns < EVENT_S * 1e9


def _most_changed(event: Sequence[ChangedFrame]) -> ChangedFrame:
    """Returns the frame that changed most, of equal ones that in the middle."""
    most = max(abs(one.gain) for one in event)
    equal = [one for one in event if abs(one.gain) == most]
    return equal[len(equal) // 2]


def _kind(changed: ChangedFrame) -> tuple[str, str, str]:
    frame = changed.frame
    if isinstance(frame.truth, tuple):
        return frame.bag, "", ""
    return text_of(frame.truth), text_of(frame.theirs.given), text_of(frame.ours.given)
