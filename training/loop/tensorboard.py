"""history.csv for TensorBoard too, for those who watch several runs there."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator

from cnn_perception.errors import ConfigError
from training import distributed
from training.config import TrainConfig
from training.loop.run import EpochRecord, Run


def check(config: TrainConfig) -> None:
    """Checks that a run that asks for TensorBoard can have it.

    Raises:
        ConfigError: If its package is missing.
    """
    if config.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("--tensorboard: its package is missing; pip install tensorboard, or leave it out")


@contextlib.contextmanager
def scalars(run: Run) -> Iterator[Callable[[EpochRecord], None]]:
    """Opens the run folder for `tensorboard --logdir`; yields what writes an epoch's numbers, if they are asked for."""
    if not run.config.tensorboard or distributed.rank() > 0:
        yield lambda _: None
        return
    from torch.utils.tensorboard import SummaryWriter  # needs the package, which not everybody has

    with SummaryWriter(run.folder / "tensorboard") as writer:

        def write(record: EpochRecord) -> None:
            for name, value in dataclasses.asdict(record).items():
                if isinstance(value, float):
                    writer.add_scalar(name, value, record.epoch)

        yield write
