"""What is said of one stream of answers, live or recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cnn_perception.answers.answer import Answer, Reading
from cnn_perception.answers.matching import AskedFrame, Matching, matched
from cnn_perception.answers.over_time import ChangeDelays, InTime, change_delays, changes_per_minute, in_time
from cnn_perception.errors import ConfigError
from cnn_perception.evaluation.recording.facts import typical_step
from cnn_perception.evaluation.recording.sampling import SamplingRecord, sampling_of
from cnn_perception.intervals import Estimate
from cnn_perception.label_text import Truth
from cnn_perception.time_blocks import time_blocks


@dataclass(frozen=True)
class NumberError:
    """One number: its name and the mean absolute error of its answers, in its unit."""

    name: str
    mae: float


@dataclass(frozen=True)
class AnswerScores:
    """How good the answers to frames are.

    Attributes:
        scored: Labelled frames that were answered.
        unanswered: Labelled frames that were not; they are not in `accuracy`.
        accuracy: Share of the scored frames that were answered rightly, `unknown` for a class being wrong; None for
            numbers, and where nothing was scored. Its interval respects that neighbouring frames show one event.
        errors: Of each number; empty for classes, and where nothing was scored.
        sampling: As how many independent frames the scored ones are worth; None where nothing was scored.
    """

    scored: int
    unanswered: int
    accuracy: Estimate | None
    errors: tuple[NumberError, ...] = ()
    sampling: SamplingRecord | None = None


@dataclass(frozen=True)
class StreamReport:
    """One stream of answers.

    Attributes:
        topic: Where they were published.
        answers: How many came.
        matched: How many belong to a frame.
        strangers: Answers with a stamp that no frame has.
        repeated: Answers beyond the first to the same frame.
        ambiguous: Frames that share their stamp with others, of which not all were answered.
        unknown: Share of the answers that are `unknown`, in [0, 1]; None without any.
        nothing: Answers that name no class.
        scores: Of the frames that were answered.
        in_time: Of the latest answer at each moment.
        changes_per_minute: How often the answer changed; None where that cannot be said.
        change_delays: How long it took to follow what is known; None for numbers.
    """

    topic: str
    answers: int
    matched: int
    strangers: int
    repeated: int
    ambiguous: int
    unknown: float | None
    nothing: int
    scores: AnswerScores
    in_time: InTime
    changes_per_minute: float | None
    change_delays: ChangeDelays | None


def report_stream(
    topic: str, frames: Sequence[AskedFrame], answers: Sequence[Answer], reading: Reading
) -> tuple[StreamReport, Matching]:
    """Returns what is said of a stream of answers, and which of them belongs to which frame.

    Args:
        topic: Where they were published.
        frames: In order.
        answers: In the order in which they came.
        reading: How they are read.
    """
    found = matched(frames, answers)
    report = StreamReport(
        topic=topic,
        answers=len(answers),
        matched=sum(answer is not None for answer in found.answers),
        strangers=found.strangers,
        repeated=found.repeated,
        ambiguous=found.ambiguous,
        unknown=sum(answer.is_unknown for answer in answers) / len(answers) if answers else None,
        nothing=sum(not answer.results for answer in answers) if reading.has_classes and reading.is_exclusive else 0,
        scores=_scores(frames, found, reading),
        in_time=in_time(frames, answers, reading),
        changes_per_minute=changes_per_minute(answers, reading),
        change_delays=change_delays(frames, answers, reading),
    )
    return report, found


def _scores(frames: Sequence[AskedFrame], found: Matching, reading: Reading) -> AnswerScores:
    pairs = [(frame.truth, answer) for frame, answer in zip(frames, found.answers, strict=True)]
    scored = [(truth, answer) for truth, answer in pairs if truth is not None and answer is not None]
    unanswered = sum(truth is not None for truth, _ in pairs) - len(scored)
    if not scored:
        return AnswerScores(0, unanswered, None)
    blocks = time_blocks([np.array([reading.badness(answer, truth) for truth, answer in scored])])
    period_s = typical_step(np.diff([frame.time_s for frame in frames]))
    if not reading.has_classes:
        deviations = np.array([reading.deviation(answer, truth) for truth, answer in scored])
        sampling = sampling_of(blocks, deviations, [period_s])
        return AnswerScores(len(scored), unanswered, None, _errors(scored, reading), sampling)
    right = np.array([reading.is_right(answer, truth) for truth, answer in scored])
    sampling = sampling_of(blocks, right.astype(np.float64), [period_s])
    return AnswerScores(len(scored), unanswered, blocks.share(right), (), sampling)


def _errors(scored: Sequence[tuple[Truth, Answer]], reading: Reading) -> tuple[NumberError, ...]:
    known = np.array([truth for truth, _ in scored], np.float64)
    found = np.array([reading.values(answer) for _, answer in scored], np.float64)
    errors = np.abs(known - found).mean(axis=0).tolist()
    return tuple(NumberError(name, error) for name, error in zip(reading.names, errors, strict=True))


@dataclass(frozen=True)
class Required:
    """What the answers to frames have to reach.

    Attributes:
        min_accuracy: Least share of right answers, in [0, 1]; None for no limit.
        max_mae: Largest mean absolute error of each number, in its unit; None for no limit.

    Raises:
        ConfigError: If a limit makes no sense.
    """

    min_accuracy: float | None = None
    max_mae: float | None = None

    def __post_init__(self) -> None:
        if self.min_accuracy is not None and not 0.0 <= self.min_accuracy <= 1.0:
            raise ConfigError(f"--min-accuracy is {self.min_accuracy}; choose 0 to 1")
        if self.max_mae is not None and not self.max_mae >= 0.0:
            raise ConfigError(f"--max-mae is {self.max_mae}; choose 0 or more")

    def require_fit(self, reading: Reading) -> None:
        """Makes sure that what is required can be told of answers of a kind.

        Raises:
            ConfigError: Names the option that is for answers of another kind.
        """
        if self.min_accuracy is not None and not reading.has_classes:
            raise ConfigError("--min-accuracy is for classes, these answers are numbers: --max-mae")
        if self.max_mae is not None and reading.has_classes:
            raise ConfigError("--max-mae is for numbers, these answers are classes: --min-accuracy")

    def in_words(self) -> str:
        """Returns it on one line; empty where nothing is required."""
        limits = []
        if self.min_accuracy is not None:
            limits.append(f"accuracy of at least {self.min_accuracy:.1%}")
        if self.max_mae is not None:
            limits.append(f"MAE of at most {self.max_mae:g}")
        return " and ".join(limits)

    def reached(self, scores: AnswerScores) -> bool | None:
        """Returns whether it is reached; None where nothing is required.

        Never where nothing was scored, nor where most labelled frames have no answer: the others say too little then.
        """
        if self.in_words() and scores.unanswered > scores.scored:
            return False
        if self.min_accuracy is not None:
            return scores.accuracy is not None and scores.accuracy.value >= self.min_accuracy
        if self.max_mae is not None:
            return bool(scores.errors) and all(one.mae <= self.max_mae for one in scores.errors)
        return None

    def counted_against(self, scores: AnswerScores) -> list[str]:
        """Returns which frames speak against it although they were not scored, a line or none."""
        if not self.in_words() or scores.unanswered <= scores.scored:
            return []
        labelled = scores.scored + scores.unanswered
        return [
            f"{scores.unanswered} of {labelled} labelled frames have no answer, more than the {scores.scored} scored: "
            f"the {self.in_words()} counts as missed"
        ]
