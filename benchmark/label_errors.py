"""How many planted label errors `training.check --labels` finds, and how many of its findings are planted.

    python -m benchmark.label_errors
    python -m benchmark.label_errors --data DIR --backbone resnet50_v1 --weights FILE

The first takes scikit-learn's digits and features made by hand; the second any folder, and those of a network. Of each
draw 5 % of the labels are exchanged for another class, both at random; found is what the command calls a label that
the other images contradict. Beside it stand the first of its two rounds alone, and cleanlab's usual choice
(prune_by_noise_rate) from the probabilities of that round. Labels of the set itself may be wrong, too: what is found
with none planted is counted first.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cleanlab.filter import find_label_issues  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits

from benchmark.support.options import option_parser
from benchmark.support.pairs import Target, machine
from cnn_perception.commands import exit_code
from demo.digits import write_digits
from training import config
from training.data.load import DataOptions, list_images
from training.data.records import Listing
from training.label_errors import features
from training.label_errors.checks import doubts, out_of_fold
from training.label_errors.checks.out_of_fold import Lesson
from training.label_errors.examination import Prepared, judge, prepare

RECALL = Target(0.8, is_lower_bound=True)
PRECISION = Target(0.7, is_lower_bound=True)
SECONDS = Target(60)
"""Of one judgement, once the features exist."""
SHARE = 0.05

_Flags = npt.NDArray[np.bool_]
_METHODS = ("two rounds, as the command has them", "one round", "cleanlab, prune_by_noise_rate, same probabilities")


def planted(listing: Listing, seed: int) -> tuple[Listing, _Flags]:
    """Returns images with some labels exchanged, and which, (n,)."""
    rng = np.random.default_rng(seed)
    count = len(listing.samples)
    classes = len(listing.class_names)
    flipped = np.isin(np.arange(count), rng.choice(count, round(SHARE * count), replace=False))
    moves = rng.integers(1, classes, count) * flipped
    samples = (
        dataclasses.replace(sample, label=(sample.label + move) % classes)
        for sample, move in zip(listing.samples, moves.tolist(), strict=True)
    )
    return listing.keep(tuple(samples)), flipped


def found(prepared: Prepared, seed: int) -> _Flags:
    """Returns which labels the command takes to be wrong, (n,)."""
    rows = [one.row for one in judge(prepared, seed).findings]
    return np.isin(np.arange(len(prepared.listing.samples)), rows)


def beside(prepared: Prepared, seed: int) -> tuple[_Flags, _Flags]:
    """Returns what one round finds, and what cleanlab finds in its probabilities, (n,) both."""
    listing = prepared.listing
    labels = np.array([sample.label for sample in listing.samples], np.int64)
    folds, _ = doubts.folds_of(listing, list(prepared.pairs.values()), seed)
    lesson = Lesson(prepared.compact, folds, lambda what: None)
    with threadpool_limits(1):
        held = out_of_fold.classify(lesson, labels, len(listing.class_names), np.ones(len(labels), np.bool_))
    first = doubts.judged(labels, held)
    pruned = find_label_issues(labels, held.probabilities, filter_by="prune_by_noise_rate", n_jobs=1)
    return first.suspects & held.judged, np.asarray(pruned, np.bool_)


def scores(selected: _Flags, flipped: _Flags) -> tuple[float, float]:
    """Returns recall and precision, the latter 1 where nothing is found."""
    hits = int((selected & flipped).sum())
    return hits / int(flipped.sum()), hits / int(selected.sum()) if selected.any() else 1.0


def measure(prepared: Prepared, draws: Sequence[int]) -> None:
    """Prints what is found in each draw, and the means."""
    print(f"{prepared.listing.source}: {len(prepared.listing.samples)} images, {prepared.source}")
    print(f"  without planted errors: {int(found(prepared, 0).sum())} found", flush=True)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in _METHODS}
    seconds = []
    for draw in draws:
        listing, flipped = planted(prepared.listing, draw)
        spoilt = dataclasses.replace(prepared, listing=listing)
        started = time.perf_counter()
        selected = found(spoilt, draw)
        seconds.append(time.perf_counter() - started)
        for name, flags in zip(_METHODS, (selected, *beside(spoilt, draw)), strict=True):
            rows[name].append(scores(flags, flipped))
        recall, precision = rows[_METHODS[0]][-1]
        print(f"  draw {draw}: recall {recall:.3f}, precision {precision:.3f}, {seconds[-1]:.1f} s", flush=True)
    for name, pairs in rows.items():
        recall, precision = (statistics.fmean(column) for column in zip(*pairs, strict=True))
        verdict = f", {RECALL.verdict(recall)}; {PRECISION.verdict(precision)}" if name == _METHODS[0] else ""
        print(f"  mean of {len(pairs)}, {name}: recall {recall:.3f}, precision {precision:.3f}{verdict}")
    print(f"  longest {max(seconds):.1f} s, {SECONDS.verdict(max(seconds))}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("label_errors", __doc__)
    parser.add_argument("--data", type=Path, help="folder of class folders; without it, the digits")
    parser.add_argument("--weights", help="as for training.train; without it, features made by hand")
    parser.add_argument("--backbone", default="resnet18", help="torchvision or own name (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=10, help="times that errors are planted (default: %(default)s)")
    parser.add_argument("--first-draw", type=int, default=0, help="seed of the first (default: %(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: _measure(options), "interrupted")


def _measure(options: argparse.Namespace) -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        source = options.data or Path(folder) / "digits"
        if options.data is None:
            write_digits(source)
        named = {"weights": options.weights, "backbone": options.backbone} if options.weights else {}
        chosen = config.make(output="-", mode="probe", data=(str(source),), **named)
        describe = features.chosen_by(named, chosen, None, None)
        prepared = prepare(list_images(source, DataOptions()), describe)
        measure(prepared, range(options.first_draw, options.first_draw + options.draws))


if __name__ == "__main__":
    sys.exit(main())
