"""What an evaluation does for its comparison: opens the baseline, compares its frames, leaves the files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cnn_perception.comparison.answered_frames import AnsweredFrames, compare_all
from cnn_perception.comparison.baseline import Baseline, open_baseline
from cnn_perception.comparison.comparison import ChangedFrame, Comparison
from cnn_perception.comparison.report.files import JUNIT, NAMES, texts_of
from cnn_perception.comparison.report.junit import error_xml
from cnn_perception.comparison.report.page import wanted
from cnn_perception.comparison.report.record import ComparisonReport, Pictures
from cnn_perception.comparison.verdict import Doubt
from cnn_perception.errors import DataError
from cnn_perception.evaluation.report_record import write_text
from cnn_perception.image.messages import Overrides
from cnn_perception.model.onnx_model import OnnxModel, SessionOptions


@dataclass(frozen=True)
class Compared:
    """The comparison of an evaluation, with its files written.

    Attributes:
        comparison: What was found of all frames.
        is_worse: Whether the model is not to be used after that.
    """

    comparison: Comparison
    is_worse: bool


def open_for(model: OnnxModel, path: Path | None, providers: Sequence[str], overrides: Overrides) -> Baseline | None:
    """Returns what a model is compared with, whose own model has one thread a frame as in `replay`; None for None.

    Raises:
        PerceptionError: As `open_baseline`.
    """
    if path is None:
        return None
    return open_baseline(path, model, SessionOptions(tuple(providers), intra_op_threads=1).as_named, overrides)


def compare_into(
    folder: Path,
    parts: Sequence[AnsweredFrames],
    pictures: Callable[[Sequence[ChangedFrame]], Pictures],
    *,
    source: str,
    max_loss: float,
    on_doubt: Doubt,
    missing: Sequence[str],
) -> Compared:
    """Compares the frames of one recording or of several, and writes the files.

    Args:
        folder: Where.
        parts: The frames of each recording.
        pictures: Reads the pictures of some frames.
        source: The recording, or where they are.
        max_loss: The loss that is allowed, in points.
        on_doubt: What is done where a larger loss is neither proven nor ruled out.
        missing: What could not be evaluated, a line each.

    Raises:
        DataError: If there is nothing to compare, or a file cannot be written.
    """
    comparison = compare_all(parts, max_loss / 100)
    is_worse = comparison.verdict.fails(on_doubt)
    report = ComparisonReport(
        comparison=comparison,
        ours=parts[0].ours,
        theirs=parts[0].theirs,
        source=source,
        is_passed=not is_worse,
        created=_now(),
        pictures=pictures(wanted(comparison)),
        missing=tuple(missing),
    )
    for name, text in texts_of(report).items():
        write_text(folder / name, text)
    return Compared(comparison, is_worse)


def remove_comparison(folder: Path) -> None:
    """Removes what an earlier evaluation in this folder was compared with, which would not belong to the next."""
    if (folder / "report.json").is_file():
        for name in NAMES:
            (folder / name).unlink(missing_ok=True)


def say_not_compared(folder: Path, reason: str) -> None:
    """Puts an error in the place of an earlier comparison's JUnit file, which a CI server would take for this one's.

    Args:
        folder: Where; without an earlier comparison nothing is written.
        reason: Why nothing was compared, in one line.
    """
    if (folder / JUNIT).is_file() and (folder / "report.json").is_file():
        with contextlib.suppress(DataError):  # what ended the evaluation is what is to be said
            write_text(folder / JUNIT, error_xml(reason, _now()))


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
