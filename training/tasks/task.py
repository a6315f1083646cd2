"""What training has to know of a task; `multiclass`, `multilabel` and `regression` say it, `by_name` lists them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnn_perception.intervals import bootstrap
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task
from training.tasks.probabilities import Doubles
from training.tasks.table import LabelledTable, TableLabels

Truth = npt.NDArray[Any]
"""What n images show: classes (n,) int64, or values (n, K) float32."""
Flags = npt.NDArray[np.bool_]
Thresholds = Sequence[float]

MIN_IMAGES = 3
"""Images a class needs: with fewer, no split leaves something to learn from and something to check with."""


class Labelled(Protocol):
    """The label of an image, see `data.records.Sample`."""

    @property
    def label(self) -> int:
        """Index of its class; 0 where that has no meaning."""

    @property
    def values(self) -> tuple[float, ...]:
        """K values; empty where the class says all."""


class Meaning(Protocol):
    """What the outputs of a network mean; a data set and a checkpoint both say it, see `checkpoint.Checkpoint`."""

    @property
    def task(self) -> Task:
        """What the logits mean."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes, or the names of the K numbers."""

    @property
    def units(self) -> tuple[str, ...]:
        """Of each number, for regression."""

    @property
    def scaling(self) -> tuple[tuple[float, float], ...]:
        """(mean, standard deviation) of each number over the training images, for regression."""


@dataclass(frozen=True)
class JudgedAnswer:
    """What a network said of an image, for people.

    Attributes:
        kind: Whether it is right; empty where that cannot be said.
        text: What it said.
        remark: What is true.
    """

    kind: Literal["right", "wrong", ""]
    text: str
    remark: str


class LearningTask(Protocol):
    """What a network learns. Outputs are logits (n, K), or numbers (n, K) standardised by the training images.

    Attributes:
        name: What the model file calls it.
        metric: Name of the figure by which epochs are compared, higher is better.
        metric_title: The same in words.
        outputs: What the K outputs are, in words.
        decisions: What the robot decides on, in words.
        agreement: What two networks have in common that decide alike, in words.
        one_class: Whether an image shows exactly one of the classes. Only then may every class be asked for, and may an
            image show none of them (the unknown rule).
        has_probabilities: Whether outputs become probabilities, whose temperature can be fitted and whose views can be
            averaged; also, whether the highest output is the one that an activation map explains.
        needs_linear_layer: Whether the last layer must be linear with a bias, into which the export folds the scaling.
        least_squares: Whether a linear layer is fitted by least squares.
        allows_cutmix: Whether an image of two parts has a label between theirs.
        copies_agree: Whether copies of an image that are labelled otherwise are a mistake.
        columns_are_classes: Whether a table may have a column of flags for each class.
        default_augment: Preset or switch of the augmentation where none was asked for.
    """

    name: Task
    metric: str
    metric_title: str
    outputs: str
    decisions: str
    agreement: str
    one_class: bool
    has_probabilities: bool = True
    needs_linear_layer: bool = False
    least_squares: bool = False
    allows_cutmix: bool = True
    copies_agree: bool = True
    columns_are_classes: bool = False
    default_augment: str = "light"

    # labels: as they are read, written, counted and given to the network

    @abstractmethod
    def recognises(self, table: LabelledTable) -> bool:
        """Returns whether a table is of this task where the user does not say it."""

    @abstractmethod
    def labels(self, table: LabelledTable) -> TableLabels:
        """Returns how the labels of a table are read.

        Raises:
            ConfigError: If the table lacks the columns.
            DataError: If a cell cannot be used.
        """

    @abstractmethod
    def words(self, shown: Labelled, names: Sequence[str]) -> str:
        """Returns what an image is labelled as."""

    def columns(self, names: Sequence[str]) -> list[str]:
        """Returns the columns of a table that `labels` reads; by default one for each output."""
        return [*names]

    def cells(self, shown: Labelled, names: Sequence[str]) -> list[str]:
        """Returns the cells of these columns, by default the values; numbers are in their units."""
        return [f"{value:.9g}" for value in shown.values]

    def content(self, shown: Labelled, names: Sequence[str]) -> str:
        """Returns what the digest of a data set covers of a label, by default the values with all their digits."""
        return repr(shown.values)

    @abstractmethod
    def strata(self, samples: Sequence[Labelled], classes: int) -> npt.NDArray[np.int64]:
        """Returns what a split shares out evenly, (n, L): how often each image counts in each column."""

    def scaling(self, train: Sequence[Labelled]) -> tuple[tuple[float, float], ...]:
        """Returns (mean, standard deviation) of each number over the training images; empty without numbers."""
        return ()

    @abstractmethod
    def oddities(self, train: Sequence[Labelled], names: Sequence[str]) -> list[str]:
        """Says what is unusual about the labels of the training images; numbers are in their units."""

    def targets(self, samples: Sequence[Labelled]) -> Truth:
        """Returns what the network should give for some images, by default their values, (n, K) float32."""
        return np.array([sample.values for sample in samples], np.float32)

    def stored_targets(self, rows: npt.NDArray[np.float32]) -> Truth:
        """Returns the same of the targets (n, ...) that a checkpoint keeps."""
        return rows

    @abstractmethod
    def class_shares(self, rows: npt.NDArray[np.floating[Any]], classes: int) -> tuple[float, ...]:
        """Returns the share of images that show each class, of a checkpoint's targets; empty without classes."""

    def class_counts(self, samples: Sequence[Labelled], classes: int) -> list[int]:
        """Returns how many images show each class; empty without classes."""
        return []

    @abstractmethod
    def groups(self, row: Sequence[float]) -> list[int]:
        """Returns the classes of an image, of its targets in a checkpoint, of which all should be represented."""

    # learning

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
        """Returns what training minimises, the mean over the images.

        Args:
            outputs: (N, K).
            targets: As `targets` gives them; of classes also the shares of each, (N, K) float32.
            smoothing: Share of a label spread over all classes, in [0, 1); nothing for numbers.
            weights: (K,) float32, by which the mean is weighted; where an image has one class.
        """

    def squared_error(
        self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
    ) -> Tensor:
        """Returns what `--loss squared` minimises instead, half the squared distance to the labels, as `loss`.

        Of classes it is that of the outputs' sigmoids, by default of the outputs.

        Source: M. Nielsen, Neural Networks and Deep Learning, 2015, equation 6.
        """
        return (outputs - targets).square().sum(dim=1).mean() / 2

    def held_out_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns by what a probe's penalties are compared, the mean over the images; by default the loss."""
        return self.loss(outputs, targets)

    def imitation(self, outputs: Tensor, teachers: Tensor, temperature: float) -> Tensor:
        """Returns how far a network's outputs are from its teachers', the mean over the images.

        By default it is half the mean squared distance to the mean of the teachers.

        Args:
            outputs: (N, K).
            teachers: (M, N, K), of each of M teachers; numbers are standardised as those of the network.
            temperature: By which logits are divided; above 1 the scores of wrong classes count more.
        """
        return (outputs - self.together(teachers)).square().mean() / 2

    def answered(self, outputs: FloatArray, thresholds: Thresholds) -> list[tuple[int, tuple[float, ...]]]:
        """Returns what a network says of each image as a label would; by default its outputs.

        Args:
            outputs: (n, K), over the temperature.
            thresholds: Of each class, where it has one.
        """
        return [(0, tuple(row)) for row in outputs.tolist()]

    def together(self, members: Tensor) -> Tensor:
        """Returns outputs (N, K) whose scores are the mean scores of several networks.

        By default it is the mean of the outputs.

        Args:
            members: (M, N, K) outputs of each, over its temperature.
        """
        return members.mean(dim=0)

    def shares(self, members: Tensor) -> Tensor:
        """Returns by how much each output of `together` changes with the same output of each network, (M, N, K).

        What a softmax divides by is held, as where one network's map is that of its logit and not of its score.

        Args:
            members: As for `together`.
        """
        return torch.full_like(members, 1 / len(members))

    @abstractmethod
    def hits(self, outputs: Tensor, targets: Tensor) -> float:
        """Returns what, summed over all training images and divided by their number, is the metric; NaN if nothing."""

    # scores

    @abstractmethod
    def score(self, outputs: FloatArray, truth: Truth) -> float:
        """Returns the metric."""

    @abstractmethod
    def summary(self, outputs: FloatArray, truth: Truth, meaning: Meaning) -> dict[str, float]:
        """Returns the scores that a checkpoint keeps beside metric and loss."""

    @abstractmethod
    def report(self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds) -> dict[str, Any]:
        """Returns the scores that report.json keeps beside metric and loss; thresholds are 0.5 where there are none."""

    def intervals(
        self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds
    ) -> dict[str, tuple[float, float]]:
        """Returns the 95 % intervals of scores of the report, by their names: by default of the metric and the summary.

        Shares of the images have Wilson's, all others one by bootstrap over the images, see `cnn_perception.intervals`.
        """

        def of(name: str) -> tuple[float, float] | None:
            def score(rows: npt.NDArray[np.int64]) -> float:
                if name == self.metric:
                    return self.score(outputs[rows], truth[rows])
                return self.summary(outputs[rows], truth[rows], meaning)[name]

            return bootstrap(score, len(truth))

        found = {name: of(name) for name in (self.metric, *self.summary(outputs, truth, meaning))}
        return {name: ends for name, ends in found.items() if ends is not None}

    @abstractmethod
    def image_losses(self, scores: Doubles, truth: Truth) -> Doubles:
        """Returns the loss of each image, (n,).

        Args:
            scores: (n, K) as `probabilities` gives them.
            truth: As `targets` gives it.
        """

    # words for people

    @abstractmethod
    def label_text(self, shown: Labelled, meaning: Meaning) -> str:
        """Returns what an image is labelled as; its numbers are standardised and told in their units."""

    @abstractmethod
    def verdict(self, scores: Doubles, shown: Labelled, meaning: Meaning, thresholds: Doubles) -> JudgedAnswer:
        """Returns what a network said of an image.

        Args:
            scores: (K,) as `probabilities` gives them.
            shown: The label of the image.
            meaning: What the scores mean.
            thresholds: (K,) where an image has several classes.
        """

    # probabilities

    @abstractmethod
    def probabilities(self, outputs: FloatArray, temperature: float) -> Doubles:
        """Returns (n, K) scores as the robot computes them; numbers as they are."""

    @abstractmethod
    def logits(self, probabilities: Doubles) -> Doubles:
        """Returns outputs (n, K) that give these scores; numbers as they are."""

    def usual_thresholds(self, classes: int) -> tuple[float, ...]:
        """Returns the score from which each class is taken to be shown before any was fitted; empty if it has none."""
        return ()

    def thresholds(self, outputs: FloatArray, truth: Truth) -> tuple[float, ...]:
        """Returns the same fitted to validation images, whose outputs are over the temperature."""
        return ()

    @abstractmethod
    def agrees(self, outputs: Doubles, others: Doubles, is_near: Flags, thresholds: Thresholds) -> Flags:
        """Returns of each image, (n,), whether two networks decide alike.

        Args:
            outputs: (n, K) of the one, over the temperature.
            others: (n, K) of the other, likewise.
            is_near: (n, K), whether they differ by no more than is tolerated.
            thresholds: Of each class, where it has one.
        """
