"""What is asked of a library of networks, and what most of them answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from cnn_perception.errors import ConfigError
from cnn_perception.model.spec import IMAGENET_MEAN, IMAGENET_STD, InputSpec

Size = tuple[int, int]
"""Rows and columns of an image, pixels."""
USUAL_SIZE = (224, 224)


@dataclass(frozen=True)
class Published:
    """Weights that the makers of a network publish.

    Attributes:
        title: What they are called.
        input: How images were prepared for them.
        classes: The names of their classes; empty where the weights have none.
        state: Gets the tensors by name, by download.
    """

    title: str
    input: InputSpec
    classes: tuple[str, ...]
    state: Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Order:
    """A network that is to be built.

    Attributes:
        name: Whole, with what it begins with.
        classes: Width of the last layer, at least 2.
        size: Of the image, for the few networks that depend on it; None is as published.
        auxiliary: Whether a GoogLeNet has its auxiliary classifiers.
    """

    name: str
    classes: int
    size: Size | None = None
    auxiliary: bool = False


def usual_input(size: Size = USUAL_SIZE) -> InputSpec:
    """Returns the preprocessing of most networks that learn ImageNet."""
    return InputSpec(*size, "crop", 0.875, "bilinear", IMAGENET_MEAN, IMAGENET_STD)


def none_published(name: str) -> Published:
    """Raises ConfigError: nobody publishes weights for it."""
    raise ConfigError(f"nobody publishes weights for {name}; give a path or none")


@dataclass(frozen=True)
class Library:
    """A source of networks.

    Attributes:
        owns: Whether a name is one of this library's, right or wrong.
        check: Raises ConfigError if it has no such network; runs nothing of a user's.
        build: Returns the network with random weights.
        published: Returns the weights of a name, or raises ConfigError.
        input_of: Returns the preprocessing that a network was published for.
        expects: Returns the preprocessing to take for `weights` of a name where the user gives no other; None where
            the settings' own defaults are right.
        converted: Returns the content of a file of weights in the network's own names and shapes.
        has_downloaded: Whether the published weights of a name lie on this machine; asks no other.
        downloaded: Returns the names of which that is so.
        title: A network's name without folders of this machine.
        file_name: A network's name as part of a file's.
    """

    owns: Callable[[str], bool]
    check: Callable[[str], None]
    build: Callable[[Order], nn.Module]
    published: Callable[[str], Published] = none_published
    input_of: Callable[[str], InputSpec] = lambda _: usual_input()
    expects: Callable[[str, str], InputSpec | None] = lambda _, __: None
    converted: Callable[[nn.Module, object], object] = lambda _, content: content
    has_downloaded: Callable[[str], bool] = lambda _: False
    downloaded: Callable[[], list[str]] = list
    title: Callable[[str], str] = lambda name: name
    file_name: Callable[[str], str] = lambda name: re.sub(r"\.py\b", "", re.sub(r"[^\w.-]+", "_", name))
