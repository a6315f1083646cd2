"""What a checkpoint's images look like to the model, for the robot to compare its camera with (`drift`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.metrics import entropy
from cnn_perception.model.outputs import Outputs
from cnn_perception.model.spec import ModelSpec, TrainingStatistics
from cnn_perception.pipeline.postprocess import Postprocessor
from cnn_perception.pipeline.preprocess import InputTensor
from cnn_perception.stream.drift import brightness, moments
from training.checkpoint import Checkpoint
from training.graphs.parity import evenly, prepared_image, runner
from training.tasks.by_name import task_of

MOST_IMAGES = 300
"""Validation images that are looked at, from all over the set: they give a standard deviation to some 4 %."""


def measure(proto: ModelProto, checkpoint: Checkpoint, spec: ModelSpec) -> TrainingStatistics | None:
    """Returns what the validation images look like, through the robot's own preprocessing, graph and postprocessing.

    Args:
        proto: The graph that is exported.
        checkpoint: Names the images and what the training images show.
        spec: What is exported with the graph; its `statistics` and `gallery` are not used.

    Returns:
        The statistics; None where the checkpoint keeps no training labels, or where none of its validation images is
        on this machine.

    Raises:
        DataError: If a validation image cannot be read any more.
    """
    paths = [Path(path) for path in checkpoint.val_images if Path(path).is_file()]
    if not paths or not checkpoint.train_targets:
        return None
    chosen = evenly(len(paths), MOST_IMAGES)
    run = runner(proto, ["logits", "embedding"])
    postprocess = Postprocessor(spec)
    lights = []
    entropies = []
    for index in ProgressBar(chosen, "statistics", unit="img", leave=False):
        tensor = InputTensor(prepared_image(paths[index], spec.input, "validation"))
        logits, embeddings = run(tensor[np.newaxis])
        lights.append(brightness(tensor, spec.input))
        entropies.append(entropy(postprocess(Outputs(logits[0], None, embeddings[0])).scores))
    return TrainingStatistics(
        images=len(chosen),
        class_shares=_class_shares(checkpoint),
        brightness=moments(lights),
        entropy=moments(entropies) if task_of(spec.task).one_class else None,
    )


def summary(found: TrainingStatistics | None) -> str:
    """Returns the statistics in one line, or why there are none."""
    if found is None:
        return "none: the checkpoint has no labelled training images, or no validation image on this machine"
    moments_of = {"brightness": found.brightness, "entropy in nats": found.entropy}
    texts = (f"{name} {of.mean:.2f} +/- {of.std:.2f}" for name, of in moments_of.items() if of is not None)
    return f"{', '.join(texts)}, over {found.images} validation images"


def _class_shares(checkpoint: Checkpoint) -> tuple[float, ...]:
    return task_of(checkpoint.task).class_shares(np.array(checkpoint.train_targets), len(checkpoint.class_names))
