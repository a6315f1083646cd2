"""What a model file says of itself, as the rows of a table that people read."""

from __future__ import annotations

from collections.abc import Sequence

from cnn_perception.model.spec import InputSpec, ModelSpec, PrecisionRecord, TrainingRecord
from cnn_perception.pages.rendering import percent
from cnn_perception.tasks.registry import task_of


def facts_of(spec: ModelSpec, provider: str) -> list[tuple[str, str]]:
    """Returns (what it is, text) of everything that a description says.

    Args:
        spec: The description.
        provider: The execution provider in use, which the certificate may not be about.
    """
    training = spec.training
    kind = "classes" if task_of(spec.task).has_classes else "numbers"
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in training.metrics.items()) or "none"
    return [
        ("architecture", spec.architecture),
        ("task", spec.task),
        (f"{len(spec.class_names)} {kind}", ", ".join(spec.class_names[:40]) + _more(len(spec.class_names) > 40)),
        ("input", _input(spec.input)),
        ("mean; standard deviation", f"{_numbers(spec.input.mean)}; {_numbers(spec.input.std)}"),
        ("activation map", _activation(spec)),
        ("temperature", f"{spec.temperature:g}"),
        ("unknown rule", _unknown_rule(spec)),
        ("training", _training(training)),
        ("validation at export", f"{metrics} on {training.val_images} images"),
        (f"parity with {spec.reference}", "; ".join(filter(None, (_parity(spec), spec.parity.beyond(provider))))),
        ("precision", _precision(spec.precision)),
        ("exported", f"{training.created} by version {training.code_version}"),
        *(("not proven", line) for line in spec.unproven()),
    ]


def _training(record: TrainingRecord) -> str:
    if record.is_adopted:
        return f"unknown: adopted from {record.weights}"
    return f"{record.mode} from {record.weights}, {record.train_images} images of {record.data or 'no data'}"


def _more(is_cut: bool) -> str:
    return ", ..." if is_cut else ""


def _input(size: InputSpec) -> str:
    fraction = f", keeps {size.crop_fraction:g} of the shorter side" if size.resize_mode == "crop" else ""
    return f"{size.width} x {size.height}, {size.resize_mode}, {size.interpolation}{fraction}"


def _activation(spec: ModelSpec) -> str:
    if spec.activation is None:
        return "none"
    return f"{spec.activation.method}, {spec.activation.rows} x {spec.activation.columns} cells"


def _unknown_rule(spec: ModelSpec) -> str:
    rule = spec.unknown
    if rule is None:
        return "none"
    share = percent(rule.false_alarm_rate)
    return f"{rule.method} below {rule.threshold:.4g}, for {share} of the known validation images"


def _parity(spec: ModelSpec) -> str:
    parity = spec.parity
    difference = f"largest logit difference {parity.max_logit_difference:.2g}"
    found = f"{difference}, agreement {percent(parity.top1_agreement)} on {parity.images} {parity.source} images"
    checks = (f"{one.output} {one.difference:.2g} of {one.tolerance:g} allowed" for one in parity.outputs)
    where = f" on {parity.provider}, ONNX Runtime {parity.runtime}" if parity.provider else ""
    return "; ".join((found + where, *checks))


def _precision(cost: PrecisionRecord) -> str:
    if not cost.metric:
        return cost.precision
    change = f"{cost.metric} {cost.before:.4g} before, {cost.after:.4g} after"
    return f"{cost.precision}: {change}, on {cost.images} images"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
