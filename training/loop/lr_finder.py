"""Which learning rate to take: a short sweep over all of them.

Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3, with the exponential rise, the
smoothing and the steepest descent of Howard and Gugger 2020, fastai.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.errors import ConfigError, DataError
from training import distributed
from training.batches.loader import Batch
from training.loop.interrupt import Interrupt
from training.loop.run import Run
from training.loop.step import BatchPosition, Learner

LOWEST, HIGHEST, STEPS = 1e-7, 10.0, 100
SMOOTHING = 0.9
"""Share of the former average in the smoothed loss: the last ten steps or so count."""
DIVERGED = 4.0
"""How many times the least smoothed loss ends the sweep. Source: fastai."""
SETTLED = 10
"""First steps that no suggestion is taken from: their average rests on too few batches."""


@dataclass(frozen=True)
class Sweep:
    """Rates of the head and the smoothed training loss at each."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    def suggestion(self) -> float:
        """Returns the rate at which the loss falls fastest along the logarithm of the rate, before its minimum.

        Raises:
            DataError: If it falls nowhere.
        """
        lowest = min(range(len(self.losses)), key=lambda step: self.losses[step])
        slopes = {step: self.losses[step + 1] - self.losses[step - 1] for step in range(SETTLED, lowest)}
        if not slopes or min(slopes.values()) >= 0:
            raise DataError("--find-lr: the loss falls at no rate; look at lr_finder.csv, and at the labels")
        return self.rates[min(slopes, key=lambda step: slopes[step])]


def find(run: Run) -> Sweep:
    """Sweeps over the rates, and leaves the weights as they were.

    All layers learn, each at its share of the rate: that is how most epochs are trained.

    Raises:
        ConfigError: If several processes are to do it.
        KeyboardInterrupt: On Ctrl-C.
    """
    if distributed.count() > 1:
        raise ConfigError("--find-lr is the work of one process; leave out torchrun")
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    found = sweep(run)
    run.model.load_state_dict(before)
    return found


def sweep(run: Run) -> Sweep:
    """Learns from one batch after the other, each at a higher rate, until the loss grows."""
    learner = Learner(run)
    rates: list[float] = []
    losses: list[float] = []
    learner.begin("all")
    average = 0.0
    with Interrupt() as interrupt:
        for step, batch in enumerate(
            ProgressBar(itertools.islice(_endless(run, interrupt), STEPS), "rates", STEPS, leave=False)
        ):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            learner.set_rates(rate / run.config.lr)
            images = batch.images.to(run.device)
            targets = batch.labels.to(run.device)
            alone = BatchPosition(first=True, last=True, images=len(images), weight=learner.weight(targets))
            taught = learner.teach(batch.rows, images, [view.to(run.device) for view in batch.views])
            result = learner.learn(images, targets, alone, taught)
            if interrupt.requested:
                raise KeyboardInterrupt
            if result is None:
                continue
            average = SMOOTHING * average + (1 - SMOOTHING) * result.loss
            smoothed = average / (1 - SMOOTHING ** (len(losses) + 1))
            if not math.isfinite(smoothed) or (len(losses) > SETTLED and smoothed > DIVERGED * min(losses)):
                break
            rates.append(rate)
            losses.append(smoothed)
    return Sweep(tuple(rates), tuple(losses))


def _endless(run: Run, interrupt: Interrupt) -> Iterator[Batch]:
    loader, order = run.training_batches()
    loader.when_late = interrupt.end
    for order.epoch in itertools.count():
        yield from loader
