"""The gallery of a model file: embeddings of reference images, to find those that a frame resembles."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnn_perception.errors import ModelError
from cnn_perception.model.outputs import FloatArray
from cnn_perception.model.spec import GALLERY_KEY, GallerySpec

LENGTH_TOLERANCE = 1e-3
"""How far from 1 the length of a row may be: float32 leaves some 1e-7."""


@dataclass(frozen=True)
class Neighbour:
    """A reference image that a frame was compared with.

    Attributes:
        name: Of the image, such as `bees/092.jpg`.
        distance: Cosine distance of the embeddings, in [0, 2]: 0 points the same way, 1 has nothing in common.
    """

    name: str
    distance: float


@dataclass(frozen=True, eq=False)
class Gallery:
    """The embeddings of one model's reference images.

    Attributes:
        names: One an image.
        embeddings: (names, D) float32, rows of length 1.
    """

    names: tuple[str, ...]
    embeddings: FloatArray

    @property
    def dimensions(self) -> int:
        """Numbers of one embedding."""
        return int(self.embeddings.shape[1])

    @classmethod
    def from_metadata(cls, spec: GallerySpec, text: str) -> Gallery:
        """Returns the gallery that `to_metadata` wrote.

        Args:
            spec: Names and dimensions, of the model's spec.
            text: The metadata of the model file under `GALLERY_KEY`.

        Raises:
            ModelError: If it is not base64, of another size than the spec says, or a row is not finite or not of
                length 1.
        """
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ModelError(f"the gallery in its metadata is not base64 ({error}); export the model again") from None
        count = len(spec.names)
        expected = len(spec.names) * spec.dimensions * 4
        if len(data) != expected:
            raise ModelError(
                f"its gallery has {len(data)} bytes, {count} images of {spec.dimensions} numbers are {expected}; "
                "export the model again"
            )
        rows = np.frombuffer(data, "<f4").astype(np.float32).reshape(count, spec.dimensions)
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        is_unit = np.abs(lengths - 1) <= LENGTH_TOLERANCE  # False for NaN, too
        if not is_unit.all():
            first = int(np.argmin(is_unit))
            raise ModelError(
                f"its gallery: the embedding of {spec.names[first]!r} has the length {lengths[first]:g}, not 1; "
                "export the model again"
            )
        return cls(spec.names, rows)

    def to_metadata(self) -> str:
        """Returns the text for the model file's metadata."""
        return base64.b64encode(self.embeddings.astype("<f4").tobytes()).decode("ascii")

    def nearest(self, embedding: FloatArray, count: int) -> list[Neighbour]:
        """Returns the reference images most like an image, the nearest first; equal ones in the gallery's order.

        Args:
            embedding: (D,) float32 of any length, from the same model. Zeros are as far from all of them as what has
                nothing in common.
            count: How many are wanted; not more than there are.
        """
        length = max(float(np.linalg.norm(embedding)), 1e-12)
        distances = np.clip(1 - (self.embeddings @ embedding) / length, 0, 2)
        order = np.argsort(distances, kind="stable")[: max(count, 0)]
        return [Neighbour(self.names[row], float(distances[row])) for row in order]


def read_gallery(spec: GallerySpec | None, metadata: Mapping[str, str]) -> Gallery | None:
    """Returns the gallery of a model file; None for a model without one.

    Args:
        spec: Of the model's spec.
        metadata: All metadata of the file.

    Raises:
        ModelError: If it lacks the embeddings, or they are not those that the spec describes.
    """
    if spec is None:
        return None
    if GALLERY_KEY not in metadata:
        raise ModelError(f"its spec names a gallery, but it carries no {GALLERY_KEY}; export the model again")
    return Gallery.from_metadata(spec, metadata[GALLERY_KEY])
