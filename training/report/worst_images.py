"""The images a network gets most wrong, with what it looked at and the training images it takes them for."""

from __future__ import annotations

from html import escape
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from cnn_perception.errors import FrameError
from cnn_perception.image.messages import RgbImage, decode_file_bytes
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import Task
from cnn_perception.pages import page
from cnn_perception.pipeline.overlay import draw_overlay
from cnn_perception.pipeline.postprocess import Prediction
from cnn_perception.pipeline.preprocess import preprocess
from training.calibration.embeddings import Predictions, normalised
from training.checkpoint import Calibration
from training.data.records import Part, Sample
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


def section(run: Run, train: Predictions, seen: Predictions, part: Part, fitted: Calibration) -> str:
    """Returns a section of the report, as HTML.

    Args:
        run: The run; its network has the weights of best.pt.
        train: Training images, among which neighbours are looked for.
        seen: The images that were evaluated.
        part: What they are.
        fitted: Temperature, and thresholds where an image has several classes.
    """
    thresholds = np.array(fitted.thresholds)
    task = task_of(run.data.task)
    scores = task.probabilities(seen.logits, fitted.temperature)
    losses = image_losses(scores, task.targets(seen.samples), run.data.task)
    order = np.argsort(-losses, kind="stable")[:WORST]
    network = ActivatedClassifier(backbones.split(run.model, *run.config.input_size), run.data.task)
    figures = []
    for row, neighbours in zip(order, nearest(seen.embeddings[order], train.embeddings), strict=True):
        sample = seen.samples[row]
        text = f"{_answer(run, sample, scores[row], thresholds)}<br>"
        text += f'<span class="soft">{escape(sample.path.name)}, loss {losses[row]:.3g}</span>'
        around = "".join(_neighbour(run, sample, train.samples[index], cosine) for index, cosine in neighbours)
        grid = f'<div style="display:grid;grid-template-columns:repeat({NEIGHBOURS},1fr);gap:6px">{around}</div>'
        picture = _overlay(run, network, sample, scores[row], thresholds)
        figures.append(f"<figure>{picture}<figcaption>{text}</figcaption>{grid}</figure>")
    note = (
        "largest loss first; colours show what spoke for the answer; below each the training images that the network "
        "finds most alike, with their cosine, red where they are labelled otherwise: look there for wrong labels"
    )
    content = f'<p class="soft small">{note}</p><div class="frames">{"".join(figures)}</div>'
    return page.section(f"Worst {part} images", content)


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
    """The image with its activation map and best classes; the image alone for numbers."""
    image = _read(sample)
    if image is None:
        return _GONE
    if run.data.task == "regression":
        return page.picture(_small(image, _WIDTH), sample.path.name)
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
    return page.picture(drawn, sample.path.name)


def _neighbour(run: Run, sample: Sample, other: Sample, cosine: float) -> str:
    image = _read(other)
    same = (other.label, other.values) == (sample.label, sample.values) or run.data.task == "regression"
    label = f'<b class="{"right" if same else "wrong"}">{escape(_label(run, other))}</b>'
    picture = _GONE if image is None else page.picture(_small(image, _SMALL_WIDTH), other.path.name)
    caption = f'<figcaption style="padding-top:2px">{label} {cosine:.2f}</figcaption>'
    return f'<figure title="{escape(str(other.path))}">{picture}{caption}</figure>'


_GONE = '<p class="soft small">no longer readable</p>'


def _read(sample: Sample) -> RgbImage | None:
    try:
        return decode_file_bytes(sample.path.read_bytes())
    except (FrameError, OSError):
        return None


def _small(image: RgbImage, longest: int) -> RgbImage:
    scale = min(1.0, longest / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return RgbImage(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))


def _answer(run: Run, sample: Sample, scores: Doubles, thresholds: Doubles) -> str:
    """What the network said of an image and what is true, as HTML."""
    names, label = run.data.class_names, escape(_label(run, sample))
    if run.data.task == "multiclass":
        top = int(scores.argmax())
        kind, rest = ("right", "right") if top == sample.label else ("wrong", f"is {label}")
        return f'<b class="{kind}">{escape(names[top])} {page.percent(float(scores[top]))}</b>, {rest}'
    if run.data.task == "multilabel":
        wrong = np.flatnonzero((scores >= thresholds) != (np.array(sample.values) > 0.5))
        text = ", ".join(f"{escape(names[k])} {page.percent(float(scores[k]))}" for k in wrong) or "unsure"
        return f'<b class="wrong">{text}</b>, is {label or "nothing"}'
    return f"<b>{escape(_numbers(run, tuple(map(float, scores))))}</b>, is {label}"


def _label(run: Run, sample: Sample) -> str:
    if run.data.task == "multiclass":
        return run.data.class_names[sample.label]
    if run.data.task == "multilabel":
        return ", ".join(name for name, value in zip(run.data.class_names, sample.values, strict=True) if value)
    return _numbers(run, sample.values)


def _numbers(run: Run, standardised: tuple[float, ...]) -> str:
    data = run.data
    rows = zip(data.class_names, standardised, data.scaling, data.units, strict=True)
    return ", ".join(f"{name} {value * std + mean:.3g} {unit}".rstrip() for name, value, (mean, std), unit in rows)
