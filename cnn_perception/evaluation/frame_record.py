"""One frame of an evaluation and what became of it."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.image.appearance import Appearance
from cnn_perception.label_text import Truth
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction
from cnn_perception.tasks.registry import task_of

_PLACE = ("stamp_ns", "time_s", "received_ns", "content")


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """One frame and what became of it; small, so that hours of video fit into memory.

    Attributes:
        index: Position in the bag's topic or in the folder, from 0.
        name: File name in a folder of images; empty in a bag.
        stamp_ns: Stamp of the image's header, nanoseconds; 0 in a folder.
        time_s: Seconds on the labels' time axis; 0 in a folder.
        truth: The known class, classes or numbers; None where it is unlabelled.
        error: Why the frame could not be used, a key of `FrameError.reason`; empty for a good one.
        message: The same in words.
        answer: What was answered, written as in label files; empty for a bad frame.
        prediction: What is kept of it, see `TaskRules.kept`; None for a bad frame.
        received_ns: When the recorder received it, nanoseconds; 0 in a folder.
        look: How its picture looks; None for a bad frame.
        content: Digest of its bytes, by which it is known again; empty where there are none.
        has_time: Whether the stamp is a time, see `bag.reader.StampedImage`.
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
    received_ns: int = 0
    look: Appearance | None = None
    content: str = ""
    has_time: bool = False

    def answered(self, prediction: Prediction, look: Appearance | None = None) -> FrameRecord:
        """Returns the record with the part of a prediction that is kept, and how its picture looks."""
        task = task_of(prediction.task)
        kept = task.kept(prediction, self.truth)
        return dataclasses.replace(self, answer=task.text(prediction), prediction=kept, look=look)

    @property
    def is_right(self) -> bool | None:
        """Whether the answer is the known class, or exactly the known classes; None where that cannot be said."""
        if self.prediction is None or self.truth is None:
            return None
        return task_of(self.prediction.task).is_right(self.prediction, self.truth)

    @property
    def badness(self) -> float:
        """Orders frames for a human's attention, see `TaskRules.badness`; bad frames come last."""
        if self.prediction is None:
            return -1.0
        return task_of(self.prediction.task).badness(self.prediction, self.truth)


def predictions_csv(records: Sequence[FrameRecord], spec: ModelSpec) -> str:
    """Returns the text of `predictions.csv`: one line a frame, in order; empty fields where there is nothing to say.

    The columns about the answers are those of the model's task, see `TaskRules.columns`.
    """
    task = task_of(spec.task)
    names = spec.class_names
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "file", *_PLACE, *task.columns(names), "error", "message"))
    for record in records:
        times = (record.stamp_ns, f"{record.time_s:.6f}", record.received_ns)
        answers = task.cells(record.prediction, record.truth, names)
        writer.writerow((record.index, record.name, *times, record.content, *answers, record.error, record.message))
    return text.getvalue()
