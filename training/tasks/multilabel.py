"""Any number of several classes an image."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from cnn_perception import metrics
from cnn_perception.errors import DataError
from cnn_perception.intervals import bootstrap
from cnn_perception.label_table import Row
from cnn_perception.label_text import NONE_OF_THESE
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task
from training.tasks.probabilities import Doubles, log, sigmoid
from training.tasks.table import RESERVED, LabelledTable, TableLabels
from training.tasks.task import MIN_IMAGES, Flags, JudgedAnswer, Labelled, LearningTask, Meaning, Thresholds, Truth

THRESHOLD = 0.5
"""Score from which a class is taken to be shown where nothing better is known."""
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_LIKE_A_LIST = re.compile(r"""\[.*\]|\{.*\}|\(\s*\)|[\[{(]\s*['"].*|\w+\(\s*[\[{(].*\)|(frozen)?set\(\)""", re.DOTALL)
"""What programs write in a cell for several things; a name in round brackets alone is none of that."""
_EMPTY_LISTS = ("[]", "{}", "()", "set()", "frozenset()")
_NUMBERS = re.compile(r"[\[{(][\s\d.,+-]+[\]})]")
_NO_VECTOR = "name the classes, as in a;b, or write a column of 0 and 1 for each class"
_SHOWN = 80
"""Characters of a cell in an error."""


class Multilabel(LearningTask):
    """See `task.LearningTask`."""

    name: Task = "multilabel"
    metric = "map"
    metric_title = "mean average precision"
    outputs = "classes"
    decisions = "labels"
    agreement = "the same labels"
    one_class = False
    columns_are_classes = True

    def recognises(self, table: LabelledTable) -> bool:
        """Returns whether there is the column `classes`; columns of 0 and 1 might be anything."""
        return "classes" in table.header

    def labels(self, table: LabelledTable) -> TableLabels:
        """Reads the column `classes`, or a column of 0 and 1 for each class."""
        table.require_no_targets(self.name)
        if "classes" in table.header:
            names = tuple(sorted({name for row in table.rows for name in _listed(row)}))
            _refuse_commas(table, names)
            return TableLabels(names, (), lambda row: _label_of(_among(_listed(row), names)))
        names = tuple(name for name in table.header if name not in RESERVED)
        if "class" in table.header or not names:
            raise table.without("'classes'", self.name)
        if NONE_OF_THESE in names:
            raise DataError(
                f"{table.file}, line 1: a class cannot be called {NONE_OF_THESE!r}, which says of an image that it "
                "shows no class; remove the column, or rename the class"
            )
        return TableLabels(names, (), lambda row: _label_of(tuple(_flag(row, name) for name in names)))

    def words(self, shown: Labelled, names: Sequence[str]) -> str:
        """Returns the names of its classes, separated by semicolons."""
        return ";".join(name for name, value in zip(names, shown.values, strict=True) if value)

    def strata(self, samples: Sequence[Labelled], classes: int) -> npt.NDArray[np.int64]:
        """Returns a column a class, and one of all images, which does not follow from the others."""
        values = np.array([sample.values for sample in samples], np.int64).reshape(len(samples), classes)
        return np.concatenate([values, np.ones((len(samples), 1), np.int64)], axis=1)

    def oddities(self, train: Sequence[Labelled], names: Sequence[str]) -> list[str]:
        """Says which classes are on hardly any image, or on almost all."""
        counts = {name: int(sum(sample.values[k] for sample in train)) for k, name in enumerate(names)}
        return [
            f"class {name!r} is in {count} of {len(train)} training images"
            for name, count in counts.items()
            if count < MIN_IMAGES or count > len(train) - MIN_IMAGES
        ]

    def class_shares(self, rows: npt.NDArray[np.floating[Any]], classes: int) -> tuple[float, ...]:
        """Returns shares that need not add up to 1."""
        return tuple(((rows > 0.5).sum(axis=0) / len(rows)).tolist())

    def class_counts(self, samples: Sequence[Labelled], classes: int) -> list[int]:
        """Returns counts that need not add up to the number of images."""
        return [int(count) for count in np.sum([sample.values for sample in samples], axis=0)]

    def groups(self, row: Sequence[float]) -> list[int]:
        """Returns the classes; images of no class are a group, too."""
        shown = [index for index, value in enumerate(row) if value > 0.5]
        return shown or [-1]

    def loss(self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
        """Returns the binary cross-entropy in nats, summed over the classes."""
        smooth = targets * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(outputs, smooth, reduction="none").sum(dim=1).mean()

    def squared_error(
        self, outputs: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
    ) -> Tensor:
        """Returns that of the sigmoids to 1 or 0 for each class."""
        smooth = targets * (1 - smoothing) + smoothing / 2
        return (outputs.sigmoid() - smooth).square().sum(dim=1).mean() / 2

    def imitation(self, outputs: Tensor, teachers: Tensor, temperature: float) -> Tensor:
        """Returns the divergence of the scores at a temperature, summed over the classes, as `Multiclass.imitation`."""
        own = outputs.float() / temperature
        taught = self.together(teachers.float() / temperature)
        likely = taught.sigmoid()
        yes = likely * (functional.logsigmoid(taught) - functional.logsigmoid(own))
        no = (1 - likely) * (functional.logsigmoid(-taught) - functional.logsigmoid(-own))
        return (yes + no).sum(dim=1).mean() * temperature**2

    def answered(self, outputs: FloatArray, thresholds: Thresholds) -> list[tuple[int, tuple[float, ...]]]:
        """Returns the classes whose scores reach their thresholds."""
        used = np.array(thresholds or self.usual_thresholds(outputs.shape[1]))
        shown = sigmoid(outputs.astype(np.float64)) >= used
        return [_label_of(tuple(map(float, row))) for row in shown]

    def together(self, members: Tensor) -> Tensor:
        """Returns the logarithms of the odds of the mean scores."""
        return functional.logsigmoid(members).logsumexp(dim=0) - functional.logsigmoid(-members).logsumexp(dim=0)

    def shares(self, members: Tensor) -> Tensor:
        """Returns p_i (1 - p_i) / (M p (1 - p)), of the scores p_i of M networks and their mean p."""
        yes, no = functional.logsigmoid(members), functional.logsigmoid(-members)
        return (yes + no - yes.logsumexp(dim=0) - no.logsumexp(dim=0)).exp() * len(members)

    def hits(self, outputs: Tensor, targets: Tensor) -> float:
        """Returns NaN: average precision is no sum over images."""
        return float("nan")

    def score(self, outputs: FloatArray, truth: Truth) -> float:
        """Returns the mean average precision, in [0, 1]."""
        return metrics.mean_average_precision(outputs, truth > 0.5)

    def summary(self, outputs: FloatArray, truth: Truth, meaning: Meaning) -> dict[str, float]:
        """Returns the mean F1 of the classes at thresholds of 0.5."""
        return {"f1": _macro_f1(_scores_of_classes(outputs, truth, self.usual_thresholds(outputs.shape[1])))}

    def report(self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds) -> dict[str, Any]:
        """Returns the scores of each class at its threshold."""
        used = thresholds or self.usual_thresholds(outputs.shape[1])
        scores = _scores_of_classes(outputs, truth, used)
        rows = {}
        for k, name in enumerate(meaning.class_names):
            precision = metrics.average_precision(outputs[:, k], truth[:, k] > 0.5)
            rows[name] = {"average_precision": precision, **dataclasses.asdict(scores[k]), "threshold": used[k]}
        return {"macro_f1": _macro_f1(scores), "per_class": rows}

    def intervals(
        self, outputs: FloatArray, truth: Truth, meaning: Meaning, thresholds: Thresholds
    ) -> dict[str, tuple[float, float]]:
        """Returns those of the mean average precision and of the mean F1."""
        there = truth > 0.5
        used = np.array(thresholds or self.usual_thresholds(outputs.shape[1]))
        seen = sigmoid(outputs.astype(np.float64)) >= used
        found = {
            "map": bootstrap(lambda rows: metrics.mean_average_precision(outputs[rows], there[rows]), len(there)),
            "macro_f1": bootstrap(lambda rows: metrics.macro_f1_of_labels(there[rows], seen[rows]), len(there)),
        }
        return {name: ends for name, ends in found.items() if ends is not None}

    def image_losses(self, scores: Doubles, truth: Truth) -> Doubles:
        """Returns the binary cross-entropy of each in nats, summed over the classes."""
        right = np.where(truth > 0.5, scores, 1 - scores)
        return np.asarray(-log(right).sum(axis=1))

    def label_text(self, shown: Labelled, meaning: Meaning) -> str:
        """Returns the names of its classes, separated by commas."""
        return ", ".join(name for name, value in zip(meaning.class_names, shown.values, strict=True) if value)

    def verdict(self, scores: Doubles, shown: Labelled, meaning: Meaning, thresholds: Doubles) -> JudgedAnswer:
        """Returns the classes whose score is on the wrong side of its threshold."""
        wrong = np.flatnonzero((scores >= thresholds) != (np.array(shown.values) > 0.5))
        text = ", ".join(f"{meaning.class_names[k]} {scores[k]:.1%}" for k in wrong)
        return JudgedAnswer("wrong", text or "unsure", f"is {self.label_text(shown, meaning) or 'nothing'}")

    def probabilities(self, outputs: FloatArray, temperature: float) -> Doubles:
        """Returns a sigmoid each."""
        return sigmoid(outputs.astype(np.float64) / temperature)

    def logits(self, probabilities: Doubles) -> Doubles:
        """Returns the logarithms of the odds."""
        return log(probabilities) - log(1 - probabilities)

    def usual_thresholds(self, classes: int) -> tuple[float, ...]:
        """Returns 0.5 for each class."""
        return (THRESHOLD,) * classes

    def thresholds(self, outputs: FloatArray, truth: Truth) -> tuple[float, ...]:
        """Returns those at which the F1 of each class is highest, in [0, 1].

        A threshold lies in the middle between the lowest score that reaches it and the next below; it is 0.5 where a
        class does not occur among the images, or is on all of them.
        """
        scores = _exact_scores(outputs)
        return tuple(_best_threshold(scores[:, k], truth[:, k] > 0.5) for k in range(scores.shape[1]))

    def agrees(self, outputs: Doubles, others: Doubles, is_near: Flags, thresholds: Thresholds) -> Flags:
        """Returns whether the same classes reach their thresholds."""
        reached = [sigmoid(each) >= np.array(thresholds) for each in (outputs, others)]
        return np.asarray((reached[0] == reached[1]).all(axis=1))


def _listed(row: Row) -> list[str]:
    """The classes of a row; an empty cell or `NONE_OF_THESE` means that none of them is in the image."""
    text = row.cells["classes"]
    if text in ("", NONE_OF_THESE):
        return []
    names = _of_list(row) if _LIKE_A_LIST.fullmatch(text) else [name.strip() for name in re.split("[;|]", text)]
    if not all(names):
        raise row.wrong("classes", f"{text!r} holds an empty class; mend it")
    if NONE_OF_THESE in names:
        raise row.wrong("classes", f"{text!r} says both classes and none of them; mend it")
    if {*names} <= {"0", "1"} and len({*names}) < len(names):
        raise row.wrong("classes", f"{text[:_SHOWN]!r} is a vector of 0 and 1; {_NO_VECTOR}")
    return names


def _of_list(row: Row) -> list[str]:
    """The names in a list, a tuple or a set as JSON, Python and NumPy write them: quoted, and each for itself.

    NumPy writes no commas. Python joins strings without a comma, so where only some lack it nobody knows what is meant.

    Raises:
        DataError: If it is none of these, or holds anything but texts.
    """
    text = row.cells["classes"]
    if re.sub(r"\s", "", text) in _EMPTY_LISTS:
        return []
    opening, *between = (gap.strip() or gap for gap in _QUOTED.split(text))
    closing = between.pop() if between else ""
    by_commas = all(gap == "," for gap in between)
    by_blanks = opening == "[" and all(gap.isspace() for gap in between)
    if (by_commas or by_blanks) and opening + closing.removeprefix(",").strip() in ("[]", "()", "{}"):
        try:
            return [_unquoted(one) for one in _QUOTED.findall(text)]
        except (ValueError, SyntaxError):  # of an escape that is none
            pass
    if _NUMBERS.fullmatch(text):
        raise row.wrong("classes", f"{text[:_SHOWN]!r} holds numbers in place of names; {_NO_VECTOR}")
    raise row.wrong("classes", f"{text[:_SHOWN]!r} is no list that can be read; write it as a;b or as ['a', 'b']")


def _unquoted(text: str) -> str:
    """Returns what a quoted text says; JSON writes characters beyond 16 bits otherwise than Python.

    Raises:
        ValueError: If it is neither's, as SyntaxError.
    """
    try:
        return str(json.loads(text)).strip()
    except ValueError:
        return str(ast.literal_eval(text)).strip()


def _refuse_commas(table: LabelledTable, names: Sequence[str]) -> None:
    """Makes sure that no comma stands between two classes; one in a name, as in `Paris, Texas`, is not between two.

    Raises:
        DataError: Names the first such row.
    """
    known = set(names)
    for row in table.rows:
        for name in _listed(row):
            pieces = [piece.strip() for piece in name.split(",")]
            if len(pieces) > 1 and known.intersection(pieces):
                raise row.wrong("classes", f"{name!r} holds a comma; write ';' between several classes")


def _among(shown: Sequence[str], names: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(name in shown) for name in names)


def _flag(row: Row, name: str) -> float:
    return float(row.flag(name))


def _label_of(values: tuple[float, ...]) -> tuple[int, tuple[float, ...]]:
    """The first class that is shown, and the values."""
    return (values.index(1.0) if any(values) else 0), values


def _exact_scores(outputs: npt.NDArray[np.floating[Any]]) -> Doubles:
    return torch.from_numpy(outputs).double().sigmoid().numpy()


def _scores_of_classes(outputs: FloatArray, truth: Truth, thresholds: Sequence[float]) -> list[metrics.ClassScores]:
    """Precision, recall and F1 of each class, shown against not shown."""
    found = (_exact_scores(outputs) >= np.array(thresholds)).astype(np.int64)
    shown = (truth > 0.5).astype(np.int64)
    tables = [metrics.confusion_matrix(shown[:, k], found[:, k], 2) for k in range(shown.shape[1])]
    return [metrics.per_class(table)[1] for table in tables]


def _macro_f1(scores: Sequence[metrics.ClassScores]) -> float:
    return float(np.mean([score.f1 for score in scores]))


def _best_threshold(scores: Doubles, shown: npt.NDArray[np.bool_]) -> float:
    if shown.all() or not shown.any():
        return THRESHOLD
    ordered, counts = np.unique(scores, return_counts=True)
    positives = np.bincount(np.searchsorted(ordered, scores), shown, len(ordered))
    # with each score as the threshold: how many images reach it, and how many of them rightly
    reaching = counts[::-1].cumsum()[::-1]
    right = positives[::-1].cumsum()[::-1]
    best = int((2 * right / (reaching + shown.sum())).argmax())
    below = ordered[best - 1] if best else 0.0
    return float((ordered[best] + below) / 2)
