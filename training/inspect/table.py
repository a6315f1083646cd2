"""The layers of a network as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.graphs.layers import SUMMED, Layer, totals
from training.networks.layer_text import by

COLUMNS = (
    "name", "kind", "input", "output", "kernel", "stride", "pad", "dilation", "groups", "parameters", "multiply_adds",
    "memory", "receptive_field", "cell_stride", "misfit", "remark",
)  # fmt: skip
"""`memory` is in bytes, of what a layer gives, as float32."""
_WORDS = ("name", "kind", "misfit", "remark")


def rows(table: Sequence[Layer]) -> list[dict[str, str]]:
    """Writes the layers as text, a column each of `COLUMNS`."""
    return [_row(layer) for layer in table]


def _row(layer: Layer) -> dict[str, str]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "input": by(layer.input),
        "output": by(layer.output),
        "kernel": by(layer.window.kernel) if layer.window else "",
        "stride": by(layer.window.stride) if layer.window else "",
        "pad": _pad(layer),
        "dilation": by(layer.window.dilation) if layer.window else "",
        "groups": str(layer.groups) if layer.window and layer.parameters else "",
        "parameters": str(layer.parameters),
        "multiply_adds": str(layer.multiply_adds),
        "memory": str(layer.memory),
        "receptive_field": _field(layer),
        "cell_stride": "x".join(f"{step:g}" for step in layer.geometry.stride) if layer.geometry else "",
        "misfit": f"does not fit: {layer.misfit}" if layer.misfit else "",
        "remark": layer.remark,
    }


def as_text(table: Sequence[Layer]) -> str:
    """Writes the layers and their totals as an aligned table."""
    total = dict.fromkeys(COLUMNS, "") | {"name": "total", **{key: str(sums) for key, sums in totals(table).items()}}
    lines = [{name: name.replace("_", " ") for name in COLUMNS}, *rows(table), total]
    for line in lines[1:]:
        for name in SUMMED:
            line[name] = f"{int(line[name]):,}" if line[name] != "0" else ""
    widths = {name: max(len(line[name]) for line in lines) for name in COLUMNS}
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: Mapping[str, str], widths: Mapping[str, int]) -> str:
    """Returns a line of the table: words to the left, numbers to the right of their columns."""
    cells = []
    for name in COLUMNS:
        side = "<" if name in _WORDS else ">"
        cells.append(f"{line[name]:{side}{widths[name]}}")
    return "  ".join(cells).rstrip()


def _pad(layer: Layer) -> str:
    if layer.window is None:
        return ""
    before, after = layer.window.before, layer.window.after
    return by(before) if before == after else f"{by(before)} before, {by(after)} after"


def _field(layer: Layer) -> str:
    if layer.geometry is None or not all(layer.geometry.receptive_field):
        return "all"
    return by(layer.geometry.receptive_field)
