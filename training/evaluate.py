"""Checkpoints -> how good they are on labelled images: one alone, with ten crops of each image, and as an ensemble.

    python -m training.evaluate --checkpoint RUN/best.pt --data DIR
    python -m training.evaluate --checkpoint A/best.pt --ensemble B/best.pt C/best.pt --data DIR --ten-crop

    python -m training.evaluate --checkpoint RUN/best.pt --data DIR --part test

Where DIR has no folder of the part, the part is what the first checkpoint's run held out of that folder. Of images that
no checkpoint has learned from, `--part all` scores every one. That the test part was scored is noted beside the
checkpoints, and said when it is scored again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader

from cnn_perception import metrics
from cnn_perception.commands import Done, exit_code, program
from cnn_perception.errors import ConfigError, DataError, printable
from cnn_perception.files import given_path, require_unused
from cnn_perception.label_text import NONE_OF_THESE
from training import checkpoint, distributed, learned, scored_tests
from training.batches.loader import Batch, Images, Order, data_loader
from training.batches.workers import affordable
from training.calibration import embeddings, ensemble, outside, unknown_rule
from training.calibration.ensemble import ImageScores, TenViews
from training.checkpoint import Checkpoint
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages, Sample
from training.data.sources import require_apart
from training.networks import build
from training.networks.libraries import own_errors
from training.run_files import make_output, write_text
from training.scoring.scores import ScoredLogits, cell, headline, headline_in_words
from training.tasks import sides
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles
from training.tasks.scaling import standardised
from training.text_table import text_table

Figures = dict[str, Any]
Scored = Literal["val", "test", "all"]
_RECORD = "report.json"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A checkpoint to be scored: its name in the table, what it holds, and its network."""

    name: str
    checkpoint: Checkpoint
    model: nn.Module


@dataclass(frozen=True)
class Loading:
    """How images reach the network: images a step, processes that load them, and where the network computes."""

    batch_size: int
    workers: int
    device: torch.device


@own_errors.blamed("evaluating")
def evaluate(
    paths: Sequence[Path], data: Sequence[Path], part: Scored, ten_crop: bool, loading: Loading
) -> dict[str, Any]:
    """Scores checkpoints on one part of a data set.

    Args:
        paths: The checkpoints; of several, their ensemble is scored as well.
        data: Its folders and tables.
        part: What of it; `all` is every image, whatever its part.
        ten_crop: Whether all is also scored on ten crops of every image.
        loading: How images reach the network.

    Returns:
        What report.json holds.

    Raises:
        PerceptionError: If a checkpoint or the data cannot be used, or they do not agree on the classes.
    """
    candidates = [_load(*named, loading.device) for named in zip(_names(paths), paths, strict=True)]
    for candidate in candidates:
        _require_agreement(candidates[0], candidate)
        if ten_crop:
            ensemble.require_ten_crop(candidate.checkpoint.input, candidate.checkpoint.task, candidate.name)
    own = [candidate.checkpoint for candidate in candidates]
    ensemble.require_different(own, [candidate.name for candidate in candidates], "--ensemble")
    images = _open_data(data, candidates[0], part)
    samples = images.samples if part == "all" else images.part(part)
    others = images.outside if part == "all" else images.outside_of(part)
    if not samples:
        raise DataError(f"{images.where}: has no images for --part {part}; add a {part} folder or take another part")
    return {
        "data": [str(path) for path in data],
        "data_sha256": images.sha256,
        "part": part,
        "images": len(samples),
        "left_out": _left_out(candidates, images, samples),
        "checkpoints": {c.name: str(path) for c, path in zip(candidates, paths, strict=True)},
        "trained_on": {c.name: int(learned.among(c.checkpoint, samples, images).sum()) for c in candidates},
        "untold": {c.name: learned.untold(c.checkpoint, images) for c in candidates},
        "scores": _scores(candidates, samples, others, images, ten_crop, loading),
        "sided": list(sides.sided(images.class_names, of_numbers=False)),
    }


def _scores(
    candidates: Sequence[Candidate],
    samples: tuple[Sample, ...],
    others: tuple[Sample, ...],
    images: LabelledImages,
    ten_crop: bool,
    loading: Loading,
) -> dict[str, Figures]:
    """The rows of the table: each checkpoint and their ensemble, on whole images and on ten crops."""
    scores: dict[str, Figures] = {}
    for way in ("", ", ten-crop") if ten_crop else ("",):
        found = [_predict(candidate, samples, loading, way) for candidate in candidates]
        for candidate, own in zip(candidates, found, strict=True):
            thresholds = candidate.checkpoint.calibration.thresholds
            figures = _figures(own.scores, thresholds, samples, images, own.is_unknown)
            scores[candidate.name + way] = {**figures, **_of_none(candidate, own, others, loading)}
        if len(found) > 1:
            together = ensemble.average([own.scores for own in found])
            thresholds = _shared_thresholds(candidates)
            scores[f"ensemble of {len(found)}{way}"] = _figures(together, thresholds, samples, images, None)
    return scores


def _names(paths: Sequence[Path]) -> list[str]:
    short = [f"{path.absolute().parent.name}/{path.name}" for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError(f"--ensemble: {max(names, key=names.count)} is named twice; name each checkpoint once")
    return names


def _load(name: str, path: Path, device: torch.device) -> Candidate:
    saved = checkpoint.load(path)
    # the layout is faster on CPUs, as it is in training
    return Candidate(name, saved, build.restore(saved).to(device).to(memory_format=torch.channels_last))


def _require_agreement(first: Candidate, other: Candidate) -> None:
    if other.checkpoint.class_names != first.checkpoint.class_names:
        names = _difference(first.checkpoint.class_names, other.checkpoint.class_names)
        raise ConfigError(f"{first.name} and {other.name} do not have the same classes: {names}")
    if (first.checkpoint.task, first.checkpoint.units) != (other.checkpoint.task, other.checkpoint.units):
        raise ConfigError(f"{first.name} and {other.name} do not have the same task and units; evaluate each alone")


def _open_data(data: Sequence[Path], first: Candidate, part: Scored) -> LabelledImages:
    """The data set, split as the checkpoint's own run did, so that its training images stay out."""
    options = DataOptions.again(first.checkpoint.config, first.checkpoint.class_names)
    if part == "test":  # which folds leave out: they are made of the training images only
        options = dataclasses.replace(options, folds=None, fold=None)
    images = load_images(data, options)
    if images.class_names != first.checkpoint.class_names:
        names = _difference(first.checkpoint.class_names, images.class_names)
        raise DataError(f"{images.where}: its classes are not those of {first.name}: {names}")
    return images


def _difference(wanted: tuple[str, ...], found: tuple[str, ...]) -> str:
    parts = []
    if missing := sorted({*wanted} - {*found}):
        parts.append(f"only the former has {', '.join(map(repr, missing[:5]))}")
    if added := sorted({*found} - {*wanted}):
        parts.append(f"only the latter {', '.join(map(repr, added[:5]))}")
    return "; ".join(parts) or "they are in another order"


@dataclass(frozen=True, eq=False)
class _Answers:
    """Scores of a checkpoint, those of its unknown rule, (n,), and what is below its threshold; None without a rule."""

    scores: ImageScores
    of_rule: Doubles | None = None
    is_unknown: npt.NDArray[np.bool_] | None = None


def _predict(candidate: Candidate, samples: tuple[Sample, ...], loading: Loading, way: str) -> _Answers:
    saved = candidate.checkpoint
    loader = _loader(candidate, samples, loading, way)
    title = candidate.name + way
    rule = saved.calibration.unknown
    if rule is None or way:  # a rule is for one image as it is
        return _Answers(ensemble.predict_scores(candidate.model, loader, loading.device, saved, title))
    found = embeddings.predict(candidate.model, loader, loading.device, title)
    is_read = {sample.path for sample in found.samples}
    rows = np.array([row for row, sample in enumerate(samples) if sample.path in is_read], np.int64)
    of_rule = unknown_rule.score(found, rule.method, np.array(rule.centres))
    probabilities = task_of(saved.task).probabilities(found.logits, saved.calibration.temperature)
    return _Answers(ImageScores(rows, probabilities), of_rule, of_rule < rule.threshold)


def _loader(candidate: Candidate, samples: tuple[Sample, ...], loading: Loading, way: str) -> DataLoader[Batch]:
    spec = candidate.checkpoint.input
    images = TenViews(samples, spec) if way else Images(samples, spec)
    size = max(1, loading.batch_size // ensemble.VIEWS) if way else loading.batch_size
    workers = affordable(loading.workers, (size, *images.shape))
    return data_loader(images, Order(len(samples), size, None), workers, loading.device.type == "cuda")


def _of_none(candidate: Candidate, known: _Answers, others: tuple[Sample, ...], loading: Loading) -> Figures:
    """What the unknown rule of a checkpoint makes of images of none of the classes; nothing without a rule or such."""
    rule = candidate.checkpoint.calibration.unknown
    if rule is None or known.of_rule is None or not others:
        return {}
    title = f"{candidate.name}, {NONE_OF_THESE}"
    found = embeddings.predict(candidate.model, _loader(candidate, others, loading, ""), loading.device, title)
    scores = unknown_rule.score(found, rule.method, np.array(rule.centres))
    return {"none_of_these": dataclasses.asdict(outside.of_rule(known.of_rule, scores, rule.threshold))}


def _figures(
    found: ImageScores,
    thresholds: Sequence[float],
    samples: Sequence[Sample],
    images: LabelledImages,
    is_unknown: npt.NDArray[np.bool_] | None,
) -> Figures:
    """All scores of one row of the table; probabilities become the logits that give them."""
    task = task_of(images.task)
    truth = task.targets([samples[row] for row in found.rows])
    logits = standardised(task.logits(found.scores), images.scaling)
    figures = ScoredLogits(logits.astype(np.float32), truth, images).report(thresholds)
    if not task.one_class:
        return figures
    own = {"ece": metrics.ece(found.scores, truth).ece, "headline": headline(found.scores, truth, is_unknown)}
    return {**figures, **own}


def _shared_thresholds(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    """The mean threshold of each class of a multilabel ensemble."""
    rows = [candidate.checkpoint.calibration.thresholds for candidate in candidates]
    return tuple(map(float, np.mean(rows, axis=0))) if all(rows) else ()


def _left_out(candidates: Sequence[Candidate], images: LabelledImages, samples: Sequence[Sample]) -> int:
    """How many more images could be scored: those of other parts of a data set that no checkpoint has learned from."""
    own = [one.checkpoint for one in candidates]
    known = any(one.training.get("data_sha256") == images.sha256 or learned.untold(one, images) for one in own)
    if known or any(learned.among(one, images.samples, images).any() for one in own):
        return 0
    return len(images.samples) - len(samples)


def _table(report: dict[str, Any]) -> str:
    rows = report["scores"]
    columns = [name for name, value in next(iter(rows.values())).items() if isinstance(value, float)]
    cells = [[report["part"], "images", *map(_short, columns)]]
    for name, scores in rows.items():
        cells.append([name, str(scores["images"]), *(cell(scores, column) for column in columns)])
    lines = [*text_table(cells), "in brackets: 95 % intervals, of shares of the images Wilson's, else by bootstrap"]
    for name, scores in rows.items():
        if (found := scores.get("headline")) and found["coverage"]["value"] < 1:
            lines.append(f"{name}: {headline_in_words(found)}")
        if found := scores.get("none_of_these"):
            lines.append(f"{name}: {outside.outside_in_words(found)}")
    for name, count in report["trained_on"].items():
        if count:
            lines.append(f"beware: {name} was trained on {count} of these images; its figures are too good")
    for name, count in report["untold"].items():
        if count:
            lines.append(f"beware: {name} may have been trained on more of these images: {learned.why_untold(count)}")
    if count := report["left_out"]:
        lines.append(
            f"beware: {count} of the images are of other parts than {report['part']} and not scored, though no "
            "checkpoint has learned from them; --part all scores every one"
        )
    return "\n".join(map(printable, lines))


def _short(name: str) -> str:
    return name.removesuffix("_accuracy").replace("_", " ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description="Scores checkpoints on images.")
    parser.add_argument("--checkpoint", type=given_path, required=True, help="best.pt or last.pt of a training run")
    parser.add_argument(
        "--ensemble", type=given_path, nargs="+", default=[], help="more of them, whose scores are averaged"
    )
    parser.add_argument(
        "--data", type=given_path, nargs="+", required=True, help="labelled images, as for training.train"
    )
    parser.add_argument(
        "--part",
        choices=("val", "test", "all"),
        default="val",
        help="which part of them (%(default)s); test once, when all is decided: no run looks at it; all where no "
        "checkpoint has learned from them",
    )
    parser.add_argument(
        "--ten-crop", action="store_true", help="also average over four corners and centre, and these mirrored"
    )
    parser.add_argument("--output", type=given_path, help="folder for report.json; without it nothing is written")
    parser.add_argument("--batch-size", type=int, default=32, help="images a step (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images (%(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there")
    return parser


def _loading(options: argparse.Namespace) -> Loading:
    for name in ("batch_size", "workers"):
        if getattr(options, name) < (name == "batch_size"):
            raise ConfigError(f"--{name.replace('_', '-')}: {getattr(options, name)} is too small")
    return Loading(options.batch_size, options.workers, distributed.chosen_device(options.device))


@program("training.evaluate")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = _parser().parse_args(argv)
    return exit_code(lambda: _evaluate(options), "interrupted: nothing is written")


def _evaluate(options: argparse.Namespace) -> int:
    paths = [options.checkpoint, *options.ensemble]
    if options.output:
        require_apart(options.output, options.data)
        make_output(options.output)
        require_unused([options.output / _RECORD], options.output / _RECORD, ("checkpoints", "trained_on"))
    report = evaluate(paths, options.data, options.part, options.ten_crop, _loading(options))
    if options.output:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_text(options.output / _RECORD, text)
    print(_table(report))
    if options.part == "test":
        for line in scored_tests.note(paths, options.data, report["data_sha256"]):
            print(printable(line))
    if options.ten_crop and (names := report["sided"]):
        print(f"beware: half of ten crops are mirrored, and left and right differ: {', '.join(map(repr, names[:3]))}")
    return Done(result=report, written=[options.output / _RECORD] if options.output else [])


if __name__ == "__main__":
    sys.exit(main())
