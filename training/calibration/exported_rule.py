"""The unknown rule of a model file, fitted to what its own graph answers: in other arithmetic its scores lie elsewhere.

Where the images of a network are all nearly alike to it, as they are to one that has hardly learned, the scores of the
rule differ less than float32 and float64 do: so they are computed by the robot's own code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cnn_perception.commands.progress import ProgressBar
from cnn_perception.intervals import Estimate, wilson
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.model.outputs import FloatArray, Outputs
from cnn_perception.model.spec import UnknownRule
from cnn_perception.pipeline.postprocess import known_score
from training.calibration import cross_fit
from training.calibration.quantile import lower_quantile
from training.checkpoint import Checkpoint
from training.graphs.parity import ParityError, evenly, prepared_image
from training.tasks.probabilities import Doubles

MOST_IMAGES = 2000
"""Validation images that are looked at, from all over the set: of 5 % they give the share to half a point."""
POINTS = 0.02
"""How far the share of false alarms may be above the one that was promised."""

Run = Callable[[FloatArray], Sequence[FloatArray]]
"""Gives logits (N, K) and embeddings (N, D) of images (N, 3, height, width)."""


def run_of(model: OnnxModel) -> Run:
    """Returns what gives the logits and embeddings of a loaded file."""

    def run(images: FloatArray) -> Sequence[FloatArray]:
        outputs = model.run(images, activation=False)
        return [np.stack([one.logits for one in outputs]), np.stack([one.embedding for one in outputs])]

    return run


def refit(checkpoint: Checkpoint, run: Run) -> UnknownRule | None:
    """Returns a checkpoint's rule with the threshold that keeps its promise by what a graph answers.

    The false alarms are measured by thresholds that were fitted to other images.

    Args:
        checkpoint: Its rule, and its validation images: without any on this machine the rule stays as it is.
        run: Runs the graph.

    Raises:
        ParityError: If the graph gives what is no number, or if more images are called unknown than was promised.
        DataError: If a validation image cannot be read any more.
    """
    rule = checkpoint.calibration.unknown
    rows = _rows(checkpoint)
    if rule is None or not rows:
        return rule
    scores = _scores(checkpoint, rule, rows, run)
    promised = promise(rule, checkpoint)
    if not promised:
        return rule
    parts = cross_fit.folds(_labels(checkpoint)[rows])
    rate = float(cross_fit.called_unknown(scores, promised, parts).mean())
    fitted = dataclasses.replace(
        rule,
        threshold=lower_quantile(scores, promised),
        false_alarm_rate=rate,
        promised_rate=promised,
        known_images=len(rows),
    )
    require_promise(fitted, rate)
    return fitted


def promise(rule: UnknownRule, checkpoint: Checkpoint) -> float:
    """Returns the share of false alarms that was asked for."""
    if rule.promised_rate is not None:
        return rule.promised_rate
    return float(checkpoint.config.get("false_alarm_rate", rule.false_alarm_rate))  # a checkpoint of before it was kept


def require_promise(rule: UnknownRule, rate: float) -> None:
    """Checks that no more known images are called unknown than was promised, but for 2 points and for chance.

    Raises:
        ParityError: If so many are that chance does not explain it.
    """
    assert rule.promised_rate is not None
    found = interval(rate, rule.known_images)
    if found.low > rule.promised_rate + POINTS:
        raise ParityError(
            f"its unknown rule calls {found.in_percent()} of {rule.known_images} known images unknown and promises "
            f"{rule.promised_rate:.1%}; nothing is written; train longer, or with --unknown none"
        )


def interval(rate: float, images: int) -> Estimate:
    """Returns a share of so many images, at least 1, with its 95 % interval."""
    return wilson(round(rate * images), images)


def measure(rule: UnknownRule, checkpoint: Checkpoint, run: Run) -> float:
    """Returns the share of the validation images that a fitted rule calls unknown, by the robot's own comparison."""
    scores = _scores(checkpoint, rule, _rows(checkpoint), run)
    return float((scores < np.float32(rule.threshold)).mean())


def in_words(rule: UnknownRule) -> str:
    """Returns what is known of a rule's false alarms, in one line."""
    line = f"{rule.method}, promised false alarms {rule.promised_rate or 0:.1%}"
    if not rule.known_images:
        return f"{line}; not measured on this file: no validation image is on this machine"
    found = interval(rule.false_alarm_rate, rule.known_images)
    line = f"{line}, by this file {found.in_percent()} of {rule.known_images} images"
    proven = max(found.high - (rule.promised_rate or 0), (rule.promised_rate or 0) - found.low) <= POINTS
    return line if proven else f"{line}, too few to prove it to {100 * POINTS:g} points"


def _rows(checkpoint: Checkpoint) -> list[int]:
    """The validation images that are on this machine, by their place in the checkpoint."""
    there = [row for row, path in enumerate(checkpoint.val_images) if Path(path).is_file()]
    return [there[index] for index in evenly(len(there), MOST_IMAGES)] if there else []


def _labels(checkpoint: Checkpoint) -> npt.NDArray[np.int64]:
    targets = checkpoint.val_targets or ((0,),) * len(checkpoint.val_images)
    return np.array([int(target[0]) for target in targets], np.int64)


def _scores(checkpoint: Checkpoint, rule: UnknownRule, rows: Sequence[int], run: Run) -> Doubles:
    """The scores of the images, (n,), each run alone as on the robot."""
    centres = np.array(rule.centres, np.float32)
    scores = []
    for row in ProgressBar(rows, "unknown rule", unit="img", leave=False):
        image = prepared_image(Path(checkpoint.val_images[row]), checkpoint.input, "validation")
        logits, embeddings = run(image[np.newaxis])
        scores.append(known_score(Outputs(logits[0], None, embeddings[0]), rule.method, centres))
    if not np.isfinite(scores).all():
        raise ParityError("the graph's embeddings or logits are no numbers; nothing is written; export it in fp32")
    return np.array(scores)
