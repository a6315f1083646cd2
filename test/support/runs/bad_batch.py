"""Training in which two steps go wrong, in the last process alone: `torchrun ... bad_batch.py ARGUMENTS`."""

from __future__ import annotations

import math
import sys

from training import distributed
from training.loop import trainer
from training.train import main

STEP = trainer.Trainer.step


def step(self, batch, order):
    first_or_last_of_its_step = (self.progress.epoch, self.progress.batch) in ((0, 1), (1, 2))
    if first_or_last_of_its_step and distributed.rank() == distributed.count() - 1:
        batch.images[0] = math.nan
    STEP(self, batch, order)


if __name__ == "__main__":
    trainer.Trainer.step = step
    sys.exit(main())
