"""Labelled masks: what each pixel of an image shows, read from folders, and label maps scored with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.masks.folder import Masks as Masks
    from cnn_perception.masks.folder import read_masks as read_masks

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Masks": "folder",
        "read_masks": "folder",
    },
)
