"""Whether a mirror image still shows its class, measured before images are mirrored in training.

Names tell it of classes such as `turn_left` (see `tasks.sides`); of others a probe does: a linear layer on features of
the network as it starts, fitted to training images as they are. If it gets clearly fewer of the mirrored validation
images right than of the same ones unmirrored, what is mirrored is not what its label says, and training with it would
do harm.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.errors import ConfigError
from training import distributed
from training.batches.augment import Augmentation
from training.config import expand_augment
from training.data.records import Sample
from training.loop import linear_solver, probe
from training.loop.linear_solver import Scale
from training.loop.run import Run, write_config
from training.tasks import sides
from training.tasks.by_name import task_of

MOST_TRAINING = 600
MOST_VALIDATION = 300
"""Images that are looked at, taken at random; of many classes more training images, see `IMAGES_OF_CLASS`."""
IMAGES_OF_CLASS = 5
ITERATIONS = 50
SIGNIFICANCE = 0.01
"""Probability below which the difference is no chance."""
MIN_LOSS = 0.1
"""Share of the images that must be worse off mirrored: features differ a little in a mirror whatever they show."""


@dataclass(frozen=True)
class MirrorTest:
    """What a probe made of the same validation images as they are and mirrored.

    Attributes:
        images: How many.
        right: How many it got right as they are.
        right_mirrored: How many of them mirrored.
        worse: Images of which less was right mirrored.
        better: Images of which more was.
    """

    images: int
    right: int
    right_mirrored: int
    worse: int
    better: int

    @property
    def probability(self) -> float:
        """Of as many worse images or more, were a mirror to do nothing: the one-sided sign test (McNemar's, exact)."""
        count = self.worse + self.better
        return float(sum(math.comb(count, k) for k in range(self.worse, count + 1)) / 2**count)

    @property
    def harms(self) -> bool:
        """Whether mirrored images are clearly worse off."""
        return self.worse - self.better >= MIN_LOSS * self.images and self.probability < SIGNIFICANCE

    def __str__(self) -> str:
        of = f"of {self.images} validation images"
        return f"a probe gets {self.right} {of} right and {self.right_mirrored} of them mirrored"


def settled(run: Run) -> Run:
    """Returns a run that mirrors no image where that would do harm, and says so; what the user asked for stays.

    A run that goes on stays as it was.
    """
    config = run.config
    augmentation = Augmentation.of(config, run.data.task, run.data.class_names)
    if augmentation is None or "flip" not in augmentation.switches or (run.folder / "last.pt").exists():
        return run
    if not task_of(run.data.task).has_probabilities or sides.sided(run.data.class_names, of_numbers=False):
        return run  # `mirroring_note` has said it
    found = distributed.from_first(measure(run) if distributed.rank() == 0 else None, run.device)
    if found is None or not found.harms:
        return run
    if config.augment is not None:
        print(f"warning: --augment flip mirrors images, but {found}; leave flip out")
        return run
    usual = expand_augment([task_of(run.data.task).default_augment])
    print(f"left and right differ ({found}): images are not mirrored; --augment {','.join(usual)} would do so")
    changed = dataclasses.replace(config, augment=tuple(name for name in usual if name != "flip"))
    write_config(changed)
    return dataclasses.replace(run, config=changed)


def measure(run: Run) -> MirrorTest | None:
    """Fits a probe and compares; None where the network has no last layer for one, or the images are gone."""
    try:
        cut = probe.cut_of(run)
    except ConfigError:
        return None
    classes = len(run.data.class_names)
    print("whether mirror images show the same is measured", flush=True)
    train = _some(run.data.part("train"), max(MOST_TRAINING, IMAGES_OF_CLASS * classes))
    val = _some(run.data.part("val"), MOST_VALIDATION)
    learned, train = probe.readable(run, train, *probe.features_of(run, cut, train))
    plain, seen = probe.features_of(run, cut, val)
    turned, seen_turned = probe.features_of(run, cut, val, mirrored=True)
    seen &= seen_turned
    if not train or not seen.any():
        return None
    scale = Scale.of(learned)
    decay = linear_solver.middle_decay(run.data.task)
    layer = linear_solver.fit(scale(learned), run.data.task, classes, decay, ITERATIONS)
    right, right_mirrored = (
        _right(layer(scale(probe.readable(run, val, rows, seen)[0]).embeddings).cpu().numpy(), val, seen, run)
        for rows in (plain, turned)
    )
    whole = _whole(run)
    return MirrorTest(
        images=len(right),
        right=int((right == whole).sum()),
        right_mirrored=int((right_mirrored == whole).sum()),
        worse=int((right_mirrored < right).sum()),
        better=int((right_mirrored > right).sum()),
    )


def _some(samples: tuple[Sample, ...], most: int) -> tuple[Sample, ...]:
    return samples if len(samples) <= most else tuple(random.Random(0).sample(samples, most))


def _right(
    outputs: npt.NDArray[np.float32], samples: tuple[Sample, ...], seen: npt.NDArray[np.bool_], run: Run
) -> npt.NDArray[np.int64]:
    """How much of each image that was seen is right, (n,): its class, or how many of its labels."""
    there = [sample for sample, here in zip(samples, seen, strict=True) if here]
    targets = task_of(run.data.task).targets(there)
    if task_of(run.data.task).one_class:
        return np.asarray(outputs.argmax(axis=1) == targets, np.int64)
    return np.asarray(((outputs > 0) == (targets > 0.5)).sum(axis=1), np.int64)


def _whole(run: Run) -> int:
    """How much is right of an image that is right altogether."""
    return 1 if task_of(run.data.task).one_class else len(run.data.class_names)
