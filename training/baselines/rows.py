"""The rows of the table: how good each way to answer is, with its interval, and what it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cnn_perception.intervals import Estimate
from cnn_perception.model.outputs import FloatArray
from training.baselines import fitting, methods
from training.baselines.fitting import Answers, Fitted
from training.baselines.methods import Method
from training.config import TrainConfig
from training.data.records import LabelledImages, Sample
from training.tasks.by_name import task_of


@dataclass(frozen=True)
class Cost:
    """What a way to answer costs.

    Attributes:
        fit_s: Seconds until it had learned; None where nobody knows.
        ms_per_image: From the resized image to the answer, without reading the file, which all have to do.
        size_bytes: Of the numbers that have to be stored.
    """

    fit_s: float | None
    ms_per_image: float
    size_bytes: int

    def plus(self, other: Cost) -> Cost:
        """Returns what both cost, of which the first is there already and had not to be learned."""
        return Cost(other.fit_s, self.ms_per_image + other.ms_per_image, self.size_bytes + other.size_bytes)


@dataclass(frozen=True, eq=False)
class Row:
    """One way to answer, and its answers.

    Attributes:
        name: What it is.
        of_network: Whether a network has a part in it.
        chosen: Its hyper-parameter and that one's value; empty without one.
        images: How many training images it learned from; None for a network, which may have seen any.
        cost: What it costs.
        samples: The n images that it answered.
        outputs: (n, K), see `methods.outputs`.
        data: What the outputs mean.
    """

    name: str
    of_network: bool
    chosen: str
    images: int | None
    cost: Cost
    samples: tuple[Sample, ...]
    outputs: FloatArray
    data: LabelledImages

    @cached_property
    def score(self) -> Estimate:
        """The metric of the task with its interval; alone where there are too few images for one."""
        task = task_of(self.data.task)
        truth = task.targets(self.samples)
        value = task.score(self.outputs, truth)
        low, high = task.intervals(self.outputs, truth, self.data, ()).get(task.metric, (value, value))
        return Estimate(value, low, high)

    def figures(self) -> dict[str, Any]:
        """Returns what baselines.json and report.json keep."""
        task = task_of(self.data.task)
        others = task.summary(self.outputs, task.targets(self.samples), self.data)
        found = self.score
        return {
            "name": self.name,
            "of_network": self.of_network,
            "chosen": self.chosen,
            "training_images": self.images,
            "images": len(self.samples),
            task.metric: found.value,
            "interval": [found.low, found.high],
            **others,
            **dataclasses.asdict(self.cost),
        }


def measured(
    chosen: Sequence[Method], samples: Sequence[Sample], data: LabelledImages, config: TrainConfig, most: int
) -> list[Row]:
    """Fits baselines to training images and returns how good they are on others.

    Args:
        chosen: The baselines, none of which needs a network.
        samples: The images to answer.
        data: The data set, of whose training part they learn.
        config: What part of an image is seen, how the data were divided, and the seed.
        most: Training images that are used at most.

    Raises:
        DataError: If the images can no longer be read.
    """
    fitted = fitting.fit_all(chosen, data, config, most)
    return of_baselines(fitted, fitting.answer(fitted, samples, data, config.input), data)


def of_baselines(fitted: Sequence[Fitted], answers: Answers, data: LabelledImages) -> list[Row]:
    """Returns a row for each baseline, in their order."""
    count = len(answers.samples)
    rows = []
    for one in fitted:
        name = one.method.name
        cost = Cost(one.seconds, 1000 * answers.seconds[name] / count, methods.stored_bytes(one.estimator))
        chosen = one.method.chosen(one.value)
        rows.append(Row(name, False, chosen, one.images, cost, answers.samples, answers.outputs[name], data))
    return rows
