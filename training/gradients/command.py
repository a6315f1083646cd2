"""The length of the gradient in each layer of networks that have not learned yet, by depth: does it vanish or explode?

    python -m training.gradients --depths 8 20 56 --output DIR

For plain and residual stacks, with and without batch normalisation, with He's initial weights and with torch's own: the
networks of `stacks`, on a batch of noise with random labels. Leaves gradients.png and gradients.json in DIR.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from cnn_perception.commands import Done, exit_code, program, there
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.files import given_path
from training.gradients import stacks
from training.gradients.flow import gradient_norms
from training.gradients.stacks import Init, Stack
from training.report import figures
from training.report.figures import Curve, Plot
from training.run_files import make_output, write_text
from training.text_table import text_table

Norms = Mapping[Stack, Sequence[float]]
"""Lengths of the gradients from the first layer to the last."""
_TITLES: Mapping[Init, str] = {"he": "He", "torch": "torch's own"}


def measure(depths: Sequence[int], batch: int, seed: int) -> Norms:
    """Returns the lengths of the gradients of all stacks of these depths.

    Args:
        depths: Of the stacks.
        batch: Images, of noise with mean 0 and variance 1.
        seed: Decides weights, images and labels.

    Raises:
        ConfigError: If there is no stack of one of the depths.
    """
    kinds = itertools.product(get_args(Init), depths, (False, True), (False, True))
    asked = [Stack(depth, residual, normalised, init) for init, depth, normalised, residual in kinds]
    image, labels = _batch(batch, seed)
    return {stack: _norms(stack, image, labels, seed) for stack in ProgressBar(asked, "networks", unit="network")}


def _batch(images: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, 3, stacks.SIDE, stacks.SIDE, generator=generator)
    return image, torch.randint(stacks.CLASSES, (images,), generator=generator)


def _norms(stack: Stack, image: Tensor, labels: Tensor, seed: int) -> list[float]:
    model = stacks.build(stack, seed)
    return gradient_norms(model, image, lambda logits: functional.cross_entropy(logits, labels))


def factor(lengths: Sequence[float]) -> float:
    """Returns what the gradient is multiplied by a layer on its way back, from the last convolution to the first.

    The geometric mean, of lengths from the first layer to the last; below 1 it vanishes, above 1 it explodes. NaN where
    float32 does not hold it. The last layer is left out, as it reads pooled features.
    """
    first, last = lengths[0], lengths[-2]
    if not (math.isfinite(first) and 0 < last < math.inf):
        return math.nan
    return float((first / last) ** (1 / (len(lengths) - 2)))


def table(norms: Norms) -> list[str]:
    """Returns the lines of a table: a network each, the lengths in its first, middle and last convolution."""
    rows = [["initial weights", "depth", "network", "first", "middle", "last", "zeros", "factor a layer"]]
    for stack, lengths in norms.items():
        shown = [f"{value:.2g}" for value in (lengths[0], lengths[len(lengths) // 2], lengths[-2])]
        zeros = str(sum(value == 0 for value in lengths))
        rows.append([_TITLES[stack.init], str(stack.depth), stack.name, *shown, zeros, f"{factor(lengths):.2f}"])
    return text_table(rows)


def draw(norms: Norms, path: Path) -> None:
    """Draws the lengths over the layers: a row for the initial weights, a column for each depth; zeros are crosses."""
    inits = list(dict.fromkeys(stack.init for stack in norms))
    depths = list(dict.fromkeys(stack.depth for stack in norms))
    figures.plots([[_plot(norms, init, depth) for depth in depths] for init in inits], path)


def _plot(norms: Norms, init: Init, depth: int) -> Plot:
    curves = [
        Curve(stack.name, range(1, len(lengths) + 1), lengths)
        for stack, lengths in norms.items()
        if (stack.init, stack.depth) == (init, depth)
    ]
    return Plot(f"{_TITLES[init]}, {depth} layers", "layer", "length of the gradient", tuple(curves))


def as_json(norms: Norms, batch: int, seed: int) -> str:
    """Returns all lengths; what float32 does not hold is null."""
    rows = [
        {**vars(stack), "factor_a_layer": _finite(factor(lengths)), "norms": [_finite(value) for value in lengths]}
        for stack, lengths in norms.items()
    ]
    return json.dumps({"batch": batch, "seed": seed, "networks": rows}, indent=1) + "\n"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@program("training.gradients")
def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and draws; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.gradients", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 20, 56], help="layers with weights, 6 n + 2 each")
    parser.add_argument("--batch", type=int, default=64, help="images of noise, at least 2 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, images and labels (default: %(default)s)")
    parser.add_argument("--output", type=given_path, required=True, help="folder of gradients.png and gradients.json")
    options = parser.parse_args(argv)
    if options.batch < 2:
        parser.error("--batch: at least 2, of which batch normalisation takes mean and variance")
    if options.seed < 0:
        parser.error("--seed: at least 0")
    return exit_code(lambda: _run(options), "interrupted")


def _run(options: argparse.Namespace) -> int:
    make_output(options.output)
    norms = measure(sorted(set(options.depths)), options.batch, options.seed)
    write_text(options.output / "gradients.json", as_json(norms, options.batch, options.seed))
    draw(norms, options.output / "gradients.png")
    print("length of the gradient of the weights, before the first step:")
    print("\n".join(table(norms)))
    if not all(0 < value < math.inf for lengths in norms.values() for value in lengths):
        print("in the figure a cross at the lower edge is exactly 0, a triangle at the upper one beyond float32")
    print(f"figure and record in {options.output}")
    written = there(options.output, "gradients.json", "gradients.png")
    return Done(record=options.output / "gradients.json", written=written)
