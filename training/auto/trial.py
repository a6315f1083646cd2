"""A candidate judged by cross-validation on the training part: what it answers to images it has not learned from.

Each fold leaves its answers in a file, and a search that goes on takes those as they are; of a fold that was ended in
its midst the last checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import one_line
from cnn_perception.files import remove_unfinished
from cnn_perception.model.outputs import FloatArray
from training import checkpoint, config, distributed
from training.auto import table
from training.auto.asked import Precision
from training.auto.candidate import Candidate
from training.baselines.rows import Cost, Row
from training.batches.workers import affordable
from training.calibration import embeddings, mirroring
from training.calibration.embeddings import Predictions
from training.config import TrainConfig
from training.data.records import LabelledImages, Sample
from training.export import answering
from training.graphs.parity import ParityError
from training.graphs.quantise import AccuracyError, Reduction
from training.loop import out_of_memory, probe, trainer
from training.loop.run import Run, write_config
from training.networks import backbones, build
from training.networks.libraries import own_errors
from training.run_files import make_folder, replacing, write_text
from training.tasks.by_name import task_of
from training.tasks.scaling import in_units, standardised

REPORT = "report.json"
ANSWERS = "answers.npz"
_FEW = 8
"""Images of the batch by which a network's time is measured."""
_QUICK_S = 0.25


@dataclass(frozen=True)
class Fold:
    """What came of one fold.

    Attributes:
        samples: The images that were held out and could be read.
        outputs: (n, K), of a model file in the precision of the trial; numbers standardised by the whole training part.
        seconds: How long it took.
        missed: Why they are in fp32 all the same; empty where they are not.
    """

    samples: tuple[Sample, ...]
    outputs: FloatArray
    seconds: float
    missed: str = ""


@dataclass(frozen=True)
class Trial:
    """A candidate and its folds.

    Attributes:
        candidate: What is tried.
        folder: Of its files.
        whole: The data set.
        folds: Its training part, divided.
        given: Settings of the data and the computing.
        precision: In which it answers. The first fold settles whether that costs too much.
    """

    candidate: Candidate
    folder: Path
    whole: LabelledImages
    folds: Sequence[LabelledImages]
    given: dict[str, Any]
    precision: Precision

    def settings(self, number: int, epochs: int | None) -> TrainConfig:
        """Returns the settings of a fold."""
        own = {**self.candidate.settings, **self.given, "output": str(self.folder / f"fold{number}"), "resume": True}
        if self.candidate.mode != "probe" and epochs is not None:
            own |= within(own, epochs)
        return config.make(**own, unknown="none")

    def done(self, number: int) -> Fold | None:
        """Returns what a fold left; None if it is not over."""
        folder = self.folder / f"fold{number}"
        if not (folder / REPORT).is_file():
            return None
        report = json.loads((folder / REPORT).read_text())
        if "missed" not in report:  # of a version that did not know in which precision it answered
            return None
        by_path = {str(sample.path): sample for sample in self.whole.part("train")}
        with np.load(folder / ANSWERS, allow_pickle=False) as kept:
            samples = tuple(by_path[path] for path in kept["paths"].tolist())
            outputs = np.asarray(kept["outputs"], np.float32)
        return Fold(samples, outputs, float(report["seconds"]), str(report["missed"]))

    @own_errors.blamed("training")
    def run(self, number: int, epochs: int | None, settled: Callable[[TrainConfig], None]) -> Fold:
        """Returns what a fold gives, after training it unless that is done.

        Args:
            number: Of the fold, from 1.
            epochs: Of the training; None for the usual ones.
            settled: Told the settings that the first fold has found out: whether images are mirrored.

        Raises:
            PerceptionError: If the network cannot be had or learns nothing.
            KeyboardInterrupt: On Ctrl-C; what was reached is kept.
        """
        if (found := self.done(number)) is not None:
            self._tidy(number)  # it may have been killed before it came to that
            return found
        started_s = time.perf_counter()
        chosen = self.settings(number, epochs)
        with out_of_memory.enough(chosen):
            answers = self._trained(chosen, self.folds[number - 1], settled)
            outputs, missed = self._deployed(answers, number)
        outputs = in_common(outputs, self.folds[number - 1], self.whole)
        fold = Fold(answers.samples, outputs, time.perf_counter() - started_s, missed)
        self._keep(number, fold)
        return fold

    def _trained(
        self, chosen: TrainConfig, data: LabelledImages, settled: Callable[[TrainConfig], None]
    ) -> Predictions:
        run = open_fold(chosen, data, is_said=False)
        saved = run.last()
        run = mirroring.settled(run)
        settled(run.config)
        history = probe.fit(run) if chosen.mode == "probe" else trainer.fit(run, saved)
        assert history
        if chosen.mode == "probe":
            return embeddings.of_run(run)["val"]
        run.model.load_state_dict(checkpoint.load(run.folder / "best.pt").model)  # the averaged ones, if there are
        return embeddings.predict(run.model, run.evaluation_batches("val"), run.device, "held out")

    def _deployed(self, answers: Predictions, number: int) -> tuple[FloatArray, str]:
        """What the model file of a fold answers, and why that is the one in fp32 where another was wanted."""
        if self.precision == "fp32":  # as torch does: nothing is exported otherwise
            return answers.logits, ""
        is_settled = number > 1
        reduction = Reduction(self.precision, max_loss=answering.ANY_LOSS) if is_settled else Reduction(self.precision)
        best = self.folder / f"fold{number}" / "best.pt"
        try:
            return answering.answers(best, answers.samples, reduction, is_settled=is_settled), ""
        except (AccuracyError, ParityError) as error:
            return answers.logits, one_line(error, table.SHORT)

    def _keep(self, number: int, fold: Fold) -> None:
        folder = self.folder / f"fold{number}"
        paths = np.array([str(sample.path) for sample in fold.samples])
        with replacing(folder / ANSWERS) as file:
            np.savez(file, paths=paths, outputs=fold.outputs)
        report = {"seconds": fold.seconds, "images": len(fold.samples), "missed": fold.missed}
        write_text(folder / REPORT, json.dumps(report) + "\n")
        self._tidy(number)

    def _tidy(self, number: int) -> None:
        """Removes of a fold that is done what nobody needs any more."""
        folder = self.folder / f"fold{number}"
        remove_unfinished(folder)
        for name in ("best.pt", "last.pt", "embeddings.npz"):  # of many networks, gigabytes
            (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(folder / "cache")

    def row(self, done: Sequence[Fold], cost: Cost) -> Row:
        """Returns the answers of some folds together."""
        by_path = {sample.path: sample for sample in self.whole.part("train")}
        samples = tuple(by_path[sample.path] for fold in done for sample in fold.samples)
        outputs = np.concatenate([fold.outputs for fold in done])
        return Row(self.candidate.name, True, "", None, cost, samples, outputs, self.whole)


def in_common(outputs: FloatArray, fold: LabelledImages, whole: LabelledImages) -> FloatArray:
    """Returns outputs (n, K) in the standardisation of the whole training part; each fold has its own."""
    if not fold.scaling:
        return outputs
    return np.asarray(standardised(in_units(outputs, fold.scaling), whole.scaling), np.float32)


def within(settings: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Returns the epochs of a shorter training, and with them the settings that may not exceed them."""
    shorter: dict[str, Any] = {"epochs": epochs}
    if settings.get("last_stage_epochs") is not None:
        shorter["last_stage_epochs"] = min(int(settings["last_stage_epochs"]), epochs)
        shorter["head_epochs"] = min(int(settings.get("head_epochs") or 0), epochs - shorter["last_stage_epochs"])
    return shorter


def open_fold(chosen: TrainConfig, data: LabelledImages, *, is_said: bool = True) -> Run:
    """Returns a run on images that were read already; `loop.run.open_run` reads them.

    Args:
        chosen: Its settings.
        data: The images.
        is_said: Whether what was taken of the weights is said.

    Raises:
        ConfigError: If the network or its weights cannot be had.
    """
    device = distributed.chosen_device(chosen.device)
    make_folder(Path(chosen.output))
    write_config(chosen)
    model, loaded = build.start(chosen, len(data.class_names))
    for line in loaded.lines(chosen.input) if is_said else ():
        ProgressBar.write(line)
    build.check_last_layer(model, chosen.backbone, data.task)
    layout = torch.channels_last if chosen.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=layout)
    workers = affordable(workers_of(chosen), (chosen.batch_size, 3, *chosen.input_size))
    return Run(chosen, Path(chosen.output), data, model, loaded.origin, device, workers)


def workers_of(chosen: TrainConfig) -> int:
    """Returns how many processes load images: on a CPU none, whose start takes longer than many a fold."""
    if chosen.workers is not None:
        return chosen.workers
    return min(8, os.cpu_count() or 1) if distributed.chosen_device(chosen.device).type == "cuda" else 0


@own_errors.blamed("measuring its speed")
def speed(chosen: TrainConfig, data: LabelledImages) -> tuple[float, float]:
    """Returns the seconds of an image through a network, and of one that all of it learns from.

    Raises:
        PerceptionError: If the network cannot be had, cut, or run.
    """
    device = distributed.chosen_device(chosen.device)
    plain = dataclasses.replace(chosen, weights="none") if chosen.mode == "scratch" else chosen
    model = build.start(plain, len(data.class_names))[0].to(device)
    backbones.split(model, *chosen.input_size)  # for its error
    forward_s, learn_s = _seconds_of(model, chosen, data, _FEW)
    if _FEW * learn_s < _QUICK_S:  # of a small network, small batches take as long
        return _seconds_of(model, chosen, data, chosen.batch_size)
    return forward_s, learn_s


def _seconds_of(model: torch.nn.Module, chosen: TrainConfig, data: LabelledImages, count: int) -> tuple[float, float]:
    task = task_of(data.task)
    device = next(model.parameters()).device
    targets = torch.from_numpy(np.asarray(task.targets(data.part("train")[:count]))).to(device)
    images = torch.randn(len(targets), 3, *chosen.input_size, device=device)
    model.eval()
    with torch.inference_mode():
        model(images)  # the first one allocates
        forward_s = _seconds(lambda: model(images))

    def learn() -> None:
        outputs = model(images)
        logits = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
        task.loss(logits, targets).backward()  # type: ignore[no-untyped-call]

    model.train().requires_grad_(True)
    learn()
    return forward_s / len(targets), _seconds(learn) / len(targets)


def _seconds(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started_s
