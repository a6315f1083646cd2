"""One training run: its settings, its data, its network, and the folder where all of it is kept."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cnn_perception.errors import ConfigError, DataError
from cnn_perception.files import remove_unfinished, require_unused
from cnn_perception.image.listing import image_files
from cnn_perception.model.spec import InputSpec
from training import checkpoint, distributed, learned
from training.batches.augment import Augmentation
from training.batches.cache import open_cache
from training.batches.loader import Batch, Images, Order, balanced, data_loader
from training.batches.workers import Loader, affordable
from training.checkpoint import UNCALIBRATED, Checkpoint
from training.config import (
    CHANGED_BY_RESUME,
    TrainConfig,
    expand_augment,
    from_file,
    make,
    sources_of,
    with_recipe,
    without_effect,
)
from training.config.fields import PATHS, as_given, flag_of
from training.config.stored import sources
from training.data import load
from training.data.checks.findings import write_findings
from training.data.load import DataOptions
from training.data.records import LabelledImages, Part, Sample
from training.data.sources import require_apart, require_unread
from training.distillation import answers
from training.distillation import unlabelled as without_labels
from training.distillation.teachers import Teachers, of_run
from training.distillation.unlabelled import Frame
from training.loop import batch_statistics
from training.networks import build
from training.networks.libraries import own_module, preparation
from training.run_files import make_output, write_csv, write_text
from training.tasks.by_name import task_of

_FILES = (
    "config.json", "split.csv", "history.csv", "skipped.csv", "best.pt", "last.pt", "report.json", "report.html",
    "learning_curves.png", "confusion_matrix.png", "numbers.png", "lr_finder.csv", "lr_finder.png",
    "baseline.json", batch_statistics.FILE,
)  # fmt: skip
"""What a run writes, but for findings.csv, which a check writes too."""
_SHORT = {torch.bfloat16: "bf16", torch.float16: "fp16"}
"""As `--amp` calls them."""
_LARGE = 10**6
"""Weights of a network that is worth a precision of its own; ResNet-18 has 11 million, LeNet-5 has 62 thousand."""
FINDINGS = "findings.csv"


@dataclass(frozen=True)
class EpochRecord:
    """One line of history.csv.

    Attributes:
        epoch: Counted from 1.
        phase: What learned.
        lr: The rate of the head at the epoch's end.
        train_loss: See `LearningTask.loss`.
        train_metric: The metric on the training images as they were shown; NaN for multilabel fine-tuning.
        val_loss: See `LearningTask.loss`.
        val_metric: The metric on the validation images; higher is better.
        seconds: How long it took.
        metric: Its name, see `LearningTask.metric`.
    """

    epoch: int
    phase: str
    lr: float
    train_loss: float
    train_metric: float
    val_loss: float
    val_metric: float
    seconds: float
    metric: str


@dataclass(frozen=True)
class Run:
    """What a way of training is given.

    Attributes:
        config: The settings.
        folder: Where everything is written.
        data: The checked and split images.
        model: The network on its device.
        weights: Where its weights come from, in words.
        device: What it computes on.
        workers: Processes that load images.
        teachers: The networks that it imitates; None if it learns from labels alone.
    """

    config: TrainConfig
    folder: Path
    data: LabelledImages
    model: nn.Module
    weights: str
    device: torch.device
    workers: int
    teachers: Teachers | None = None

    @property
    def amp(self) -> torch.dtype | None:
        """The type of mixed precision, see `mixed_precision`."""
        return mixed_precision(self.config, self.device, self.model)

    @property
    def computed(self) -> str:
        """On what the training is computed, and how where that is no plain float32."""
        amp = None if self.config.mode == "probe" else self.amp
        return f"{self.device}{'' if amp is None else f' in {_SHORT[amp]}'}"

    def training_batches(self) -> tuple[Loader[Batch], Order]:
        """Returns the shuffled, augmented training images, decoded as far as they are kept, and their order."""
        with distributed.first_alone_first(self.device):  # the others find what it wrote
            asks = self.teachers is not None and not answers.are_fixed(self.config, self.data, self.teachers)
            views = self.teachers.inputs if self.teachers is not None and asks else ()
            images = training_images(self.data, self.config, keep=True, others=views)
        order = training_order(self.data, self.config)
        return data_loader(images, order, self.workers, self.device.type == "cuda"), order

    def evaluation_batches(self, *parts: Part) -> Loader[Batch]:
        """Returns the images of some parts one after the other, preprocessed as the robot does."""
        return self.batches_of(tuple(sample for part in parts for sample in self.data.part(part)))

    def batches_of(self, samples: tuple[Sample, ...], seed: int | None = None) -> Loader[Batch]:
        """Returns images one after the other, or in an order drawn by a seed, preprocessed as the robot does."""
        order = Order(len(samples), self.config.batch_size, seed)
        return data_loader(Images(samples, self.config.input), order, self.workers, self.device.type == "cuda")

    def save(self, names: Iterable[str], metrics: Mapping[str, float], resume: dict[str, Any] | None) -> None:
        """Writes the network as it is now, as best.pt, last.pt or both."""
        record = {
            "mode": self.config.mode,
            "weights": self.weights,
            "data": self.data.name,
            "data_sha256": self.data.sha256,
            "train_images": len(self.data.part("train")),
            "val_images": len(self.data.part("val")),
            "metrics": {self.data.figure(name): value for name, value in metrics.items()},
        }
        thresholds = task_of(self.data.task).usual_thresholds(len(self.data.class_names))
        now = Checkpoint(
            backbone=self.config.backbone,
            task=self.data.task,
            class_names=self.data.class_names,
            units=self.data.units,
            scaling=self.data.scaling,
            input=self.config.input,
            model={name: tensor.detach().cpu() for name, tensor in self.model.state_dict().items()},
            training=record,
            train_images=tuple(str(sample.path.absolute()) for sample in self.data.part("train")),
            val_images=tuple(str(sample.path.absolute()) for sample in self.data.part("val")),
            calibration=dataclasses.replace(UNCALIBRATED, thresholds=thresholds),
            config=self.config.to_dict(),
            resume=None,
            val_targets=tuple(sample.values or (sample.label,) for sample in self.data.part("val")),
            train_targets=tuple(sample.values or (sample.label,) for sample in self.data.part("train")),
            source=own_module.fields_of(self.config.backbone),
            unlabelled_images=tuple(str(sample.path.absolute()) for sample in self.data.unlabelled),
            learned_pixels=tuple(sample.pixels for sample in self.data.lessons if sample.pixels is not None),
        )
        for name in names:
            checkpoint.save(self.folder / name, dataclasses.replace(now, resume=resume if name == "last.pt" else None))

    def write_history(self, history: Iterable[EpochRecord]) -> None:
        """Writes history.csv."""
        header = [field.name for field in dataclasses.fields(EpochRecord)]
        write_csv(self.folder / "history.csv", header, map(dataclasses.astuple, history))

    def last(self) -> Checkpoint | None:
        """Returns the checkpoint to go on from; None for a new run, or one that did not reach its first.

        Raises:
            DataError: If it cannot be read, or was trained on other data.
        """
        return _last(self.folder, self.data) if _goes_on(self.config) else None


def settings(given: dict[str, Any]) -> TrainConfig:
    """Returns the settings of a new run, or of the run to continue.

    Args:
        given: What the command line says, as arguments of `config.make`.

    Raises:
        ConfigError: If a setting is wrong, the folder holds a run already, or there is none to continue.
    """
    given = with_recipe(given)
    if not given.get("output"):
        raise ConfigError("--output is missing; name the folder of the run")
    folder = Path(given["output"])
    if not given.get("resume"):
        if (folder / "last.pt").exists():
            raise ConfigError(f"{folder}: holds a run already; --resume continues it, another --output starts afresh")
        completed, taken = preparation.completed(given)
        config = make(**completed)
        for line in (*filter(None, [taken]), *without_effect(given, config)):
            print(line)
        _require_apart(config)
        data, teacher, unlabelled = (_absolute(getattr(config, name)) for name in PATHS)
        return dataclasses.replace(config, data=data, teacher=teacher, unlabelled=unlabelled)
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no run to continue; leave out --resume")
    saved = from_file(path)
    value: Any
    for name, value in given.items():
        value = expand_augment(value) if name == "augment" else value
        value = build.kept_name(str(value)) if name == "backbone" else value
        value = _absolute(sources(value)) if name in PATHS else value
        if name not in (*CHANGED_BY_RESUME, "output", "data") and value != saved[name]:
            raise ConfigError(f"--{flag_of(name)}: the run in {folder} has {as_given(saved[name])}; leave it out")
    kept = {name: given[name] for name in (*CHANGED_BY_RESUME, "output") if name in given}
    kept["backbone"] = build.resumed_name(saved["backbone"], folder / "last.pt")
    config = TrainConfig(**{**saved, **kept, "data": _absolute(sources_of(given) or saved["data"])})
    _require_apart(config)
    return config


def _require_apart(config: TrainConfig) -> None:
    """Checks that a run writes nothing where it looks for images.

    Raises:
        ConfigError: If it would.
    """
    for output in map(Path, filter(None, (config.output, config.cache_dir))):
        require_apart(output, config.sources)
        for folder in (*config.unlabelled, *filter(None, (config.outside,))):
            require_unread(output, Path(folder))


def _absolute(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(str(Path(path).absolute()) for path in paths)


def open_run(config: TrainConfig, frames: Sequence[Frame] = ()) -> Run:
    """Makes the folder, reads the data and builds the network.

    Args:
        config: The settings.
        frames: Those of `--unlabelled`.

    Raises:
        ConfigError: If the folder cannot be made, the network or its weights cannot be had, or the teachers do not
            belong to the data.
        DataError: If the data cannot be used.
    """
    folder = Path(config.output)
    device = distributed.chosen_device(config.device)
    _check_network(config)  # what is wrong with it should not be found only after the data were read
    if config.mode != "probe":
        require_precision(config, device)
    make_output(folder)
    if distributed.rank() == 0:  # who alone writes
        require_unused((folder / name for name in _FILES), folder / "config.json", ("backbone", "mode", "epochs"))
        remove_unfinished(folder)
        if not config.adapt_norm:
            (folder / batch_statistics.FILE).unlink(missing_ok=True)  # of an earlier run in this folder
    teachers = of_run(config, device)
    data = _data(config, frames, teachers, device)
    _require_of_none(config, data)
    if _goes_on(config):
        _last(folder, data)  # for its errors, before the record of the run is written again
        write_findings(folder / FINDINGS, data.findings)
    if data.labelled_by:
        config = dataclasses.replace(config, **_without_labels(data))
    write_config(config)
    load.write_split(folder / "split.csv", data)
    model, loaded = build.start(config, len(data.class_names))
    if distributed.rank() == 0:
        print(*loaded.lines(config.input), sep="\n", end="\n" * bool(loaded.note))
    build.check_last_layer(model, config.backbone, data.task)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)
    inputs = (config.input, *(teachers.inputs if teachers else ()))
    pixels = sum(size.height * size.width for size in inputs)
    workers = affordable(_workers(config, device), (config.batch_size, 3, pixels))
    return Run(config, folder, data, model, loaded.origin, device, workers, teachers)


def _check_network(config: TrainConfig) -> None:
    """Checks that the network can be had, and that it has what is asked of it.

    Raises:
        ConfigError: If not.
    """
    model, _ = build.start(config, 2)
    if config.adapt_norm:
        batch_statistics.require(model, config.backbone)


def _require_of_none(config: TrainConfig, data: LabelledImages) -> None:
    """Checks that no image of `--outside` is one of the labelled images, as an image under two labels would be.

    Raises:
        DataError: If one has the same pixels, and such are not to be left out.
    """
    if not config.outside or config.on_conflict != "error" or config.unknown == "none":
        return
    if not task_of(data.task).one_class:
        return
    labelled = {sample.pixels: sample for sample in data.samples}
    files = image_files(Path(config.outside), Counter())
    others = learned.with_pixels([Sample(path, 0, "test") for path in files])
    copies = [one for one in others if one.pixels is not None and one.pixels in labelled]
    if copies:
        first, known = copies[0].path, labelled[copies[0].pixels]
        raise DataError(
            f"--outside {config.outside}: {len(copies)} of its {len(others)} images are labelled ones, first {first}, "
            f"which is {known.path}, {data.class_names[known.label]!r}; remove them, or leave them out with "
            "--on-conflict drop"
        )


def require_precision(config: TrainConfig, device: torch.device) -> None:
    """Checks that a device has the mixed precision that is asked for.

    Raises:
        ConfigError: If not.
    """
    if config.amp == "fp16" and device.type == "cpu":
        raise ConfigError("--amp fp16 needs a GPU; take off or bf16")


def mixed_precision(config: TrainConfig, device: torch.device, network: nn.Module) -> torch.dtype | None:
    """Returns the type in which a network is multiplied while it learns; None for float32, as everything else is.

    On a processor with AMX, bf16 took 0.40 to 0.67 of the time of a step of ResNet and VGG, and 1.4 to 1.7 of that of
    MobileNet and EfficientNet, whose convolutions of single channels its units do not take; of that of LeNet-5 0.87,
    which is not worth the rounding. Without AMX it is slower.

    Raises:
        ConfigError: If the device has not the one that is asked for.
    """
    require_precision(config, device)
    if config.amp != "auto":
        return next((kind for kind, short in _SHORT.items() if short == config.amp), None)
    if device.type != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    is_large = sum(weights.numel() for weights in network.parameters()) >= _LARGE
    has_groups = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in network.modules())
    return torch.bfloat16 if is_large and not has_groups and processor_multiplies_bf16() else None


def processor_multiplies_bf16() -> bool:
    """Returns whether this processor has AMX's units for it; an older torch does not say so."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    return capabilities is not None and bool(capabilities().get("amx_bf16"))


def _goes_on(config: TrainConfig) -> bool:
    """Whether a run goes on from a checkpoint; one that did not reach its first begins anew."""
    return config.resume and (Path(config.output) / "last.pt").exists()


def _last(folder: Path, data: LabelledImages) -> Checkpoint:
    """Returns the checkpoint from which a run goes on; see `Run.last`."""
    path = folder / "last.pt"
    saved = checkpoint.load(path)
    if saved.training["data_sha256"] != data.sha256:
        raise DataError(f"{data.where}: differs from what {path} was trained on; restore it, or start a new run")
    if (saved.resume or {}).get("unlabelled_sha256", "") != data.unlabelled_sha256:
        raise DataError("--unlabelled: differs from what the run was trained on; restore it, or start a new run")
    return saved


def _without_labels(data: LabelledImages) -> dict[str, Any]:
    """Settings of a run without labels: they teach nothing, and nobody knows which images show none of the classes."""
    targets = tuple(f"{name}:{unit}" for name, unit in zip(data.class_names, data.units, strict=False))
    return {"distil_weight": 1.0, "unknown": "none", "baselines": "none", "task": data.task, "targets": targets}


def _data(
    config: TrainConfig, frames: Sequence[Frame], teachers: Teachers | None, device: torch.device
) -> LabelledImages:
    """The labelled images, with frames without labels beside them; or such frames alone, labelled by the teachers."""
    if teachers is not None and not config.data:
        return without_labels.alone(frames, teachers, config, device)
    options = DataOptions.of(config.to_dict())
    data = load.load_images(config.sources, options, None if _goes_on(config) else Path(config.output) / FINDINGS)
    if teachers is not None:
        teachers.require_classes(data)
    return without_labels.beside(data, frames) if frames else data


def training_images(
    data: LabelledImages, config: TrainConfig, *, keep: bool = False, others: tuple[InputSpec, ...] = ()
) -> Images:
    """Returns the training images as the network gets them.

    Args:
        data: The data set.
        config: The settings of the run.
        keep: Whether decoded images are written to the disk, as far as there is room; they are the same without.
        others: Preprocessing of other networks that see the same variants.
    """
    samples = data.lessons
    augmentation = Augmentation.of(config, data.task, data.class_names)
    cache = open_cache(samples, config if keep else dataclasses.replace(config, cache_gb=0.0), augmentation, others)
    return Images(samples, config.input, augmentation, config.seed, cache, others)


def training_order(data: LabelledImages, config: TrainConfig) -> Order:
    """Returns the order of the training images, of which this process takes its share."""
    weights = None
    if config.balance == "sampler":
        weights = np.append(balanced(data.part("train"), len(data.class_names)), np.ones(len(data.unlabelled)))
    share = (distributed.rank(), distributed.count())
    return Order(len(data.lessons), config.batch_size, config.seed, weights, share)


def write_config(config: TrainConfig) -> None:
    """Writes config.json into the folder of a run."""
    kept = {**config.to_dict(), "resume": False, "find_lr": False}
    write_text(Path(config.output) / "config.json", json.dumps(kept, indent=2, ensure_ascii=False) + "\n")


def _workers(config: TrainConfig, device: torch.device) -> int:
    if config.workers is not None:
        return config.workers
    return min(8 if device.type == "cuda" else 2, os.cpu_count() or 1)
