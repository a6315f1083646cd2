"""What several networks gain together over one: deployed as one file, and distilled into one network.

    python -m benchmark.ensembles
    python -m benchmark.ensembles --members 5 --draws 20

On half of scikit-learn's digits, divided as `benchmark.distillation` does: in each draw the members, the same small
network from other random weights, learn from them, and once more one that is taught by the members; all see as many
images. Each is exported, the members also as one file, and the files answer the test images, of which nothing has
learned. What is given is the share of right answers and the mean negative logarithm of the right class's score (by
which a score is judged as a probability), the mean of all draws, and what is gained over the members' mean, with its
95 % interval (Student's t over the draws, which share their images). At the end the times of an image, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.distillation import DIGITS, draw, interval, trained
from benchmark.support.options import CPU, at_least_one, option_parser
from benchmark.support.pairs import machine
from benchmark.support.processes import alternate
from cnn_perception.commands import exit_code
from cnn_perception.errors import EXIT_OK
from cnn_perception.image.messages import read_image
from cnn_perception.pipeline.pipeline import Pipeline
from demo.digits import write_digits
from training.data.load import DataOptions, list_images
from training.data.records import LabelledImages, Listing
from training.export import command as export_command

WAYS = ("one of them", "together in one file", "distilled into one")
_SMALLEST = 1e-7
"""The score that counts for the logarithm where a class has less, about what float32 tells from 0 beside 1."""


@dataclass(frozen=True)
class Figures:
    """How good the answers of a file are.

    Attributes:
        right: Share of the images whose best class is the right one.
        log_loss: Mean of -log(score of the right class), in nats.
    """

    right: float
    log_loss: float


def exported(checkpoints: Sequence[Path], output: Path) -> Path:
    """Exports one checkpoint or several together.

    Raises:
        SystemExit: If no file is left.
    """
    if export_command.main(["--checkpoint", *map(str, checkpoints), "--output", str(output)]) != EXIT_OK:
        raise SystemExit(f"error: {output.name} was not exported")
    return output


def figures_of(file: Path, data: LabelledImages) -> Figures:
    """Returns how a model file answers the test images, read and prepared as on the robot."""
    pipeline = Pipeline.load(file)
    right, losses = 0, []
    samples = data.part("test")
    for sample in samples:
        scores = pipeline.recognise(read_image(sample.path)).scores
        right += int(scores.argmax()) == sample.label
        losses.append(-math.log(max(float(scores[sample.label]), _SMALLEST)))
    return Figures(right / len(samples), statistics.fmean(losses))


def measure(listing: Listing, members: int, seed: int, folder: Path) -> list[Figures]:
    """Returns the figures of each of `WAYS` in one draw; the members' are their mean. Leaves the files in a folder."""
    found = draw(listing, seed, folder)
    settings: dict[str, Any] = DIGITS.pupil | {"epochs": 2 * DIGITS.epochs}
    runs = [trained(settings, found, folder / f"member{number}", 100 * seed + number) for number in range(members)]
    best = [folder / f"member{number}" / "best.pt" for number in range(members)]
    taught = settings | {"teacher": tuple(map(str, best)), "distil_weight": 0.7, "distil_temperature": 2.0}
    trained(taught, found, folder / "distilled", 100 * seed + members)
    alone = [exported([path], folder / f"{path.parent.name}.onnx") for path in best]
    together = exported(best, folder / "together.onnx")
    distilled = exported([folder / "distilled" / "best.pt"], folder / "distilled.onnx")
    each = [figures_of(file, runs[0].data) for file in alone]
    mean = Figures(
        *(statistics.fmean(values) for values in zip(*((one.right, one.log_loss) for one in each), strict=True))
    )
    return [mean, figures_of(together, runs[0].data), figures_of(distilled, runs[0].data)]


def report(draws: Sequence[Sequence[Figures]]) -> None:
    """Prints the means of all draws and the gains over one member."""
    for number, way in enumerate(WAYS):
        own = [found[number] for found in draws]
        line = f"  {way}: {statistics.fmean(one.right for one in own):.1%}"
        line += f", log loss {statistics.fmean(one.log_loss for one in own):.3f}"
        if number:
            alone = [found[0] for found in draws]
            points = interval([100 * (one.right - other.right) for one, other in zip(own, alone, strict=True)])
            nats = interval([one.log_loss - other.log_loss for one, other in zip(own, alone, strict=True)])
            line += f"; over one of them {points[0]:+.1f} points (95 %: {points[1]:+.1f} to {points[2]:+.1f})"
            line += f", log loss {nats[0]:+.3f} ({nats[1]:+.3f} to {nats[2]:+.3f})"
        print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = option_parser("ensembles", __doc__, rounds=7, seconds=0.5, threads=1)
    parser.add_argument("--members", type=at_least_one, default=3, help="networks (default: %(default)s)")
    parser.add_argument("--draws", type=at_least_one, default=10, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    if options.members < 2:
        parser.error("--members: an ensemble has 2 or more")
    return exit_code(lambda: _measure(options), "interrupted")


def _measure(options: argparse.Namespace) -> None:
    print(machine(), flush=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        write_digits(Path(name) / "digits")
        listing = list_images(Path(name) / "digits", DataOptions())
        draws = []
        for seed in range(options.draws):
            folder = Path(name) / f"draw{seed}"
            folder.mkdir()
            with contextlib.redirect_stdout(io.StringIO()):
                draws.append(measure(listing, options.members, seed, folder))
            print(f"  draw {seed}: {', '.join(f'{found.right:.1%}' for found in draws[-1])}", flush=True)
        print(f"digits: {len(listing.samples)} images, {options.members} members, {options.draws} draws")
        report(draws)
        files = [folder / f"{stem}.onnx" for stem in ("member0", "together", "distilled")]
        times = zip(*alternate(files, options.threads, CPU, options.rounds, options.seconds), strict=True)
        told = (f"{way} {statistics.median(ms):.3f} ms" for way, ms in zip(WAYS, times, strict=True))
        print(f"an image on {options.threads} thread: {', '.join(told)} (medians)")


if __name__ == "__main__":
    sys.exit(main())
