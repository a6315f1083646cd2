"""Camera messages and image files as RGB pixels.

The one door to `encodings` (uncompressed pixels) and `compressed` (JPEG, PNG, ...): whatever an image came as, it goes
on as an `RgbImage` or is refused with a `FrameError`. No ROS is imported: a message is any object with the right
fields, of rclpy or of a bag reader.
"""

from __future__ import annotations

from typing import Any

from cnn_perception.image.compressed import EncodedFile, decode_file, decode_file_bytes
from cnn_perception.image.raw import EncodedImage, RgbImage, decode_raw

__all__ = ["EncodedFile", "EncodedImage", "RgbImage", "decode", "decode_file_bytes", "encoded_from_message"]


def encoded_from_message(message: Any) -> EncodedImage | EncodedFile:  # noqa: ANN401 - messages share no base
    """Takes the fields of a sensor_msgs/Image or CompressedImage, told apart by their fields.

    Args:
        message: Any object with the fields of either; `data` is bytes, array.array or a numpy array.

    Returns:
        An `EncodedFile` for a CompressedImage, an `EncodedImage` for an Image; neither copies the data.
    """
    if hasattr(message, "format"):
        return EncodedFile.from_message(message)
    return EncodedImage.from_message(message)


def decode(image: EncodedImage | EncodedFile) -> RgbImage:
    """Converts whatever a camera sent to RGB.

    Args:
        image: What `encoded_from_message` returned.

    Returns:
        The pixels; a view of `image.data` for rgb8 without padding, otherwise a new array.

    Raises:
        FrameError: It cannot be converted; `encodings.decode_raw` and `compressed.decode_file_bytes` list the reasons.
    """
    return decode_raw(image) if isinstance(image, EncodedImage) else decode_file(image)
