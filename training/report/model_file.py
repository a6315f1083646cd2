"""What is in a model file, in words."""

from __future__ import annotations

from pathlib import Path

from cnn_perception.errors import printable
from cnn_perception.model.spec import ModelSpec, ParityRecord, PrecisionRecord
from training.calibration import exported_rule
from training.config.normalisation import as_text
from training.graphs import image_statistics
from training.tasks.by_name import task_of


def in_words(spec: ModelSpec, path: Path) -> str:
    """Returns what is in a model file, a line each.

    Args:
        spec: Its description.
        path: The file, which is there.
    """
    size = spec.input
    outputs = f"{len(spec.class_names)} {task_of(spec.task).decisions}"
    rows = {
        "model": f"{printable(str(path))} ({path.stat().st_size / 1e6:.1f} MB)",
        "network": f"{spec.architecture}, {outputs}, weights {spec.training.weights}",
        "input": f"{size.height}x{size.width}, {size.resize_mode} {size.crop_fraction:g}, {size.interpolation}, "
        f"mean {as_text(size.mean)}, std {as_text(size.std)}",
        "activation": _activation_line(spec),
        "score map": _score_map_line(spec),
        "parity": _parity_line(spec),
        "outputs": _outputs_line(spec.parity),
    }
    if spec.unknown is not None:
        rows["unknown"] = exported_rule.in_words(spec.unknown)
    if spec.precision.metric:
        rows["precision"] = _precision_line(spec.precision)
    if spec.training.val_images and spec.training.is_adopted:  # else `ModelSpec.unproven` says that there were none
        rows["accuracy"] = _accuracy_line(spec)
    if not spec.training.is_adopted:
        rows["statistics"] = image_statistics.summary(spec.statistics)
    if spec.gallery is not None:
        rows["gallery"] = f"{len(spec.gallery.names)} images of {spec.gallery.dimensions} numbers, with their names"
    return "\n".join(f"{name:<12}{value}" for name, value in rows.items())


def _activation_line(spec: ModelSpec) -> str:
    cells = spec.activation
    if cells is None and spec.training.is_adopted:
        return "none: the graph does not end in the mean of its features and a linear layer"
    if cells is None and spec.training.is_ensemble:
        return "none: the networks do not all have features of the same cells"
    if cells is None:
        return "none: the network keeps no places, or none that were found"
    down, right = cells.stride
    field = " x ".join(str(pixels or "all") for pixels in cells.receptive_field)
    grid = f"{cells.rows}x{cells.columns} cells every {down:g} x {right:g} pixels"
    return f"{cells.method}, {grid}, each seeing {field}"


def _score_map_line(spec: ModelSpec) -> str:
    place = spec.score_map
    if place is None and spec.training.is_adopted:
        return "none: not made of adopted graphs"
    if place is None and spec.training.is_ensemble:
        return "none: not made of several networks in one file"
    if place is None:
        return "none: a warning has said why"  # of `graphs.score_map`
    down, right = place.stride
    return f"an answer every {down:g} x {right:g} pixels of a larger image"


def _accuracy_line(spec: ModelSpec) -> str:
    """Returns what was measured on labelled images when the file was adopted."""
    found = spec.training
    name = f"val_{task_of(spec.task).metric}"
    interval = ""
    if f"{name}_low" in found.metrics:
        interval = f" (95 % interval {found.metrics[f'{name}_low']:.3f} to {found.metrics[f'{name}_high']:.3f})"
    where = f"{found.val_images} images of {found.data}"
    return f"{name} {found.metrics[name]:.3f}{interval} on {where}; temperature {spec.temperature:.3g}"


def _parity_line(spec: ModelSpec) -> str:
    parity = spec.parity
    kind = spec.precision.precision
    (own,) = [check for check in parity.outputs if check.output == "logits"]
    judged = f"tolerance {own.tolerance:g}"
    if kind != "fp32":
        judged = f"of the {kind} file itself: {own.difference:.2%} of their range, tolerance {own.tolerance:.2g}"
    agreed = f"{task_of(spec.task).agreement} on {parity.top1_agreement:.1%} of {parity.images} {parity.source} images"
    return f"logits within {parity.max_logit_difference:.2g} ({judged}), {agreed}"


def _outputs_line(parity: ParityRecord) -> str:
    others = [check for check in parity.outputs if check.output != "logits"]
    shown = (f"{one.output.replace('_', ' ')} {one.difference:.2g} (tolerance {one.tolerance:g})" for one in others)
    return f"{', '.join(shown)}; measured on {parity.provider}, ONNX Runtime {parity.runtime}, and on no other"


def _precision_line(cost: PrecisionRecord) -> str:
    figures = f"{cost.metric} {cost.after:.4f}, in fp32 {cost.before:.4f}"
    line = f"{cost.precision}: {figures}, on {cost.images} validation images"
    return f"{line}; calibrated on {cost.calibration_images} others" if cost.calibration_images else line
