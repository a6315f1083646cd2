"""How many images a rewritten graph takes at once: tried out, one, two and three of them."""

from __future__ import annotations

import numpy as np

from cnn_perception.errors import ModelError
from training.adopt.graph.image_input import ImageInput
from training.adopt.graph.rewriting import IMAGE, LOGITS, Rewritten, with_free_batch, with_one_image
from training.adopt.graph.tensors import Array, runner

_TRIED = 3
_TOLERANCE = 0.05
"""Share of the largest logit by which those of images that are computed together may differ: 8 bits round otherwise."""


def settled(found: Rewritten, image: ImageInput, where: str) -> tuple[Rewritten, bool]:
    """Returns the graph that takes the most images, and whether that is any number; else it takes one alone.

    Raises:
        ModelError: If it takes some other number alone.
    """
    at_once = image.batch or 1
    random = np.random.default_rng(0)
    images = random.standard_normal((at_once * -(-_TRIED // at_once), 3, image.height, image.width), np.float32)
    expected = _rows(found, images, at_once)
    as_it_is = [found] if image.batch is None else []
    for free in (*as_it_is, with_free_batch(found, at_once)):
        if _agrees(free, images, expected):
            return free, True
    if at_once != 1:
        raise ModelError(f"{where}: takes {at_once} images at once alone; export it for a batch of 1, or of any")
    return with_one_image(found), False


def _rows(found: Rewritten, images: Array, at_once: int) -> Array:
    """Returns the logits of images, so many of them at once."""
    run = runner(found.proto, [LOGITS])
    starts = range(0, len(images), at_once)
    return np.concatenate([run({IMAGE: images[start : start + at_once]})[0] for start in starts])


def _agrees(free: Rewritten, images: Array, expected: Array) -> bool:
    """Whether batches of one, two and three images have the logits that are expected, row by row."""
    allowed = _TOLERANCE * max(float(np.abs(expected).max()), 1e-6)
    try:
        for count in range(1, _TRIED + 1):
            logits = _rows(free, images[:count], count)
            if len(logits) != count or not np.abs(logits - expected[:count]).max() <= allowed:
                return False
    except ModelError:
        return False
    return True
