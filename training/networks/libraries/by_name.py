"""The library of a network, by how its name begins; the one place that knows them all."""

from __future__ import annotations

from training.networks.libraries.layer_stack import LAYERS
from training.networks.libraries.library import Library
from training.networks.libraries.own_module import OWN
from training.networks.libraries.timm_models import TIMM
from training.networks.libraries.torchvision_models import CLASSIC, TORCHVISION

LIBRARIES = (LAYERS, TIMM, OWN, CLASSIC, TORCHVISION)
"""The last takes every name that is no other's."""


def library_of(name: str) -> Library:
    """Returns the library that a network's name belongs to."""
    return next(library for library in LIBRARIES if library.owns(name))
