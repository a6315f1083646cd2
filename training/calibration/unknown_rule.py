"""The rule by which an image is said to show none of the classes, fitted to validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception import metrics
from cnn_perception.model.spec import UnknownMethod, UnknownRule
from training.calibration import cross_fit
from training.calibration.embeddings import Predictions, normalised
from training.calibration.quantile import lower_quantile
from training.config import UnknownChoice
from training.tasks.probabilities import Doubles

MOST_CENTRES = 200
"""Classes up to which `auto` keeps a centre each in the model file: 200 of ResNet-50 are some 9 MB of its JSON."""
METHODS: tuple[UnknownMethod, ...] = ("energy", "distance")


@dataclass(frozen=True, eq=False)
class FittedRule:
    """The rule, and how well it tells images apart.

    Attributes:
        rule: For the checkpoint.
        scores: Score of each image by what it is (`val`, `test`, `outside`).
        auroc: Of each method, known validation images against the others; empty where none were given.
        is_unknown: Of each validation image, (n,), whether a rule that was fitted to others calls it unknown.
    """

    rule: UnknownRule
    scores: dict[str, Doubles]
    auroc: dict[UnknownMethod, float]
    is_unknown: npt.NDArray[np.bool_]


def fit(
    train: Predictions,
    held_out: Mapping[str, Predictions],
    outside: Predictions | None,
    wanted: UnknownChoice,
    false_alarm_rate: float,
    parts: cross_fit.Folds | None,
) -> FittedRule:
    """Returns the rule whose threshold lets no more than a share of the validation images fall.

    Args:
        train: Training images, for the centres of the classes.
        held_out: `val`, on which the rule is fitted, and perhaps `test`, on which it is only measured.
        outside: Images that show none of the classes.
        wanted: The method; `auto` is up to `MOST_CENTRES` classes the one with the higher AUROC on `outside`, or
            without such images `distance`; beyond it is `energy`.
        false_alarm_rate: The share, in (0, 1).
        parts: Folds of the validation images, on which the share is measured; None measures where it was fitted.
    """
    class_centres = centres(train)
    images = dict(held_out)
    if outside is not None:
        images["outside"] = outside
    scores = {method: _scores(images, method, class_centres) for method in METHODS}
    auroc = {method: _auroc(scores[method]) for method in METHODS} if outside is not None else {}
    chosen = _choose(wanted, auroc, len(class_centres))
    of_val = scores[chosen]["val"]
    is_unknown = cross_fit.called_unknown(of_val, false_alarm_rate, parts)
    rule = UnknownRule(
        method=chosen,
        threshold=lower_quantile(of_val, false_alarm_rate),
        false_alarm_rate=float(is_unknown.mean()),
        auroc=auroc.get(chosen),
        outside_images=len(outside) if outside is not None else 0,
        centres=tuple(map(tuple, class_centres.tolist())) if chosen == "distance" else (),
        promised_rate=false_alarm_rate,
    )
    return FittedRule(rule, scores[chosen], auroc, is_unknown)


def centres(train: Predictions) -> Doubles:
    """Returns (K, D) rows of length 1: the mean direction of the embeddings of each class."""
    directions = normalised(train.embeddings)
    means = [directions[train.labels == k].mean(axis=0) for k in range(train.logits.shape[1])]
    exact = normalised(np.stack(means))
    return np.round(exact, 6)  # what the model file keeps of them: twice as many digits would change no decision


def score(found: Predictions, method: UnknownMethod, class_centres: Doubles) -> Doubles:
    """Returns the (n,) scores of `spec.UnknownRule`: low where an image resembles no class."""
    if method == "distance":
        return np.asarray((normalised(found.embeddings) @ class_centres.T).max(axis=1) - 1)
    exact = found.logits.astype(np.float64)
    peak = exact.max(axis=1)
    return np.asarray(peak + np.log(np.exp(exact - peak[:, np.newaxis]).sum(axis=1)))


def _scores(images: Mapping[str, Predictions], method: UnknownMethod, class_centres: Doubles) -> dict[str, Doubles]:
    return {part: score(found, method, class_centres) for part, found in images.items()}


def _auroc(scores: Mapping[str, Doubles]) -> float:
    known, others = scores["val"], scores["outside"]
    is_known = np.arange(len(known) + len(others)) < len(known)
    return metrics.auroc(np.concatenate([known, others]), is_known)


def _choose(wanted: UnknownChoice, auroc: Mapping[UnknownMethod, float], classes: int) -> UnknownMethod:
    if wanted == "energy" or wanted == "distance":
        return wanted
    if auroc and classes <= MOST_CENTRES:
        return max(auroc, key=lambda method: auroc[method])
    return "distance" if classes <= MOST_CENTRES else "energy"
