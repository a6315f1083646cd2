"""Converts camera messages and image files to RGB pixels.

The only entry point to `raw` (uncompressed pixels) and `compressed` (JPEG, PNG, ...): whatever an image came as, it
becomes an `RgbImage` or is refused with a `FrameError`. No ROS is imported: a message is any object with the right
fields, of rclpy or of a bag reader.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cnn_perception.errors import FrameError
from cnn_perception.image.compressed import (
    EncodedFile,
    decode_content,
    decode_file,
    decode_file_bytes,
    file_in_pixels,
)
from cnn_perception.image.decoded import Decoded, ImageOddity, RgbImage, Seen
from cnn_perception.image.file_formats import file_format
from cnn_perception.image.limits import read_picture
from cnn_perception.image.raw import AS_SENT, ENCODINGS, EncodedImage, Overrides, decode_raw

__all__ = [
    "AS_SENT",
    "ENCODINGS",
    "Decoded",
    "EncodedFile",
    "EncodedImage",
    "ImageOddity",
    "Overrides",
    "RgbImage",
    "Seen",
    "decode",
    "decode_content",
    "decode_file_bytes",
    "decode_frame",
    "encoded_from_message",
    "nanoseconds",
    "read_decoded",
    "read_image",
    "way_out",
]


_WAYS_OUT = {
    "foxglove_msgs/msg/CompressedVideo": "video",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "video",
    "theora_image_transport/msg/Packet": "video",
    "foxglove_msgs/msg/CompressedImage": "image",
    "foxglove_msgs/msg/RawImage": "image",
}


def way_out(type_name: str) -> str:
    """Returns what to do about pictures in messages that are not sensor_msgs'; empty for other types.

    Args:
        type_name: Of a topic's messages, as `ros2 topic info` prints it.
    """
    holds = _WAYS_OUT.get(type_name, "")
    if holds == "video":
        return (
            f"{type_name} holds packets of video; decode them to sensor_msgs/Image first: ros2 run image_transport "
            "republish, or the codec's own decoder"
        )
    return f"{type_name} is read by Foxglove only; convert it to sensor_msgs/CompressedImage or Image" if holds else ""


def encoded_from_message(message: Any) -> EncodedImage | EncodedFile:  # noqa: ANN401 - messages share no base
    """Returns the fields of a sensor_msgs/Image or CompressedImage, told apart by their fields.

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
        FrameError: It cannot be converted; `raw.decode_raw` and `compressed.decode_file_bytes` list the reasons.
    """
    return decode_frame(image).image


def decode_frame(image: EncodedImage | EncodedFile) -> Decoded:
    """Converts whatever a camera sent to RGB, and tells what is odd about it; the errors are those of `decode`."""
    if isinstance(image, EncodedFile):
        return decode_file(image)
    file = file_in_pixels(image)
    if file is None:
        return decode_raw(image)
    text = (
        f"the Image labelled {image.encoding[:40]!r} holds a {file_format(bytes(file.data[:16]))} in place of pixels, "
        "and was decoded as one; have the driver publish it as a CompressedImage"
    )
    decoded = decode_file(file)
    oddities = (ImageOddity("file_in_image", text, harmless=True), *decoded.seen.oddities)
    return Decoded(decoded.image, dataclasses.replace(decoded.seen, oddities=oddities))


def read_image(path: Path | str) -> RgbImage:
    """Reads an image file of a folder or a data set.

    It is decoded as the node decodes a CompressedImage, but for alpha, which a camera's message does not mean.

    Args:
        path: A JPEG, PNG, WebP, BMP, TIFF or GIF.

    Returns:
        The first picture in it, upright, alpha composited over white.

    Raises:
        FrameError: By `reason`: `unreadable` if the file cannot be opened, otherwise as `decode_file_bytes`.
    """
    return read_decoded(path).image


def read_decoded(path: Path | str) -> Decoded:
    """Reads an image file as `read_image` does, and tells what is odd about it."""
    try:
        return decode_file(EncodedFile.from_folder(read_picture(Path(path))))
    except OSError as error:
        raise FrameError("unreadable", f"{path}: cannot be read ({error.strerror})") from None
    except FrameError as error:
        raise FrameError(error.reason, f"{path}: {error}") from None


def nanoseconds(stamp: Any) -> int:  # noqa: ANN401 - of rclpy or of a bag reader
    """Returns a builtin_interfaces/Time as nanoseconds.

    Not by rclpy's Time, which refuses the negative stamps of a broken driver.
    """
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)
