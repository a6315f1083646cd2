"""What one step does to a network: forward, loss, backward, and the optimiser."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cnn_perception.commands.progress import ProgressBar
from training import distributed
from training.batches.loader import class_weights
from training.distillation import answers
from training.loop import schedule
from training.loop.ema import WeightAverage
from training.loop.run import Run
from training.loop.schedule import Phase
from training.networks import backbones
from training.tasks.by_name import task_of
from training.tasks.multiclass import image_weights

Outcome = Literal["taken", "scaled down", "bad"]
"""What became of a step: it was taken, left out because float16 could not hold its gradient, or left out otherwise."""


class BatchPosition(NamedTuple):
    """Where a batch stands in its step: the first, the last of those accumulated.

    `images` are in all of them, over all processes, and together weigh `weight`: as many unless classes are weighed.
    """

    first: bool
    last: bool
    images: int
    weight: float


class BatchResult(NamedTuple):
    """What a batch gave, over all processes: images, their part of the step's loss, hits; NaN or Inf if it is bad.

    Hits are of the `labelled` ones among the images. `loss_sum` is so scaled that, summed over a step and divided by
    its images, it is the loss that the step lowers.
    """

    images: int
    loss_sum: float
    hits: float
    labelled: int

    @property
    def loss(self) -> float:
        """The mean over the images; NaN or Inf where nothing was learned from them."""
        return self.loss_sum / self.images


class Learner:
    """A network, its optimiser, the average of its weights and its teachers."""

    def __init__(self, run: Run) -> None:
        self.model = run.model
        self.config = run.config
        self.device = run.device
        self.task = task_of(run.data.task)
        self.stages = backbones.stages(run.model, *run.config.input_size)
        self.optimizer = schedule.optimizer(run.model, self.stages, run.config)
        self.amp = run.amp
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=self.amp is torch.float16)
        self.average = WeightAverage(run.model, run.config.ema) if run.config.ema else None
        self.teachers = run.teachers
        self.scaling = run.data.scaling
        self.answers: Tensor | None = None  # of images that no epoch changes
        if run.teachers is not None and answers.are_fixed(run.config, run.data, run.teachers):
            lessons = run.data.lessons
            self.answers = answers.of_images(lessons, run.teachers, self.scaling, run.config, run.device)
        self.class_weights: Tensor | None = None
        if run.config.balance == "weights":
            weights = class_weights(run.data.part("train"), len(run.data.class_names))
            self.class_weights = weights.to(run.device)
        self._phase: Phase | None = None
        self._network: Callable[[Tensor], Tensor | tuple[Tensor, ...]] = run.model
        self._parallel: DistributedDataParallel | None = None
        self._buffers: list[Tensor] = []
        self._left_out = False

    def begin(self, phase: Phase) -> None:
        """Lets the parameters of a phase learn; to be called whenever the network was in evaluation mode."""
        schedule.set_trainable(self.model, self.stages, phase, freeze_norm=self.config.freeze_norm)
        if phase == self._phase:
            return
        self._phase = phase
        if distributed.count() > 1:  # made anew, because it asks only once what learns
            devices = [self.device] if self.device.type == "cuda" else None
            self._parallel = DistributedDataParallel(self.model, devices)
        network = self._parallel or self.model
        self._network = _compiled(network) if self.config.compile else network

    def set_rates(self, factor: float, momentum: float | None = None) -> None:
        """Sets every group's learning rate to a share of its base, and the momentum where one is given."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
            if momentum is not None and "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif momentum is not None:
                group["momentum"] = momentum

    def teach(self, rows: Tensor, images: Tensor, views: Sequence[Tensor]) -> Tensor | None:
        """Returns what the teachers say of a batch, (M, N, K); None without teachers.

        Args:
            rows: (N,) which of the lessons it is.
            images: (N, 3, height, width) as the network sees them.
            views: The same as the teachers see them, one for each of `Teachers.inputs`.
        """
        if self.answers is not None:
            return self.answers[:, rows].to(self.device)
        if self.teachers is None:
            return None
        with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
            return self.teachers(images, views, self.scaling)

    def learn(
        self, images: Tensor, targets: Tensor, position: BatchPosition, taught: Tensor | None = None
    ) -> BatchResult | None:
        """Takes the gradients of a batch, and with the last one of a step, the step.

        A step without a finite loss or gradient is left out and changes nothing: neither weights nor the running
        statistics of batch normalisation. One that float16 could not hold is left out likewise, and counts as nothing:
        the next ones are scaled less.

        Args:
            images: (N, 3, height, width) float32, this process's share of the batch.
            targets: As for `LearningTask.loss`; what has no label is no class, or NaN, or has no share of any class.
            position: Where the batch stands in its step.
            taught: What `teach` returned of them.

        Returns:
            What it gave; None for the rest of a step that is left out, where images were lost but for one, and where
            float16 did not suffice.
        """
        if position.first:
            self.optimizer.zero_grad(set_to_none=True)
            self._buffers = [buffer.clone() for buffer in self.model.buffers()]
            self._left_out = False
        # batch normalisation cannot learn from a single image
        self._left_out = self._left_out or distributed.total([float(len(images) < 2)], self.device)[0] > 0
        if self._left_out:
            self.optimizer.zero_grad(set_to_none=True)
            return None
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        result = self._backward(images, targets, position, taught)
        if not math.isfinite(result.loss_sum):
            self._undo()
            return result
        outcome: Outcome = self._update() if position.last else "taken"
        if outcome == "taken":
            return result
        self._undo()
        return None if outcome == "scaled down" else result._replace(loss_sum=math.inf)

    def _backward(self, images: Tensor, targets: Tensor, position: BatchPosition, taught: Tensor | None) -> BatchResult:
        """What a batch gave; its gradients are added to those of its step, unless its loss is not finite."""
        # the processes exchange their gradients once a step
        with contextlib.nullcontext() if self._parallel is None or position.last else self._parallel.no_sync():
            with torch.autocast(self.device.type, dtype=self.amp, enabled=self.amp is not None):
                found = self._network(images)
                outputs, *others = found if isinstance(found, tuple) else (found,)
                loss = self.loss(outputs, targets, position, taught)
                for auxiliary in others:
                    loss = loss + self.config.auxiliary_weight * self.label_loss(auxiliary, targets, position)
            is_known = self.has_label(targets)
            hits = self.task.hits(outputs[is_known], targets[is_known])
            own = [len(images), loss.item() * position.images, hits, float(is_known.sum())]
            count, loss_sum, hits, labelled = distributed.total(own, self.device)
            if math.isfinite(loss_sum):
                summed = loss * distributed.count()  # the processes' gradients are averaged
                self.scaler.scale(summed).backward()  # type: ignore[no-untyped-call]
        return BatchResult(int(count), loss_sum, hits, int(labelled))

    def drop_step(self) -> None:
        """Leaves out a step of which not all batches came, as if it had not begun."""
        self._undo()

    def _undo(self) -> None:
        """Leaves out the rest of a step, and takes back what its batches did to the running statistics."""
        self._left_out = True
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(self.model.buffers(), self._buffers, strict=True):
                buffer.copy_(before)

    def has_label(self, targets: Tensor) -> Tensor:
        """Returns which images have a label, or a share of one, (N,)."""
        if not targets.is_floating_point():
            return targets >= 0
        return targets.sum(dim=1) > 0 if self.task.one_class else ~targets.isnan().any(dim=1)

    def weight(self, targets: Tensor) -> float:
        """Returns what images weigh together in the loss: the number of labelled ones, unless classes are weighed."""
        known = targets[self.has_label(targets)]
        if self.class_weights is None:
            return len(known)
        return float(image_weights(known, self.class_weights).sum())

    def label_loss(self, outputs: Tensor, targets: Tensor, position: BatchPosition) -> Tensor:
        """Returns the labels' part of what a batch adds, see `loss`."""
        is_known = self.has_label(targets)
        if not is_known.any():
            return outputs.float().sum() * 0
        outputs, targets = outputs[is_known], targets[is_known]
        loss = self.task.squared_error if self.config.loss == "squared" else self.task.loss
        found = loss(outputs.float(), targets, self.config.label_smoothing, self.class_weights)
        return found * (self.weight(targets) / position.weight)

    def loss(self, outputs: Tensor, targets: Tensor, position: BatchPosition, taught: Tensor | None = None) -> Tensor:
        """Returns what a batch adds to what its step minimises: the labels' part and the teacher's.

        The step's loss is a mean over all its images, weighted by their classes where that was asked for; so a batch
        counts by its share of the step's weight, and the same images give the same step however they are divided.
        """
        loss = self.label_loss(outputs, targets, position)
        if taught is None:
            return loss
        divergence = self.task.imitation(outputs.float(), taught.float(), self.config.distil_temperature)
        divergence = divergence * (len(outputs) / position.images)
        return torch.lerp(loss.float(), divergence, self.config.distil_weight)

    def _update(self) -> Outcome:
        """Takes the step where its gradient is finite, and says what became of it."""
        self.scaler.unscale_(self.optimizer)
        parameters = itertools.chain.from_iterable(group["params"] for group in self.optimizer.param_groups)
        learning = [parameter for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in learning if p.grad is not None])
        if not bool(norm.isfinite()):
            # float16 overflows now and then, and its scaler steps down; below 1 it is not the scale that is at fault
            is_scale = self.scaler.is_enabled() and self.scaler.get_scale() > 1
            self.scaler.update()
            return "scaled down" if is_scale else "bad"
        if self.config.clip_norm:
            nn.utils.clip_grads_with_norm_(learning, self.config.clip_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return "taken"

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs beside the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Goes back to where `state` was called; the rates stay those of the settings, which may have changed."""
        rates = [group["base_lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(saved["optimizer"])
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["base_lr"] = rate
        if saved["scaler"]:  # empty where --amp had no need of one
            self.scaler.load_state_dict(saved["scaler"])
        if self.average is not None:
            self.average.restore(saved["average"])


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor | tuple[Tensor, ...]]:
    """A network by torch.compile, or as it is, with a word, where that fails: it compiles at the first batch."""
    from torch._dynamo.exc import TorchDynamoException  # slow to import

    compiled: Callable[[Tensor], Tensor | tuple[Tensor, ...]] = torch.compile(network)
    failed = False

    def forward(images: Tensor) -> Tensor | tuple[Tensor, ...]:
        nonlocal failed
        if not failed:
            try:
                return compiled(images)
            except TorchDynamoException as error:
                failed = True
                first = str(error).strip().partition("\n")[0]
                ProgressBar.write(f"--compile: torch.compile fails here ({first}); going on without")
        outputs: Tensor | tuple[Tensor, ...] = network(images)
        return outputs

    return forward
