"""Gradient descent through the network, for `finetune` and `scratch`: epochs that can be interrupted and continued."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cnn_perception.errors import ConfigError
from training import backbones, optimise
from training.answers import answer
from training.batches import Batch, Order
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.run import EpochRecord, Run


@dataclass
class Progress:
    """How far a run has come; together with weights, optimiser and random numbers, all that a later start needs."""

    epoch: int = 0
    batch: int = 0
    images: int = 0
    loss_sum: float = 0.0
    hits: int = 0
    seconds: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)

    def best(self) -> EpochRecord | None:
        """Returns the epoch with the highest validation accuracy; of equal ones that with the lowest loss."""
        return max(self.history, key=lambda record: (record.val_top1, -record.val_loss), default=None)


class Interrupted(Exception):  # noqa: N818  (no error: the user's wish)
    """The run is to end here; its state is whole."""


class Interrupt:
    """Notes the first Ctrl-C, so that a step is finished before `check` raises it; a second one is raised at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Interrupt:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._former = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._former)

    def _note(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def check(self) -> None:
        """Raises Interrupted after a Ctrl-C."""
        if self.requested:
            raise Interrupted


class Trainer:
    """The network, its optimiser and its progress during one run."""

    def __init__(self, run: Run) -> None:
        self.run, self.config, self.model = run, run.config, run.model
        self.stages = backbones.stages(run.model, *run.config.input_size)
        self.optimizer = optimise.optimizer(run.model, self.stages, run.config)
        self.amp = amp_dtype(run.config, run.device)
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=self.amp is torch.float16)
        self.progress = Progress()

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs beside the weights."""
        cuda = [torch.cuda.get_rng_state(self.run.device)] if self.run.device.type == "cuda" else []
        return {
            "progress": dataclasses.asdict(self.progress),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": [torch.get_rng_state(), *cuda],
        }

    def restore(self, saved: Checkpoint) -> None:
        """Goes back to where a checkpoint was written."""
        assert saved.resume is not None  # last.pt always has it
        values = dict(saved.resume["progress"])
        values["history"] = [EpochRecord(**record) for record in values["history"]]
        self.progress = Progress(**values)
        self.model.load_state_dict(saved.model)
        self.optimizer.load_state_dict(saved.resume["optimizer"])
        self.scaler.load_state_dict(saved.resume["scaler"])
        torch.set_rng_state(saved.resume["rng"][0])
        if self.run.device.type == "cuda" and len(saved.resume["rng"]) > 1:
            torch.cuda.set_rng_state(saved.resume["rng"][1], self.run.device)

    def epoch(self, loader: DataLoader[Batch], order: Order, interrupt: Interrupt) -> None:
        """Trains from the batch that is next to the end of the epoch.

        Raises:
            Interrupted: Between two batches; a later call goes on from there.
        """
        now, phase = self.progress, optimise.phase(self.config, self.progress.epoch)
        optimise.set_trainable(self.model, self.stages, phase)
        order.epoch, order.first_batch = now.epoch, now.batch
        title, started = f"epoch {now.epoch + 1}/{self.config.epochs} {phase}", time.perf_counter()
        size = min(self.config.batch_size, order.count)
        with tqdm(total=order.count, initial=now.batch * size, desc=title, unit="img") as bar:
            for batch in loader:
                for row in batch.lost:
                    tqdm.write(f"left out, no longer readable: {self.run.data.part('train')[row].path}")
                if len(batch.labels) > 1:  # batch normalisation cannot learn from a single image
                    self.step(batch, now.epoch + now.batch / order.batches())
                now.batch += 1
                now.seconds, started = now.seconds + time.perf_counter() - started, time.perf_counter()
                bar.update(len(batch.labels))
                if now.images:
                    bar.set_postfix(loss=f"{now.loss_sum / now.images:.3f}", top1=f"{now.hits / now.images:.3f}")
                interrupt.check()

    def step(self, batch: Batch, epoch: float) -> None:
        """Learns from one batch.

        Raises:
            ConfigError: If the loss is not finite; the weights have not been changed by this batch.
        """
        factor = optimise.lr_factor(self.config, epoch, [record.val_loss for record in self.progress.history])
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        images = batch.images.to(self.run.device, non_blocking=True)
        labels = batch.labels.to(self.run.device, non_blocking=True)
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.run.device.type, dtype=self.amp, enabled=self.amp is not None):
            logits: Tensor = self.model(images)
            loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise self.diverged(f"batch {self.progress.batch + 1}", value)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.progress.images += len(labels)
        self.progress.loss_sum += value * len(labels)
        self.progress.hits += int((logits.argmax(dim=1) == labels).sum())

    def finish_epoch(self, val: DataLoader[Batch], interrupt: Interrupt) -> None:
        """Validates, and writes history.csv, then best.pt where this is the best epoch, then last.pt.

        Raises:
            Interrupted: During the validation; a later call repeats it.
            ConfigError: If the loss is not finite.
        """
        now, started = self.progress, time.perf_counter()
        answers = answer(self.model, val, self.run.device, "validating", interrupt.check)
        metrics = answers.summary()
        if not math.isfinite(metrics["val_loss"]):
            raise self.diverged("validation", metrics["val_loss"])
        record = EpochRecord(
            epoch=now.epoch + 1,
            phase=optimise.phase(self.config, now.epoch),
            lr=self.optimizer.param_groups[0]["lr"],
            train_loss=now.loss_sum / max(now.images, 1),
            train_top1=now.hits / max(now.images, 1),
            val_loss=metrics["val_loss"],
            val_top1=metrics["val_top1"],
            seconds=now.seconds + time.perf_counter() - started,
        )
        tqdm.write(f"    val loss {record.val_loss:.3f}  val top-1 {record.val_top1:.3f}")
        self.progress = Progress(epoch=now.epoch + 1, history=[*now.history, record])
        self.run.write_history(self.progress.history)
        # A kill between the two leaves a last.pt that repeats the epoch, and with it best.pt.
        if self.progress.best() is record:
            self.run.save(["best.pt"], metrics, None)
        self.run.save(["last.pt"], metrics, self.state())

    def diverged(self, where: str, value: float) -> ConfigError:
        """Says in one line that training has failed, and what is left of it."""
        left = f"{self.run.folder / 'last.pt'} is intact" if self.progress.history else "nothing was saved yet"
        return ConfigError(
            f"the loss is {value} in epoch {self.progress.epoch + 1}, {where}; lower --lr {self.config.lr:g}"
            f"{' or take --amp off' if self.amp else ''} ({left})"
        )


def fit(run: Run, saved: Checkpoint | None) -> list[EpochRecord]:
    """Trains until all epochs are done, and leaves best.pt, last.pt and history.csv.

    Args:
        run: What to train on what.
        saved: Where to go on from; None to begin.

    Returns:
        What happened, epoch by epoch.

    Raises:
        ConfigError: If the loss is not finite.
        KeyboardInterrupt: On Ctrl-C, after the step was finished and last.pt written.
    """
    loader, order = run.training_batches()
    val = run.evaluation_batches("val")
    trainer = Trainer(run)
    torch.backends.cudnn.benchmark = True
    if saved is not None:
        trainer.restore(saved)
    with Interrupt() as interrupt:
        while trainer.progress.epoch < run.config.epochs:
            try:
                trainer.epoch(loader, order, interrupt)
                trainer.finish_epoch(val, interrupt)
            except Interrupted:
                run.save(["last.pt"], {}, trainer.state())
                raise KeyboardInterrupt from None
    return trainer.progress.history


def amp_dtype(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Returns the type of mixed precision, None for plain float32."""
    if config.amp == "fp16" and device.type == "cpu":
        raise ConfigError("--amp fp16 needs a GPU; take off or bf16")
    if config.amp == "off" or (config.amp == "auto" and device.type == "cpu"):
        return None  # bf16 is slower than float32 on most CPUs
    wide_range = config.amp == "bf16" or (config.amp == "auto" and torch.cuda.is_bf16_supported())
    return torch.bfloat16 if wide_range else torch.float16
