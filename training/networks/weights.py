"""Published weights, from torchvision's download or a file, into a model that may differ in its last layer only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from cnn_perception.errors import printable
from cnn_perception.model.spec import InputSpec
from training.config.normalisation import Colours, as_text
from training.networks.fitting import classifier_name, load_fitting
from training.networks.libraries.by_name import library_of
from training.networks.libraries.library import Published
from training.torch_files import mappings, read_tensors

__all__ = ["Loaded", "classifier_name", "load_weights", "published_weights"]

Normalisation = tuple[Colours, Colours]
"""Mean and standard deviation of red, green and blue, in [0, 1]."""


@dataclass(frozen=True)
class Loaded:
    """What was loaded into a model.

    Attributes:
        origin: Where the weights come from: `none`, the torchvision weights, or file name and SHA-256.
        note: What of a file was taken and what was left out, in a line; empty without a file.
        head: Whether they include the last layer.
        classes: How many the last layer in the file has; 0 if it has none of the name.
        said: With which mean and standard deviation they were trained, by the keys under which the file says it, or
            the library; several only where these differ.
    """

    origin: str
    note: str = ""
    head: bool = False
    classes: int = 0
    said: Mapping[str, Normalisation] = field(default_factory=dict)

    @property
    def normalisation(self) -> Normalisation | None:
        """The one mean and standard deviation that is said; None where nothing or several are."""
        return next(iter(self.said.values())) if len(self.said) == 1 else None

    def lines(self, size: InputSpec) -> list[str]:
        """Says what was taken, and if the weights were trained with another normalisation than they will get."""
        lines = [self.note] if self.note else []
        if self.said and not any(_are_near(one, (size.mean, size.std)) for one in self.said.values()):
            lines.append(f"warning: these weights were trained with other colours: give {self.flags()}")
        return lines

    def flags(self) -> str:
        """Returns the flags that give what is said."""
        told = [f"--mean {as_text(mean)} --std {as_text(std)}" for mean, std in self.said.values()]
        if len(told) == 1:
            return told[0]
        return " or ".join(f"{flags} (its {printable(key)!r})" for flags, key in zip(told, self.said, strict=True))


def load_weights(model: nn.Module, name: str, source: str, content: object = None) -> Loaded:
    """Loads published weights into a model; only its last layer may differ, and stays as it is where it does.

    Args:
        model: What `build` returned.
        name: Name of its architecture.
        source: `imagenet` for its library's download, `none`, or the path of a file that torch or safetensors wrote,
            with tensors of any float width in the library's names, under any keys and prefix.
        content: What is in that file, where it was read already.

    Raises:
        ConfigError: If the weights cannot be read or do not fit the architecture.
    """
    if source == "none":
        return Loaded(source)
    if source == "imagenet":
        published = published_weights(name)
        origin = f"imagenet ({published.title})"
        fit = load_fitting(model, name, library_of(name).converted(model, published.state()), origin)
        return Loaded(origin, "", fit.head, fit.classes, said=_expected(name, source))
    path = Path(source)
    content = read_tensors(path) if content is None else content
    origin = f"{path.name} sha256:{_sha256(path)[:12]}"
    fit = load_fitting(model, name, library_of(name).converted(model, content), origin)
    note = printable(f"{path.name}: {fit.in_words(name)}")
    return Loaded(origin, note, fit.head, fit.classes, _normalisations(content) or _expected(name, source))


def published_weights(name: str) -> Published:
    """Returns the weights that are published for an architecture.

    Raises:
        ConfigError: If there are none.
    """
    return library_of(name).published(name)


def _expected(name: str, source: str) -> dict[str, Normalisation]:
    """Returns the mean and standard deviation that a library says its weights were trained with, if it does."""
    said = library_of(name).expects(name, source)
    return {"library": (said.mean, said.std)} if said else {}


def _normalisations(content: object) -> dict[str, Normalisation]:
    """Returns each mean and standard deviation that a file says its weights were trained with, by their keys.

    They are looked for beside the weights and in whatever settings lie there. Tensors of these names are buffers of a
    network that normalises by itself, and say nothing of what it takes.
    """
    found: dict[str, Normalisation] = {}
    for place, said in mappings(content):
        mean, std = _colours(said.get("mean")), _colours(said.get("std"))
        if mean and std:
            scale = 255 if max(mean) > 1 else 1
            one = _divided(mean, scale), _divided(std, scale)
            if not any(_are_near(one, other) for other in found.values()):
                found[f"{place}.mean" if place else "mean"] = one
    return found


def _colours(value: object) -> Colours | None:
    """Returns a list of three numbers, one for each colour."""
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
        return None
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _divided(numbers: Colours, scale: int) -> Colours:
    return numbers[0] / scale, numbers[1] / scale, numbers[2] / scale


def _are_near(one: Normalisation, other: Normalisation) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(sum(one, ()), sum(other, ()), strict=True))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
