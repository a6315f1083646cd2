"""What the model file of a checkpoint answers to labelled images, in a smaller precision: by the file, not in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from training import checkpoint
from training.data.records import Sample
from training.export.exporting import export
from training.graphs.parity import BATCH, prepared_image
from training.graphs.quantise import Reduction
from training.tasks.scaling import standardised

ANY_DIFFERENCE = 1e9
ANY_LOSS = 1.0
"""Tolerances of a file that need not answer as the network does: that has learned nothing, or the file is settled."""
_FILE = "reduced.onnx"


def answers(best: Path, samples: Sequence[Sample], reduction: Reduction, *, is_settled: bool) -> FloatArray:
    """Returns what the model file of a checkpoint answers to images, (n, K); numbers standardised as it learned them.

    Args:
        best: The checkpoint, whose validation images are the images.
        samples: The images, which can be read.
        reduction: How the file is made smaller.
        is_settled: Whether the file is taken however much it differs from the network.

    Raises:
        AccuracyError: If it loses more than the reduction allows.
        ParityError: If it differs by more than is allowed, and that is not settled.
        PerceptionError: If there can be no such file.
    """
    saved = checkpoint.load(best)
    path = best.with_name(_FILE)
    export(saved, path, reduction=reduction, tolerance=ANY_DIFFERENCE if is_settled else None)
    model = OnnxModel(path)
    path.unlink()
    found: list[FloatArray] = []
    for start in range(0, len(samples), BATCH):
        images = [prepared_image(one.path, saved.input, "validation") for one in samples[start : start + BATCH]]
        found += [output.logits for output in model.run(np.stack(images))]
    return np.asarray(standardised(np.stack(found), saved.scaling), np.float32)
