"""What is known of a model that is compared, and whether two can be."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_perception.errors import ConfigError
from cnn_perception.model.onnx_model import OnnxModel
from cnn_perception.tasks.registry import task_of


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model that is compared.

    Attributes:
        path: Its file.
        sha256: Of that.
        task: What it answers, see `ModelSpec.task`.
        names: Its classes, or what its numbers are called.
        units: Of its numbers; empty otherwise.
        has_unknown_rule: Whether it may call an image unknown.
    """

    path: str
    sha256: str
    task: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    has_unknown_rule: bool


def card_of(model: OnnxModel) -> ModelCard:
    """Returns what is known of a loaded model."""
    spec = model.spec
    has_rule = spec.unknown is not None
    return ModelCard(str(model.path), model.sha256, spec.task, spec.class_names, spec.units, has_rule)


def common_names(ours: ModelCard, theirs: ModelCard) -> tuple[str, ...]:
    """Returns the classes or numbers that both models have, in our order.

    Raises:
        ConfigError: If there is none, their tasks differ, or a number has another unit.
    """
    if ours.task != theirs.task:
        raise ConfigError(
            f"--baseline {theirs.path} is {theirs.task}, {ours.path} is {ours.task}; name one of its task"
        )
    common = tuple(name for name in ours.names if name in theirs.names)
    if not common:
        kind = "classes" if task_of(ours.task).has_classes else "numbers"
        raise ConfigError(f"--baseline {theirs.path} has other {kind}: {', '.join(theirs.names[:20])}; none is common")
    our_units = dict(zip(ours.names, ours.units, strict=False))
    their_units = dict(zip(theirs.names, theirs.units, strict=False))
    for name in common:
        if our_units.get(name) != their_units.get(name):
            raise ConfigError(
                f"--baseline {theirs.path} has {name!r} in {their_units[name]!r}, {ours.path} in {our_units[name]!r}; "
                "train one of them again"
            )
    return common


def notes_on(ours: ModelCard, theirs: ModelCard) -> list[str]:
    """Returns how the models differ in what they can answer, a line each."""
    notes = []
    kind = "classes" if task_of(ours.task).has_classes else "numbers"
    common = common_names(ours, theirs)
    for card, who in ((ours, "the model"), (theirs, "the baseline")):
        own = [name for name in card.names if name not in common]
        if own:
            more = f" and {len(own) - 10} more" if len(own) > 10 else ""
            notes.append(f"compared by the {len(common)} common {kind}; {who} alone has {', '.join(own[:10])}{more}")
    if ours.has_unknown_rule != theirs.has_unknown_rule:
        who = "the model" if ours.has_unknown_rule else "the baseline"
        notes.append(f"only {who} has an unknown rule: an image of a class that it calls unknown counts as wrong")
    return notes
