"""How many images a rewritten graph takes at once: tried out, one, two and three of them."""

from __future__ import annotations

import numpy as np

from cnn_perception.errors import ModelError
from training.adopt.image_input import ImageInput
from training.adopt.rewriting import IMAGE, LOGITS, Rewritten, with_free_batch
from training.adopt.tensors import Array, runner

_TRIED = 3
_TOLERANCE = 0.05
"""Share of the largest logit by which those of images that are computed together may differ: 8 bits round otherwise."""


def settled(found: Rewritten, image: ImageInput, where: str) -> tuple[Rewritten, bool]:
    """Returns the graph that takes the most images, and whether that is any number; else it takes one alone.

    Raises:
        ModelError: If it takes some other number alone.
    """
    random = np.random.default_rng(0)
    shape = (max(_TRIED, image.batch or 1), 3, image.height, image.width)
    images = random.standard_normal(shape, np.float32)
    if image.batch is None:
        free = found
        alone = _rows(found, images, 1)
    else:
        free = with_free_batch(found, image.batch)
        alone = _rows(found, images, image.batch)
    if _agrees(free, images, alone):
        return free, True
    if image.batch is None:
        raise ModelError(
            f"{where}: answers several images at once otherwise than one by one; export it for a batch of 1"
        )
    if image.batch != 1:
        raise ModelError(f"{where}: takes {image.batch} images at once alone; export it for a batch of 1, or any")
    return found, False


def _rows(found: Rewritten, images: Array, at_once: int) -> Array:
    """Returns the logits of images, so many of them at once."""
    run = runner(found.proto, [LOGITS])
    starts = range(0, len(images) - at_once + 1, at_once)
    return np.concatenate([run({IMAGE: images[start : start + at_once]})[0] for start in starts])


def _agrees(free: Rewritten, images: Array, expected: Array) -> bool:
    """Whether batches of one, two and three images have the logits that are expected, row by row."""
    try:
        for count in range(1, _TRIED + 1):
            logits = _rows(free, images[:count], count)
            compared = expected[: len(logits)]
            if len(logits) != count:
                return False
            if np.abs(logits[: len(compared)] - compared).max() > _TOLERANCE * max(float(np.abs(compared).max()), 1e-6):
                return False
    except ModelError:
        return False
    return True
