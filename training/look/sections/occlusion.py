"""What an answer rests on: the image covered part by part, and signals sent back from the answer and from units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, fx

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.image.messages import RgbImage, read_image
from training.look.answering import (
    Answer,
    answers,
    certainty,
    in_words,
    leading_units,
    shares,
)
from training.look.drawing import cropped, resized
from training.look.methods.backward import RULES, Rule, backward
from training.look.methods.fields import Box
from training.look.methods.occlusion import Occlusion, occlude, place_count, usual_square
from training.look.methods.rectifiers import fused, rectifiers
from training.look.section import Block, Picture, Section
from training.look.subject import Layer, Subject
from training.look.units import part

_SIDE = 224
_PATCH_SIDE = 160
_DEEP_LAYERS = 2
_UNITS = 2
_FALLS = (214.0, 39.0, 40.0)
_RISES = (31.0, 119.0, 180.0)
_OPACITY = 0.8
_LARGEST_SHARE = 0.995
"""Share of a signal's values that are drawn without being cut off."""
_NAMES: dict[Rule, str] = {
    "gradient": "gradient", "deconvnet": "deconvnet", "guided": "guided backpropagation",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Looked:
    """What was found about one answer.

    Attributes:
        answer: It.
        occlusion: What the square does to its certainty.
        there: Logits (K,) with the square at the place that costs most.
        signals: Of each rule, what the logit sends back, (3, H, W).
        likeness: Of each rule, the cosine to what the second best logit sends back; empty of a single output.
    """

    answer: Answer
    occlusion: Occlusion
    there: Tensor
    signals: dict[Rule, Tensor]
    likeness: dict[Rule, float]


def look(subject: Subject) -> Section:
    """Covers the pictures shown part by part, and sends signals back from their answers and from deep units.

    Raises:
        CannotLookError: If there are no pictures.
    """
    given = answers(subject)
    network = fused(subject.cut(subject.logits))
    rules = _rules(network)
    side, step = _square(subject)
    height, width = given[0].image.shape[1:]
    with ProgressBar(
        total=len(given) * place_count(height, width, side, step), desc="covering", unit="place", leave=False
    ) as bar:
        found = [_looked(subject, network, answer, rules, bar.update) for answer in given]
    units = _unit_blocks(subject, given, rules)
    blocks = (*(_block(subject, one, place) for place, one in enumerate(found)), _table(subject, found, rules), *units)
    facts = {
        "square_px": side,
        "step_px": step,
        "rules": list(rules),
        "images": [_facts(subject, one) for one in found],
    }
    return Section(_intro(side, step, rules), blocks, facts)


def _square(subject: Subject) -> tuple[int, int]:
    return usual_square(subject.checkpoint.input.height, subject.checkpoint.input.width)


def _rules(network: fx.GraphModule) -> tuple[Rule, ...]:
    return RULES if rectifiers(network) else ("gradient",)


def _intro(side: int, step: int, rules: Sequence[Rule]) -> str:
    missing = " Deconvnet and guided backpropagation are defined by rectifiers (ReLU), which this network lacks."
    return (
        f"A grey square of {side}x{side} pixels is put on the image, {step} pixels further each time, and the network "
        "is asked again. Red: the answer gets less certain with the square there (the logarithm of its odds falls), so "
        "it rests on that part; blue: more certain. The frame is the place that costs most (Zeiler and Fergus 2014). "
        "Beside it, what the answer sends back to the pixels: the gradient, the deconvnet of the same authors, and "
        "guided backpropagation (Springenberg et al. 2015). A warning: the last two are sharp because they copy edges "
        "of the image, and they stay nearly the same when the upper layers' weights are replaced by noise (Adebayo et "
        "al. 2018). They show what could reach a unit, not why the network answered so: where the picture of the "
        "answer and that of the second best answer are alike, see the table, it explains neither. In networks that "
        "stride instead of pooling, the deconvnet draws little but a grid (Springenberg et al. 2015)."
        + (missing if len(rules) == 1 else "")
    )


def _looked(
    subject: Subject,
    network: fx.GraphModule,
    answer: Answer,
    rules: Sequence[Rule],
    advance: Callable[[int], object],
) -> _Looked:
    number = certainty(subject, answer.output)
    side, step = _square(subject)
    occlusion = occlude(
        lambda images: number(network(images.contiguous(memory_format=torch.channels_last))),
        answer.image,
        side,
        step,
        batch=subject.batch,
        advance=advance,
    )
    top, left = occlusion.places[occlusion.strongest].tolist()
    covered = answer.image.clone()
    covered[:, top : top + side, left : left + side] = 0
    with torch.inference_mode():
        there = network(covered[None])[0]
    signals = {rule: _answer_signal(network, answer.image, answer.output, rule) for rule in rules}
    likeness = {}
    if len(answer.logits) > 1:
        second = next(output for output in answer.logits.argsort(descending=True).tolist() if output != answer.output)
        others = {rule: _answer_signal(network, answer.image, second, rule) for rule in rules}
        likeness = {rule: _cosine(signals[rule], others[rule]) for rule in rules}
    return _Looked(answer, occlusion, there, signals, likeness)


def _answer_signal(network: fx.GraphModule, image: Tensor, output: int, rule: Rule) -> Tensor:
    return backward(network, image[None], lambda logits: logits[:, output], rule)[0].cpu()


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def _block(subject: Subject, found: _Looked, place: int) -> Block:
    answer = found.answer
    picture = subject.as_picture(answer.image)
    before = in_words(subject, answer.logits, answer.output)
    after = in_words(subject, found.there, answer.output)
    stem = f"image_{place + 1}"
    pictures = [
        Picture(f"{stem}_seen", _shown(_framed(picture, found.occlusion)), f"{before}; {after} with the square there"),
        Picture(f"{stem}_heat", _shown(heat_picture(picture, found.occlusion.heat.numpy())), "what covering costs"),
    ]
    pictures += [
        Picture(f"{stem}_{rule}", _shown(signal_picture(signal)), _NAMES[rule])
        for rule, signal in found.signals.items()
    ]
    return Block(f"{before}: {answer.path.name}", "", tuple(pictures), 150)


def _shown(picture: RgbImage) -> RgbImage:
    """Returns a picture whose longer side is as the page wants it."""
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    return resized(picture, max(round(height * scale), 1), max(round(width * scale), 1))


def _framed(picture: RgbImage, occlusion: Occlusion) -> RgbImage:
    top, left = occlusion.places[occlusion.strongest].tolist()
    drawn = np.array(picture)
    last = occlusion.side - 1
    width = max(picture.shape[0] // 110, 1)
    cv2.rectangle(drawn, (left, top), (left + last, top + last), (255, 255, 255), 2 * width)
    cv2.rectangle(drawn, (left, top), (left + last, top + last), (214, 39, 40), width)
    return RgbImage(drawn)


def heat_picture(picture: RgbImage, heat: np.ndarray[Any, np.dtype[np.float32]]) -> RgbImage:
    """Draws a map (H, W) on a picture in grey: red where it is positive, blue where negative, by its largest value."""
    largest = max(float(np.abs(heat).max()), 1e-12)
    step = max(min(heat.shape) / 7, 1.0)
    strength = cv2.GaussianBlur((heat / largest).astype(np.float32), (0, 0), step / 3)[..., None]
    grey = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    colour = np.where(strength > 0, np.array(_FALLS), np.array(_RISES))
    weight = _OPACITY * np.abs(strength).clip(0, 1)
    return RgbImage((grey * (1 - weight) + colour * weight).round().astype(np.uint8))


def signal_picture(signal: Tensor) -> RgbImage:
    """Draws a signal (3, H, W) in its colours around grey, by its largest values."""
    largest = signal.abs().flatten().kthvalue(max(int(signal.numel() * _LARGEST_SHARE), 1)).values.clamp(min=1e-12)
    pixels = ((signal / largest).clamp(-1, 1) * 127.5 + 127.5).round()
    return RgbImage(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy().astype(np.uint8)))


def _table(subject: Subject, found: Sequence[_Looked], rules: Sequence[Rule]) -> Block:
    head = ("picture", "answer", "with the square", *(f"{_NAMES[rule]}: alike" for rule in rules))
    rows = [
        (
            one.answer.path.name,
            in_words(subject, one.answer.logits, one.answer.output),
            in_words(subject, one.there, one.answer.output),
            *(f"{one.likeness[rule]:+.2f}" if one.likeness else "-" for rule in rules),
        )
        for one in found
    ]
    note = (
        "Alike: the cosine of what the answer and what the second best answer send back. At +1 the picture is the same "
        "for both, and says nothing about either; at -1 what speaks for the one speaks against the other."
    )
    return Block("Answers in figures", note, table=(head, *rows))


def _unit_blocks(subject: Subject, given: Sequence[Answer], rules: Sequence[Rule]) -> list[Block]:
    if not subject.layers or not subject.samples:
        return []
    layers = subject.layers[-_DEEP_LAYERS:]
    contributions = shares(subject, layers, given)
    return [
        _unit_block(subject, layer, unit, rules)
        for layer, contributed in zip(layers, contributions, strict=True)
        for unit in leading_units(contributed, _UNITS)
    ]


def _unit_block(subject: Subject, layer: Layer, unit: int, rules: Sequence[Rule]) -> Block:
    record = subject.survey.units[layer.name]
    row, column = (int(index) for index in record.places[unit, 0])
    path = subject.survey.samples[int(record.images[unit, 0])].path
    image = subject.tensor(read_image(path))
    picture = subject.as_picture(image)
    box = part(subject, layer, (row, column))
    network = subject.cut(layer.node)
    stem = f"{layer.stem}_{unit}"
    pictures = [Picture(f"{stem}_seen", _part(picture, box), path.name)]
    for rule in rules if rectifiers(network) else ("gradient",):
        signal = backward(network, image[None], lambda maps: maps[:, unit, row, column], rule)[0].cpu()
        pictures.append(Picture(f"{stem}_{rule}", _part(signal_picture(signal), box), _NAMES[rule]))
    note = "its strongest place in the image that excites it most"
    return Block(f"{layer.name}: unit {unit}", note, tuple(pictures), 150)


def _part(picture: RgbImage, box: Box) -> RgbImage:
    return resized(cropped(picture, box), _PATCH_SIDE, _PATCH_SIDE)


def _facts(subject: Subject, found: _Looked) -> dict[str, Any]:
    top, left = found.occlusion.places[found.occlusion.strongest].tolist()
    return {
        "image": found.answer.path.name,
        "answer": subject.class_names[found.answer.output],
        "certainty": round(found.occlusion.whole, 5),
        "largest_drop": round(float(found.occlusion.drops.max()), 5),
        "place": [top, left],
        "drops": [round(drop, 5) for drop in found.occlusion.drops.tolist()],
        "alike": {rule: round(value, 4) for rule, value in found.likeness.items()},
    }
