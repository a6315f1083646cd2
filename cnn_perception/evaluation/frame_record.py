"""One frame of an evaluation and what became of it."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.label_text import Truth, text_of
from cnn_perception.metrics import true_rank
from cnn_perception.model.spec import UNKNOWN, ModelSpec
from cnn_perception.pipeline.postprocess import Prediction

KEPT_CLASSES = 5
"""How many of the best classes the record of a multiclass frame keeps."""


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame and what became of it; small, so that hours of video fit into memory.

    Attributes:
        index: Position in the source, from 0.
        name: File name in a folder of images; empty in a bag.
        stamp_ns: Stamp of the image's header, nanoseconds; 0 in a folder.
        time_s: Seconds on the labels' time axis; 0 in a folder.
        truth: The known class, classes or numbers; None where it is unlabelled.
        error: Why the frame could not be used, a key of `FrameError.reason`; empty for a good one.
        message: The same in words.
        answer: What was answered, written as in label files; empty for a bad frame.
        prediction: Without embedding, for multiclass of the best classes only; None for a bad frame.
        truth_rank: How many classes were ranked before the known one; -1 without it, and for other tasks.
        truth_score: Score of the known class; 0 without it, and for other tasks.
    """

    index: int
    name: str
    stamp_ns: int
    time_s: float
    truth: Truth | None
    error: str = ""
    message: str = ""
    answer: str = ""
    prediction: Prediction | None = None
    truth_rank: int = -1
    truth_score: float = 0.0

    def answered(self, prediction: Prediction) -> FrameRecord:
        """Returns the record with the part of a prediction that is kept."""
        rank, truth_score = -1, 0.0
        if isinstance(self.truth, str):
            truth = prediction.class_names.index(self.truth)
            rank, truth_score = true_rank(prediction.scores, truth), float(prediction.scores[truth])
        kept, answer = _kept(prediction), _answer(prediction)
        return dataclasses.replace(self, answer=answer, prediction=kept, truth_rank=rank, truth_score=truth_score)

    @property
    def margin(self) -> float:
        """How far the best score is ahead of the second best, in [0, 1]; 0 where the task is not multiclass."""
        if self.prediction is None or self.prediction.task != "multiclass":
            return 0.0
        return float(self.prediction.scores[0] - self.prediction.scores[1])

    @property
    def is_right(self) -> bool | None:
        """Whether the answer is the known class, or exactly the known classes; None where that cannot be said."""
        if self.prediction is None or self.truth is None or self.prediction.task == "regression":
            return None
        return self.answer == text_of(self.truth)

    @property
    def deviation(self) -> float:
        """The largest absolute error of the numbers; 0 without known numbers."""
        if self.prediction is None or not isinstance(self.truth, tuple):
            return 0.0
        return float(np.abs(self.prediction.values - np.array(self.truth)).max())

    @property
    def badness(self) -> float:
        """Orders frames for a human's attention.

        Multiclass: confident mistakes (1 to 2), images wrongly called unknown (1), close calls (0 to 1), unlabelled
        ones. Multilabel: wrong classes, each with how far its score is on the wrong side (1 and more), then scores
        close to their thresholds. Regression: the deviation.
        """
        if self.prediction is None:
            return -1.0
        if self.prediction.task == "regression":
            return self.deviation
        if self.prediction.task == "multilabel":
            return self._multilabel_badness(self.prediction)
        if self.prediction.unknown and self.truth is not None:
            return 1.0
        if self.truth_rank > 0:
            return 1.0 + self.prediction.score
        return (0.0 if self.truth is None else 1.0) - self.margin

    def _multilabel_badness(self, prediction: Prediction) -> float:
        distances = prediction.scores - prediction.thresholds
        if isinstance(self.truth, frozenset):
            wrong = np.array([name in self.truth for name in prediction.class_names]) != (distances >= 0)
            if wrong.any():
                return 1.0 + float(np.abs(distances[wrong]).sum())
        return (0.0 if self.truth is None else 1.0) - float(np.abs(distances).min())


def _answer(prediction: Prediction) -> str:
    if prediction.unknown:
        return UNKNOWN
    if prediction.task == "multilabel":
        return text_of(prediction.seen)
    if prediction.task == "regression":
        return text_of(tuple(prediction.values.tolist()))
    return prediction.name


def _kept(prediction: Prediction) -> Prediction:
    without = dataclasses.replace(prediction, embedding=np.empty(0, np.float32))
    if prediction.task != "multiclass":
        return without
    best = np.argsort(-prediction.scores, kind="stable")[:KEPT_CLASSES]
    names = tuple(prediction.class_names[i] for i in best)
    return dataclasses.replace(without, class_names=names, scores=prediction.scores[best], top=0)


def predictions_csv(records: Sequence[FrameRecord], spec: ModelSpec) -> str:
    """Returns the text of `predictions.csv`: one line a frame, in order; empty fields where there is nothing to say.

    Multiclass: the known and the answered class, and scores of the network's best and of the known class.
    Multilabel: both sets of classes, and the score of each class. Regression: each number, known and answered.
    """
    names = spec.class_names
    if spec.task == "multiclass":
        columns: tuple[str, ...] = ("truth", "predicted", "score", "margin", "truth_score")
    elif spec.task == "multilabel":
        columns = ("truth", "predicted", *(f"score {name}" for name in names))
    else:
        columns = tuple(f"{kind} {name}" for name in names for kind in ("true", "predicted"))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "file", "stamp_ns", "time_s", *columns, "error", "message"))
    for record in records:
        head = (record.index, record.name, record.stamp_ns, f"{record.time_s:.6f}")
        writer.writerow((*head, *_answers(record, spec), record.error, record.message))
    return text.getvalue()


def _answers(record: FrameRecord, spec: ModelSpec) -> list[str]:
    prediction, truth = record.prediction, record.truth
    if spec.task == "regression":
        true = [f"{value:.6g}" for value in truth] if isinstance(truth, tuple) else [""] * len(spec.class_names)
        found = [""] * len(true) if prediction is None else [f"{value:.6g}" for value in prediction.values]
        return [text for pair in zip(true, found, strict=True) for text in pair]
    known = text_of(truth)
    if spec.task == "multilabel":
        scores = [""] * len(spec.class_names) if prediction is None else [f"{score:.6f}" for score in prediction.scores]
        return [known, record.answer, *scores]
    if prediction is None:
        return [known, "", "", "", ""]
    truth_score = "" if truth is None else f"{record.truth_score:.6f}"
    return [known, record.answer, f"{prediction.score:.6f}", f"{record.margin:.6f}", truth_score]
