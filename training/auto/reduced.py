"""What a network answers in the precision that would be deployed: by its model file, and not in torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray
from training import checkpoint
from training.auto.asked import Precision
from training.data.records import Sample
from training.export import export
from training.graphs.parity import prepared_image
from training.graphs.quantise import Reduction
from training.tasks.scaling import standardised

ANY_DIFFERENCE = 1e9
ANY_LOSS = 1.0
"""Of a network that need not answer alike in a smaller precision: it has learned nothing, or that is settled."""
_FILE = "reduced.onnx"
_BATCH = 8


def answers(best: Path, samples: Sequence[Sample], precision: Precision, *, is_settled: bool) -> FloatArray:
    """Returns what the model file of a checkpoint answers to images, (n, K); numbers standardised as it learned them.

    Args:
        best: The checkpoint, whose validation images are the images.
        samples: The images, which can be read.
        precision: Not fp32.
        is_settled: Whether the file is taken whatever it loses.

    Raises:
        AccuracyError: If it loses more than is allowed, and that is not settled.
        ParityError: If it differs by more than is allowed, likewise.
        PerceptionError: If there can be no such file.
    """
    saved = checkpoint.load(best)
    path = best.with_name(_FILE)
    reduction = Reduction(precision, max_loss=ANY_LOSS) if is_settled else Reduction(precision)
    export(saved, path, reduction=reduction, tolerance=ANY_DIFFERENCE if is_settled else None)
    model = OnnxModel(path)
    path.unlink()
    found = [
        output.logits
        for start in range(0, len(samples), _BATCH)
        for output in model.run(
            np.stack([prepared_image(one.path, saved.input, "validation") for one in samples[start : start + _BATCH]])
        )
    ]
    return np.asarray(standardised(np.stack(found), saved.scaling), np.float32)
