"""Several checkpoints as one: whether they belong together, and what is fitted to their mean score as a whole.

The logits of the whole are the logarithm of the mean score, each member's over its own temperature. The mean of scores
that are right about themselves is not sure enough, so the whole gets a temperature of its own.

Source: Rahaman and Thiery 2021, Uncertainty Quantification and Deep Ensembles, section 4: average, then calibrate.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import ENSEMBLE, UNKNOWN
from training import learned
from training.batches.loader import Images, Order, data_loader
from training.calibration import embeddings, fit, untouched
from training.calibration.embeddings import Predictions
from training.calibration.ensemble import require_different
from training.calibration.exported_rule import promise
from training.calibration.unknown_rule import MOST_CENTRES
from training.checkpoint import UNCALIBRATED, Calibration, Checkpoint
from training.config import UnknownChoice
from training.data.records import Sample
from training.graphs.ensembles.join import require_one_input
from training.graphs.ensembles.joint import Joint, Member
from training.scoring.predict import predict, together
from training.scoring.scores import ScoredLogits
from training.tasks.by_name import task_of
from training.tasks.scaling import standardised

_BATCH = 16


@dataclass(frozen=True, eq=False)
class Whole:
    """Several networks together.

    Attributes:
        checkpoint: Describes the whole, with what was fitted to it; it has no weights of its own.
        members: The checkpoints.
        notes: What has to be said of what was fitted, a line each.
    """

    checkpoint: Checkpoint
    members: tuple[Checkpoint, ...]
    notes: tuple[str, ...]


def require_together(members: Sequence[Checkpoint], names: Sequence[str]) -> None:
    """Checks that the scores of networks can be averaged in one file.

    Raises:
        ConfigError: If they differ in task, classes, units or input; names the one that differs from the first. If two
            are the same network.
    """
    if twice := [path for path, count in Counter(Path(name).resolve() for name in names).items() if count > 1]:
        raise ConfigError(f"--checkpoint: {twice[0]} is named twice; name each network once")
    first = members[0]
    for name, other in zip(names[1:], members[1:], strict=True):
        if (other.task, other.units) != (first.task, first.units):
            what, others = (f"{one.task} {' '.join(one.units)}".rstrip() for one in (other, first))
            raise ConfigError(f"--checkpoint {name}: is {what}, {names[0]} is {others}; export each alone")
        if other.class_names != first.class_names:
            different = ", ".join(map(repr, sorted({*other.class_names} ^ {*first.class_names}))) or "their order"
            raise ConfigError(
                f"--checkpoint {name}: differs from {names[0]} in its classes ({different}); leave it out"
            )
        require_one_input(first.input, other.input, name)
    require_different(members, names, "--checkpoint")


def described(members: Sequence[Checkpoint], networks: Sequence[Member], calibrate_on: Sequence[Path]) -> Whole:
    """Returns the whole, fitted to images that no member was trained on.

    Args:
        members: What `require_together` has accepted.
        networks: The same, as they are exported.
        calibrate_on: Folders and tables of labelled images; without any, the validation images of the members.

    Raises:
        ConfigError: If every image of `calibrate_on` was trained on by a member, or they are of other classes.
        DataError: If they cannot be read.
    """
    first = members[0]
    held_out = untouched.of_data(calibrate_on, members) if calibrate_on else untouched.of_members(members)
    whole = _uncalibrated(members, held_out)
    if not held_out:
        return Whole(whole, tuple(members), (_why_not_fitted(members),))
    joint = Joint(networks, first.task, first.input).eval().without_map()
    choice = _unknown_choice(members)
    val = _predictions(joint, held_out, whole, "held out")
    train = _training(joint, members, whole) if choice != "none" else val
    rate = 0.0 if choice == "none" else _promised(members)
    fitted = fit.fit(train, {"val": val}, None, first.task, unknown=choice, false_alarm_rate=rate)
    scored = fit.evaluation(val, whole, fitted.calibration)
    training = {**whole.training, "metrics": scored.summary()}
    calibrated = dataclasses.replace(whole, calibration=fitted.calibration, training=training)
    return Whole(calibrated, tuple(members), tuple(_notes(members, held_out, scored, fitted.calibration)))


def _uncalibrated(members: Sequence[Checkpoint], held_out: Sequence[Sample]) -> Checkpoint:
    """The checkpoint of the whole, with what the members agree on where nothing can be fitted."""
    counts = Counter(member.backbone for member in members)
    names = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
    seen = untouched.trained_on(members) if all(member.train_targets for member in members) else ()
    unlabelled = () if seen else dict.fromkeys(path for member in members for path in member.train_images)
    return dataclasses.replace(
        members[0],
        backbone=" + ".join(names),
        model={},
        training=_record(members, held_out),
        train_images=(*(str(sample.path) for sample in seen), *unlabelled),
        train_targets=tuple(sample.values or (sample.label,) for sample in seen),
        val_images=tuple(str(sample.path.absolute()) for sample in held_out),
        val_targets=tuple(sample.values or (sample.label,) for sample in held_out),
        calibration=dataclasses.replace(UNCALIBRATED, thresholds=_mean_thresholds(members)),
        resume=None,
        unlabelled_images=(),
        learned_pixels=(),
    )


def _record(members: Sequence[Checkpoint], held_out: Sequence[Sample]) -> dict[str, Any]:
    """Where the weights come from, see `spec.TrainingRecord`."""
    records = [member.training for member in members]
    digests = list(dict.fromkeys(record["data_sha256"] for record in records))
    together_sha256 = hashlib.sha256("".join(digests).encode()).hexdigest()
    return {
        "mode": ENSEMBLE,
        "weights": "; ".join(f"{m.backbone}, {m.training['mode']} from {m.training['weights']}" for m in members),
        "data": "+".join(dict.fromkeys(record["data"] for record in records)),
        "data_sha256": digests[0] if len(digests) == 1 else together_sha256,
        "train_images": len({path for member in members for path in member.train_images}),
        "val_images": len(held_out),
        "metrics": {},
    }


def _mean_thresholds(members: Sequence[Checkpoint]) -> tuple[float, ...]:
    """The mean threshold of each class, where an image has several."""
    rows = [member.calibration.thresholds for member in members]
    if not all(rows):
        return task_of(members[0].task).usual_thresholds(len(members[0].class_names))
    return tuple(map(float, np.mean(rows, axis=0)))


def _unknown_choice(members: Sequence[Checkpoint]) -> UnknownChoice:
    """How the whole gets an unknown rule: by distance, as the energy of the logarithm of a mean score is always 0."""
    names = members[0].class_names
    wanted = any(member.calibration.unknown is not None for member in members)
    possible = len(names) <= MOST_CENTRES and UNKNOWN not in names and all(m.train_targets for m in members)
    return "distance" if wanted and possible else "none"


def _promised(members: Sequence[Checkpoint]) -> float:
    """The share of false alarms that the first member with a rule was asked for."""
    return next(promise(rule, member) for member in members if (rule := member.calibration.unknown) is not None)


class _Flat(nn.Module):
    """Images -> logits and embedding in one row, as one loop over images knows one output."""

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.joint = joint

    def forward(self, images: Tensor) -> Tensor:
        logits, embedding = self.joint(images)
        return torch.cat([logits, embedding], dim=1)


def _predictions(joint: Joint, samples: Sequence[Sample], whole: Checkpoint, title: str) -> Predictions:
    """Logits and embeddings of the whole; numbers are standardised again, as a checkpoint's are."""
    images = Images(tuple(samples), whole.input)
    loader = data_loader(images, Order(len(images), _BATCH, None), 0, pin_memory=False)
    found = together(predict(_Flat(joint), loader, torch.device("cpu"), title), title)
    count = len(whole.class_names)
    rows = found.outputs.numpy()
    logits = standardised(rows[:, :count], whole.scaling).astype(np.float32)
    return Predictions(tuple(samples[row] for row in found.rows), logits, rows[:, count:])


def _training(joint: Joint, members: Sequence[Checkpoint], whole: Checkpoint) -> Predictions:
    """What the whole makes of the training images of all, for the centres of the classes."""
    there = [sample for sample in untouched.trained_on(members) if sample.path.is_file()]
    return _predictions(joint, embeddings.for_centres(there, len(whole.class_names)), whole, "train")


def _why_not_fitted(members: Sequence[Checkpoint]) -> str:
    line = "not calibrated as a whole: no validation image is here that none of the networks was trained on"
    lost = "; it has no unknown rule" if any(member.calibration.unknown for member in members) else ""
    return f"{line}; its scores are the mean of theirs{lost}; name others with --calibrate-on"


def _notes(
    members: Sequence[Checkpoint], held_out: Sequence[Sample], scored: ScoredLogits, fitted: Calibration
) -> list[str]:
    """Says on which images the whole was fitted, how good it is on them, and what it lacks."""
    task = scored.task
    named = len({path for member in members for path in member.val_images})
    of_which = f" of the {named} that they validated on" if len(held_out) < named else ""
    untold = sum(map(learned.untold, members))
    of_none = (
        "on which none of the networks is known to have been trained"
        if untold
        else "that none of the networks was trained on"
    )
    lines = [
        f"fitted as a whole to {len(held_out)} images {of_none}{of_which}: "
        f"{task.metric} {scored.metric:.3f}, temperature {fitted.temperature:.3g}"
    ]
    if untold:
        lines.append(f"beware: a network may have been trained on some of them: {learned.why_untold(untold)}")
    if fitted.unknown is None and any(member.calibration.unknown for member in members):
        lines.append(
            "no unknown rule: that of several networks is by distance, for up to 200 classes with their images"
        )
    return lines
