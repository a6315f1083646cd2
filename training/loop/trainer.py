"""Gradient descent through the network, for `finetune` and `scratch`: epochs that can be interrupted and continued."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError
from training import distributed
from training.batches import mixup
from training.batches.loader import Batch, Order, balanced
from training.batches.mixup import Mixing
from training.checkpoint import Checkpoint
from training.loop import probe, schedule, tensorboard
from training.loop.interrupt import Interrupt, Interrupted
from training.loop.run import EpochRecord, Run
from training.loop.step import BatchPosition, BatchResult, Learner
from training.run_files import write_csv
from training.scoring.scores import evaluate, mean_loss
from training.tasks.by_name import task_of


@dataclass
class Progress:
    """How far a run has come; together with weights, optimiser and random numbers, all that a later start needs."""

    epoch: int = 0
    batch: int = 0
    images: int = 0
    loss_sum: float = 0.0
    hits: float = 0.0
    labelled: int = 0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)

    def best(self) -> EpochRecord | None:
        """Returns the epoch with the highest validation metric; of equal ones that with the lowest loss."""
        return max(self.history, key=lambda record: (record.val_metric, -record.val_loss), default=None)

    def waited(self) -> int:
        """Returns the number of epochs since the best one."""
        best = self.best()
        return self.epoch - best.epoch if best else 0


class Trainer:
    """The network, its optimiser and its progress during one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.config = run.config
        self.model = run.model
        self.learner = Learner(run)
        self.mixing = Mixing.of(run.config, run.data.task)
        self.progress = Progress()
        self.skipped: list[tuple[int, int, float, str]] = []
        self.bad_in_a_row = 0
        self.image_weights: npt.NDArray[np.float64] | None = None
        if run.config.balance == "weights":
            self.image_weights = balanced(run.data.part("train"), len(run.data.class_names))
        if run.data.unlabelled:  # which weigh nothing in what labels add to the loss
            labelled = self.image_weights if self.image_weights is not None else np.ones(len(run.data.part("train")))
            self.image_weights = np.append(labelled, np.zeros(len(run.data.unlabelled)))
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None
        self._step_began = self.progress

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs beside the weights; every process must ask."""
        cuda = [torch.cuda.get_rng_state(self.run.device)] if self.run.device.type == "cuda" else []
        return {
            "progress": dataclasses.asdict(self.progress),
            "learner": self.learner.state(),
            "unlabelled_sha256": self.run.data.unlabelled_sha256,
            "rng": distributed.from_all([torch.get_rng_state(), *cuda]),
        }

    def restore(self, saved: Checkpoint) -> None:
        """Goes back to where a checkpoint was written."""
        assert saved.resume is not None  # last.pt always has it
        values = {"labelled": saved.resume["progress"]["images"], **saved.resume["progress"]}
        values["history"] = [EpochRecord(**record) for record in values["history"]]
        self.progress = Progress(**values)
        self.skipped = self._skipped_before()
        self.model.load_state_dict(saved.model)
        self.learner.restore(saved.resume["learner"])
        states = saved.resume["rng"]
        own = states[distributed.rank() % len(states)]  # of as many processes, each goes on with its own
        torch.set_rng_state(own[0])
        if self.run.device.type == "cuda" and len(own) > 1:
            torch.cuda.set_rng_state(own[1], self.run.device)

    def epoch(self, loader: DataLoader[Batch], order: Order, interrupt: Interrupt) -> None:
        """Trains from the batch that is next to the end of the epoch.

        Raises:
            Interrupted: Between two steps, or within one whose next batch does not come; a later call goes on from
                there.
            ConfigError: If too many steps in a row have no finite loss.
        """
        now = self.progress
        phase = schedule.phase(self.config, self.progress.epoch)
        self.learner.begin(phase)
        order.epoch = now.epoch
        order.first_batch = now.batch
        title = f"epoch {now.epoch + 1}/{self.config.epochs} {phase}"
        started = time.perf_counter()
        size = min(self.config.batch_size, order.count)
        with ProgressBar(total=order.count, initial=now.batch * size, desc=title, unit="img") as bar:
            for batch in loader:
                for row in batch.lost:
                    ProgressBar.write(f"left out, no longer readable: {self.run.data.lessons[row].path}")
                self.step(batch, order)
                position = self.position(order)
                now.batch += 1
                now.seconds = now.seconds + time.perf_counter() - started
                started = time.perf_counter()
                bar.update(len(batch.labels) * distributed.count())
                if now.images:
                    metric = now.hits / max(now.labelled, 1)
                    bar.set_postfix(loss=f"{now.loss_sum / now.images:.3f}", metric=f"{metric:.3f}")
                if position.last and distributed.total([float(interrupt.requested)], self.run.device)[0]:
                    raise Interrupted

    def drop_unfinished_step(self, order: Order) -> None:
        """Goes back to where the step began of which some batches were learned and the next one never came."""
        if self.progress.batch < order.batches() and not self.position(order).first:
            self.progress = dataclasses.replace(self._step_began, seconds=self.progress.seconds)
            self.learner.drop_step()

    def finished(self) -> bool:
        """Returns whether all epochs are done, or the last ones brought nothing."""
        now = self.progress
        patience = self.config.early_stop
        return now.epoch >= self.config.epochs or 0 < patience <= now.waited()

    def position(self, order: Order) -> BatchPosition:
        """Returns where the batch that is next stands in its step."""
        batch = self.progress.batch
        size = order.batch_size
        count = self.config.accumulate
        start = batch - batch % count
        end = min(start + count, order.batches())
        images = min(end * size, order.count) - start * size
        weight = float(images)
        if self.image_weights is not None:
            weight = float(self.image_weights[self._rows(order)[start * size : end * size]].sum())
        return BatchPosition(batch == start, batch == end - 1, images, weight)

    def _rows(self, order: Order) -> npt.NDArray[np.int64]:
        """The samples of the epoch in their order, which is drawn once an epoch."""
        if self._order is None or self._order[0] != order.epoch:
            self._order = order.epoch, order.rows()
        return self._order[1]

    def step(self, batch: Batch, order: Order) -> None:
        """Learns from one batch.

        Raises:
            ConfigError: If too many steps in a row have no finite loss; none of them has changed the weights.
        """
        now = self.progress
        position = self.position(order)
        device = self.run.device
        if position.first:
            self._step_began = dataclasses.replace(now)
            steps = math.ceil(order.batches() / self.config.accumulate)
            epoch = now.epoch + now.batch // self.config.accumulate / steps
            losses = [record.val_loss for record in now.history]
            momentum = schedule.momentum(self.config, epoch)
            self.learner.set_rates(schedule.lr_factor(self.config, epoch, losses), momentum)
        images = batch.images.to(device, non_blocking=True)
        targets = batch.labels.to(device, non_blocking=True)
        views = [view.to(device, non_blocking=True) for view in batch.views]
        if self.mixing is not None:
            classes = len(self.run.data.class_names)
            mix = functools.partial(mixup.mix, classes=classes, mixing=self.mixing, epoch=now.epoch, batch=now.batch)
            views = [mix(view, targets)[0] for view in views]
            images, targets = mix(images, targets)
        taught = self.learner.teach(batch.rows, images, views)
        result = self.learner.learn(images, targets, position, taught)
        if result is None:
            return
        if not math.isfinite(result.loss_sum):
            self.skip(batch, result)
            return
        self.bad_in_a_row = 0
        now.images += result.images
        now.loss_sum += result.loss_sum
        now.hits += result.hits
        now.labelled += result.labelled

    def skip(self, batch: Batch, result: BatchResult) -> None:
        """Lists the images of a step that was left out, in skipped.csv.

        Raises:
            ConfigError: If there were too many in a row.
        """
        now = self.progress
        samples = self.run.data.lessons
        rows = sorted(row for share in distributed.from_all(batch.rows.tolist()) for row in share)
        paths = [str(samples[row].path) for row in rows]
        self.skipped += [(now.epoch + 1, now.batch + 1, result.loss, path) for path in paths]
        write_csv(self.run.folder / "skipped.csv", ("epoch", "batch", "loss", "path"), self.skipped)
        self.bad_in_a_row += 1
        where = f"batch {now.batch + 1} ({paths[0]} and {len(paths) - 1} more, see skipped.csv)"
        if self.bad_in_a_row >= self.config.bad_steps:
            raise self.diverged(where, result.loss)
        ProgressBar.write(f"left out, loss or gradient not finite: epoch {now.epoch + 1}, {where}")

    def _skipped_before(self) -> list[tuple[int, int, float, str]]:
        """What skipped.csv lists of the steps before the next one; those from it on are done again."""
        path = self.run.folder / "skipped.csv"
        now = self.progress
        if not path.is_file():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(int(r["epoch"]), int(r["batch"]), float(r["loss"]), r["path"]) for r in csv.DictReader(file)]
        return [row for row in rows if (row[0] - 1, row[1] - 1) < (now.epoch, now.batch)]

    def validate(self, val: DataLoader[Batch], interrupt: Interrupt) -> dict[str, float]:
        """Returns the scores of the network, or of the average of its weights, on the validation images.

        Raises:
            Interrupted: During the validation.
            ConfigError: If the loss is not finite.
        """
        metrics: dict[str, float] | None = None
        if distributed.rank() == 0:
            with contextlib.suppress(Interrupted):
                found = evaluate(self.model, val, self.run.data, self.run.device, "validating", interrupt.check)
                metrics = found.summary()
                if self.config.loss == "squared":  # as on the training images
                    metrics["val_loss"] = mean_loss(found.task, found.logits, found.truth, squared=True)
        metrics = distributed.from_first(metrics, self.run.device)
        if metrics is None:
            raise Interrupted
        if not math.isfinite(metrics["val_loss"]):
            raise self.diverged("validation", metrics["val_loss"])
        return metrics

    def finish_epoch(self, val: DataLoader[Batch], interrupt: Interrupt) -> None:
        """Validates, and writes history.csv, then best.pt where this epoch is the one to keep, then last.pt.

        Raises:
            Interrupted: During the validation; a later call repeats it.
            ConfigError: If the loss is not finite.
        """
        started = time.perf_counter()
        average = self.learner.average
        with average.in_place_of(self.model) if average else contextlib.nullcontext():
            metrics = self.validate(val, interrupt)
            record = self.record(metrics, time.perf_counter() - started)
            self.progress = Progress(epoch=record.epoch, history=[*self.progress.history, record])
            self.run.write_history(self.progress.history)
            # A kill between the two leaves a last.pt that repeats the epoch, and with it best.pt.
            if self.config.select == "last" or self.progress.best() is record:
                self.run.save(["best.pt"], metrics, None)
        self.run.save(["last.pt"], metrics, self.state())
        part = "" if self.run.data.labelled_by else "val "
        loss = self.run.data.figure("val loss")
        ProgressBar.write(f"    {loss} {record.val_loss:.3f}  {part}{record.metric} {record.val_metric:.3f}")

    def record(self, metrics: Mapping[str, float], seconds: float) -> EpochRecord:
        """Returns the line of history.csv of the epoch that ends, after a validation of so many seconds."""
        now = self.progress
        metric = task_of(self.run.data.task).metric
        return EpochRecord(
            epoch=now.epoch + 1,
            phase=schedule.phase(self.config, now.epoch),
            lr=self.learner.optimizer.param_groups[0]["lr"],
            train_loss=now.loss_sum / max(now.images, 1),
            train_metric=now.hits / max(now.labelled, 1),
            val_loss=metrics["val_loss"],
            val_metric=metrics[f"val_{metric}"],
            seconds=now.seconds + seconds,
            metric=self.run.data.figure(metric),
        )

    def diverged(self, where: str, value: float) -> ConfigError:
        """Says in one line that training has failed, and what is left of it."""
        left = "nothing was saved yet"
        then = "start again with a lower --lr"
        if self.progress.history:
            left = f"{self.run.folder / 'last.pt'} is intact"
            then = "continue with --resume and a lower --lr"
        return ConfigError(
            f"the loss is {value} in epoch {self.progress.epoch + 1}, {where}; {then} than {self.config.lr:g}"
            f"{' or take --amp off' if self.learner.amp else ' or take --clip-norm 1'} ({left})"
        )


def fit(run: Run, saved: Checkpoint | None) -> list[EpochRecord]:
    """Trains until all epochs are done, and leaves best.pt, last.pt and history.csv.

    Args:
        run: What to train on what.
        saved: Where to go on from; None to begin.

    Returns:
        What happened, epoch by epoch.

    Raises:
        ConfigError: If too many losses in a row are not finite, a batch is too small for its processes, or the network
            has no last layer that a probe could begin.
        KeyboardInterrupt: On Ctrl-C, after the step was finished, or dropped where its next batch does not come, and
            last.pt written.
    """
    if run.config.batch_size < 2 * distributed.count():
        raise ConfigError(
            f"--batch-size {run.config.batch_size}: at least 2 images for each process are needed; raise it"
        )
    loader, order = run.training_batches()
    val = run.evaluation_batches("val")
    if saved is None and run.config.head_init == "probe":
        probe.start_head(run)
    trainer = Trainer(run)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(run.config.seed + distributed.rank())  # each process drops out its own
    if saved is not None:
        trainer.restore(saved)
    with Interrupt() as interrupt, tensorboard.scalars(run) as write_scalars:
        # alone of several processes, one that waits can neither go on nor save
        loader.when_late = interrupt.check if distributed.count() == 1 else interrupt.end
        val.when_late = interrupt.check
        while not trainer.finished():
            try:
                trainer.epoch(loader, order, interrupt)
                trainer.finish_epoch(val, interrupt)
            except Interrupted:
                trainer.drop_unfinished_step(order)
                if not trainer.bad_in_a_row:  # else the network may be beyond help, and last.pt is better
                    run.save(["last.pt"], {}, trainer.state())
                raise KeyboardInterrupt from None
            write_scalars(trainer.progress.history[-1])
    return trainer.progress.history
