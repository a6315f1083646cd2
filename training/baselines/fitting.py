"""Baselines fitted to the training images, and what they answer to others."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import DataError
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import InputSpec
from training.baselines import methods, pictures
from training.baselines.features import Features
from training.baselines.hog import Floats
from training.baselines.methods import Estimator, Method
from training.config import TrainConfig
from training.data.records import LabelledImages, Sample
from training.loop import linear_solver
from training.tasks.by_name import task_of
from training.tasks.task import LearningTask, Truth

MOST_IMAGES = 10000
"""Training images that the baselines learn from at most, which bounds memory and time: 20 kB of features each."""
MOST_VALIDATED = 1000
"""Of these, so many at random choose the hyper-parameters."""
TOO_FEW_GROUPS = (
    "warning: the training images are of too few groups to choose the hyper-parameters of baselines on other groups; "
    "they are chosen on other times of the same"
)

Begin = Callable[[str], None]
"""Called before a fit with what is fitted."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A baseline that has learned.

    Attributes:
        method: Which.
        value: Of its hyper-parameter.
        estimator: What answers.
        images: How many training images it learned from.
        seconds: That its features, the choice of the hyper-parameter and the fit took.
    """

    method: Method
    value: float
    estimator: Estimator
    images: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Answers:
    """What baselines say of images.

    Attributes:
        samples: The n images that could be read.
        outputs: By the baseline's name, (n, K); see `methods.outputs`.
        seconds: By the baseline's name, what features and answers took of all images together.
    """

    samples: tuple[Sample, ...]
    outputs: dict[str, FloatArray]
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned from which images, and by which of them hyper-parameters are chosen.

    Attributes:
        task: What the labels are.
        outputs: K.
        truth: What the n images show, see `LearningTask.targets`.
        rows: Those that choose, (m,); none where nothing can be held out.
        folds: The fold of each of these, (m,).
        seed: Of what is drawn at random.
    """

    task: LearningTask
    outputs: int
    truth: Truth
    rows: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    seed: int

    @classmethod
    def of(cls, samples: Sequence[Sample], data: LabelledImages, config: TrainConfig) -> Lesson:
        """Returns what some training images teach; their folds are made by group and time, as a probe's are."""
        task = task_of(data.task)
        folds = linear_solver.usable_folds(samples, config, TOO_FEW_GROUPS)
        rows = np.sort(np.random.default_rng(config.seed).permutation(len(samples))[:MOST_VALIDATED])
        if folds is None:
            rows = folds = rows[:0]
        else:
            folds = folds[rows]
        return cls(task, len(data.class_names), task.targets(samples), rows, folds, config.seed)

    def candidates(self, method: Method) -> tuple[float, ...]:
        """Returns the hyper-parameters that can be tried: beside the largest fold there are only so many images."""
        largest = int(np.bincount(self.folds).max()) if len(self.rows) else 0
        return method.possible((len(self.rows) or len(self.truth)) - largest)

    def fits(self, method: Method) -> int:
        """Returns how many fits a baseline takes, that of its choice included."""
        tried = len(self.candidates(method))
        return 1 + (len(np.unique(self.folds)) * tried if tried > 1 else 0)

    def learned(self, estimator: Estimator, features: Floats, truth: Truth) -> Estimator:
        """Returns an estimator, fitted to features (n, D) of images that show `truth`."""
        labels = truth if self.task.one_class or self.task.least_squares else truth.astype(np.int64)
        # one thread: hundreds of small steps would wait for the others, and the figures depend on how many there are
        with warnings.catch_warnings(), threadpool_limits(1):
            # of iterations that end where they are meant to, and of labels that never change
            warnings.simplefilter("ignore")
            return estimator.fit(features, labels)


def some(samples: Sequence[Sample], most: int, seed: int) -> tuple[Sample, ...]:
    """Returns at most so many images, drawn at random of each class in proportion, in their order."""
    if len(samples) <= most:
        return tuple(samples)
    rows = np.random.default_rng(seed).permutation(len(samples))
    labels = np.array([sample.label for sample in samples])[rows]
    by_class = rows[np.argsort(labels, kind="stable")]
    taken = by_class[(np.arange(most) * len(samples)) // most]
    return tuple(samples[row] for row in np.sort(taken))


def fit_all(chosen: Sequence[Method], data: LabelledImages, config: TrainConfig, most: int) -> list[Fitted]:
    """Fits baselines to at most so many of the training images.

    Raises:
        DataError: If the images can no longer be read.
    """
    kinds = list(dict.fromkeys(method.features for method in chosen if method.features is not None))
    described = _describe(some(data.part("train"), most, config.seed), kinds, config.input)
    if not described.samples:
        raise DataError(f"{data.where}: its images can no longer be read; start again when they are back")
    lesson = Lesson.of(described.samples, data, config)
    fitted = []
    with begun(sum(map(lesson.fits, chosen)), "baselines") as begin:
        for method in chosen:
            assert method.features is not None
            features = described.features[method.features]
            fitted.append(fit(method, features, lesson, described.seconds[method.features], begin))
    return fitted


@contextmanager
def begun(fits: int, title: str) -> Iterator[Begin]:
    """Shows how many of so many fits have begun, and which; gives what is called before each."""
    with ProgressBar(total=fits, desc=title, unit="fit", leave=False) as bar:

        def begin(what: str) -> None:
            bar.set_postfix_str(what, refresh=False)
            bar.update()

        yield begin


def fit(method: Method, features: Floats, lesson: Lesson, seconds: float, begin: Begin) -> Fitted:
    """Chooses the hyper-parameter of a baseline by cross-validation, and fits it to all of the images.

    Args:
        method: The baseline.
        features: (n, D) of the images.
        lesson: What they show.
        seconds: That the features took.
        begin: Called before each fit.
    """
    started = time.perf_counter()
    value = _choose(method, features, lesson, begin)
    begin(f"{method.name} {method.chosen(value)}")
    estimator = lesson.learned(method.make(value, lesson.seed), features, lesson.truth)
    return Fitted(method, value, estimator, len(features), seconds + time.perf_counter() - started)


def answer(fitted: Sequence[Fitted], samples: Sequence[Sample], data: LabelledImages, spec: InputSpec) -> Answers:
    """Returns what baselines say of images; never more than a chunk of these is in memory.

    Raises:
        DataError: If the images can no longer be read.
    """
    task = task_of(data.task)
    kinds = list(dict.fromkeys(one.method.features for one in fitted if one.method.features is not None))
    specs = {kind: kind.spec(spec) for kind in kinds}
    read: list[Sample] = []
    found: dict[str, list[FloatArray]] = {one.method.name: [] for one in fitted}
    seconds = dict.fromkeys(found, 0.0)
    for chunk in pictures.read(samples, list(dict.fromkeys(specs.values())), "answers of the baselines"):
        read += chunk.samples
        for kind in kinds:
            started = time.perf_counter()
            features = kind.compute(chunk.pixels[specs[kind]])
            computed = time.perf_counter() - started
            for one in (one for one in fitted if one.method.features is kind):
                started = time.perf_counter()
                answers = methods.outputs(one.estimator, features, task, len(data.class_names))
                found[one.method.name].append(answers)
                seconds[one.method.name] += computed + time.perf_counter() - started
    if not read:
        raise DataError(f"{data.where}: its images can no longer be read; start again when they are back")
    return Answers(tuple(read), {name: np.concatenate(rows) for name, rows in found.items()}, seconds)


@dataclass(frozen=True, eq=False)
class _Described:
    """The images that could be read, their features (n, D) of each kind, and the seconds that these took."""

    samples: tuple[Sample, ...]
    features: dict[Features, Floats]
    seconds: dict[Features, float]


def _describe(samples: Sequence[Sample], kinds: Sequence[Features], spec: InputSpec) -> _Described:
    specs = {kind: kind.spec(spec) for kind in kinds}
    read: list[Sample] = []
    rows: dict[Features, list[Floats]] = {kind: [] for kind in kinds}
    seconds = dict.fromkeys(kinds, 0.0)
    for chunk in pictures.read(samples, list(dict.fromkeys(specs.values())), "features of the baselines"):
        read += chunk.samples
        for kind in kinds:
            started = time.perf_counter()
            rows[kind].append(kind.compute(chunk.pixels[specs[kind]]))
            seconds[kind] += time.perf_counter() - started
    features = {kind: np.concatenate(found) for kind, found in rows.items() if found}
    return _Described(tuple(read), features, seconds)


def _choose(method: Method, features: Floats, lesson: Lesson, begin: Begin) -> float:
    """The first of the best candidates by the metric of all held-out answers; the middle one where none are held."""
    candidates = lesson.candidates(method)
    if len(candidates) == 1 or not len(lesson.rows):
        return candidates[len(candidates) // 2]
    scores = {value: _held_out_score(method, value, features, lesson, begin) for value in candidates}
    return max(scores, key=lambda candidate: scores[candidate])


def _held_out_score(method: Method, value: float, features: Floats, lesson: Lesson, begin: Begin) -> float:
    """The metric of all answers together, each of an estimator that has not seen the fold of its image."""
    features, truth = features[lesson.rows], lesson.truth[lesson.rows]
    held_out = np.zeros((len(features), lesson.outputs), np.float32)
    is_answered = np.zeros(len(features), np.bool_)
    for fold in np.unique(lesson.folds):
        begin(f"{method.name} {method.chosen(value)}")
        outside = lesson.folds == fold
        if lesson.task.one_class and len(np.unique(truth[~outside])) < 2:
            continue  # of one class alone nothing can be learned
        estimator = lesson.learned(method.make(value, lesson.seed), features[~outside], truth[~outside])
        held_out[outside] = methods.outputs(estimator, features[outside], lesson.task, lesson.outputs)
        is_answered |= outside
    return lesson.task.score(held_out[is_answered], truth[is_answered])
