"""The pointing game: whether the strongest place of the activation map lies on what the answer names, by masks.

Source: J. Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016: a hit within 15 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError, FrameError
from cnn_perception.image.messages import read_image
from cnn_perception.intervals import Estimate
from cnn_perception.masks.folder import Masks
from cnn_perception.masks.placing import placed
from training.graphs.activation_map import ActivatedClassifier, shown_logit
from training.look.methods.evidence import Flags, Numbers, pointing_game
from training.look.section import Block
from training.look.subject import Subject

_MOST_IMAGES = 60
_NONE = "none of the images has a mask that shows the class which was answered"


def pointing(subject: Subject, network: ActivatedClassifier) -> tuple[list[Block], dict[str, Any]]:
    """Plays the pointing game on images with masks, as far as these show the class that was answered.

    Args:
        subject: With `options.masks`; nothing is shown without.
        network: Gives the activation map.
    """
    masks = subject.options.masks
    if masks is None:
        return [], {"missing": "needs --masks"}
    try:
        maps, shown = _examples(subject, network, masks)
    except DataError as error:
        return [], {"missing": str(error)}
    found = pointing_game(maps, shown)
    if found is None:
        return [], {"missing": _NONE}
    centre = pointing_game([_central(cells) for cells in maps], shown)
    assert centre is not None
    note = (
        f"In {_in_words(found)} of {len(maps)} images with masks the strongest place of the map lies on what was "
        f"answered, or within 15 pixels of it; the centre of the image does so in {_in_words(centre)} (Zhang et al. "
        "2016)."
    )
    facts = {"images": len(maps), "map": _fact(found), "centre": _fact(centre)}
    return [Block("Does it point at the object?", note)], facts


@torch.no_grad()
def _examples(subject: Subject, network: ActivatedClassifier, masks: Masks) -> tuple[list[Numbers], list[Flags]]:
    maps: list[Numbers] = []
    shown: list[Flags] = []
    for image, mask in ProgressBar(_drawn(subject, masks), desc="pointing", unit="img", leave=False):
        try:
            picture = read_image(image)
        except FrameError:
            continue
        logits, _, activation, *_ = network(subject.tensor(picture)[None])
        answer = subject.class_names[int(shown_logit(logits, subject.checkpoint.task)[0])]
        labels = placed(masks.labels(mask, *picture.shape[:2]), subject.checkpoint.input)
        concepts = [index for index, name in enumerate(masks.class_names) if name == answer]
        if (flags := np.isin(labels, concepts)).any():
            maps.append(activation[0].float().cpu().numpy())
            shown.append(flags)
    return maps, shown


def _drawn(subject: Subject, masks: Masks) -> list[tuple[Path, Path]]:
    """Returns validation images with their masks, drawn by the seed where there are many; of a run without, others."""
    pool = [sample.path for sample in subject.samples if sample.part == "val"]
    pairs = masks.paired(pool or [sample.path for sample in subject.samples])
    rows = np.random.default_rng(subject.options.seed).permutation(len(pairs))[:_MOST_IMAGES]
    return [pairs[row] for row in np.sort(rows)]


def _central(cells: Numbers) -> Numbers:
    rows, columns = cells.shape
    down, across = np.indices(cells.shape, np.float32)
    distance = np.hypot((down + 0.5) / rows - 0.5, (across + 0.5) / columns - 0.5)
    central: Numbers = (1 - distance).astype(np.float32)
    return central


def _in_words(found: Estimate) -> str:
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def _fact(found: Estimate) -> Sequence[float]:
    return [round(found.value, 4), round(found.low, 4), round(found.high, 4)]
