"""Same frame, same answer: what was answered on a robot beside what the model answers to the same bytes offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import FrameError
from cnn_perception.evaluation.frame_record import FrameRecord
from cnn_perception.evaluation.labelled_frames import LabelledFrame, LabelledFrames
from cnn_perception.evaluation.replay import in_order
from cnn_perception.label_text import text_of
from cnn_perception.model.spec import UNKNOWN
from cnn_perception.pipeline.pipeline import Pipeline
from cnn_perception.tasks.prediction import Prediction

TOLERANCE = 1e-5
"""Of a score: what the order of additions changes on a CPU, with another number of threads."""
TOLERANCE_ELSEWHERE = 1e-3
"""Of a score on a GPU, which may choose another algorithm each time it is started."""
_MOST_SHOWN = 50


@dataclass(frozen=True)
class Selection:
    """Which part of a prediction a node publishes: at most `top_k` classes with a score of `threshold` in [0, 1]."""

    top_k: int
    threshold: float


@dataclass(frozen=True)
class Difference:
    """A frame that was answered otherwise than offline.

    Attributes:
        index: Of the frame, in its topic.
        stamp_ns: Of the frame.
        answered: The answer, as in label files.
        offline: The offline answer, or why there is none.
        largest: Largest difference of a score, or of a number in its unit; 0 where there is no offline answer.
    """

    index: int
    stamp_ns: int
    answered: str
    offline: str
    largest: float


@dataclass(frozen=True)
class Agreement:
    """How many answers are those of the same model offline.

    Attributes:
        compared: Frames that were answered.
        same_answer: How many of them with the same class, classes or numbers.
        same: How many of them with the same scores, too.
        tolerance: Within which scores and numbers are the same.
        largest: Largest difference of a score or number among the frames with the same answer.
        differences: The first frames that are not the same.
        interrupted: Whether Ctrl-C ended it: the frames from then on were not compared.
    """

    compared: int
    same_answer: int
    same: int
    tolerance: float
    largest: float
    differences: tuple[Difference, ...]
    interrupted: bool = False


@dataclass(frozen=True)
class _Compared:
    record: FrameRecord
    is_same_answer: bool = False
    difference: Difference | None = None


def compared_offline(
    pipeline: Pipeline,
    frames: LabelledFrames,
    answers: Sequence[Answer | None],
    reading: Reading,
    selection: Selection | None = None,
) -> tuple[list[FrameRecord], Agreement]:
    """Answers all frames offline, and compares; Ctrl-C ends it early and is noted.

    Args:
        pipeline: Of the model.
        frames: All frames.
        answers: What was answered to each; None where nothing was.
        reading: How answers are read.
        selection: Which part of a prediction was published; None where that is not known.

    Returns:
        The frames with what was answered offline, all or the first of them, and how many answers are the same.
    """
    tolerance = TOLERANCE if pipeline.model.provider == "CPUExecutionProvider" else TOLERANCE_ELSEWHERE

    def work(frame: LabelledFrame) -> _Compared:
        index = frame.record.index
        return _compared(pipeline, frame, answers[index] if index < len(answers) else None, reading, selection)

    offline: list[_Compared] = []
    is_interrupted = False
    try:
        for one in ProgressBar(in_order(work, frames), total=frames.count, desc="offline", unit="frame"):
            offline.append(one)  # noqa: PERF402 what came before Ctrl-C is kept
    except KeyboardInterrupt:
        is_interrupted = True
    pairs = [(one.is_same_answer, one.difference) for one in offline if one.difference is not None]
    apart = [one for is_same, one in pairs if not (is_same and one.largest <= tolerance)]
    return [one.record for one in offline], Agreement(
        compared=len(pairs),
        same_answer=sum(is_same for is_same, _ in pairs),
        same=len(pairs) - len(apart),
        tolerance=tolerance,
        largest=max((one.largest for is_same, one in pairs if is_same), default=0.0),
        differences=tuple(apart[:_MOST_SHOWN]),
        interrupted=is_interrupted,
    )


def left_out(agreement: Agreement | None) -> list[str]:
    """Says that not all answers were compared, a line or none."""
    if agreement is None or not agreement.interrupted:
        return []
    return [f"interrupted after {agreement.compared} answers were compared with those of the model offline"]


def _compared(
    pipeline: Pipeline, frame: LabelledFrame, answer: Answer | None, reading: Reading, selection: Selection | None
) -> _Compared:
    """Returns a frame answered offline, and how an answer to it differs from that."""
    record = frame.record
    try:
        if isinstance(frame.content, FrameError):
            raise frame.content
        prediction = pipeline.run(frame.content, activation=False).prediction
    except FrameError as error:
        refused = FrameRecord(
            record.index, record.name, record.stamp_ns, record.time_s, record.truth, error.reason, str(error)
        )
        if answer is None:
            return _Compared(refused)
        text = f"refused ({error.reason})"
        return _Compared(refused, difference=Difference(record.index, answer.stamp_ns, reading.text(answer), text, 0.0))
    answered = record.answered(prediction)
    if answer is None:
        return _Compared(answered)
    offline = _text(prediction, reading, answer, selection)
    text = reading.text(answer)
    difference = Difference(record.index, answer.stamp_ns, text, offline, _largest(prediction, reading, answer))
    return _Compared(answered, not reading.has_classes or text == offline, difference)


def _text(prediction: Prediction, reading: Reading, answer: Answer, selection: Selection | None) -> str:
    """Returns the offline answer as a node would have published it."""
    if not reading.has_classes:
        return text_of(tuple(prediction.values.tolist()))
    count = len(prediction.class_names)
    top_k, threshold = (selection.top_k, selection.threshold) if selection else (count, 0.0)
    ranked = prediction.ranked(top_k, threshold)
    return reading.text(Answer(answer.stamp_ns, answer.time_s, tuple(ranked)))


def _largest(prediction: Prediction, reading: Reading, answer: Answer) -> float:
    """Returns the largest difference of a score or number that both know."""
    values = prediction.scores if reading.has_classes else prediction.values
    known = dict(zip(prediction.class_names, values.tolist(), strict=True))
    shared = [(known[name], value) for name, value in answer.results if name in known and name != UNKNOWN]
    if not reading.has_classes:
        return max((abs(ours - theirs) / max(1.0, abs(ours)) for ours, theirs in shared), default=0.0)
    return max((abs(ours - theirs) for ours, theirs in shared), default=0.0)
