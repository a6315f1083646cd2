"""What every task must be able to say, and the plain values it says it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from cnn_perception.intervals import Sampling
from cnn_perception.label_text import Truth
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import ModelSpec
from cnn_perception.tasks.prediction import Prediction

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]

MessageKind = Literal["classification", "numbers"]
"""What a message of the answers holds: classes with scores, or numbers with names."""
TimelineKind = Literal["strips", "presence", "series"]
"""How answers are drawn over time: the one class, each class by its presence, or each number as a curve."""


@dataclass(frozen=True)
class AnswerRow:
    """One line of an answer, as a picture lists it.

    Attributes:
        name: A class or a number's name.
        share: Its score in [0, 1]; None where there is none to show.
        figure: A number with its unit; empty otherwise.
        is_answer: Whether it is answered; False for what only comes next, and for words that nothing is answered.
    """

    name: str
    share: float | None = None
    figure: str = ""
    is_answer: bool = True


@dataclass(frozen=True)
class Figure:
    """One of a report's most important figures.

    Attributes:
        name: What it is, for a reader.
        value: The figure.
        is_share: Whether it is a share in [0, 1].
        interval: Its 95 % interval, see `intervals`; None where there is none.
    """

    name: str
    value: float
    is_share: bool = True
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Gate:
    """What can be required of a model.

    Attributes:
        option: Which option sets the limit, such as `min_accuracy`.
        metric: What is limited, such as `top-1`.
        is_least: Whether the limit is the least share, in [0, 1]; otherwise the largest error, in the number's unit.
    """

    option: str
    metric: str
    is_least: bool

    @property
    def limits(self) -> str:
        """Which limits make sense, in words."""
        return "0 to 1" if self.is_least else "0 or more"

    def accepts(self, limit: float) -> bool:
        """Returns whether a limit makes sense."""
        return 0.0 <= limit <= 1.0 if self.is_least else limit >= 0.0

    def in_words(self, limit: float) -> str:
        """Returns what has to be reached."""
        return f"{self.metric} of at least {limit:.1%}" if self.is_least else f"{self.metric} of at most {limit:g}"


@dataclass(frozen=True)
class FrameCounts:
    """What became of the frames.

    Attributes:
        total: Images seen: `scored` + `unlabelled` + the sum of `bad`.
        scored: Good frames with a known answer.
        unlabelled: Good frames without one.
        bad: Frames that could not be used, by reason.
        lost: How many of these have a known answer: the robot would not have given it.
    """

    total: int
    scored: int
    unlabelled: int
    bad: dict[str, int]
    lost: int = 0


class Scores(Protocol):
    """How good the answers to many frames are: a dataclass, whose fields stand in the report as they are."""

    @property
    def frames(self) -> FrameCounts:
        """What became of the frames."""

    def reaches(self, limit: float) -> bool:
        """Whether the task's gate is passed; never where nothing was scored.

        Frames that were lost count against it: as wrong where wrong answers are counted, otherwise it fails.
        """

    def summary(self) -> list[str]:
        """Returns the figures as lines for a terminal; none where nothing was scored."""

    def figures(self, spec: ModelSpec, threshold: float) -> list[Figure]:
        """Returns the most important figures of a report, the first ones first.

        Args:
            spec: The model.
            threshold: Score in [0, 1] below which the robot publishes nothing.
        """


class TaskRules(Protocol):
    """One task: what a model's logits mean, and all that follows from it.

    A task has no state. Whatever it returns is a plain value: messages, pages and files are made elsewhere.

    Attributes:
        name: What `ModelSpec.task` holds.
        has_classes: Whether it answers with classes and their scores; with numbers otherwise.
        is_exclusive: Whether exactly one class is the answer.
        topic: Name of the topic of its answers.
        message: What their messages hold.
        gates: What can be required of its scores.
        timeline: How its answers are drawn over time.
        order_of_worst: Which frames a report shows first, in words; see `badness`.
    """

    name: str
    has_classes: bool
    is_exclusive: bool
    topic: str
    message: MessageKind
    gates: tuple[Gate, ...]
    timeline: TimelineKind
    order_of_worst: str

    # ---- what a model returns

    def read(self, logits: FloatArray, temperature: float) -> FloatArray:
        """Returns what logits say: scores in [0, 1], or the numbers.

        Args:
            logits: (K, ...) float32.
            temperature: Of the model.

        Returns:
            (K, ...) float32.
        """

    def model_values(self, spec: ModelSpec) -> dict[str, str]:
        """Returns what a model can answer, by the name of the line in a diagnostic status."""

    # ---- the answer in words

    def text(self, prediction: Prediction) -> str:
        """Returns the answer as label files hold it, see `label_text.text_of`; `unknown` where that rule applies."""

    def scored_text(self, prediction: Prediction, most: int) -> str:
        """Returns the answer with its scores, for a line of a log; of several classes at most so many."""

    def rows(self, prediction: Prediction, top_k: int, threshold: float = 0.0) -> list[AnswerRow]:
        """Returns the answer as lines of a picture, best first.

        Args:
            prediction: The answer that is published, smoothed or not.
            top_k: Most lines, one for each class; of a model that answers with numbers all are listed.
            threshold: Score in [0, 1] below which a class is no answer; it is listed all the same.
        """

    # ---- two answers, or one that is close to another

    def margin(self, prediction: Prediction) -> float:
        """Returns how far a prediction is from another answer, in [0, 1]; 1 where there is no such thing."""

    def disagreements(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> list[tuple[str, str]]:
        """Returns what two models answer differently to the same image.

        Args:
            ours: The answer of the one.
            theirs: The answer of the other.
            common: The classes or numbers that both know.

        Returns:
            Pairs of answers; none where they agree, and for numbers, which are never equal.
        """

    def differences(self, ours: Prediction, theirs: Prediction, common: Sequence[str]) -> dict[str, float]:
        """Returns the absolute difference of each common number, in its unit; none for classes."""

    # ---- answers over time

    def averaged(self, prediction: Prediction) -> FloatArray:
        """Returns (K,) float32: what is averaged over time."""

    def answered(self, prediction: Prediction) -> Flags:
        """Returns (K,) bool: which classes are the answer to this image alone; none where it is unknown."""

    def wanted(self, averages: Numbers, unknown: float, answers: Flags, thresholds: FloatArray, band: float) -> Flags:
        """Returns the answers that averages over time ask for, if those now given are to be left reluctantly.

        Args:
            averages: (K,) of what is `averaged`.
            unknown: The share of unknown frames, in [0, 1].
            answers: (K + 1,) which classes are answered now; the last is `unknown`.
            thresholds: (K,) of a multilabel model; empty otherwise.
            band: The hysteresis, in [0, 1): by how much another answer must be better.

        Returns:
            (K + 1,) as `answers`.
        """

    def held(self, prediction: Prediction, averages: FloatArray, answers: Flags) -> Prediction:
        """Returns the prediction that answers with averages over time instead of its own values.

        Args:
            prediction: Of the latest frame.
            averages: (K,) of what is `averaged`.
            answers: (K + 1,) as in `wanted`.
        """

    def entropy(self, prediction: Prediction) -> float:
        """Returns how unsure the scores are, in nats, where they add up to 1; 0 otherwise."""

    # ---- what is known of an image

    def usual_columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the columns in which a table of images should have its labels, for a model of these names."""

    def label_columns(self, header: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """Returns the columns in which a table has the labels: of the ways that training reads, the one it takes.

        A column `class` or `classes` holds texts for `truth_of_text`, any others numbers for `truth_of_numbers`.
        """

    def truth_of_text(self, text: str, names: Sequence[str], where: str) -> Truth | None:
        """Returns what one label says, as label files hold it; None where it says that nothing is known.

        Args:
            text: Without blanks around it.
            names: The model's classes, or the names of its numbers.
            where: Names the origin of the label in messages.

        Raises:
            DataError: If it is no answer of this model.
        """

    def truth_of_numbers(self, columns: Sequence[str], values: Sequence[float]) -> Truth:
        """Returns what a row of a table says that has a number in each of its `label_columns`."""

    # ---- answers compared with what is known

    def kept(self, prediction: Prediction, truth: Truth | None) -> Prediction:
        """Returns what all below needs of a prediction, so that hours of video fit into memory."""

    def is_right(self, prediction: Prediction, truth: Truth) -> bool | None:
        """Whether the answer is exactly what is known; None for numbers."""

    def deviation(self, prediction: Prediction, truth: Truth | None) -> float | None:
        """Returns the largest absolute error of the numbers; None for classes, and without a truth."""

    def badness(self, prediction: Prediction, truth: Truth | None) -> float:
        """Returns by what frames are ordered for a human's attention, the largest first; see `order_of_worst`."""

    def score(
        self,
        frames: FrameCounts,
        scored: Sequence[tuple[Truth, Prediction]],
        spec: ModelSpec,
        threshold: float,
        sampling: Sampling | None = None,
    ) -> Scores:
        """Returns the figures of a report.

        Args:
            frames: What became of all frames.
            scored: What is known of a frame and its answer, of the frames that have both.
            spec: The model.
            threshold: Score in [0, 1] below which the robot publishes nothing.
            sampling: How the scored frames came to be measured; independent of each other by default.
        """

    # ---- a line for each frame in a CSV file

    def columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Returns the names of the columns about answers to a model of these classes or numbers."""

    def cells(self, prediction: Prediction | None, truth: Truth | None, names: Sequence[str]) -> list[str]:
        """Returns the cells below `columns` for one frame; empty ones where there is nothing to say."""
