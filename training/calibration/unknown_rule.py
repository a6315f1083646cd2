"""The rule by which an image is said to show none of the classes, fitted to validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnn_perception.model.spec import UnknownMethod, UnknownRule
from training.calibration import cross_fit
from training.calibration.embeddings import Predictions, normalised
from training.calibration.outside import FITTED_NOTHING, Choose, Measurement, OutsideFigures
from training.calibration.outside import auroc as area
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
        outside: What it makes of the others; None where none were given.
    """

    rule: UnknownRule
    scores: dict[str, Doubles]
    auroc: dict[UnknownMethod, float]
    is_unknown: npt.NDArray[np.bool_]
    outside: OutsideFigures | None = None


def fit(
    train: Predictions,
    held_out: Mapping[str, Predictions],
    outside: Predictions | None,
    wanted: UnknownChoice,
    false_alarm_rate: float,
    parts: cross_fit.Folds | None,
    choosing: Predictions | None = None,
) -> FittedRule:
    """Returns the rule whose threshold lets no more than a share of the validation images fall.

    Args:
        train: Training images, for the centres of the classes.
        held_out: `val`, on which the rule is fitted, and perhaps `test`, on which it is only measured.
        outside: Images that show none of the classes, on which it is measured.
        wanted: The method; `auto` is up to `MOST_CENTRES` classes the one with the higher AUROC on the images that
            choose, or without such images `distance`; beyond it is `energy`, as it is where a class has no training
            image, and so no centre.
        false_alarm_rate: The share, in (0, 1).
        parts: Folds of the validation images, on which the share is measured; None measures where it was fitted.
        choosing: Other images that show none of the classes, which choose the method alone; None leaves that to those
            of `outside`.
    """
    methods = _methods(train, wanted)
    if len(methods) == 1:
        (wanted,) = methods  # nothing is left to be chosen by images
    class_centres = centres(train) if "distance" in methods else np.empty((0, train.embeddings.shape[1]))
    images = dict(held_out)
    if outside is not None:
        images["outside"] = outside
    scores = {method: _scores(images, method, class_centres) for method in methods}
    auroc = {method: area(of["val"], of["outside"]) for method, of in scores.items()} if outside is not None else {}
    measured = Measurement(
        known={method: of["val"] for method, of in scores.items()},
        outside={method: of.get("outside", np.empty(0)) for method, of in scores.items()},
        choose=_chooser(wanted, scores, choosing, class_centres),
        share=false_alarm_rate,
        folds=parts,
        outside_folds=_folds_of(outside) if choosing is None and wanted == "auto" else None,
    )
    chosen = measured.choose(np.arange(len(held_out["val"])), np.arange(len(outside) if outside else 0))
    figures = measured.figures(_measured_by(wanted, choosing, measured)) if outside is not None else None
    is_unknown = measured.is_unknown()
    rule = UnknownRule(
        method=chosen,
        threshold=lower_quantile(scores[chosen]["val"], false_alarm_rate),
        false_alarm_rate=float(is_unknown.mean()),
        auroc=figures.auroc.value if figures else None,
        outside_images=len(outside) if outside is not None else 0,
        centres=tuple(map(tuple, class_centres.tolist())) if chosen == "distance" else (),
        promised_rate=false_alarm_rate,
    )
    return FittedRule(rule, scores[chosen], auroc, is_unknown, figures)


def _methods(train: Predictions, wanted: UnknownChoice) -> tuple[UnknownMethod, ...]:
    """Returns the methods that can be; without an image of every class, `distance` only where nothing else will do."""
    has_every_class = len(np.unique(train.labels)) == train.logits.shape[1]
    return METHODS if has_every_class or wanted == "distance" else ("energy",)


def _chooser(
    wanted: UnknownChoice,
    scores: Mapping[UnknownMethod, Mapping[str, Doubles]],
    choosing: Predictions | None,
    class_centres: Doubles,
) -> Choose:
    """How the method is chosen by known images and others, of which those of `choosing` are always the same."""
    few = 0 < len(class_centres) <= MOST_CENTRES
    fixed: UnknownMethod = "distance" if few else "energy"
    if wanted == "energy" or wanted == "distance":
        fixed = wanted
    if wanted != "auto" or not few or (choosing is None and "outside" not in scores[fixed]):
        return lambda known, others: fixed
    if choosing is not None:
        chosen = {method: score(choosing, method, class_centres) for method in METHODS}
        return lambda known, others: _best({m: area(scores[m]["val"][known], chosen[m]) for m in METHODS})
    return lambda known, others: _best(
        {m: area(scores[m]["val"][known], scores[m]["outside"][others]) for m in METHODS}
    )


def _best(areas: Mapping[UnknownMethod, float]) -> UnknownMethod:
    return max(areas, key=lambda method: areas[method])


def _folds_of(outside: Predictions | None) -> cross_fit.Folds | None:
    return None if outside is None else cross_fit.folds(outside.labels, [sample.group for sample in outside.samples])


def _measured_by(wanted: UnknownChoice, choosing: Predictions | None, measured: Measurement) -> str:
    """Says by which images the method was chosen, and whether these are the measured ones."""
    if wanted != "auto":
        return FITTED_NOTHING
    if choosing is not None:
        return f"{FITTED_NOTHING}: {len(choosing)} others, of the training part, chose the method"
    if measured.outside_folds is not None:
        return "each fold of them by the method that the others choose"
    return "too few for folds: they chose the method too, so that both are a little too good"


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
