"""What an evaluation found: the record of each frame, and the report over all of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnn_perception import metrics
from cnn_perception.errors import DataError
from cnn_perception.metrics import Latency
from cnn_perception.postprocess import Prediction
from cnn_perception.spec import ModelSpec

REPORT_VERSION = 1


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame and what became of it; small, so that hours of video fit into memory.

    Attributes:
        index: Position in the source, from 0.
        name: File name in a folder of images; empty in a bag.
        stamp_ns: Stamp of the image's header, nanoseconds; 0 in a folder.
        time_s: Seconds on the labels' time axis; 0 in a folder.
        truth: The known class; None where it is unlabelled.
        error: Why the frame could not be used, a key of `FrameError.reason`; empty for a good one.
        message: The same in words.
        prediction: The best classes only, without embedding; None for a bad frame.
        truth_rank: How many classes were ranked before the known one; -1 without it.
        truth_score: Score of the known class; 0 without it.
    """

    index: int
    name: str
    stamp_ns: int
    time_s: float
    truth: str | None
    error: str = ""
    message: str = ""
    prediction: Prediction | None = None
    truth_rank: int = -1
    truth_score: float = 0.0

    @property
    def margin(self) -> float:
        """How far the best score is ahead of the second best, in [0, 1]."""
        if self.prediction is None:
            return 0.0
        return float(self.prediction.scores[0] - self.prediction.scores[1])

    @property
    def badness(self) -> float:
        """Orders frames for a human's attention: confident mistakes (1 to 2), close calls (0 to 1), unlabelled ones."""
        if self.prediction is None:
            return -1.0
        if self.truth_rank > 0:
            return 1.0 + self.prediction.score
        return (0.0 if self.truth is None else 1.0) - self.margin


def shortened(prediction: Prediction, keep: int) -> Prediction:
    """Returns the same prediction with only its best classes and without embedding."""
    ranked = prediction.ranked(keep)
    names, scores = tuple(name for name, _ in ranked), np.array([score for _, score in ranked], np.float32)
    return Prediction(names, scores, 0, prediction.activation, np.empty(0, np.float32))


@dataclass(frozen=True)
class ClassReport:
    """One row of the per-class table; see `metrics.ClassScores`."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class WorstFrame:
    """A frame that a human should look at."""

    index: int
    name: str
    time_s: float
    truth: str | None
    predicted: str
    score: float
    margin: float


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames.

    Attributes:
        total: Images seen: `scored` + `unlabelled` + the sum of `bad`.
        scored: Good frames with a known class.
        unlabelled: Good frames without one.
        bad: Frames that could not be used, by reason.
    """

    total: int
    scored: int
    unlabelled: int
    bad: dict[str, int]


@dataclass(frozen=True)
class Scores:
    """The arithmetic over all records; rates are in [0, 1] and None where nothing was scored.

    Attributes:
        frames: What became of the frames.
        top1: Share of the scored frames whose best class is right.
        top5: Share of the scored frames with the right class among the best five.
        balanced_accuracy: See `metrics.balanced_accuracy`.
        macro_f1: See `metrics.macro_f1`.
        coverage: Share of the scored frames whose best score reaches the threshold.
        top1_above_threshold: `top1` among those.
        confusion: (K, K) counts; rows are the truth, columns the prediction.
        classes: Scores of each class, in the model's order.
    """

    frames: FrameCounts
    top1: float | None
    top5: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    coverage: float | None
    top1_above_threshold: float | None
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassReport, ...]


@dataclass(frozen=True)
class ModelRecord:
    """Which model ran, and where; see `inference.OnnxModel`."""

    path: str
    sha256: str
    provider: str
    fallback: str
    spec: ModelSpec


@dataclass(frozen=True)
class Report:
    """Everything `report.json` holds.

    Attributes:
        complete: False if the evaluation ended early, see `remarks`.
        remarks: Damages of the bag, an interruption, or why nothing could be scored; one line each.
        source: The bag or folder.
        topic: The image topic; empty for a folder.
        labels: The label file or topic; empty without labels.
        model: Which model ran.
        threshold: Score below which the robot publishes nothing.
        min_accuracy: The required top-1; None if none was.
        passed: Whether it was reached; None if none was required.
        latency: Percentiles of each stage and of their sum, one frame at a time as on the robot, milliseconds;
            empty where it was not measured.
        frames_per_second: Rate of the whole evaluation, reading and decoding included, with all cores busy.
        scores: The figures; in the file they stand beside the other fields.
        worst: Frames for a human's attention, the worst first.
        version: Version of this layout.
    """

    complete: bool
    remarks: tuple[str, ...]
    source: str
    topic: str
    labels: str
    model: ModelRecord
    threshold: float
    min_accuracy: float | None
    passed: bool | None
    latency: dict[str, Latency]
    frames_per_second: float
    scores: Scores
    worst: tuple[WorstFrame, ...]
    version: int = REPORT_VERSION

    def to_json(self) -> str:
        """Returns the text of `report.json`: one object, a line for each field."""
        fields = dataclasses.asdict(self)
        flat = {"version": fields.pop("version"), **fields.pop("scores"), **fields}
        lines = (f"{json.dumps(key)}: {json.dumps(flat[key], ensure_ascii=False, allow_nan=False)}" for key in flat)
        return "{\n" + ",\n".join(lines) + "\n}\n"


def score(records: Sequence[FrameRecord], class_names: Sequence[str], threshold: float) -> Scores:
    """Computes the figures of a report from the records of all frames."""
    position = {name: index for index, name in enumerate(class_names)}
    good = [record for record in records if record.prediction is not None]
    scored = [record for record in good if record.truth is not None]
    truth = [position[record.truth] for record in scored if record.truth is not None]
    predicted = [position[record.prediction.name] for record in scored if record.prediction is not None]
    bad = Counter(record.error for record in records if record.error)
    confusion = metrics.confusion_matrix(truth, predicted, len(class_names))
    sure = [record for record in scored if record.prediction is not None and record.prediction.score >= threshold]
    classes = [
        ClassReport(name, **dataclasses.asdict(row))
        for name, row in zip(class_names, metrics.per_class(confusion), strict=True)
    ]
    return Scores(
        frames=FrameCounts(len(records), len(scored), len(good) - len(scored), dict(bad.most_common())),
        top1=_share([record.truth_rank < 1 for record in scored]),
        top5=_share([record.truth_rank < 5 for record in scored]),
        balanced_accuracy=metrics.balanced_accuracy(confusion) if scored else None,
        macro_f1=metrics.macro_f1(confusion) if scored else None,
        coverage=len(sure) / len(scored) if scored else None,
        top1_above_threshold=_share([record.truth_rank < 1 for record in sure]),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        classes=tuple(classes),
    )


def predictions_csv(records: Sequence[FrameRecord]) -> str:
    """Returns the text of `predictions.csv`: one line a frame, in order; empty fields where there is nothing to say."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        (
            "index",
            "file",
            "stamp_ns",
            "time_s",
            "truth",
            "predicted",
            "score",
            "margin",
            "truth_score",
            "error",
            "message",
        )
    )
    for record in records:
        predicted, figures = "", ("", "", "")
        if record.prediction is not None:
            predicted = record.prediction.name
            truth_score = "" if record.truth is None else f"{record.truth_score:.6f}"
            figures = (f"{record.prediction.score:.6f}", f"{record.margin:.6f}", truth_score)
        head = (record.index, record.name, record.stamp_ns, f"{record.time_s:.6f}", record.truth or "")
        writer.writerow((*head, predicted, *figures, record.error, record.message))
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is either complete or not there at all.

    Raises:
        DataError: If it cannot be written, such as on a full disk.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror}); free or choose another --output") from None


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
