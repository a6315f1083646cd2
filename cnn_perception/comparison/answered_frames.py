"""The frames of recordings with the answers of both models, and the comparison of all of them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.comparison.compared_frame import ComparedFrame
from cnn_perception.comparison.comparison import Comparison, compare
from cnn_perception.comparison.model_card import ModelCard
from cnn_perception.errors import DataError


@dataclass(frozen=True)
class AnsweredFrames:
    """The frames of one recording, or of a folder, with the answers of both models; of plain values only.

    Attributes:
        ours: The model that is judged.
        theirs: The baseline.
        common: The classes or numbers that both have.
        bag: The recording or folder.
        frames: The labelled ones that both could answer.
        left_out: Which were left out, a line for each reason.
    """

    ours: ModelCard
    theirs: ModelCard
    common: tuple[str, ...]
    bag: str
    frames: tuple[ComparedFrame, ...]
    left_out: tuple[str, ...]


def compare_all(parts: Sequence[AnsweredFrames], max_loss: float) -> Comparison:
    """Returns what was found of all frames of some recordings together.

    Args:
        parts: At least one recording, all answered by the same two models.
        max_loss: The loss that is allowed, as a share.

    Raises:
        DataError: If there is nothing to compare, or the recordings were answered by different models.
    """
    first = parts[0]
    other = next((part for part in parts if part.theirs.sha256 != first.theirs.sha256), None)
    if other is not None:
        raise DataError(
            f"--baseline: {first.bag} was answered by {first.theirs.path}, {other.bag} by {other.theirs.path}; "
            "evaluate all with one model, or name its file"
        )
    frames = [frame for part in parts for frame in part.frames]
    units = dict(zip(first.ours.names, first.ours.units, strict=False))
    found = compare(
        frames,
        first.common,
        [units[name] for name in first.common] if units else (),
        max_loss=max_loss,
        is_same_model=first.ours.sha256 == first.theirs.sha256,
    )
    lines = [f"{line} of {part.bag}" if len(parts) > 1 else line for part in parts for line in part.left_out]
    return dataclasses.replace(found, left_out=(*lines, *found.left_out))
