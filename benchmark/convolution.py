"""The time of a convolution by each of six methods, over that of im2col, and from which kernel on FFT is the fastest.

    python -m benchmark.convolution
    python -m benchmark.convolution --count

By size of the kernel, channels (as many in as out) and size of the image; size and channels are kept, the stride is 1.
All have one thread and take turns; what is counted is the time on the processor. Leaves convolution.json and
convolution.png in --output. --count measures nothing and prints the multiply-adds of each method in place of times.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmark.support.convolutions import METHODS, methods_for, multiply_adds
from benchmark.support.options import OUTPUT, at_least_one, option_parser
from benchmark.support.pairs import machine, processor_ms
from cnn_perception.commands import exit_code
from cnn_perception.commands.progress import ProgressBar
from training.report import figures
from training.report.figures import Curve, Plot
from training.run_files import write_text
from training.text_table import text_table

BASE = "im2col"
"""What all others are compared with."""
RIVALS = (("fft", BASE), ("fft", "torch"), ("fft", "onnxruntime"), (BASE, "direct"))
"""Whose crossings are told: from which kernel on the first is as fast as the second."""
_COUNTED = ("direct", "im2col", "fft", "winograd")
_LEAST_MS = 4.0
"""A turn of the base method takes at least so long, by repeating it."""


@dataclass(frozen=True)
class Setting:
    """A convolution, as large after it as before.

    Attributes:
        channels: In and out.
        size: Rows and columns of the image, pixels.
        kernel: Its rows and columns, odd.
    """

    channels: int
    size: int
    kernel: int


@dataclass(frozen=True)
class Cost:
    """What each method takes in one setting: milliseconds, or multiply-adds.

    Attributes:
        typical: By method, the median.
        ratios: By method, the ratio to `BASE`, turn by turn.
    """

    typical: Mapping[str, float]
    ratios: Mapping[str, tuple[float, ...]]

    def ratio(self, method: str, other: str = BASE) -> float:
        """Returns the median, over the turns, of the ratio of two methods."""
        return statistics.median(a / b for a, b in zip(self.ratios[method], self.ratios[other], strict=True))


Costs = dict[Setting, Cost]


@dataclass(frozen=True)
class Crossing:
    """From which kernel on a method costs no more than another.

    Attributes:
        method: The one that wins for large kernels.
        other: The one that it is compared with.
        channels: In and out.
        size: Rows and columns of the image, pixels.
        kernel: Side of the kernel where both cost the same, interpolated; the smallest one that was tried where the
            method wins from there on; infinite where it does not win at the largest one.
    """

    method: str
    other: str
    channels: int
    size: int
    kernel: float


def crossing(kernels: Sequence[int], ratios: Sequence[float]) -> float:
    """Returns the side of the kernel from which on ratios stay at 1 or below, interpolated on their logarithm.

    Args:
        kernels: Ascending.
        ratios: Of the costs of two methods, one a kernel, positive.

    Returns:
        The first kernel where no ratio is above 1; infinity where the last one is.
    """
    above = [index for index, ratio in enumerate(ratios) if ratio > 1]
    if not above:
        return float(kernels[0])
    last = above[-1]
    if last + 1 == len(kernels):
        return math.inf
    before, after = math.log(ratios[last]), math.log(ratios[last + 1])
    return kernels[last] + (kernels[last + 1] - kernels[last]) * before / (before - after)


def measure(setting: Setting, batch: int, rounds: int) -> Cost:
    """Measures all methods in turn, one thread each."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(batch, setting.channels, setting.size, setting.size, generator=generator)
    kernels = torch.randn(setting.channels, setting.channels, setting.kernel, setting.kernel, generator=generator)
    works = {
        name: partial(method, image, kernels, setting.kernel // 2)
        for name, method in methods_for(setting.kernel).items()
    }
    first_ms = {name: processor_ms(work, 1) for name, work in works.items()}  # what is only done once is not counted
    repeats = max(1, math.ceil(_LEAST_MS / max(first_ms[BASE], 0.01)))
    turns = [{name: processor_ms(work, repeats) for name, work in works.items()} for _ in range(rounds)]
    typical = {name: statistics.median(turn[name] for turn in turns) for name in works}
    return Cost(typical, {name: tuple(turn[name] / turn[BASE] for turn in turns) for name in works})


def count(setting: Setting, batch: int) -> Cost:
    """Counts the multiply-adds of the methods that have a formula."""
    names = [name for name in _COUNTED if name in methods_for(setting.kernel)]
    counts = {name: multiply_adds(name, batch, setting.channels, setting.kernel, setting.size) for name in names}
    return Cost(counts, {name: (number / counts[BASE],) for name, number in counts.items()})


def crossings(costs: Costs) -> list[Crossing]:
    """Finds every crossing of `RIVALS`, by channels and size of the image."""
    found = []
    for channels, size in dict.fromkeys((setting.channels, setting.size) for setting in costs):
        column = {s.kernel: cost for s, cost in costs.items() if (s.channels, s.size) == (channels, size)}
        for method, other in RIVALS:
            if all({method, other} <= cost.typical.keys() for cost in column.values()):
                ratios = [cost.ratio(method, other) for cost in column.values()]
                found.append(Crossing(method, other, channels, size, crossing(list(column), ratios)))
    return found


def cost_table(costs: Costs, unit: str) -> list[str]:
    """Returns the lines of a table: what the base takes, and how many times as much each other method."""
    names = [name for name in METHODS if any(name in cost.typical for cost in costs.values())]
    others = [name for name in names if name != BASE]
    rows = [["channels", "size", "kernel", f"{BASE}, {unit}", *(f"{name} /" for name in others), "least"]]
    for setting, cost in costs.items():
        shares = [f"{cost.ratio(name):.2f}" if name in cost.typical else "" for name in others]
        least = min(cost.typical, key=lambda name: cost.ratio(name))
        side = f"{setting.kernel}x{setting.kernel}"
        base = f"{cost.typical[BASE]:,.2f}" if unit == "ms" else f"{cost.typical[BASE]:,.0f}"
        rows.append([str(setting.channels), str(setting.size), side, base, *shares, least])
    return text_table(rows)


def crossing_table(found: Sequence[Crossing], kernels: Sequence[int]) -> list[str]:
    """Returns the lines of a table: by channels and size, the kernel from which on one method wins over another."""
    pairs = list(dict.fromkeys((one.method, one.other) for one in found))
    rows = [["channels", "size", *(f"{method} < {other}" for method, other in pairs)]]
    for channels, size in dict.fromkeys((one.channels, one.size) for one in found):
        cells = [one for one in found if (one.channels, one.size) == (channels, size)]
        rows.append([str(channels), str(size), *(_side(one.kernel, kernels) for one in cells)])
    return text_table(rows)


def _side(kernel: float, kernels: Sequence[int]) -> str:
    if math.isinf(kernel):
        return f"beyond {kernels[-1]}"
    return f"up from {kernels[0]}" if kernel == kernels[0] else f"{kernel:.1f}"


def as_json(costs: Costs, found: Sequence[Crossing], unit: str, batch: int) -> str:
    """Returns all that was measured or counted; a crossing that was not reached is null."""
    rows = [
        {**vars(setting), unit: dict(cost.typical), f"over_{BASE}": {n: list(r) for n, r in cost.ratios.items()}}
        for setting, cost in costs.items()
    ]
    reached = [{**vars(one), "kernel": None if math.isinf(one.kernel) else round(one.kernel, 3)} for one in found]
    record = {"machine": machine(), "threads": 1, "batch": batch, "costs": rows, "crossings": reached}
    return json.dumps(record, indent=2) + "\n"


def draw(costs: Costs, found: Sequence[Crossing], unit: str, path: Path) -> None:
    """Draws the ratios over the kernel, a row for each number of channels and a column for each size of the image."""
    channels = list(dict.fromkeys(setting.channels for setting in costs))
    sizes = list(dict.fromkeys(setting.size for setting in costs))
    grid = [[_plot(costs, found, unit, number, size) for size in sizes] for number in channels]
    figures.plots(grid, path)


def _plot(costs: Costs, found: Sequence[Crossing], unit: str, channels: int, size: int) -> Plot:
    column = {s.kernel: cost for s, cost in costs.items() if (s.channels, s.size) == (channels, size)}
    curves = []
    for name in METHODS:
        points = [(kernel, cost.ratio(name)) for kernel, cost in column.items() if name in cost.typical]
        if points and name != BASE:
            curves.append(Curve(name, [kernel for kernel, _ in points], [ratio for _, ratio in points]))
    places = tuple(
        one.kernel
        for one in found
        if (one.method, one.other, one.channels, one.size) == ("fft", BASE, channels, size) and one.kernel < math.inf
    )
    title = f"{channels} channels, {size}x{size} pixels"
    return Plot(title, "side of the kernel", f"{unit} / {BASE}", tuple(curves), level=1.0, places=places)


def _odd(text: str) -> int:
    value = at_least_one(text)
    if value % 2 == 0:
        raise ValueError
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and draws; returns the exit code."""
    parser = option_parser("convolution", __doc__, output=OUTPUT)
    parser.add_argument("--rounds", type=at_least_one, default=5, help="turns of each method (default: %(default)s)")
    parser.add_argument("--kernels", type=_odd, nargs="+", default=[3, 5, 7, 9, 11, 15], help="sides, odd")
    parser.add_argument("--channels", type=at_least_one, nargs="+", default=[4, 16, 32], help="in and out")
    parser.add_argument("--sizes", type=at_least_one, nargs="+", default=[16, 32, 64], help="of the image, pixels")
    parser.add_argument("--batch", type=at_least_one, default=4, help="images at a time (default: %(default)s)")
    parser.add_argument("--count", action="store_true", help="measure nothing: print multiply-adds in place of times")
    options = parser.parse_args(argv)
    for name in ("kernels", "channels", "sizes"):
        setattr(options, name, sorted(set(getattr(options, name))))
    settings = [Setting(*one) for one in itertools.product(options.channels, options.sizes, options.kernels)]
    if options.count:
        costs = {setting: count(setting, options.batch) for setting in settings}
    else:
        torch.set_num_threads(1)
        costs = {
            setting: measure(setting, options.batch, options.rounds) for setting in ProgressBar(settings, "measuring")
        }
    unit = "multiply-adds" if options.count else "ms"
    return exit_code(lambda: _report(costs, unit, options.batch, options.kernels, options.output))


def _report(costs: Costs, unit: str, batch: int, kernels: Sequence[int], output: Path) -> None:
    """Prints the tables, and leaves the record and the figure."""
    found = crossings(costs)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "convolution.json", as_json(costs, found, unit, batch))
    draw(costs, found, unit, output / "convolution.png")
    where = f"batch {batch}" if unit != "ms" else f"{machine()}, one thread, batch {batch}"
    print(f"{where}: {unit} of {BASE}, and how many times as much the others take (medians)")
    print("\n".join(cost_table(costs, unit)))
    print("\nfrom which side of the kernel on the first takes no more than the second:")
    print("\n".join(crossing_table(found, kernels)))
    print(f"figure and record in {output}")


if __name__ == "__main__":
    sys.exit(main())
