"""Methods of before deep learning beside the candidates, judged by the same folds: what a network has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.auto.trial import in_common
from training.baselines import fitting, methods, rows
from training.baselines.rows import Cost, Row
from training.config import TrainConfig
from training.data.records import LabelledImages
from training.tasks.by_name import task_of


def measured(whole: LabelledImages, folds: Sequence[LabelledImages], chosen: TrainConfig) -> list[Row]:
    """Returns what the cheap baselines answer to the images of each fold after learning from the others."""
    cheap = methods.cheap(task_of(whole.task))
    found = [rows.measured(cheap, fold.part("val"), fold, chosen, fitting.MOST_IMAGES) for fold in folds]
    return [_together(of_one, folds, whole) for of_one in zip(*found, strict=True)]


def _together(found: Sequence[Row], folds: Sequence[LabelledImages], whole: LabelledImages) -> Row:
    by_path = {sample.path: sample for sample in whole.part("train")}
    samples = tuple(by_path[sample.path] for row in found for sample in row.samples)
    outputs = [in_common(row.outputs, fold, whole) for row, fold in zip(found, folds, strict=True)]
    cost = Cost(sum(row.cost.fit_s or 0.0 for row in found), found[0].cost.ms_per_image, found[0].cost.size_bytes)
    return Row(found[0].name, False, "", None, cost, samples, np.concatenate(outputs), whole)
