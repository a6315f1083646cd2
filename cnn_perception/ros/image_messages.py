"""Builds the sensor_msgs/Image and CompressedImage messages that the nodes publish."""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from cnn_perception.image.jpeg_encoding import JPEG_FORMAT, VIEWER_QUALITY, encode_jpeg
from cnn_perception.image.messages import RgbImage

IMAGE_TRANSPORTS = ("raw", "compressed")


def to_float_image(header: Header, values: npt.NDArray[np.float32]) -> Image:
    """Returns (rows, columns) float32 values, such as an activation map or a 1 x D embedding, as 32FC1."""
    rows, columns = values.shape
    return _image(header, "32FC1", rows, columns, 4 * columns, np.ascontiguousarray(values, "<f4").tobytes())


def to_label_image(header: Header, labels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Image:
    """Returns (rows, columns) numbers of classes as mono8, or as mono16 where they are wider."""
    rows, columns = labels.shape
    width = labels.dtype.itemsize
    data = np.ascontiguousarray(labels, f"<u{width}").tobytes()
    return _image(header, f"mono{8 * width}", rows, columns, width * columns, data)


def to_rgb_image(header: Header, image: RgbImage) -> Image:
    """Returns an (H, W, 3) picture as rgb8."""
    rows, columns = image.shape[:2]
    return _image(header, "rgb8", rows, columns, 3 * columns, image.tobytes())


def to_jpeg(header: Header, image: RgbImage) -> CompressedImage:
    """Returns an (H, W, 3) picture as a JPEG, in the format string of image_transport."""
    data = array("B", encode_jpeg(image, VIEWER_QUALITY))
    return CompressedImage(header=header, format=JPEG_FORMAT, data=data)


def _image(header: Header, encoding: str, rows: int, columns: int, step: int, data: bytes) -> Image:
    message = Image(header=header, height=rows, width=columns, encoding=encoding, is_bigendian=0, step=step)
    # rclpy copies an array.array at once, but converts a numpy array element by element (196 ms for 640x480).
    message.data = array("B", data)
    return message
