"""What deep learning is compared with: baselines of before it, on the split that training.train makes.

    python -m training.baselines --data DIR
    python -m training.baselines --data DIR --backbone resnet50 --weights imagenet
    python -m training.baselines --checkpoint RUN/best.pt --part test --output FOLDER

With --weights a linear layer on the features of that network is a row of the table; with --checkpoint so is one on the
features of that run's network, beside the network's own answers, and the split is that run's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnn_perception.commands import Done, exit_code, program, there
from cnn_perception.errors import ConfigError, DataError, printable
from cnn_perception.files import given_path, require_unused
from training import checkpoint, config, distributed, learned
from training.baselines import comparison, fitting, methods, network, rows, table
from training.baselines.comparison import Comparison
from training.baselines.network import Network
from training.baselines.rows import Row
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.config.command_line import GROUPS
from training.config.fields import flag_of
from training.data.load import DataOptions, load_images
from training.data.records import LabelledImages, Sample
from training.data.sources import require_apart
from training.networks import build
from training.run_files import make_output, write_csv, write_text
from training.tasks.by_name import task_of

OF_SPLIT = (*GROUPS["data"], "seed")
"""Settings that decide on the split, as training.train has them."""
OF_INPUT = ("input_size", "resize_mode", "crop_fraction", "interpolation", "mean", "std")
"""Settings that decide which part of an image is seen."""
OF_NETWORK = ("backbone", "weights", "feature_layer", "grid")
OF_COMPUTING = ("batch_size", "workers", "device")


@dataclass(frozen=True)
class Asked:
    """What the command line says.

    Attributes:
        given: Settings of training.train, those alone that the user gave.
        checkpoint: Of a run; None without one.
        part: What is answered: `val` or `test`.
        most_images: Training images that are used at most.
        output: Where the files go; None for nowhere.
    """

    given: dict[str, Any]
    checkpoint: Path | None
    part: str
    most_images: int
    output: Path | None

    def __post_init__(self) -> None:
        if self.most_images < 10:
            raise ConfigError(f"--most-images: {self.most_images} is too few to learn from; give at least 10")
        if self.checkpoint is None and not self.given.get("data"):
            raise ConfigError("--data is missing; name a folder, a CSV file, or the --checkpoint of a run")
        idle = [name for name in (*OF_SPLIT, *OF_INPUT, *OF_NETWORK) if name in self.given]
        if self.checkpoint is not None and idle:
            raise ConfigError(f"--{flag_of(idle[0])}: is that of the run of --checkpoint; leave it out")
        lonely = [name for name in OF_NETWORK if name in self.given]
        if lonely and "weights" not in self.given:
            raise ConfigError(f"--{flag_of(lonely[0])} has no effect without --weights; give both or neither")


@dataclass(frozen=True, eq=False)
class Beside:
    """The network beside the baselines.

    Attributes:
        network: It.
        saved: Its checkpoint; None for published weights, which answer nothing themselves.
        path: Of the checkpoint.
    """

    network: Network
    saved: Checkpoint | None
    path: Path | None


@dataclass(frozen=True, eq=False)
class Setting:
    """What is compared on what.

    Attributes:
        data: The data set.
        samples: The images to answer.
        config: As training.train has it.
        beside: The network; None without one.
    """

    data: LabelledImages
    samples: tuple[Sample, ...]
    config: TrainConfig
    beside: Beside | None


@program("training.baselines")
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    given = vars(_parser().parse_args(argv))
    own = {name: given.pop(name) for name in ("checkpoint", "part", "most_images", "output")}
    return exit_code(lambda: _compare(Asked(given=given, **own)), "interrupted: nothing is written")


def _compare(asked: Asked) -> int:
    if asked.output:
        data = asked.given.get("data")
        if not data and asked.checkpoint is not None:
            data = config.sources_of(checkpoint.load(asked.checkpoint).config)
        require_apart(asked.output, map(Path, data or ()))
        _require_folder(asked.output)
    setting = _of_run(asked) if asked.checkpoint is not None else _of_data(asked)
    task = task_of(setting.data.task)
    found = rows.measured(methods.all_of(task), setting.samples, setting.data, setting.config, asked.most_images)
    if setting.beside is not None:
        found += _beside(setting.beside, setting, asked.most_images)
    compared = _comparison(found)
    report: dict[str, Any] = {
        "baselines_of": setting.data.where,
        "data_sha256": setting.data.sha256,
        "task": setting.data.task,
        "part": asked.part,
        "rows": [row.figures() for row in found],
        **({"comparison": compared.as_json()} if compared else {}),
        "notes": _notes(setting, found, compared),
    }
    print(*table.text(report["rows"], task.metric, asked.part), *map(printable, report["notes"]), sep="\n")
    if not asked.output:
        return Done(result=report)
    _write(asked.output, report)
    return Done(result=report, written=there(asked.output, "baselines.json", "baselines.csv"))


def _of_data(asked: Asked) -> Setting:
    """The setting of a data set, divided as the command line says."""
    chosen = config.make(output="-", mode="probe", **asked.given)
    data = load_images(chosen.sources, _options(DataOptions.of(chosen.to_dict()), asked))
    samples = _samples(data, asked)
    if "weights" not in asked.given:
        return Setting(data, samples, chosen, None)
    model, loaded = build.start(chosen, len(data.class_names))
    print(*loaded.lines(chosen.input), sep="\n", end="\n" * bool(loaded.note))
    return Setting(data, samples, chosen, Beside(_network(chosen.backbone, model, chosen), None, None))


def _of_run(asked: Asked) -> Setting:
    """The setting of a run: its network, and its split."""
    assert asked.checkpoint is not None  # see `_compare`
    saved = checkpoint.load(asked.checkpoint)
    sources = config.sources_of(asked.given) or config.sources_of(saved.config)
    if not sources:
        raise ConfigError(f"--data: {asked.checkpoint} was not trained on images; name some")
    data = load_images(tuple(map(Path, sources)), _options(DataOptions.again(saved.config, saved.class_names), asked))
    if data.class_names != saved.class_names:
        raise DataError(f"{data.where}: its classes are not those of {asked.checkpoint}; name the data of that run")
    kept = {name: saved.config[name] for name in (*OF_SPLIT, *OF_INPUT) if name in saved.config and name != "classes"}
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    computing = {name: value for name, value in asked.given.items() if name in OF_COMPUTING}
    chosen = config.make(output="-", mode="probe", data=sources, **plain, **computing)
    own = _network(f"{saved.backbone}, this run", build.restore(saved), chosen)
    own = dataclasses.replace(own, input=saved.input)
    return Setting(data, _samples(data, asked), chosen, Beside(own, saved, asked.checkpoint))


def _options(options: DataOptions, asked: Asked) -> DataOptions:
    """How the data are divided; folds leave the test part out, as they are made of the training images only."""
    return dataclasses.replace(options, folds=None, fold=None) if asked.part == "test" else options


def _samples(data: LabelledImages, asked: Asked) -> tuple[Sample, ...]:
    samples = tuple(sample for sample in data.samples if sample.part == asked.part)
    if not samples:
        raise DataError(f"{data.where}: has no images for --part {asked.part}; add a {asked.part} folder")
    return samples


def _network(name: str, model: torch.nn.Module, chosen: TrainConfig) -> Network:
    device = distributed.chosen_device(chosen.device)
    model = model.to(device).to(memory_format=torch.channels_last)
    return Network(name, model, chosen.input, device, chosen.batch_size, chosen.workers or 0)


def _beside(beside: Beside, setting: Setting, most: int) -> list[Row]:
    """The rows of a network: a linear layer on its features, and its own answers if it has any."""
    train = fitting.some(setting.data.part("train"), most, setting.config.seed)
    seen = beside.network.seen(setting.samples, beside.network.name)
    found = [network.frozen_row(beside.network, train, seen, setting.data, setting.config)]
    if beside.saved is not None:
        found.append(network.own_row(beside.network, seen, setting.data, _seconds_of_training(beside.path)))
    return found


def _seconds_of_training(path: Path | None) -> float | None:
    """What the record of a run beside its checkpoint says; None where there is none."""
    try:
        seconds = json.loads((path.parent / "report.json").read_text())["seconds"]["training"] if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(seconds) if isinstance(seconds, int | float) else None


def _comparison(found: Sequence[Row]) -> Comparison | None:
    """The network's own answers against the best of the others; None without a network that answers."""
    own = found[-1]
    return comparison.compare(own, found[:-1]) if own.images is None else None


def _notes(setting: Setting, found: Sequence[Row], compared: Comparison | None) -> list[str]:
    """What has to be said of the table, a line each."""
    train = len(setting.data.part("train"))
    lines = list(table.NOTES)
    if (used := found[0].images) is not None and used < train:
        lines.append(f"the baselines learned from {used} of the {train} training images; --most-images changes it")
    if setting.beside is not None and (saved := setting.beside.saved) is not None:
        if seen := int(learned.among(saved, setting.samples, setting.data).sum()):
            lines.append(f"beware: the network was trained on {seen} of these images; its figures are too good")
        if count := learned.untold(saved, setting.data):
            lines.append(f"beware: the network may have been trained on these images: {learned.why_untold(count)}")
        if saved.training.get("data_sha256") != setting.data.sha256:
            lines.append("beware: the network was trained on other images than the baselines")
    return [*lines, *([compared.in_words()] if compared else [])]


def _require_folder(folder: Path) -> None:
    """Makes the folder of the files, unless it holds files of others under their names."""
    make_output(folder)
    record = folder / "baselines.json"
    require_unused([record, folder / "baselines.csv"], record, ("baselines_of", "rows"))


def _write(folder: Path, report: dict[str, Any]) -> None:
    """Leaves baselines.json and baselines.csv."""
    header = list(report["rows"][0])
    write_csv(folder / "baselines.csv", header, ([row[name] for name in header] for row in report["rows"]))
    write_text(folder / "baselines.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(printable(f"written: {folder / 'baselines.json'} and baselines.csv"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.baselines",
        usage="%(prog)s --data DATA [options]",
        description="Compares methods of before deep learning on labelled images, and a network with them.",
        argument_default=argparse.SUPPRESS,
    )
    config.add_options(parser, ("data",))
    parser.add_argument(
        "--checkpoint", type=given_path, default=None, help="best.pt of a run, whose network and split are taken"
    )
    parser.add_argument(
        "--part", choices=("val", "test"), default="val", help="which images are answered (%(default)s)"
    )
    parser.add_argument(
        "--most-images",
        type=int,
        default=fitting.MOST_IMAGES,
        help="training images that are used at most (%(default)s), about 20 kB of memory each",
    )
    parser.add_argument("--output", type=given_path, default=None, help="folder for baselines.json and baselines.csv")
    config.add_options(parser.add_argument_group("split, as for training.train"), OF_SPLIT)
    config.add_options(parser.add_argument_group("part of the image, as for training.train"), OF_INPUT)
    config.add_options(parser.add_argument_group("a network whose features are used"), OF_NETWORK)
    config.add_options(parser.add_argument_group("how it computes"), OF_COMPUTING)
    return parser
