"""Named tensors in what a training program saved: which of them are a network's, whatever stands before their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from training.torch_files import attributes

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by name."""

_WRAPPERS = frozenset({
    "_checkpoint_wrapped_module", "_forward_module", "_fsdp_wrapped_module", "_module", "_orig_mod", "module",
})  # fmt: skip
"""Parts of names that torch.compile, data parallelism, averaging and others add, anywhere; no network here has them."""
_AVERAGED = re.compile(r"(?:^|[._ ])(?:ema|averaged?|swa|shadow)(?:$|[._ ])|n_averaged")
_DEEPEST = 5
"""Levels of dictionaries in which tensors are looked for, and parts that are taken off a name."""
_DEEPEST_LAYER = 16
"""Levels of layers in layers; more than any network has, and few enough for a file that nests one in itself."""


@dataclass(frozen=True, eq=False)
class Found:
    """The tensors of one network in a file.

    Attributes:
        where: The keys under which they lie, such as `state_dict`; empty for none.
        prefix: What stood before each name, such as `model.`; wrappers such as `module.` are not part of it.
        tensors: By the name that is left.
        beside: The tensors in the same place that have another prefix, by their whole names.
        averaged: Whether they are said to be averages over training steps.
        same: How many have name and shape of the network's.
        head: What the layer is called in the file that was taken for the network's last; empty where as there.
    """

    where: str
    prefix: str
    tensors: Mapping[str, Tensor]
    beside: Mapping[str, Tensor]
    averaged: bool
    same: int
    head: str = ""


def best(content: object, shapes: Shapes) -> Found | None:
    """Returns the tensors that are most like those of a network: averaged ones first among equals, then the first.

    Args:
        content: What `torch_files.read_tensors` returned.
        shapes: Of the network's tensors.

    Returns:
        None if the content holds no named tensors.
    """
    found = [one for where, group in groups(content) for one in _by_prefix(where, group, shapes)]
    return max(found, key=lambda one: (one.same, one.averaged, -len(one.prefix)), default=None)


def groups(content: object, where: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields the named tensors that lie together, with the keys under which they do; those of pickled networks too."""
    values = attributes(content)
    tensors = {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if "_parameters" in values and "_modules" in values:
        yield where, dict(_of_module(content))
        return
    if tensors:
        yield where, tensors
    for name, value in values.items() if depth < _DEEPEST else ():
        yield from groups(value, f"{where}.{name}".lstrip("."), depth + 1)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of tensors by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _of_module(module: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a pickled network by name, as its state_dict() does."""
    values = attributes(module)
    for kind in ("_parameters", "_buffers"):
        for name, value in attributes(values.get(kind)).items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
    for name, child in attributes(values.get("_modules")).items() if depth < _DEEPEST_LAYER else ():
        yield from _of_module(child, f"{prefix}{name}.", depth + 1)


def _by_prefix(where: str, group: Mapping[str, Tensor], shapes: Shapes) -> list[Found]:
    """Returns the tensors of a group by the prefix that makes most of them a network's."""
    plain: dict[str, Tensor] = {}
    for name, value in group.items():
        plain.setdefault(_plain(name), value.detach())
    below: dict[str, dict[str, Tensor]] = {"": plain}
    for name, value in plain.items():
        parts = name.split(".")
        for count in range(1, min(len(parts), _DEEPEST + 1)):
            below.setdefault(".".join(parts[:count]) + ".", {})[".".join(parts[count:])] = value
    counts = {prefix: _same(tensors, shapes) for prefix, tensors in below.items()}
    most = max(counts.values())
    found = []
    for prefix in [prefix for prefix, count in counts.items() if count == most]:
        beside = {name: value for name, value in plain.items() if not name.startswith(prefix)}
        averaged = bool(_AVERAGED.search(f"{where} {prefix}")) or "n_averaged" in plain
        found.append(Found(where, prefix, below[prefix], beside, averaged, most))
    return found


def _plain(name: str) -> str:
    """Returns a tensor's name without the parts that wrappers add, as torchvision writes it today."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    # Old DenseNet files say norm.1 for norm1. Source: torchvision.models.densenet._load_state_dict
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", ".".join(parts))


def _same(tensors: Mapping[str, Tensor], shapes: Shapes) -> int:
    return len(shapes_of(tensors).items() & shapes.items())
