"""The images a network gets most wrong, with what it looked at and the training images it takes them for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task
from cnn_perception.pages import data_url
from cnn_perception.pages.rendering import percent
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

WORST = 12
NEIGHBOURS = 4
_WIDTH, _SMALL_WIDTH = 480, 160
"""Pixels of a picture's longer side."""
_LEAST = 1e-30
"""What a score of 0 counts as in a logarithm."""


@dataclass(frozen=True)
class Answer:
    """What a network said of an image.

    Attributes:
        kind: `right`, `wrong`, or empty where that cannot be said.
        text: The answer.
        remark: What is true.
    """

    kind: str
    text: str
    remark: str


@dataclass(frozen=True)
class Neighbour:
    """A training image that the network finds similar to another image.

    Attributes:
        path: The file.
        url: The picture itself; empty where it can no longer be read.
        label: What it is labelled as.
        is_same: Whether the other image has the same label; always for numbers.
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
        loss: See `image_losses`.
        neighbours: The most similar training images, the most similar first.
    """

    name: str
    url: str
    answer: Answer
    loss: float
    neighbours: tuple[Neighbour, ...]


def worst(run: Run, train: Predictions, seen: Predictions, fitted: Calibration) -> list[WorstImage]:
    """Returns the images with the largest losses, the largest first.

    Args:
        run: The run; its network has the weights of best.pt.
        train: Training images, among which neighbours are looked for.
        seen: The images that were evaluated.
        fitted: Temperature, and thresholds where an image has several classes.
    """
    thresholds = np.array(fitted.thresholds)
    task = task_of(run.data.task)
    scores = task.probabilities(seen.logits, fitted.temperature)
    losses = image_losses(scores, task.targets(seen.samples), run.data.task)
    order = np.argsort(-losses, kind="stable")[:WORST]
    network = ActivatedClassifier(backbones.split(run.model, *run.config.input_size), run.data.task)
    found = []
    for row, near in zip(order, nearest(seen.embeddings[order], train.embeddings), strict=True):
        sample = seen.samples[row]
        found.append(
            WorstImage(
                name=sample.path.name,
                url=_overlay(run, network, sample, scores[row], thresholds),
                answer=_answer(run, sample, scores[row], thresholds),
                loss=float(losses[row]),
                neighbours=tuple(_neighbour(run, sample, train.samples[index], cosine) for index, cosine in near),
            )
        )
    return found


def image_losses(scores: Doubles, truth: npt.NDArray[Any], task: Task) -> Doubles:
    """Returns the loss of each image, (n,).

    Args:
        scores: (n, K) in [0, 1], or standardised numbers.
        truth: (n,) classes; (n, K) of 0 and 1; or (n, K) standardised numbers.
        task: Cross-entropy, its sum over the classes, or the mean absolute error.
    """
    if task == "regression":
        return np.asarray(np.abs(scores - truth).mean(axis=1))
    if task == "multiclass":
        return np.asarray(-np.log(np.maximum(scores[np.arange(len(truth)), truth], _LEAST)))
    right = np.where(truth > 0.5, scores, 1 - scores)
    return np.asarray(-np.log(np.maximum(right, _LEAST)).sum(axis=1))


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
    if run.data.task == "regression":
        return data_url.of_image(_small(image, _WIDTH))
    tensor = torch.from_numpy(preprocess(image, run.config.input)).unsqueeze(0).to(run.device)
    logits, embedding, *maps = (output[0].float().cpu().numpy() for output in network(tensor))
    prediction = Prediction(
        run.data.class_names,
        scores.astype(np.float32),
        int(logits.argmax()),
        maps[0] if maps else None,
        embedding,
        task=run.data.task,
        thresholds=thresholds.astype(np.float32),
    )
    truth = run.data.class_names[sample.label] if run.data.task == "multiclass" else None
    is_right = truth == prediction.name if truth else None
    drawn = draw_overlay(_small(image, _WIDTH), prediction, run.config.input, truth=truth, is_right=is_right)
    return data_url.of_image(drawn)


def _neighbour(run: Run, sample: Sample, other: Sample, cosine: float) -> Neighbour:
    image = _read(other)
    return Neighbour(
        path=other.path,
        url="" if image is None else data_url.of_image(_small(image, _SMALL_WIDTH)),
        label=_label(run, other),
        is_same=(other.label, other.values) == (sample.label, sample.values) or run.data.task == "regression",
        cosine=cosine,
    )


def _read(sample: Sample) -> RgbImage | None:
    try:
        return decode_file_bytes(sample.path.read_bytes())
    except (FrameError, OSError):
        return None


def _small(image: RgbImage, longest: int) -> RgbImage:
    scale = min(1.0, longest / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return RgbImage(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def _answer(run: Run, sample: Sample, scores: Doubles, thresholds: Doubles) -> Answer:
    names = run.data.class_names
    label = _label(run, sample)
    if run.data.task == "multiclass":
        top = int(scores.argmax())
        text = f"{names[top]} {percent(float(scores[top]))}"
        return Answer("right", text, "right") if top == sample.label else Answer("wrong", text, f"is {label}")
    if run.data.task == "multilabel":
        wrong = np.flatnonzero((scores >= thresholds) != (np.array(sample.values) > 0.5))
        text = ", ".join(f"{names[k]} {percent(float(scores[k]))}" for k in wrong) or "unsure"
        return Answer("wrong", text, f"is {label or 'nothing'}")
    return Answer("", _numbers(run, scores.tolist()), f"is {label}")


def _label(run: Run, sample: Sample) -> str:
    if run.data.task == "multiclass":
        return run.data.class_names[sample.label]
    if run.data.task == "multilabel":
        return ", ".join(name for name, value in zip(run.data.class_names, sample.values, strict=True) if value)
    return _numbers(run, sample.values)


def _numbers(run: Run, standardised: Sequence[float]) -> str:
    data = run.data
    rows = zip(data.class_names, standardised, data.scaling, data.units, strict=True)
    return ", ".join(f"{name} {value * std + mean:.3g} {unit}".rstrip() for name, value, (mean, std), unit in rows)
