"""How many labels `training.collect` saves on the demo's drawn drives, beside frames drawn at random, or every k-th.

    python -m benchmark.collecting

A ResNet-18 is trained on a few drawn pictures a class, as the first model of `make loop`. Of each of several drives N
frames are labelled: those that are chosen as `training.collect --model` chooses them (near duplicates left out, half by
doubt, half by looks), N drawn at random from all, or every k-th. A logistic regression on the model's embeddings then
learns from the few pictures and these frames, and is scored on all frames of the other drives. What is given is the
mean over the drives, the gain over random choice with its 95 % interval (Student's t over the drives), and how many
random frames are worth as much as N chosen ones. Leaves collecting.json in --output.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from benchmark.distillation import interval
from benchmark.labels import Labelled, accuracy
from benchmark.support.options import OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import machine
from cnn_perception.commands import exit_code
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import AS_SENT, read_image
from demo.draw import draw_dataset, draw_drive
from demo.shots import CLASSES, CLEAR, DriveSettings, plan_drive
from demo.training_settings import LOOP_SETTINGS
from training import export, train
from training.collect import description
from training.collect.choice import choose
from training.collect.description import Describer
from training.collect.options import DOUBT_SHARE, MIN_DISTANCE
from training.collect.sources.finding import find
from training.collect.survey import survey
from training.run_files import write_text
from training.text_table import text_table

BUDGETS = (10, 20, 40, 80, 160)
ARMS = ("chosen", "random", "every k-th")
_RATE_HZ = 10.0
_HEIGHT, _WIDTH = 240, 320
_VAL = 10
"""Pictures a class that say which epoch was the best."""
_MOST = 0.6
"""Share of a drive's frames that is labelled at most: of all of them every choice is the same."""


Accuracies = Mapping[int, Sequence[float]]
"""Of `ARMS`, by budget."""


@dataclass(frozen=True, eq=False)
class Drive:
    """A drive that a model has seen.

    Attributes:
        frames: All of its frames.
        order: By budget, which of them are labelled when they are chosen.
    """

    frames: Labelled
    order: Mapping[int, Sequence[int]]


def first_model(folder: Path, few: int) -> tuple[Path, Path]:
    """Returns the pictures that the first model learns from, `few` a class, and its file."""
    dataset = draw_dataset(folder / "dataset", train=few, val=_VAL, seed=0)
    run, model = folder / "run", folder / "model.onnx"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = train.main(["--data", str(dataset), *LOOP_SETTINGS, "--output", str(run)])
        code = code or export.main(["--checkpoint", str(run / "best.pt"), "--output", str(model)])
    if code:
        raise SystemExit(code)
    return dataset / "train", model


def pictures(folder: Path, describer: Describer) -> Labelled:
    """Returns the embeddings of the pictures of an image folder, and their classes."""
    listed = [(path, place) for place, name in enumerate(CLASSES) for path in sorted((folder / name).iterdir())]
    rows = [describer.vector(read_image(path)) for path, _ in ProgressBar(listed, "pictures", len(listed))]
    return Labelled(np.stack(rows), np.array([place for _, place in listed], np.int64))


def drive(folder: Path, describer: Describer, settings: DriveSettings) -> Drive:
    """Draws a drive, has the model look at it, and chooses frames of it."""
    drawn = draw_drive(
        folder / str(settings.seed),
        settings.seconds,
        settings.rate_hz,
        settings.seed,
        height=settings.height,
        width=settings.width,
        sign_s=settings.sign_s,
    )
    (source,) = find((), (drawn / "frames",), (), (), AS_SENT)
    everything = survey([source], describer, (), 0.0, print).candidates
    labels = _classes(settings)
    frames = Labelled(np.stack([one.vector for one in everything]), labels[[one.origin.index for one in everything]])
    apart = survey([source], describer, (), MIN_DISTANCE, print).candidates
    place = {one.origin.index: row for row, one in enumerate(everything)}
    vectors = np.stack([one.vector for one in apart])
    answers = [one.answer for one in apart]
    order = {
        budget: [
            place[apart[one.index].origin.index] for one in choose(vectors, answers, vectors[:0], budget, DOUBT_SHARE)
        ]
        for budget in BUDGETS
        if budget <= _MOST * len(labels)
    }
    return Drive(frames, order)


def _classes(settings: DriveSettings) -> npt.NDArray[np.int64]:
    """Returns the class of each frame, (n,)."""
    stops = plan_drive(settings)
    labels = np.full(stops[-1].end, CLASSES.index(CLEAR), np.int64)
    for stop in stops:
        labels[stop.shown : stop.end] = CLASSES.index(stop.name)
    return labels


def together(parts: Sequence[Labelled]) -> Labelled:
    """Returns images of several sources as one."""
    return Labelled(np.concatenate([one.rows for one in parts]), np.concatenate([one.labels for one in parts]))


def measure(few: Labelled, pool: Drive, held: Labelled, draws: int) -> Accuracies:
    """Returns the accuracies of `ARMS` by budget, of random choice the mean of some draws."""
    count = len(pool.frames.labels)

    def learned(index: npt.ArrayLike) -> float:
        return accuracy(together([few, pool.frames.part(np.asarray(index))]), held)

    found: dict[int, tuple[float, ...]] = {}
    for budget in pool.order:
        drawn = [np.random.default_rng(seed).choice(count, budget, replace=False) for seed in range(draws)]
        kth = np.round(np.linspace(0, count - 1, budget)).astype(np.int64)
        random = statistics.fmean(learned(index) for index in drawn)
        found[budget] = (learned(pool.order[budget]), random, learned(kth))
    return found


def worth(chosen: float, random: Sequence[tuple[int, float]]) -> str:
    """Returns how many random frames are as good as some that were chosen, in words.

    Args:
        chosen: Accuracy with the chosen ones.
        random: Budgets and their accuracies by random choice, from no frame on.
    """
    for (few, low), (many, high) in itertools.pairwise(random):
        if low <= chosen <= high:
            return f"{few + (many - few) * (chosen - low) / max(high - low, 1e-9):.0f}"
    return "fewer than none" if chosen < random[0][1] else f"more than {random[-1][0]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("collecting", __doc__, output=OUTPUT)
    parser.add_argument("--drives", type=at_least_one, default=5, help="2 or more (default: %(default)s)")
    parser.add_argument("--draws", type=at_least_one, default=4, help="of random frames (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a drive (default: %(default)s)")
    parser.add_argument("--sign-seconds", type=float, default=1.5, help="from sign to sign (default: %(default)s)")
    parser.add_argument("--few", type=at_least_one, default=30, help="drawn pictures a class (default: %(default)s)")
    options = parser.parse_args(argv)
    return exit_code(lambda: _measure(options), "interrupted")


def _measure(options: argparse.Namespace) -> None:
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, model = first_model(folder, options.few)
        describer = Describer(description.load_models(model, None))
        few = pictures(dataset, describer)
        seeds = range(1, options.drives + 1)
        given = (options.seconds, _RATE_HZ)
        drives = [
            drive(folder, describer, DriveSettings(*given, seed, _HEIGHT, _WIDTH, options.sign_seconds))
            for seed in seeds
        ]
    rows = []
    with threadpool_limits(1):  # of so few numbers more take longer
        for index, pool in enumerate(ProgressBar(drives, "learning", len(drives))):
            held = together([one.frames for other, one in enumerate(drives) if other != index])
            rows.append((accuracy(few, held), measure(few, pool, held, options.draws)))
    report(rows)
    options.output.mkdir(parents=True, exist_ok=True)
    found = [{"without": without, **{str(budget): shares for budget, shares in by.items()}} for without, by in rows]
    write_text(options.output / "collecting.json", json.dumps(found, indent=2) + "\n")


def report(rows: Sequence[tuple[float, Accuracies]]) -> None:
    """Prints the table of all drives."""
    without = statistics.fmean(alone for alone, _ in rows)
    means = {
        budget: [statistics.fmean(by[budget][arm] for _, by in rows) for arm in range(len(ARMS))]
        for budget in rows[0][1]
    }
    random = [(0, without), *((budget, shares[1]) for budget, shares in means.items())]
    table = [["labels", *ARMS, "gain over random (95 %)", "worth so many random"]]
    for budget, shares in means.items():
        gain, low, high = interval([100 * (by[budget][0] - by[budget][1]) for _, by in rows])
        said = f"{gain:+.1f} ({low:+.1f} to {high:+.1f})"
        table.append([str(budget), *(f"{share:.1%}" for share in shares), said, worth(shares[0], random)])
    print(f"\n{len(rows)} drives; without a frame of the drive {without:.1%}")
    print("\n".join(text_table(table)))


if __name__ == "__main__":
    sys.exit(main())
