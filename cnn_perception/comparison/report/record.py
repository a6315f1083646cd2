"""Everything that is reported of a comparison, and comparison.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception.comparison.comparison import ChangedFrame, Comparison, Slice
from cnn_perception.comparison.model_card import ModelCard, notes_on
from cnn_perception.comparison.report import words
from cnn_perception.image.messages import RgbImage
from cnn_perception.label_text import Truth, text_of

RECORD_VERSION = 1

Pictures = Mapping[tuple[str, str, int], RgbImage]
"""By recording or folder, topic and index of the frame."""


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """Everything that is reported.

    Attributes:
        comparison: What was found.
        ours: The model that was judged.
        theirs: The baseline.
        source: The recording or folder, or where they are.
        is_passed: Whether the model may be used, after what was asked for.
        created: When, as ISO 8601 in UTC without a zone, such as `2026-01-31T12:00:00`.
        pictures: Those of the frames that are shown.
        missing: What could not be evaluated, and so not be compared, a line each.
    """

    comparison: Comparison
    ours: ModelCard
    theirs: ModelCard
    source: str
    is_passed: bool
    created: str
    pictures: Pictures
    missing: tuple[str, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know, and what was left out."""
        notes = notes_on(self.ours, self.theirs)
        missing = (f"could not be evaluated: {line}" for line in self.missing)
        return (*missing, *notes, *(f"left out: {line}" for line in self.comparison.left_out))


def record_json(report: ComparisonReport) -> str:
    """Returns the text of comparison.json: one object, a line for each field."""
    found = report.comparison
    fields: dict[str, Any] = {
        "version": RECORD_VERSION,
        "created": report.created,
        "source": report.source,
        "model": dataclasses.asdict(report.ours),
        "baseline": dataclasses.asdict(report.theirs),
        "passed": report.is_passed,
        "complete": not report.missing,
        "verdict": dataclasses.asdict(found.verdict),
        "max_loss": found.max_loss,
        "detectable_loss": found.headline.difference.detectable,
        "frames": found.frames,
        "bags": found.bags,
        "headline": dataclasses.asdict(found.headline),
        "measures": [dataclasses.asdict(one) for one in found.measures],
        "slices": [_slice(one) for one in found.slices],
        "remarks": list(report.remarks),
        "lost_frames": len(found.lost),
        "gained_frames": len(found.gained),
        "lost": [_frame(one) for one in _listed(found.lost)],
        "gained": [_frame(one) for one in _listed(found.gained)],
    }
    lines = (f"{json.dumps(key)}: {json.dumps(fields[key], ensure_ascii=False, allow_nan=False)}" for key in fields)
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _slice(part: Slice) -> dict[str, Any]:
    return dataclasses.asdict(part)


def _listed(frames: Sequence[ChangedFrame]) -> list[ChangedFrame]:
    """Returns the frames in order; of too many, those that changed most."""
    most = sorted(range(len(frames)), key=lambda place: -abs(frames[place].gain))[: words.LISTED_FRAMES]
    return [frames[place] for place in sorted(most)]


def _frame(changed: ChangedFrame) -> dict[str, Any]:
    frame = changed.frame
    return {
        "bag": frame.bag,
        "topic": frame.topic,
        "file": frame.name,
        "index": frame.index,
        "stamp_ns": frame.stamp_ns,
        "received_ns": frame.time_ns,
        "truth": text_of(frame.truth),
        "baseline": _answer(frame.theirs.given),
        "model": _answer(frame.ours.given),
        "gain": changed.gain,
    }


def _answer(answer: Truth | None) -> str | None:
    return None if answer is None else text_of(answer)
