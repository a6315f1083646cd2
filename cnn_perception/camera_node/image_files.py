"""The pictures of image files as a camera's frames, and what is odd about them, which no message could say."""

from __future__ import annotations

from pathlib import Path

from cnn_perception.image.messages import RgbImage, read_decoded
from cnn_perception.stream.odd_pictures import OddPictures

_PUBLISHED = {
    "few_bits": "none of its numbers of 16 bits, nor of the files before it, is large, so they are shown nearly black; "
    "scale them",
    "distances": "its numbers are 0 in holes and nowhere near 0, as distances are, which are no picture; give "
    "those of the colour camera",
}
"""What is said in place of texts that name parameters of a node which gets these numbers."""


class ImageFiles:
    """Reads image files, one after the other.

    Attributes:
        odd: What is odd about them, a line for each kind, with the file that shows it first.
    """

    def __init__(self, is_calibrated: bool = False) -> None:
        """Begins.

        Args:
            is_calibrated: Whether a calibration is published with them.
        """
        self.odd: list[str] = []
        self._is_calibrated = is_calibrated
        self._is_turned = False
        self._seen = OddPictures()

    def read(self, path: Path) -> RgbImage:
        """Returns the picture of a file, (H, W, 3) uint8, upright.

        Raises:
            FrameError: As `read_image`.
        """
        decoded = read_decoded(path)
        self.odd += [f"{path}: {_PUBLISHED.get(one.kind, one.text)}" for one in self._seen.add(decoded.seen)]
        if decoded.seen.turned and self._is_calibrated and not self._is_turned:
            self._is_turned = True
            self.odd.append(
                f"{path}: is turned as its EXIF says; the calibration of camera_info_url fits only if it was made of "
                "pictures that are upright, too"
            )
        return decoded.image
