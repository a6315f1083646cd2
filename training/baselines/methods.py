"""The baselines, as scikit-learn has them: one of each kind of features and each way to learn from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from cnn_perception.model.outputs import FloatArray
from training.baselines.features import COLOURS, HOG, PIXELS, Features
from training.baselines.hog import Floats
from training.tasks.probabilities import Doubles
from training.tasks.task import LearningTask, Truth

Estimator = Any
"""One of scikit-learn's, which has no types."""

NEIGHBOURS = (1.0, 3.0, 5.0, 9.0, 15.0, 25.0)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""C, the inverse of the penalty, on standardised features; the strongest penalty first."""
OF_HISTOGRAMS = (1.0, 10.0, 100.0, 1000.0)
"""C on histograms, whose entries are far smaller than 1."""
OF_SVM = (1e-2, 1e-1, 1.0, 10.0)
DECAYS = (1.0, 1e-3)
"""alpha of the small network, the L2 penalty of its weights."""
HIDDEN = 64
"""Units of its one hidden layer."""
_EPOCHS = 50
_ITERATIONS = 100
_TOLERANCE = 1e-3
_NOTHING = (0.0,)


@dataclass(frozen=True)
class Method:
    """A baseline.

    Attributes:
        name: What it is called in the table.
        features: What it learns from; None for those of a network.
        make: (hyper-parameter, seed) -> an estimator that has learned nothing.
        parameter: Name of the hyper-parameter; empty without one.
        candidates: Its values, of which cross-validation takes the first of the best.
    """

    name: str
    features: Features | None
    make: Callable[[float, int], Estimator]
    parameter: str = ""
    candidates: tuple[float, ...] = _NOTHING

    def possible(self, images: int) -> tuple[float, ...]:
        """Returns the candidates where there are so many images to learn from: no more neighbours than these."""
        fitting = tuple(value for value in self.candidates if self.parameter != "k" or value <= images)
        return fitting or self.candidates[:1]

    def chosen(self, value: float) -> str:
        """Returns a value of the hyper-parameter as the table shows it."""
        return f"{self.parameter} {value:g}" if self.parameter else ""


def cheap(task: LearningTask) -> tuple[Method, ...]:
    """Returns the baselines that take seconds: colours, and edges."""
    svm = "ridge" if task.least_squares else "linear SVM"
    return (
        Method(_constant_name(task), COLOURS, lambda _, seed: _constant(task)),
        Method(
            f"colour histogram + {_linear_name(task)}",
            COLOURS,
            lambda value, seed: _linear(task, value),
            "C",
            OF_HISTOGRAMS,
        ),
        Method(f"HOG + {svm}", HOG, lambda value, seed: _svm(task, value, seed), "C", OF_SVM),
    )


def all_of(task: LearningTask) -> tuple[Method, ...]:
    """Returns all baselines that need no network."""
    return (
        *cheap(task),
        Method("pixels, nearest neighbours", PIXELS, lambda value, seed: _neighbours(task, value), "k", NEIGHBOURS),
        Method(
            f"pixels + {_linear_name(task)}",
            PIXELS,
            lambda value, seed: make_pipeline(StandardScaler(), _linear(task, value)),
            "C",
            PENALTIES,
        ),
        Method(
            f"pixels, {HIDDEN} hidden units",
            PIXELS,
            lambda value, seed: make_pipeline(StandardScaler(), _small_network(task, value, seed)),
            "alpha",
            DECAYS,
        ),
    )


def frozen(task: LearningTask, network: str) -> Method:
    """Returns the linear layer on the features of a network that learns nothing more."""
    return Method(
        f"features of {network} + {_linear_name(task)}",
        None,
        lambda value, seed: make_pipeline(StandardScaler(), _linear(task, value)),
        "C",
        PENALTIES,
    )


def outputs(estimator: Estimator, features: Floats, task: LearningTask, count: int) -> FloatArray:
    """Returns what a fitted estimator says of images, as a network would.

    Args:
        estimator: Fitted.
        features: (n, D).
        task: What it learned.
        count: K.

    Returns:
        (n, K): of classes scores of which the highest is the answer; where an image has several, those above 0 are;
        or standardised numbers.
    """
    if task.least_squares:
        return np.asarray(estimator.predict(features), np.float32).reshape(len(features), count)
    scored = hasattr(estimator, "decision_function")
    found = estimator.decision_function(features) if scored else estimator.predict_proba(features)
    if task.one_class:
        return _of_classes(np.asarray(found), estimator.classes_, count)
    if scored:
        return np.asarray(found, np.float32).reshape(len(features), count)
    return np.asarray(task.logits(_of_labels(found, estimator, count)), np.float32)


def stored_bytes(estimator: Estimator) -> int:
    """Returns the bytes of the numbers that a fitted estimator needs for its answers."""
    seen: dict[int, int] = {}
    _collect(estimator, seen)
    return sum(seen.values())


_OF_TRAINING = ("_optimizer", "_best_coefs", "_best_intercepts", "loss_curve_")
"""What scikit-learn's networks keep of their training."""


def _collect(value: object, seen: dict[int, int]) -> None:
    """Notes the arrays that an object holds, each once."""
    if isinstance(value, np.ndarray):
        seen[id(value)] = value.nbytes
    elif isinstance(value, list | tuple):
        for one in value:
            _collect(one, seen)
    elif hasattr(value, "__dict__") and type(value).__module__.startswith("sklearn."):
        for name, one in vars(value).items():
            if name not in _OF_TRAINING:
                _collect(one, seen)


def _of_classes(found: FloatArray, classes: Truth, count: int) -> FloatArray:
    """(n, K) scores: of two classes there is but one, and a class without training images has none."""
    if found.ndim == 1:
        found = np.stack([-found, found], axis=1)
    scores = np.full((len(found), count), -np.inf, np.float32)
    scores[:, np.asarray(classes, np.int64)] = found
    return scores


def _of_labels(found: object, estimator: Estimator, count: int) -> Doubles:
    """(n, K) probabilities, which some estimators give as one (n, 2) a label, and (n, 1) of one that never changes."""
    if isinstance(found, list):
        never = [len(values) == 1 and not values[0] for values in estimator.classes_]
        columns = [0 * one[:, -1] if constant else one[:, -1] for one, constant in zip(found, never, strict=True)]
        return np.asarray(np.stack(columns, axis=1), np.float64)
    return np.asarray(found, np.float64)[:, -count:]


def _linear_name(task: LearningTask) -> str:
    return "ridge" if task.least_squares else "logistic regression"


def _constant_name(task: LearningTask) -> str:
    if task.least_squares:
        return "always the training images' mean"
    return "always the most frequent class" if task.one_class else "always each class's share"


def _constant(task: LearningTask) -> Estimator:
    return DummyRegressor() if task.least_squares else DummyClassifier(strategy="prior")


def _neighbours(task: LearningTask, k: float) -> Estimator:
    return (KNeighborsRegressor if task.least_squares else KNeighborsClassifier)(int(k), algorithm="brute")


def _linear(task: LearningTask, inverse_penalty: float) -> Estimator:
    if task.least_squares:
        return Ridge(1 / inverse_penalty)
    layer = LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS, tol=_TOLERANCE)
    return layer if task.one_class else OneVsRestClassifier(layer)


def _svm(task: LearningTask, inverse_penalty: float, seed: int) -> Estimator:
    if task.least_squares:
        return Ridge(1 / inverse_penalty)
    svm = LinearSVC(C=inverse_penalty, random_state=seed)
    return svm if task.one_class else OneVsRestClassifier(svm)


def _small_network(task: LearningTask, decay: float, seed: int) -> Estimator:
    kind = MLPRegressor if task.least_squares else MLPClassifier
    return kind(hidden_layer_sizes=(HIDDEN,), alpha=decay, batch_size=32, max_iter=_EPOCHS, random_state=seed)
