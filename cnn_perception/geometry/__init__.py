"""From an activation map to a place in the camera's image, and from a pixel to a ray."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnn_perception.faces import lazy

if TYPE_CHECKING:
    from cnn_perception.geometry.activation_place import ActivationPlace as ActivationPlace
    from cnn_perception.geometry.activation_place import place_of as place_of
    from cnn_perception.geometry.camera_model import CameraModel as CameraModel

__getattr__, __dir__ = lazy(
    __name__,
    {
        "ActivationPlace": "activation_place",
        "CameraModel": "camera_model",
        "place_of": "activation_place",
    },
)
