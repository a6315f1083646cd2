"""How many labels chosen images save, beside images drawn at random, for the same accuracy.

    python -m benchmark.labels
    python -m benchmark.labels --data DIR --backbone resnet50_v1 --weights FILE

The first takes scikit-learn's digits and features made by hand; the second any labelled images, and features of a
network. Images are labelled in two rounds, as `training.collect` chooses them: half of the budget by their looks
alone, then, with what a classifier has learned from those, the other half by looks and doubt. Drawn ones are taken at
once. The classifier is a logistic regression on the features; a fixed part of the images, never chosen from, scores it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from benchmark.support.options import option_parser
from benchmark.support.pairs import machine
from cnn_perception.commands import exit_code
from demo.digits import write_digits
from training import config
from training.collect.choice import choose
from training.collect.options import DOUBT_SHARE
from training.collect.sources.frame import Answer
from training.data.load import DataOptions, load_images
from training.label_errors import features

BUDGETS = (10, 20, 40, 80, 160, 320)
_POOL = 0.9
"""Of the images to choose from, those that one draw may choose from: draws would be alike otherwise."""

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images as numbers, of length 1, and what they show.

    Attributes:
        rows: (n, D) features.
        labels: (n,) classes.
    """

    rows: _Floats
    labels: _Ints

    def part(self, index: npt.NDArray[Any]) -> Labelled:
        """Returns some of them."""
        return Labelled(self.rows[index], self.labels[index])


def learned(known: Labelled) -> LogisticRegression | None:
    """Returns a classifier of labelled images; None where all are of one class."""
    if len(np.unique(known.labels)) < 2:
        return None
    return LogisticRegression(C=100.0, max_iter=500).fit(known.rows, known.labels)


def accuracy(known: Labelled, held: Labelled) -> float:
    """Returns how many of the held-out images a classifier of the labelled ones knows, in [0, 1]."""
    classifier = learned(known)
    if classifier is None:
        return float((held.labels == known.labels[0]).mean())
    return float(classifier.score(held.rows, held.labels))


def chosen(pool: Labelled, budget: int) -> _Ints:
    """Returns which images of the pool are labelled, half of them before anything is learned."""
    nothing = pool.rows[:0]
    by_looks = choose(pool.rows, [None] * len(pool.rows), nothing, budget // 2, 0.0)
    first = np.array([one.index for one in by_looks], np.int64)
    rest = np.setdiff1d(np.arange(len(pool.rows)), first)
    answers = _answers(learned(pool.part(first)), pool.rows[rest])
    then = choose(pool.rows[rest], answers, pool.rows[first], budget - len(first), DOUBT_SHARE)
    return np.concatenate([first, rest[[one.index for one in then]]])


def _answers(classifier: LogisticRegression | None, rows: _Floats) -> list[Answer | None]:
    if classifier is None:
        return [None] * len(rows)
    scores = np.sort(classifier.predict_proba(rows), axis=1)
    return [Answer("", float(1.0 - best + second), "margin", "") for second, best in scores[:, -2:]]


def measure(pool: Labelled, held: Labelled, draws: int) -> dict[int, tuple[list[float], list[float]]]:
    """Returns, by budget, the accuracies with chosen images and with drawn ones."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    for budget in (one for one in BUDGETS if one <= 0.6 * len(pool.labels)):
        pairs = found[budget] = ([], [])
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            offered = pool.part(rng.choice(len(pool.labels), round(_POOL * len(pool.labels)), replace=False))
            pairs[0].append(accuracy(offered.part(chosen(offered, budget)), held))
            pairs[1].append(accuracy(offered.part(rng.choice(len(offered.labels), budget, replace=False)), held))
        ours, theirs = (statistics.fmean(side) for side in pairs)
        print(f"  {budget:4} labels: chosen {ours:.1%}, drawn {theirs:.1%}", flush=True)
    return found


def equal_budget(found: dict[int, tuple[list[float], list[float]]], budget: int) -> float | None:
    """Returns how many drawn labels are as good as `budget` chosen ones; None if more than any tried.

    Between two budgets the accuracy is taken to grow in a line.
    """
    wanted = statistics.fmean(found[budget][0])
    drawn = [(one, statistics.fmean(sides[1])) for one, sides in found.items()]
    for (few, low), (many, high) in itertools.pairwise(drawn):
        if low <= wanted <= high:
            return few + (many - few) * (wanted - low) / max(high - low, 1e-9)
    return float(drawn[0][0]) if wanted < drawn[0][1] else None


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("labels", __doc__)
    parser.add_argument("--data", type=Path, help="labelled images, as for training.train; without it, the digits")
    parser.add_argument("--weights", help="as for training.train; without it, features made by hand")
    parser.add_argument("--backbone", default="resnet18", help="torchvision or own name (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=10, help="repetitions (default: %(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: _measure(options), "interrupted")


def _measure(options: argparse.Namespace) -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        source = options.data or Path(folder) / "digits"
        if options.data is None:
            write_digits(source)
        named = {"weights": options.weights, "backbone": options.backbone} if options.weights else {}
        settings = config.make(output="-", mode="probe", data=(str(source),), **named)
        data = load_images(source, DataOptions())
        described = features.chosen_by(named, settings, None, None)(data)
    everything = Labelled(normalize(described.rows), np.array([one.label for one in data.samples], np.int64))
    parts = np.array([one.part for one in data.samples])
    pool, held = (everything.part(np.flatnonzero((parts == part) & described.known)) for part in ("train", "val"))
    print(f"{source}: {len(pool.labels)} images to choose from, {len(held.labels)} to score; {described.source}")
    found = measure(pool, held, options.draws)
    for budget in found:
        equal = equal_budget(found, budget)
        words = "more than any tried" if equal is None else f"{equal:.0f}"
        print(f"  {budget} chosen are worth {words} drawn")


if __name__ == "__main__":
    sys.exit(main())
