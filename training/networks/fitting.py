"""Which tensors of a file are those of a network: all that stand before its last layer, or it is another network's."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

from cnn_perception.errors import ConfigError
from training.networks.state_dicts import Found, Shapes, best, shapes_of

_COUNTERS = ("n_averaged", "num_batches_tracked", "total_ops", "total_params")
"""Numbers that training programs and profilers keep beside the weights."""
_HEADS = frozenset({
    "classifier", "fc", "head", "heads", "last_linear", "linear", "predictor", "projection", "projection_head",
    "projector",
})  # fmt: skip
_LOSSES = frozenset({"criterion", "loss", "loss_fn"})
_FEW = 0.5
"""Share of a network's tensors below which a file is said not to hold its weights at all."""


LAST_LAYER = "name_of_last_layer"
"""Attribute of a network whose library says which layer is its last."""


def classifier_name(model: nn.Module) -> str:
    """Returns the name of the last layer: as the library says, else the one that is registered last.

    It is linear or a 1x1 convolution.
    """
    said: str | None = getattr(model, LAST_LAYER, None)
    if said is not None:
        return said
    names: list[str] = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not names:
        raise ConfigError(f"{type(model).__name__}: has no linear layer or convolution, so no last one; take another")
    return names[-1]


@dataclass(frozen=True, eq=False)
class Fit:
    """How the tensors of a file fit a network.

    Attributes:
        found: The tensors.
        body: Names of the network's tensors before the last layer, without counters.
        taken: What fits, the last layer included if all of it does.
        missing: Names of tensors before the last layer that the file lacks.
        reshaped: Those that have another shape there.
        added: Names in the file that the network does not know.
        left_out: Names in the file that do no harm.
        head: Whether the last layer is taken.
        classes: How many the file's last layer has; 0 if it has none of this name.
    """

    found: Found
    body: tuple[str, ...]
    taken: Mapping[str, Tensor]
    missing: tuple[str, ...]
    reshaped: tuple[str, ...]
    added: tuple[str, ...]
    left_out: tuple[str, ...]
    head: bool
    classes: int

    @property
    def is_whole(self) -> bool:
        """Whether every tensor before the last layer is there, and no other that the network does not know."""
        return not (self.missing or self.reshaped or self.added)

    def in_words(self, name: str) -> str:
        """Returns what is taken and what is left out."""
        words = [f"all {len(self.body)} tensors of {name} below its last layer are taken"]
        if self.found.where or self.found.prefix:
            place = [f"under {self.found.where!r}"] * bool(self.found.where)
            place += [f"named {self.found.prefix}*"] * bool(self.found.prefix)
            words[0] += f" ({', '.join(place)}{', averaged over training' * self.found.averaged})"
        classes = f" of {self.classes} classes" * bool(self.classes)
        called = f" ({self.found.head}.* there)" * bool(self.found.head)
        words.append(f"the last layer{classes}{called} is {'taken, too' if self.head else 'not'}")
        if self.left_out:
            words.append(f"left out: {_some(self.left_out)}")
        return "; ".join(words)


def load_fitting(model: nn.Module, name: str, content: object, origin: str) -> Fit:
    """Loads what fits of a file's content into a network.

    Raises:
        ConfigError: If it is not this network's; says what it is instead, as far as that can be told.
    """
    shapes = shapes_of(model.state_dict())
    found = best(content, shapes)
    if found is None:
        raise ConfigError(f"{origin}: holds no state dict of tensors; save the model's state_dict()")
    result = _compared(found, shapes, classifier_name(model))
    if not result.is_whole:
        raise _misfit(result, content, name, origin)
    _require_numbers(result.taken, model.state_dict(), origin)
    model.load_state_dict(result.taken, strict=False)
    return result


def _compared(found: Found, shapes: Shapes, last: str) -> Fit:
    """Compares the tensors of a file with those of a network whose last layer has a name."""
    found = _with_bias(_with_lone_layer(found, shapes, last), shapes, last)
    theirs = shapes_of(found.tensors)
    of_last = tuple(name for name in shapes if name.startswith(last + "."))
    body = tuple(name for name in shapes if name not in of_last and not _is_harmless(name))
    unknown = tuple(name for name in theirs if name not in shapes)
    in_head = tuple(name for name in unknown if _is_of_head(name, body))
    harmless = tuple(name for name in unknown if _is_harmless(name))
    head = not in_head and all(theirs.get(name) == shapes[name] for name in of_last)
    dropped = () if head else tuple(name for name in of_last if name in theirs)
    fits = (name for name in theirs if theirs[name] == shapes.get(name) and name not in dropped)
    weight = theirs.get(f"{last}.weight", ())
    return Fit(
        found=found,
        body=body,
        taken={name: found.tensors[name] for name in fits},
        missing=tuple(name for name in body if name not in theirs),
        reshaped=tuple(name for name in body if name in theirs and theirs[name] != shapes[name]),
        added=tuple(name for name in unknown if name not in in_head and name not in harmless),
        left_out=(*dropped, *in_head, *harmless, *found.beside),
        head=head,
        classes=weight[0] if weight else 0,
    )


def _with_lone_layer(found: Found, shapes: Shapes, last: str) -> Found:
    """Returns tensors with the one linear layer of a head of another make, such as a dropout before it, as the last."""
    ours = {f"{last}.{kind}": shapes.get(f"{last}.{kind}", ()) for kind in ("weight", "bias")}
    if any(name in found.tensors for name in ours) or not all(ours.values()):
        return found  # it has the layer, or the network's has no bias
    body = [name for name in shapes if name not in ours]
    inside = [name for name in found.tensors if name not in shapes and _is_of_head(name, body)]
    beside = [name for name in found.beside if _is_of_head(_sibling(name, found.prefix), body)]
    layers = {name.rpartition(".")[0] for name in (*inside, *beside)}
    values = {f"{last}.{name.rpartition('.')[2]}": found.tensors[name] for name in inside}
    values |= {f"{last}.{name.rpartition('.')[2]}": found.beside[name] for name in beside}
    if len(layers) != 1 or len(inside) + len(beside) != len(ours) or values.keys() != ours.keys():
        return found
    if any(values[name].shape[1:] != shape[1:] for name, shape in ours.items()):
        return found
    kept = {name: value for name, value in found.tensors.items() if name not in inside}
    left = {name: value for name, value in found.beside.items() if name not in beside}
    return dataclasses.replace(found, tensors=kept | values, beside=left, head=layers.pop())


def _with_bias(found: Found, shapes: Shapes, last: str) -> Found:
    """Returns tensors with a bias of zeros where their last layer has none and the network's has one."""
    weight = found.tensors.get(f"{last}.weight")
    bias = f"{last}.bias"
    if weight is None or bias in found.tensors or bias not in shapes:
        return found
    return dataclasses.replace(found, tensors={**found.tensors, bias: torch.zeros(weight.shape[:1])})


def _sibling(name: str, prefix: str) -> str:
    """Returns a name without the parts that it shares with a prefix: fc.bias for model.fc.bias and model.net."""
    parts = prefix.split(".")
    shared = next((count for count in range(len(parts), 0, -1) if name.startswith(".".join(parts[:count]) + ".")), 0)
    return ".".join(name.split(".")[shared:])


def _is_of_head(name: str, body: Sequence[str]) -> bool:
    """Returns whether a tensor belongs to a head of another make, where the network has nothing but its last layer."""
    first = name.partition(".")[0]
    return first in _HEADS and not any(own.startswith(first + ".") for own in body)


def _is_harmless(name: str) -> bool:
    return name.lower().startswith("aux") or name.endswith(_COUNTERS) or name.partition(".")[0] in _LOSSES


def _misfit(of: Fit, content: object, name: str, origin: str) -> ConfigError:
    """Returns the error that says why the tensors of a file are not a network's."""
    if others := _architectures(content):
        cure = f"give --backbone {others[0]}, or other weights"
        return ConfigError(f"{origin}: the weights do not fit {name}: these are those of {' or '.join(others)}; {cure}")
    same = len(of.body) - len(of.missing) - len(of.reshaped)
    if same < _FEW * len(of.body):
        first = next(iter(of.found.tensors), "")
        return ConfigError(
            f"{origin}: the weights do not fit {name}: {same} of its {len(of.body)} tensors are there, under names "
            f"such as {first!r}; they are of another network, or of a library with other names than {name}'s: "
            "export it to ONNX there, and make a model file of that with training.adopt"
        )
    kinds = (("of another shape", of.reshaped), ("missing", of.missing), ("unexpected", of.added))
    problems = "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in kinds if names)
    return ConfigError(f"{origin}: the weights do not fit {name}: {problems}; check the backbone's name")


def _architectures(content: object) -> list[str]:
    """Returns which networks of torchvision have just the tensors in a file, by their names and shapes."""
    result = []
    for name in models.list_models(module=models):
        try:
            with torch.device("meta"), warnings.catch_warnings():  # shapes without numbers: fast
                warnings.simplefilter("ignore")  # of slow random numbers, which nobody needs
                model = models.get_model(name, weights=None)
        except (NotImplementedError, RuntimeError):  # some compute numbers while they are made
            continue
        shapes = shapes_of(model.state_dict())
        found = best(content, shapes)
        if found is not None and _compared(found, shapes, classifier_name(model)).is_whole:
            result.append(name)
    return result


def _require_numbers(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str) -> None:
    """Raises ConfigError if a tensor is quantised, or holds what is no finite number."""
    for name, value in tensors.items():
        if not own[name].is_floating_point():
            continue
        if value.is_meta or value.is_quantized or value.layout != torch.strided or not value.is_floating_point():
            raise ConfigError(
                f"{origin}: its tensor {name} holds no floats, but {value.dtype}; give unquantised weights"
            )
        if not torch.isfinite(value.float()).all():
            raise ConfigError(
                f"{origin}: its tensor {name} holds what is no finite number: that training had failed; take an "
                "earlier file of it"
            )


def _some(names: Iterable[str]) -> str:
    """Returns the first names of a list, and whether there are more."""
    listed = list(names)
    return f"{', '.join(listed[:3])}{', ...' * (len(listed) > 3)}"
