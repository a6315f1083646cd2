"""Checkpoint -> look.html: what the network sees, from its first filters to the classes, on the user's own images.

    python -m training.look --checkpoint RUN/best.pt [--data DIR] [--masks DIR] [--images A.jpg B.jpg] [--output DIR]

Beside the page lie look.json, with its figures, and figures/, with its pictures. Every section can be left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cnn_perception.commands import Done, exit_code, for_shell, program, there
from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError
from cnn_perception.files import given_path
from cnn_perception.masks.folder import read_masks
from training import checkpoint, config, distributed
from training.checkpoint import Checkpoint
from training.data.load import DataOptions, load_images
from training.data.records import Part, Sample
from training.data.sources import require_apart
from training.look import page, sections
from training.look.section import CannotLookError
from training.look.subject import Options, Subject
from training.tasks.by_name import task_of

_SEEDS = 2**32
"""How many scikit-learn's generators know."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.look", description="Shows what a trained network sees, in one page."
    )
    parser.add_argument("--checkpoint", type=given_path, required=True, help="best.pt or last.pt of a training run")
    parser.add_argument(
        "--data", type=given_path, nargs="+", help="labelled images, as for training.train; without it the run's own"
    )
    parser.add_argument("--masks", type=given_path, help="folder of masks of concepts, for the sections that compare")
    parser.add_argument(
        "--images", type=given_path, nargs="+", default=[], help="pictures to show; four of val by default"
    )
    parser.add_argument("--output", type=given_path, help="folder for the page and its figures; RUN/look by default")
    parser.add_argument(
        "--sections",
        nargs="+",
        choices=sections.NAMES,
        default=sections.NAMES,
        metavar="NAME",
        help=f"all by default: {', '.join(sections.NAMES)}",
    )
    parser.add_argument("--units", type=int, default=Options.units, help="units shown of each layer (%(default)s)")
    parser.add_argument(
        "--visualised-units",
        type=int,
        default=Options.visualised_units,
        help="units visualised by optimisation, over all layers (%(default)s)",
    )
    parser.add_argument(
        "--most-images",
        type=int,
        default=Options.most_images,
        help="images over which units are measured, at most (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=Options.seed, help="of everything that is drawn (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there")
    return parser


@program("training.look")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    options = _parser().parse_args(words)
    return exit_code(lambda: _look(options, words), "interrupted: no page is written")


def _look(options: argparse.Namespace, words: Sequence[str]) -> int:
    _require_in_range(options)
    saved = checkpoint.load(options.checkpoint)
    folder = options.output or options.checkpoint.absolute().parent / "look"
    require_apart(folder, options.data or map(Path, config.sources_of(saved.config)))
    page.require_place(folder)
    chosen = Options(
        images=tuple(options.images),
        masks=None if options.masks is None else read_masks(options.masks),
        units=options.units,
        visualised_units=options.visualised_units,
        most_images=options.most_images,
        seed=options.seed,
    )
    print(f"{saved.backbone}: cutting it open", flush=True)
    subject = Subject(saved, _samples(saved, options.data), chosen, distributed.chosen_device(options.device))
    parts = [_part(name, subject) for name in sections.NAMES if name in options.sections]
    written = page.write(subject, parts, folder, for_shell("python", "-m", "training.look", *words))
    print(written)
    return Done(record=folder / page.RECORD, written=there(folder, page.PAGE, page.RECORD, page.FIGURES))


def _require_in_range(options: argparse.Namespace) -> None:
    for name in ("units", "visualised_units", "most_images"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')}: {getattr(options, name)} is too small; at least 1")
    if not 0 <= options.seed < _SEEDS:
        raise ConfigError(f"--seed: {options.seed} is out of range; 0 to {_SEEDS - 1}")


def _part(name: str, subject: Subject) -> page.Part:
    began_s = time.monotonic()
    ProgressBar.write(f"{sections.TITLES[name]} ...")
    try:
        section = sections.section(name)(subject)
    except CannotLookError as error:
        ProgressBar.write(f"  left out: {error}")
        return page.Part(name, None, str(error), time.monotonic() - began_s)
    return page.Part(name, section, "", time.monotonic() - began_s)


def _samples(saved: Checkpoint, data: Sequence[Path] | None) -> list[Sample]:
    """Returns the images of train and val: the run's own, or those of another folder with the same classes."""
    if data is not None:
        found = load_images(data, DataOptions.again(saved.config, saved.class_names))
        if found.class_names != saved.class_names:
            raise ConfigError(f"{found.where}: its classes are not the checkpoint's; give data with the same classes")
        return [sample for sample in found.samples if sample.part != "test"]
    one_class = task_of(saved.task).one_class
    kept = _kept("train", saved.train_images, saved.train_targets, one_class)
    return kept + _kept("val", saved.val_images, saved.val_targets, one_class)


def _kept(part: Part, paths: Sequence[str], targets: Sequence[tuple[float, ...]], one_class: bool) -> list[Sample]:
    known = targets or [()] * len(paths)  # older checkpoints kept no targets of the training images
    return [_sample(part, Path(path), values, one_class) for path, values in zip(paths, known, strict=True) if values]


def _sample(part: Part, path: Path, values: tuple[float, ...], one_class: bool) -> Sample:
    return Sample(path, int(values[0]), part) if one_class else Sample(path, 0, part, values)
