"""The images a network gets most wrong, with what it looked at and the training images it takes them for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from cnn_perception.errors import FrameError
from cnn_perception.image.limits import read_picture
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.outputs import FloatArray
from cnn_perception.pages import data_url
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.preprocess import preprocess
from cnn_perception.tasks.prediction import Prediction
from training.calibration.embeddings import Predictions, normalised
from training.checkpoint import Calibration
from training.data.records import Sample
from training.graphs.activation_map import ActivatedClassifier
from training.loop.run import Run
from training.networks import backbones
from training.tasks.by_name import task_of
from training.tasks.probabilities import Doubles
from training.tasks.task import JudgedAnswer

WORST = 12
NEIGHBOURS = 4
_LONGEST = 480
_LONGEST_OF_NEIGHBOUR = 160
"""Pixels of a picture's longer side."""


@dataclass(frozen=True)
class SimilarImage:
    """A training image that the network finds similar to another image.

    Attributes:
        path: The file.
        url: The picture itself; empty where it can no longer be read.
        label: What it is labelled as.
        is_same: Whether the other image has the same label; always where labels of copies may differ.
        cosine: Of the angle between both embeddings.
    """

    path: Path
    url: str
    label: str
    is_same: bool
    cosine: float


@dataclass(frozen=True)
class WorstImage:
    """An image with a large loss.

    Attributes:
        name: Of the file.
        url: The picture itself, with what spoke for the answer; empty where it can no longer be read.
        answer: What the network said of it.
        loss: See `LearningTask.image_losses`.
        neighbours: The most similar training images, the most similar first.
    """

    name: str
    url: str
    answer: JudgedAnswer
    loss: float
    neighbours: tuple[SimilarImage, ...]


def worst(run: Run, train: Predictions, seen: Predictions, fitted: Calibration) -> list[WorstImage]:
    """Returns the images with the largest losses, the largest first.

    Args:
        run: The run; its network has the weights of best.pt.
        train: Training images, among which neighbours are looked for.
        seen: The images that were evaluated.
        fitted: Temperature, and thresholds where an image has several classes.
    """
    task = task_of(run.data.task)
    scores = task.probabilities(seen.logits, fitted.temperature)
    thresholds = np.array(fitted.thresholds)
    losses = task.image_losses(scores, task.targets(seen.samples))
    order = np.argsort(-losses, kind="stable")[:WORST]
    network = ActivatedClassifier(backbones.split(run.model, *run.config.input_size), run.data.task)
    found = []
    for row, near in zip(order, nearest(seen.embeddings[order], train.embeddings), strict=True):
        sample = seen.samples[row]
        found.append(
            WorstImage(
                name=sample.path.name,
                url=_overlay(run, network, sample, scores[row], thresholds),
                answer=task.verdict(scores[row], sample, run.data, thresholds),
                loss=float(losses[row]),
                neighbours=tuple(_neighbour(run, sample, train.samples[index], cosine) for index, cosine in near),
            )
        )
    return found


def nearest(embeddings: FloatArray, others: FloatArray) -> list[list[tuple[int, float]]]:
    """Returns for each embedding the rows of the most similar `others`, with the cosine of the angle between both."""
    near = normalised(embeddings) @ normalised(others).T
    rows = np.argsort(-near, axis=1, kind="stable")[:, :NEIGHBOURS]
    return [[(int(row), float(near[index, row])) for row in best] for index, best in enumerate(rows)]


@torch.inference_mode()
def _overlay(run: Run, network: ActivatedClassifier, sample: Sample, scores: Doubles, thresholds: Doubles) -> str:
    """The image with its activation map and best classes, the image alone for numbers; as data URL."""
    image = _read(sample)
    if image is None:
        return ""
    task = task_of(run.data.task)
    if not task.has_probabilities:
        return data_url.of_image(_small(image, _LONGEST))
    prediction = _prediction(run, network, image, scores, thresholds)
    truth = run.data.class_names[sample.label] if task.one_class else None
    is_right = None if truth is None else truth == prediction.name
    drawn = draw_overlay(_small(image, _LONGEST), prediction, run.config.input, truth=truth, is_right=is_right)
    return data_url.of_image(drawn)


def _prediction(
    run: Run, network: ActivatedClassifier, image: RgbImage, scores: Doubles, thresholds: Doubles
) -> Prediction:
    """Returns the scores of an image as a prediction, with what the network gives beside them."""
    tensor = torch.from_numpy(preprocess(image, run.config.input)).unsqueeze(0).to(run.device)
    logits, embedding, *maps = (output[0].float().cpu().numpy() for output in network(tensor))
    return Prediction(
        run.data.class_names,
        scores.astype(np.float32),
        int(logits.argmax()),
        maps[0] if maps else None,
        embedding,
        task=run.data.task,
        thresholds=thresholds.astype(np.float32),
    )


def _neighbour(run: Run, sample: Sample, other: Sample, cosine: float) -> SimilarImage:
    task = task_of(run.data.task)
    image = _read(other)
    is_equal = (other.label, other.values) == (sample.label, sample.values)
    return SimilarImage(
        path=other.path,
        url="" if image is None else data_url.of_image(_small(image, _LONGEST_OF_NEIGHBOUR)),
        label=task.label_text(other, run.data),
        is_same=is_equal or not task.copies_agree,
        cosine=cosine,
    )


def _read(sample: Sample) -> RgbImage | None:
    try:
        return decode_file_bytes(read_picture(sample.path))
    except (FrameError, OSError):
        return None


def _small(image: RgbImage, longest: int) -> RgbImage:
    scale = min(1.0, longest / max(image.shape[:2]))
    height, width = (max(1, round(pixels * scale)) for pixels in image.shape[:2])
    return RgbImage(np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8))
